%% @doc Keys in the plugin's configuration: who reads it through EMQX sees stars, and stars that come
%% back stand for the key that is known. No processes.
-module(lwm2m_gateway_emqx_secrets).

-export([hidden/1, keys/1, revealed/2]).

-export_type([keys/0]).

%% As EMQX shows passwords.
-define(STARS, <<"******">>).

%% By the place in the configuration, outermost last, and the identity there.
-type keys() :: #{{Place :: [binary()], Identity :: binary()} => Key :: binary()}.

%% @doc With stars for every key.
-spec hidden(Plugin :: map()) -> map().
hidden(Plugin) ->
    mapped(
        fun
            (_, <<>>) -> <<>>;
            (_, _) -> ?STARS
        end,
        Plugin
    ).

%% @doc The keys that are there, without those that are stars.
-spec keys(Plugin :: map()) -> keys().
keys(Plugin) ->
    maps:from_list([{Id, Key} || {Id, Key} <- found(Plugin), Key =/= ?STARS, Key =/= <<>>]).

%% @doc With the keys that the stars stand for.
-spec revealed(Plugin :: map(), keys()) ->
    {ok, map()} | {error, {invalid_config, [{binary(), binary()}]}}.
revealed(Plugin, Known) ->
    case [Id || {Id, ?STARS} <- found(Plugin), not is_map_key(Id, Known)] of
        [] ->
            {ok,
                mapped(
                    fun
                        (Id, ?STARS) -> maps:get(Id, Known);
                        (_, Key) -> Key
                    end,
                    Plugin
                )};
        Unknown ->
            {error, {invalid_config, [{place(Id), unknown(Id)} || Id <- Unknown]}}
    end.

place({Place, _}) -> lists:last(Place).

unknown({_, Identity}) ->
    iolist_to_binary(["stars stand for an existing key, but there is none for ", Identity]).

found(Plugin) ->
    lists:append([found([Key], part(Key, Value)) || {Key, Value} <- maps:to_list(Plugin)]).

found(Place, #{<<"identity">> := Identity, <<"key">> := Key}) when
    is_binary(Identity), is_binary(Key)
->
    [{{Place, Identity}, Key}];
found(Place, #{} = Map) ->
    lists:append([found([Key | Place], Value) || {Key, Value} <- maps:to_list(Map)]);
found(Place, List) when is_list(List) ->
    lists:append([found(Place, Value) || Value <- List]);
found(_Place, _Value) ->
    [].

mapped(Fun, Plugin) ->
    maps:map(
        fun(Key, Value) ->
            Part = part(Key, Value),
            case mapped(Fun, [Key], Part) of
                %% A text stays as it was written.
                Part -> Value;
                New when is_binary(Value) -> emqx_utils_json:encode(New);
                New -> New
            end
        end,
        Plugin
    ).

mapped(Fun, Place, #{<<"identity">> := Identity, <<"key">> := Key} = Credential) when
    is_binary(Identity), is_binary(Key)
->
    Credential#{<<"key">> := Fun({Place, Identity}, Key)};
mapped(Fun, Place, #{} = Map) ->
    maps:map(fun(Key, Value) -> mapped(Fun, [Key | Place], Value) end, Map);
mapped(Fun, Place, List) when is_list(List) ->
    [mapped(Fun, Place, Value) || Value <- List];
mapped(_Fun, _Place, Value) ->
    Value.

%% `further' is a text with any other part of the gateway's configuration.
part(<<"further">>, Text) when is_binary(Text) ->
    case emqx_utils_json:safe_decode(Text, [return_maps]) of
        {ok, Further} -> Further;
        {error, _} -> Text
    end;
part(_Key, Value) ->
    Value.
