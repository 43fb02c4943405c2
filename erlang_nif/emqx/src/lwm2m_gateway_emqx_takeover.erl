%% @doc Whose the gateway type `lwm2m' of EMQX is: ours while the plugin runs, the built-in one's
%% otherwise.
-module(lwm2m_gateway_emqx_takeover).

-export([take/1, give_back/0]).

-define(GATEWAY, lwm2m).
-define(BUILT_IN, emqx_gateway_lwm2m).
-define(SCHEMA, emqx_lwm2m_schema).

%% @doc Puts `Module' in the place of the built-in gateway and loads it with the configuration
%% that EMQX has for it. After an error the built-in gateway is back.
-spec take(module()) -> ok | {error, term()}.
take(Module) ->
    case replace([{cbkmod, Module}, {schema, ?SCHEMA}]) of
        ok ->
            ok;
        {error, _} = Error ->
            _ = give_back(),
            Error
    end.

%% @doc Puts the built-in gateway back. If it does not start with the configuration as it is now,
%% it is registered all the same, and the error is returned.
-spec give_back() -> ok | {error, term()}.
give_back() ->
    replace([{cbkmod, ?BUILT_IN}, {schema, ?SCHEMA}]).

%% The order counts: unreg/1 of a loaded gateway would unload it from within the registry, and the
%% unloading asks the registry.
replace(Options) ->
    Config = emqx_conf:get([gateway, ?GATEWAY], undefined),
    case unload() of
        ok ->
            ok = emqx_gateway_registry:unreg(?GATEWAY),
            ok = emqx_gateway_registry:reg(?GATEWAY, Options),
            load(Config);
        {error, _} = Error ->
            Error
    end.

unload() ->
    try emqx_gateway:unload(?GATEWAY) of
        ok -> ok;
        {error, not_found} -> ok;
        {error, _} = Error -> Error
    catch
        exit:Reason -> {error, Reason}
    end.

%% On shutdown of the node nobody needs a gateway any more.
load(undefined) ->
    ok;
load(Config) ->
    case init:get_status() of
        {stopping, _} ->
            ok;
        _ ->
            try emqx_gateway:load(?GATEWAY, Config) of
                {ok, _Pid} -> ok;
                {error, _} = Error -> Error
            catch
                exit:Reason -> {error, Reason}
            end
    end.
