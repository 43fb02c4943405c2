%% @doc The plugin of EMQX as an OTP application: the NIF, then the take-over; and back.
-module(lwm2m_gateway_emqx_app).
-behaviour(application).

-export([start/2, stop/1, on_config_changed/2, on_handle_api_call/4]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(Type, Args) ->
    ok = lwm2m_gateway_emqx_takeover:begin_change(),
    try
        take_over(Type, Args)
    after
        lwm2m_gateway_emqx_takeover:end_change()
    end.

take_over(Type, Args) ->
    %% Of a start that failed; what is wrong now is found again.
    ok = lwm2m_gateway_emqx_alarm:clear(config),
    case lwm2m_gateway_app:start(Type, Args) of
        {ok, Supervisor} ->
            case lwm2m_gateway_emqx_takeover:take(lwm2m_gateway_emqx) of
                ok ->
                    ok = lwm2m_gateway_emqx_alarm:clear(missing),
                    {ok, Supervisor};
                {error, Reason} = Error ->
                    not_started(Reason, undo(Supervisor)),
                    Error
            end;
        {error, Reason} = Error ->
            %% An earlier stop that failed may have left no gateway at all.
            GivenBack = lwm2m_gateway_emqx_takeover:is_given_back() orelse give_back() =:= ok,
            not_started(Reason, GivenBack),
            Error
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    ok = lwm2m_gateway_emqx_takeover:begin_change(),
    try
        _ = undo(none),
        lwm2m_gateway_emqx_alarm:clear(config)
    after
        lwm2m_gateway_emqx_takeover:end_change()
    end.

%% Whatever happens, the library is let go, or the next start cannot load it; and the built-in
%% gateway comes back, after the ports of ours are free. Whether it has come back.
undo(Supervisor) ->
    try
        stop_supervisor(Supervisor),
        lwm2m_gateway_emqx_takeover:release()
    of
        ok -> ok;
        {error, Reason} -> log("lwm2m_gateway_not_released", Reason)
    catch
        Class:Reason -> log("lwm2m_gateway_not_released", {Class, Reason})
    after
        try
            lwm2m_gateway_app:stop(undefined)
        catch
            OtherClass:Other -> log("lwm2m_gateway_library_not_unloaded", {OtherClass, Other})
        end
    end,
    give_back() =:= ok.

give_back() ->
    case lwm2m_gateway_emqx_takeover:give_back() of
        ok ->
            lwm2m_gateway_emqx_alarm:clear(missing);
        {error, Reason} = Error ->
            lwm2m_gateway_emqx_takeover:is_stopping() orelse
                lwm2m_gateway_emqx_alarm:raise(missing, Reason, missing()),
            Error
    end.

missing() ->
    {ok, Version} = application:get_key(lwm2m_gateway, vsn),
    iolist_to_binary([
        "No LwM2M gateway runs on this node: the built-in one could not be started again. Remove the "
        "cause, then start the plugin (emqx ctl plugins start lwm2m_gateway-",
        Version,
        "; stop it afterwards if you want the built-in gateway) or restart the node"
    ]).

%% At a start of the node nobody sees it otherwise.
not_started(Reason, GivenBack) ->
    Means =
        case GivenBack of
            true -> <<"; the built-in gateway runs instead">>;
            false -> <<"; the alarm lwm2m_gateway_missing says what to do">>
        end,
    lwm2m_gateway_emqx_alarm:raise(
        config, Reason, <<"The plugin lwm2m_gateway did not start", Means/binary>>
    ).

stop_supervisor(none) ->
    ok;
stop_supervisor(Supervisor) ->
    true = unlink(Supervisor),
    Monitor = monitor(process, Supervisor),
    true = exit(Supervisor, shutdown),
    receive
        {'DOWN', Monitor, process, Supervisor, _} -> ok
    end.

log(What, Reason) ->
    logger:error(#{msg => What, reason => Reason}).

%% @doc The plugin's own configuration was changed. EMQX calls this before the new value can be
%% read anywhere else; from 5.9 on it does not store what is refused.
-spec on_config_changed(map(), map()) -> ok | {error, binary()}.
on_config_changed(_Old, New) ->
    case lwm2m_gateway_emqx_stored:is_hiding() of
        true -> ok;
        false -> lwm2m_gateway_emqx_owner:plugin_config(New)
    end.

%% @doc A request below `/api/v5/plugin_api/lwm2m_gateway': EMQX 6.2 and later.
-spec on_handle_api_call(Method :: atom(), Path :: [binary()], Request :: map(), Context :: map()) ->
    lwm2m_gateway_emqx_page:answer().
on_handle_api_call(Method, Path, Request, _Context) ->
    lwm2m_gateway_emqx_page:handle(Method, Path, Request).
