%% @doc What applications observe, by device, as the nodes of the cluster tell each other: so a node knows
%% what is lost when a device comes to it and nobody has what was known of it. Only that; observations
%% themselves are the gateway's.
-module(lwm2m_gateway_emqx_observed).
-behaviour(gen_server).

-export([start_link/0]).
-export([answered/3, notified/3, here/1, forget/1, lost/1, messages/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([pair/0, observation/0, rest/0]).

-define(TABLE, ?MODULE).
%% Of the cluster; beyond, nothing is told.
-define(MAX_DEVICES, 500_000).
%% Of one device, those that are told one by one; so many more are counted.
-define(MAX_OBSERVATIONS, 64).
-define(MAX_REST, 1_024).
%% Rows in a message for a node that is new.
-define(CHUNK, 100).
%% Of an answer, so much is looked at before it is read as JSON: the type and the code come first.
-define(HEAD, 1024).
%% Longer answers have so many members that are repeated that nobody keeps them.
-define(MAX_BYTES, 100_000).
-define(LOST_TIMEOUT, 1_000).
-define(NOTHING, {[], []}).

-type path() :: binary() | [binary()].
%% The topics that it came by: those of today, or the older ones.
-type pair() :: today | older.
%% The name of the command if it was one in the older form.
-type observation() :: {path(), ReqId :: term(), pair(), json | {cmd, Name :: binary()}}.
%% Hashes of path and id of one that is only counted.
-type rest() :: {PathHash :: integer(), IdHash :: integer(), pair()}.
-type known() :: {[observation()], [rest()]}.

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc An answer was published; those to observe and cancel-observe count, and that a device has
%% refused a message.
-spec answered(Endpoint :: binary(), Payload :: binary(), pair()) -> ok.
answered(Endpoint, Payload, Pair) ->
    case is_about(Payload, [<<"\"observe">>, <<"\"cancel-observe">>, <<"\"coap_reset\"">>, <<"\"Command\"">>]) of
        true -> told(Endpoint, decoded(Payload, Pair));
        false -> ok
    end.

%% @doc A notification was published; an error ends the observation.
-spec notified(Endpoint :: binary(), Payload :: binary(), pair()) -> ok.
notified(Endpoint, Payload, Pair) ->
    case is_about(Payload, [<<"\"code\":\"4.">>, <<"\"code\":\"5.">>, <<"\"Error\"">>]) of
        true -> told(Endpoint, decoded(Payload, Pair));
        false -> ok
    end.

%% @doc The device is here with all that was observed: from the store, or from another node.
-spec here(Endpoint :: binary()) -> ok.
here(Endpoint) ->
    gen_server:cast(?MODULE, {here, Endpoint}).

%% @doc Its registration has ended.
-spec forget(Endpoint :: binary()) -> ok.
forget(Endpoint) ->
    gen_server:cast(?MODULE, {forget, Endpoint}).

%% @doc What was observed of a device that has come with nothing, once.
-spec lost(Endpoint :: binary()) -> known().
lost(Endpoint) ->
    try ets:member(?TABLE, Endpoint) andalso gen_server:call(?MODULE, {lost, Endpoint}, ?LOST_TIMEOUT) of
        false -> ?NOTHING;
        Known -> Known
    catch
        _:_ -> ?NOTHING
    end.

%% @doc The messages that say so, by the topics that they go to: one for each observation, and one for
%% those that were only counted.
-spec messages(known()) -> [{pair(), Payload :: binary()}].
messages({Observations, Rest}) ->
    [{Pair, payload(Observation)} || {_, _, Pair, _} = Observation <- Observations] ++
        [
            {Pair, emqx_utils_json:encode(#{<<"msgType">> => <<"notify">>, <<"data">> => Data})}
         || Pair <- [today, older],
            Count <- [length([Pair || {_, _, P} <- Rest, P =:= Pair])],
            Count > 0,
            Data <- [(lost_data(<<"observations_lost">>))#{<<"count">> => Count}]
        ].

payload({Path, ReqId, _Pair, json}) ->
    Data = (lost_data(<<"observation_lost">>))#{name(Path) => Path},
    emqx_utils_json:encode(with_id(<<"reqID">>, ReqId, #{<<"msgType">> => <<"notify">>, <<"data">> => Data}));
payload({_Path, ReqId, _Pair, {cmd, Name}}) ->
    %% As the gateway answers such a command with an error of its own.
    emqx_utils_json:encode(with_id(<<"CmdID">>, ReqId, #{
        <<"Command">> => Name, <<"Reason">> => <<"observation_lost">>, <<"Error">> => <<"Not Found">>
    })).

lost_data(Reason) ->
    #{<<"code">> => <<"4.04">>, <<"codeMsg">> => <<"not_found">>, <<"reason">> => Reason}.

%% A command may have none.
with_id(_Key, undefined, Message) -> Message;
with_id(Key, Id, Message) -> Message#{Key => Id}.

name(Path) when is_list(Path) -> <<"reqPaths">>;
name(_Path) -> <<"reqPath">>.

is_about(Payload, Words) when byte_size(Payload) =< ?MAX_BYTES ->
    Head = binary:part(Payload, 0, min(byte_size(Payload), ?HEAD)),
    binary:match(Head, Words) =/= nomatch;
is_about(_Payload, _Words) ->
    false.

decoded(Payload, Pair) ->
    case emqx_utils_json:safe_decode(Payload, [return_maps]) of
        %% The gateway asks for these anew by itself.
        {ok, #{<<"is_auto_observe">> := true}} ->
            none;
        {ok, #{<<"msgType">> := <<"coap_reset">>} = Answer} ->
            {ended, of_command(Answer), id(<<"reqID">>, Answer), Pair};
        {ok, #{<<"msgType">> := Type, <<"data">> := #{<<"code">> := Code} = Data} = Answer} ->
            case Data of
                #{<<"reqPath">> := Path} when is_binary(Path) ->
                    change(Type, Code, Path, id(<<"reqID">>, Answer), Pair);
                #{<<"reqPaths">> := [_ | _] = Paths} ->
                    change(Type, Code, Paths, id(<<"reqID">>, Answer), Pair);
                #{} ->
                    none
            end;
        {ok, #{<<"Command">> := Name} = Answer} when is_binary(Name) ->
            older(string:lowercase(Name), Answer, Pair);
        _ ->
            none
    end.

id(Key, Answer) ->
    maps:get(Key, Answer, undefined).

%% A Reset repeats the command that it answers, as far as that is kept.
of_command(#{<<"data">> := #{<<"path">> := Path}}) when is_binary(Path) -> Path;
of_command(#{<<"data">> := #{<<"paths">> := [_ | _] = Paths}}) -> Paths;
of_command(_Answer) -> unknown.

change(<<"observe">>, <<"2.", _/binary>>, Path, ReqId, Pair) -> {set, {Path, ReqId, Pair, json}};
change(<<"observe-composite">>, <<"2.", _/binary>>, Path, ReqId, Pair) -> {set, {Path, ReqId, Pair, json}};
change(<<"cancel-observe", _/binary>>, _Code, Path, _ReqId, Pair) -> {ended, Path, any, Pair};
change(<<"notify">>, <<C, _/binary>>, Path, _ReqId, Pair) when C =:= $4; C =:= $5 -> {ended, Path, any, Pair};
change(_Type, _Code, _Path, _ReqId, _Pair) -> none.

%% `CmdID' and `Command': an error has no path.
older(<<"observe">>, #{<<"Error">> := _} = Answer, Pair) ->
    {ended, unknown, id(<<"CmdID">>, Answer), Pair};
older(<<"observe">>, #{<<"Command">> := Name, <<"Result">> := #{<<"bn">> := Path}} = Answer, Pair) ->
    {set, {Path, id(<<"CmdID">>, Answer), Pair, {cmd, Name}}};
older(<<"cancel-observe">>, #{<<"Result">> := #{<<"bn">> := Path}}, Pair) ->
    {ended, Path, any, Pair};
older(_Name, _Answer, _Pair) ->
    none.

told(_Endpoint, none) -> ok;
told(Endpoint, Change) -> gen_server:cast(?MODULE, {change, Endpoint, Change}).

init([]) ->
    ?TABLE = ets:new(?TABLE, [named_table, protected, {read_concurrency, true}]),
    ok = net_kernel:monitor_nodes(true),
    %% What they know of the devices of this node from before.
    ok = tell({hello, self()}),
    {ok, []}.

handle_call({lost, Endpoint}, _From, State) ->
    case ets:lookup(?TABLE, Endpoint) of
        [{_, _, Known}] ->
            ok = write(Endpoint, ?NOTHING),
            {reply, Known, State};
        [] ->
            {reply, ?NOTHING, State}
    end;
handle_call(_Request, _From, State) ->
    {reply, ignored, State}.

handle_cast({change, Endpoint, Change}, State) ->
    {Node, Known} = known(Endpoint),
    case changed(Change, Known) of
        Known when Node =:= node() ->
            ok;
        {_, []} = New ->
            ok = write(Endpoint, New);
        New when Node =/= node() ->
            ok = write(Endpoint, New);
        New ->
            %% It is long: the others make the same change.
            ok = insert(Endpoint, node(), New),
            ok = tell({changed, node(), Endpoint, Change})
    end,
    {noreply, State};
handle_cast({here, Endpoint}, State) ->
    case known(Endpoint) of
        {Node, Known} when Node =/= node() -> ok = write(Endpoint, Known);
        _ -> ok
    end,
    {noreply, State};
handle_cast({forget, Endpoint}, State) ->
    %% One that has moved is another's.
    case known(Endpoint) of
        {Node, Known} when Node =:= node(), Known =/= ?NOTHING -> ok = write(Endpoint, ?NOTHING);
        _ -> ok
    end,
    {noreply, State};
handle_cast(_Message, State) ->
    {noreply, State}.

handle_info({has, Node, Endpoint, Known}, State) ->
    ok = insert(Endpoint, Node, Known),
    {noreply, State};
handle_info({changed, Node, Endpoint, Change}, State) ->
    {_, Known} = known(Endpoint),
    ok = insert(Endpoint, Node, changed(Change, Known)),
    {noreply, State};
handle_info({hello, From}, State) ->
    ok = give(From, ets:match_object(?TABLE, '_', ?CHUNK)),
    {noreply, State};
handle_info({rows, Rows}, State) ->
    %% Of what is known already the newer word has been heard here.
    lists:foreach(
        fun({Endpoint, Node, Known}) ->
            ets:member(?TABLE, Endpoint) orelse insert(Endpoint, Node, Known)
        end,
        Rows
    ),
    {noreply, State};
handle_info({nodeup, Node}, State) ->
    _ = erlang:send({?MODULE, Node}, {hello, self()}, [nosuspend, noconnect]),
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.

terminate(_Reason, _State) ->
    ok.

known(Endpoint) ->
    case ets:lookup(?TABLE, Endpoint) of
        [{_, Node, Known}] -> {Node, Known};
        [] -> {node(), ?NOTHING}
    end.

changed({ended, Path, ReqId, Pair}, {Observations, Rest}) ->
    case lists:partition(fun(It) -> is_meant(Path, ReqId, Pair, It) end, Observations) of
        {[], _} ->
            {Observations, without(Path, ReqId, Pair, Rest)};
        {[_, _ | _], _} when Path =:= unknown ->
            %% Several have this id: rather one too many is told.
            {Observations, Rest};
        {_, Others} ->
            {Others, Rest}
    end;
%% The same answer comes by a response topic as well.
changed({set, {Path, ReqId, Pair, Form} = New}, {Observations, Rest}) ->
    case lists:keytake(Path, 1, Observations) of
        {value, {_, ReqId, older, _}, Others} ->
            {[{Path, ReqId, older, Form} | Others], Rest};
        {value, _, Others} ->
            {[New | Others], Rest};
        false when length(Observations) < ?MAX_OBSERVATIONS ->
            {[New | Observations], without(Path, any, Pair, Rest)};
        false ->
            Others = without(Path, any, Pair, Rest),
            {Observations, lists:sublist([{erlang:phash2(Path), erlang:phash2(ReqId), Pair} | Others], ?MAX_REST)}
    end.

%% One that is told of by its path is that one, whatever its id; a Reset names both as far as it can.
is_meant(unknown, ReqId, Pair, {_, ReqId, Pair, _}) -> ReqId =/= undefined;
is_meant(Path, any, _Pair, {Path, _, _, _}) -> true;
is_meant(Path, ReqId, _Pair, {Path, ReqId, _, _}) -> true;
is_meant(_Path, _ReqId, _Pair, _Observation) -> false.

%% Less one at most.
without(_Path, _ReqId, _Pair, []) ->
    [];
without(unknown, undefined, _Pair, Rest) ->
    Rest;
without(unknown, ReqId, Pair, Rest) ->
    less(lists:search(fun({_, Id, P}) -> {Id, P} =:= {erlang:phash2(ReqId), Pair} end, Rest), Rest);
without(Path, any, _Pair, Rest) ->
    less(lists:search(fun({Hash, _, _}) -> Hash =:= erlang:phash2(Path) end, Rest), Rest);
without(Path, ReqId, _Pair, Rest) ->
    Hashes = {erlang:phash2(Path), erlang:phash2(ReqId)},
    less(lists:search(fun({Hash, Id, _}) -> {Hash, Id} =:= Hashes end, Rest), Rest).

less({value, One}, Rest) -> lists:delete(One, Rest);
less(false, Rest) -> Rest.

write(Endpoint, Known) ->
    ok = insert(Endpoint, node(), Known),
    tell({has, node(), Endpoint, Known}).

insert(Endpoint, _Node, ?NOTHING) ->
    true = ets:delete(?TABLE, Endpoint),
    ok;
insert(Endpoint, Node, Known) ->
    case ets:info(?TABLE, size) < ?MAX_DEVICES orelse ets:member(?TABLE, Endpoint) of
        true -> ets:insert(?TABLE, {Endpoint, Node, Known});
        false -> false
    end,
    ok.

%% Nobody waits for a node that does not take anything.
tell(Message) ->
    lists:foreach(
        fun(Node) -> erlang:send({?MODULE, Node}, Message, [nosuspend, noconnect]) end, nodes()
    ).

give(_To, '$end_of_table') ->
    ok;
give(To, {Rows, Continuation}) ->
    case erlang:send(To, {rows, Rows}, [nosuspend, noconnect]) of
        ok -> give(To, ets:match_object(Continuation));
        _ -> ok
    end.
