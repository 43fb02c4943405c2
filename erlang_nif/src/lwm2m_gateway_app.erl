%% @private Loads the native library, starts the gateways that the environment names, and lets go
%% of both at the end.
-module(lwm2m_gateway_app).
-behaviour(application).

-export([start/2, stop/1, unload/0, on_config_changed/2, on_handle_api_call/4]).

-define(STOP_TIMEOUT, 5000).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case load() of
        ok -> start_supervisor();
        {error, _} = Error -> Error
    end.

start_supervisor() ->
    case lwm2m_gateway_sup:start_link(application:get_env(lwm2m_gateway, gateways, [])) of
        {ok, _} = Started ->
            Started;
        Error ->
            _ = unload(),
            Error
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    unload().

%% Not left to the first call: a release in embedded mode loads nothing on demand, so after
%% unload/0 nobody would.
load() ->
    %% Knows of a load that another process has under way, unlike load_file/1.
    case code:ensure_loaded(lwm2m_gateway_nif) of
        {module, _} -> ok;
        {error, embedded} -> loaded(code:load_file(lwm2m_gateway_nif));
        {error, _} = Error -> loaded(Error)
    end.

loaded({module, _}) -> ok;
loaded({error, Reason}) -> {error, {lwm2m_gateway_nif, Reason}}.

%% @doc Stops all gateways of the node and removes the module with the native library, so that it
%% can be loaded again: a second instance beside the first is refused.
-spec unload() -> ok.
unload() ->
    case erlang:module_loaded(lwm2m_gateway_nif) of
        true ->
            %% Whatever becomes of that, the module has to go.
            _ = (catch lwm2m_gateway:stop_all(?STOP_TIMEOUT)),
            ok;
        false ->
            ok
    end,
    %% Old code, of a load that went wrong, would keep the current from becoming old.
    _ = code:purge(lwm2m_gateway_nif),
    _ = code:delete(lwm2m_gateway_nif),
    _ = code:purge(lwm2m_gateway_nif),
    ok.

%% @doc EMQX asks the module that is called like the plugin. Where another module starts this
%% application, it is that one's business.
-spec on_config_changed(map(), map()) -> ok | {error, term()}.
on_config_changed(Old, New) ->
    case application:get_key(lwm2m_gateway, mod) of
        {ok, {Module, _}} when Module =/= ?MODULE -> Module:on_config_changed(Old, New);
        _ -> ok
    end.

%% @doc The same for a request to the plugin's own part of EMQX's HTTP API.
-spec on_handle_api_call(atom(), [binary()], map(), map()) ->
    {ok, pos_integer(), map(), term()} | {error, not_found}.
on_handle_api_call(Method, Path, Request, Context) ->
    case application:get_key(lwm2m_gateway, mod) of
        {ok, {Module, _}} when Module =/= ?MODULE ->
            Module:on_handle_api_call(Method, Path, Request, Context);
        _ ->
            {error, not_found}
    end.
