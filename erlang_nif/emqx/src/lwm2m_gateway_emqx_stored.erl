%% @doc The plugin's configuration as EMQX stores and shows it. Its keys do not stay there.
-module(lwm2m_gateway_emqx_stored).

-export([read/0, hide/2, is_hiding/0, hears_refusals/0]).

-define(HIDING, lwm2m_gateway_hiding).

%% Milliseconds between two looks at whether EMQX has stored what it has told of, and how often.
-define(LOOK, 20).
-define(LOOKS, 500).

%% @doc `unknown' if EMQX has none, which it has always after an installation: what is in its file
%% cannot be read or does not fit the schema.
-spec read() -> {ok, map()} | unknown.
read() ->
    try get_config(name()) of
        Config when is_map(Config) -> {ok, Config};
        {ok, Config} when is_map(Config) -> {ok, Config};
        _ -> unknown
    catch
        _:_ -> unknown
    end.

%% Before 5.9 the second argument is a format.
get_config(Name) ->
    case hears_refusals() of
        true -> emqx_plugins:get_config(Name, unknown);
        false -> emqx_plugins:get_config(Name, config_format_map, unknown)
    end.

%% @doc Whether EMQX cares for what `on_config_changed' returns, and does not store what is refused.
%% It does from 5.9 on.
-spec hears_refusals() -> boolean().
hears_refusals() ->
    erlang:function_exported(emqx_plugins, update_config, 2).

%% @doc Puts stars in the place of the keys, in a process that is linked to the caller, as soon as
%% EMQX has stored `Config': it tells of a configuration before that. `Shown' tells how the newest
%% has to look by then.
-spec hide(Config :: map(), Shown :: fun(() -> map())) -> ok.
hide(Config, Shown) ->
    case lwm2m_gateway_emqx_secrets:hidden(Config) of
        Config ->
            ok;
        _ ->
            _ = spawn_link(fun() ->
                _ = put(?HIDING, true),
                hide_when_stored(Config, Shown, ?LOOKS)
            end),
            ok
    end.

%% @doc Whether the calling process does so: then it is no change.
-spec is_hiding() -> boolean().
is_hiding() ->
    get(?HIDING) =:= true.

hide_when_stored(_Config, _Shown, 0) ->
    ok;
hide_when_stored(Config, Shown, Looks) ->
    case read() of
        {ok, Config} ->
            write_shown(Shown, 5);
        _ ->
            timer:sleep(?LOOK),
            hide_when_stored(Config, Shown, Looks - 1)
    end.

%% Again if another one came in between.
write_shown(_Shown, 0) ->
    ok;
write_shown(Shown, Times) ->
    Wanted = Shown(),
    case read() of
        {ok, Wanted} ->
            ok;
        _ ->
            write(Wanted),
            write_shown(Shown, Times - 1)
    end.

write(Config) ->
    try
        case hears_refusals() of
            true -> ok = emqx_plugins:update_config(name(), Config);
            false -> ok = emqx_plugins:put_config(name(), Config, Config)
        end
    catch
        _:Reason ->
            logger:warning(#{msg => "lwm2m_gateway_keys_not_hidden", reason => Reason})
    end.

name() ->
    {ok, Version} = application:get_key(lwm2m_gateway, vsn),
    iolist_to_binary(["lwm2m_gateway-", Version]).
