%% @doc The last configuration of the plugin that was good, in a file beside EMQX's own copy.
%% EMQX stores what it is given before the plugin can say that it cannot be used, and shows what it
%% stores; here are the keys as well.
-module(lwm2m_gateway_emqx_accepted).

-export([read/0, keys/0, write/1, file/0]).

%% Milliseconds for the other nodes to tell theirs.
-define(PEERS_TIMEOUT, 2_000).

%% @doc Where it is; it holds keys and is for the broker's user only.
-spec file() -> file:filename_all().
file() ->
    filename:join([emqx:data_dir(), "plugins", "lwm2m_gateway", "accepted.json"]).

-spec read() -> {ok, map()} | error.
read() ->
    case file:read_file(file()) of
        {ok, Text} ->
            case emqx_utils_json:safe_decode(Text, [return_maps]) of
                {ok, Config} when is_map(Config) -> {ok, Config};
                _ -> error
            end;
        {error, _} ->
            error
    end.

%% @doc Keys that this node or another of the cluster knows. Those of another one count: it has run
%% while this one has not.
-spec keys() -> lwm2m_gateway_emqx_secrets:keys().
keys() ->
    Others = erpc:multicall(nodes(), ?MODULE, read, [], ?PEERS_TIMEOUT),
    Configs = [read() | [Answer || {ok, Answer} <- Others]],
    lists:foldl(
        fun
            ({ok, Config}, Keys) -> maps:merge(Keys, lwm2m_gateway_emqx_secrets:keys(Config));
            (_, Keys) -> Keys
        end,
        #{},
        Configs
    ).

%% @doc A failure is no reason to go without what was asked for.
-spec write(map()) -> ok.
write(Config) ->
    case read() of
        {ok, Config} ->
            ok;
        _ ->
            File = file(),
            try
                ok = filelib:ensure_dir(File),
                New = unicode:characters_to_list([File, ".new"]),
                ok = file:write_file(New, <<>>),
                ok = file:change_mode(New, 8#600),
                ok = file:write_file(New, emqx_utils_json:encode(Config), [sync]),
                ok = file:rename(New, File)
            catch
                _:Reason ->
                    logger:warning(#{
                        msg => "lwm2m_gateway_config_not_kept", file => File, reason => Reason
                    })
            end
    end.
