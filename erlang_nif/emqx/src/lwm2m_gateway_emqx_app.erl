%% @doc The plugin of EMQX as an OTP application: the NIF, then the take-over; and back.
-module(lwm2m_gateway_emqx_app).
-behaviour(application).

-export([start/2, stop/1, on_config_changed/2]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(Type, Args) ->
    %% Of a start that failed; what is wrong now is found again.
    ok = lwm2m_gateway_emqx_alarm:clear(config),
    case lwm2m_gateway_app:start(Type, Args) of
        {ok, Supervisor} ->
            try lwm2m_gateway_emqx_takeover:take(lwm2m_gateway_emqx) of
                ok ->
                    {ok, Supervisor};
                {error, Reason} ->
                    failed(Supervisor),
                    not_started(Reason),
                    {error, Reason}
            catch
                Class:Reason:Stack ->
                    _ = (catch lwm2m_gateway_emqx_takeover:give_back()),
                    failed(Supervisor),
                    not_started(Reason),
                    erlang:raise(Class, Reason, Stack)
            end;
        {error, Reason} = Error ->
            not_started(Reason),
            Error
    end.

%% At a start of the node nobody sees it otherwise.
not_started(Reason) ->
    lwm2m_gateway_emqx_alarm:raise(
        config,
        Reason,
        <<"The plugin lwm2m_gateway did not start; the built-in gateway is in its place">>
    ).

%% The library has to be let go, or the next start cannot load it.
failed(Supervisor) ->
    true = unlink(Supervisor),
    Monitor = monitor(process, Supervisor),
    true = exit(Supervisor, shutdown),
    receive
        {'DOWN', Monitor, process, Supervisor, _} -> ok
    end,
    lwm2m_gateway_app:stop(undefined).

-spec stop(term()) -> ok.
stop(State) ->
    case lwm2m_gateway_emqx_takeover:give_back() of
        ok ->
            ok;
        {error, Reason} ->
            logger:error(#{msg => "lwm2m_built_in_gateway_not_started", reason => Reason})
    end,
    ok = lwm2m_gateway_emqx_alarm:clear(config),
    lwm2m_gateway_app:stop(State).

%% @doc The plugin's own configuration was changed. EMQX calls this before the new value can be
%% read anywhere else, and does not care for the result.
-spec on_config_changed(map(), map()) -> ok.
on_config_changed(_Old, New) ->
    lwm2m_gateway_emqx_owner:plugin_config(New).
