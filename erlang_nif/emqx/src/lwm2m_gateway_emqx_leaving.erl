%% @private A device stops being a client of EMQX.
-module(lwm2m_gateway_emqx_leaving).

-export([clean_up/2, disconnect_reason/1, hand_over/1, kick/2, leave/2]).

-include("lwm2m_gateway_emqx_device.hrl").

%% @doc All that another node needs to go on: what the gateway has, and what only this process has.
-spec hand_over(state()) -> map().
hand_over(#state{gateway = Gateway, endpoint = Endpoint} = State) ->
    #state{subscriptions = Subscriptions, commands = Commands, results = Results} = State,
    Session =
        case lwm2m_gateway:export(Gateway, Endpoint) of
            {ok, Exported} -> Exported;
            {error, not_found} -> undefined
        end,
    #{
        endpoint => Endpoint,
        session => Session,
        subscriptions => maps:without(Commands, Subscriptions),
        results => lwm2m_gateway_emqx_results:to_map(Results)
    }.

%% @doc Ends the registration as well.
-spec kick(Reason :: atom(), state()) -> state().
kick(_Reason, #state{conn_state = leaving} = State) ->
    State;
kick(Reason, #state{gateway = Gateway, endpoint = Endpoint} = State) ->
    _ = lwm2m_gateway:kick(Gateway, Endpoint),
    lists:member(Reason, [kicked, expired]) andalso lwm2m_gateway_emqx_observed:forget(Endpoint),
    leave(Reason, State).

%% @doc The owner may still send something until it says that it knows.
-spec leave(Reason :: atom(), state()) -> state().
leave(_Reason, #state{conn_state = leaving} = State) ->
    State;
leave(Reason, State) ->
    Clean = clean_up(Reason, State),
    lwm2m_gateway_emqx_owner ! {leave, self()},
    Clean#state{conn_state = leaving, registering = undefined, registered = false}.

%% @doc The client is gone; the process may go on.
-spec clean_up(Reason :: term(), state()) -> state().
clean_up(Reason, #state{conn_state = connected, ctx = Ctx, clientinfo = ClientInfo} = State) ->
    #{clientid := ClientId} = ClientInfo,
    ConnInfo = (State#state.conninfo)#{disconnected_at => erlang:system_time(millisecond)},
    Reason =:= discarded orelse
        lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'client.disconnected', [ClientInfo, Reason, ConnInfo]),
    #state{} =
        Unsubscribed = lists:foldl(
            fun lwm2m_gateway_emqx_subscriptions:unsubscribe/2, State, maps:keys(State#state.subscriptions)
        ),
    Session = lwm2m_gateway_emqx_channel:session_info(State),
    case Reason of
        takenover ->
            ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'session.takenover', [ClientInfo, Session]);
        _ ->
            ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'session.terminated', [ClientInfo, Reason, Session])
    end,
    #{gwname := Name} = Ctx,
    ok = emqx_gateway_cm:unregister_channel(Name, ClientId),
    lwm2m_gateway_emqx_channel:cancel(State#state.expire_timer),
    lwm2m_gateway_emqx_channel:cancel(State#state.registering),
    Unsubscribed#state{
        conninfo = #{}, expire_timer = undefined, registering = undefined, held = []
    };
clean_up(_Reason, State) ->
    State.

%% @doc As EMQX calls it.
-spec disconnect_reason(lwm2m_gateway:gone_reason()) -> atom().
disconnect_reason(deregistered) -> normal;
disconnect_reason(expired) -> timeout;
disconnect_reason(kicked) -> kicked;
disconnect_reason(displaced) -> takenover;
disconnect_reason(Other) -> Other.
