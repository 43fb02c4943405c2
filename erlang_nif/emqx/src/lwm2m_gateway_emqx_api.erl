%% @doc What EMQX's HTTP API means by a command.
-module(lwm2m_gateway_emqx_api).

-export([meant/2]).

%% @doc EMQX 5 compares the `enable' of a request to observe, which is text, with a Boolean and so
%% asks for `cancel-observe' always. The process of the request keeps the query for the log, and
%% there it is read.
-spec meant(Caller :: pid(), Command :: map()) -> map().
meant(Caller, #{<<"msgType">> := <<"cancel-observe">>} = Command) ->
    try query(Caller) of
        #{<<"enable">> := Enable} when Enable =:= <<"true">>; Enable =:= <<"1">> ->
            Command#{<<"msgType">> := <<"observe">>};
        _ ->
            Command
    catch
        _:_ -> Command
    end;
meant(_Caller, Command) ->
    Command.

query(Caller) ->
    {dictionary, Dictionary} = erpc:call(
        node(Caller), erlang, process_info, [Caller, dictionary], 1000
    ),
    {_, #{query_string := Query}} = lists:keyfind({minirest_handler, meta}, 1, Dictionary),
    Query.
