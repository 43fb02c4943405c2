%% @private A device becomes a client of EMQX: it registers, comes back from the store, or comes from another
%% node of the cluster.
-module(lwm2m_gateway_emqx_joining).

-export([authorize/3, hand_on/2, import/1, not_registered/1, registered/2, restore/2]).

-include("lwm2m_gateway_emqx_device.hrl").

%% The module of the connection and of the session, as EMQX sees it.
-define(DEVICE, lwm2m_gateway_emqx_device).
%% Milliseconds for a device that was let in to turn up.
-define(REGISTER_TIMEOUT, 30_000).
%% The longest time a timer of Erlang takes.
-define(MAX_TIMER, 16#FFFFFFFF).

%% @doc Lets the device in or not, and answers its Register.
-spec authorize(lwm2m_gateway:authorization(), lwm2m_gateway:registration_request(), state()) -> state().
authorize(Authorization, Request, State) ->
    Connection = lwm2m_gateway_emqx_client:connection(Request, ?DEVICE),
    case admit(Connection, State) of
        {ok, Next} ->
            Mountpoint = maps:get(mountpoint, Next#state.clientinfo),
            Decision =
                case maps:get(mountpoint, Request) of
                    Mountpoint -> allow;
                    _ -> {allow, Mountpoint}
                end,
            _ = lwm2m_gateway:authorized(Authorization, Decision),
            lwm2m_gateway_emqx_channel:cancel(Next#state.registering),
            Next#state{registering = erlang:start_timer(?REGISTER_TIMEOUT, self(), registering)};
        {Decision, Next} ->
            _ = lwm2m_gateway:authorized(Authorization, Decision),
            case Next#state.conn_state of
                connecting ->
                    lwm2m_gateway_emqx_leaving:leave(not_authorized, Next);
                _ ->
                    %% Of the one that is there already.
                    ok = lwm2m_gateway_emqx_channel:trace_as(Next#state.conninfo),
                    Next
            end
    end.

admit({deny, _} = Denied, State) ->
    {Denied, State};
admit({ConnInfo, ClientInfo}, #state{ctx = Ctx} = State) ->
    ok = lwm2m_gateway_emqx_channel:trace_as(ConnInfo),
    case lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'client.connect', [ConnInfo], #{}) of
        {error, Reason} ->
            {denied(Reason), State};
        _ ->
            try emqx_gateway_ctx:authenticate(Ctx, ClientInfo) of
                {ok, #{mountpoint := Mountpoint} = Authenticated} ->
                    case lwm2m_gateway_emqx_client:is_mountpoint(Mountpoint) of
                        true -> connected(ConnInfo, maps:remove(password, Authenticated), State);
                        false -> {denied(<<"mountpoint not allowed">>), State}
                    end;
                {error, Reason} ->
                    logger:warning(
                        #{msg => "client_login_failed", reason => Reason},
                        maps:with([clientid, username], ClientInfo)
                    ),
                    {denied(Reason), State}
            catch
                exit:{timeout, _} -> {unavailable, State}
            end
    end.

denied(Reason) ->
    {deny, ["Login Failed: ", text(Reason)]}.

connected(ConnInfo, #{clientid := ClientId} = ClientInfo, #state{conn_state = connected} = State) ->
    case State#state.clientinfo of
        #{clientid := ClientId} ->
            Mounted = lwm2m_gateway_emqx_subscriptions:commands(maps:get(mountpoint, ClientInfo)),
            Known = set_client(ConnInfo, ClientInfo, State),
            Again = lwm2m_gateway_emqx_subscriptions:resubscribe(Mounted, Known),
            lwm2m_gateway_emqx_channel:update_info(Again),
            {ok, schedule_expiry(Again)};
        _ ->
            %% The same device as another client.
            Clean = lwm2m_gateway_emqx_leaving:clean_up(normal, State),
            connected(ConnInfo, ClientInfo, Clean#state{conn_state = connecting})
    end;
connected(ConnInfo, ClientInfo, #state{ctx = Ctx} = State) ->
    ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'client.connack', [ConnInfo, connection_accepted, #{}]),
    ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'client.connected', [ClientInfo, ConnInfo]),
    case open(ConnInfo, ClientInfo, #{}, State) of
        {ok, #state{session = undefined, registered = false} = Opened} ->
            {ok, Opened#state{comes = with_nothing}};
        {ok, Opened} ->
            {ok, Opened#state{comes = with_something}};
        Refused ->
            Refused
    end.

%% With its session and its subscriptions.
open(ConnInfo, ClientInfo, Further, State) ->
    Connected = set_client(ConnInfo, ClientInfo, State#state{conn_state = connected}),
    try open_session(ConnInfo, Connected) of
        {ok, #{session := Opened}} ->
            Taken = take_over(Opened, Connected),
            Resumed = maps:fold(fun lwm2m_gateway_emqx_subscriptions:subscribe/3, Taken, Further),
            Commands = lwm2m_gateway_emqx_subscriptions:commands(maps:get(mountpoint, ClientInfo)),
            Subscribed = lwm2m_gateway_emqx_subscriptions:subscribe_commands(Commands, Resumed),
            lwm2m_gateway_emqx_channel:insert_info(Subscribed),
            {ok, schedule_expiry(Subscribed)};
        {error, Reason} ->
            no_session(Reason, Connected)
    catch
        throw:Reason -> no_session(Reason, Connected)
    end.

%% @doc A client again, as it was, unless the device has registered at another node meanwhile: it
%% stays there and takes along what it had here.
-spec restore(lwm2m_gateway:device_info(), state()) -> state().
restore(#{registered_at := At} = Info, #state{ctx = #{gwname := Name}} = State) ->
    #state{endpoint = Endpoint} = State,
    case lwm2m_gateway_emqx_restored:client(Info, ?DEVICE) of
        {ok, ConnInfo, #{clientid := ClientId} = ClientInfo, Further} ->
            case lwm2m_gateway_emqx_restored:elsewhere(Name, ClientId, At) of
                here -> come_back(ConnInfo, ClientInfo, Further, Info, State);
                {there, Pid} -> hand_on(Pid, State)
            end;
        {deny, Reason} ->
            logger:info(#{msg => "lwm2m_not_restored", endpoint => Endpoint, reason => Reason}),
            lwm2m_gateway_emqx_leaving:kick(not_authorized, State)
    end.

come_back(ConnInfo, ClientInfo, Further, Info, #state{ctx = Ctx} = State) ->
    ok = lwm2m_gateway_emqx_channel:trace_as(ConnInfo),
    Restored = ConnInfo#{restored => true},
    ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'client.connected', [ClientInfo, Restored]),
    case open(ConnInfo, ClientInfo, Further, State) of
        {ok, Opened} -> registered(Info, Opened#state{comes = with_something});
        {_, Closed} -> lwm2m_gateway_emqx_leaving:kick(no_session, Closed)
    end.

%% @doc What this node has goes to the process of another node, where the device is.
-spec hand_on(pid(), state()) -> state().
hand_on(Pid, #state{gateway = Gateway, endpoint = Endpoint} = State) ->
    case lwm2m_gateway:export(Gateway, Endpoint) of
        {ok, Session} -> gen_server:cast(Pid, {handed_on, Session});
        {error, not_found} -> ok
    end,
    lwm2m_gateway_emqx_leaving:leave(displaced, State).

%% With a node that goes down in this moment the session there is lost.
open_session(ConnInfo, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    Session = fun(_, _) -> lwm2m_gateway_emqx_channel:session_info(State) end,
    case lwm2m_gateway_emqx_nodes:unreachable() of
        [] ->
            try
                emqx_gateway_ctx:open_session(Ctx, false, ClientInfo, ConnInfo, Session, ?DEVICE)
            catch
                throw:{badrpc, nodedown} ->
                    emqx_gateway_ctx:open_session(Ctx, true, ClientInfo, ConnInfo, Session, ?DEVICE)
            end;
        Unreachable ->
            open_without_lock(Unreachable, ConnInfo, State)
    end.

%% As EMQX does, but for the lock of the cluster: a node that does not answer keeps nobody waiting. Two
%% nodes that let the same device in at the same time would both have it until it says something.
open_without_lock(Unreachable, ConnInfo, #state{ctx = #{gwname := Name} = Ctx} = State) ->
    #state{clientinfo = #{clientid := ClientId} = ClientInfo} = State,
    Others = [
        Pid
     || Pid <- emqx_gateway_cm:lookup_channels(Name, ClientId),
        Pid =/= self(),
        not lists:member(node(Pid), Unreachable)
    ],
    Taken = [Session || Pid <- Others, {ok, Session} <- [taken_over(Pid)]],
    Session =
        case Taken of
            [First | _] ->
                ?DEVICE:resume(ClientInfo, First);
            [] ->
                New = lwm2m_gateway_emqx_channel:session_info(State),
                ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'session.created', [ClientInfo, New]),
                New
        end,
    ok = emqx_gateway_cm:register_channel(Name, ClientId, self(), ConnInfo),
    {ok, #{session => Session}}.

taken_over(Pid) ->
    try
        Session = ?DEVICE:call(Pid, {takeover, 'begin'}, 5000),
        [] = ?DEVICE:call(Pid, {takeover, 'end'}, 5000),
        {ok, Session}
    catch
        _:_ -> error
    end.

no_session(Reason, State) ->
    logger:error(
        #{msg => "failed_to_open_session", reason => Reason},
        maps:with([clientid, username], State#state.clientinfo)
    ),
    {unavailable, (lwm2m_gateway_emqx_leaving:clean_up(no_session, State))#state{conn_state = connecting}}.

set_client(ConnInfo, ClientInfo, State) ->
    ConnectedAt = maps:get(connected_at, State#state.conninfo, maps:get(connected_at, ConnInfo)),
    State#state{
        conninfo = ConnInfo#{connected_at => ConnectedAt},
        clientinfo = ClientInfo,
        headers = lwm2m_gateway_emqx_client:headers(ClientInfo)
    }.

schedule_expiry(#state{ctx = Ctx, clientinfo = ClientInfo, expire_timer = Former} = State) ->
    lwm2m_gateway_emqx_channel:cancel(Former),
    case emqx_gateway_ctx:connection_expire_interval(Ctx, ClientInfo) of
        undefined ->
            State#state{expire_timer = undefined};
        Interval ->
            Timer = erlang:start_timer(min(Interval, ?MAX_TIMER), self(), expired),
            State#state{expire_timer = Timer}
    end.

take_over(#{taken := #{endpoint := Endpoint} = Taken}, #state{endpoint = Endpoint} = State) ->
    #{session := Session, subscriptions := Subscriptions, results := Results} = Taken,
    maps:fold(
        fun lwm2m_gateway_emqx_subscriptions:subscribe/3,
        State#state{session = Session, results = lwm2m_gateway_emqx_results:from_map(Results)},
        Subscriptions
    );
%% A new session, or one of another device with this client id.
take_over(_Session, State) ->
    State.

%% @doc The gateway takes what another node had.
-spec import(state()) -> state().
import(#state{session = undefined} = State) ->
    State;
import(#state{gateway = Gateway, endpoint = Endpoint, session = Session} = State) ->
    try lwm2m_gateway:import(Gateway, Endpoint, Session) of
        _ -> ok
    catch
        error:badarg ->
            logger:warning(#{msg => "lwm2m_session_not_understood", endpoint => Endpoint})
    end,
    State#state{session = undefined}.

%% @doc The registration stands, or has changed.
-spec registered(lwm2m_gateway:device_info(), state()) -> state().
registered(_Info, #state{conn_state = State} = Data) when State =/= connected ->
    Data;
registered(#{peer := {Host, _} = Peer, lifetime := Granted, query := Query} = Info, State) ->
    #state{conninfo = ConnInfo, clientinfo = ClientInfo} = State,
    lwm2m_gateway_emqx_channel:cancel(State#state.registering),
    Lifetime = lwm2m_gateway_emqx_client:lifetime(Query, Granted),
    NewClientInfo = ClientInfo#{
        peerhost => Host,
        peername => Peer,
        lifetime => Lifetime,
        mountpoint => maps:get(mountpoint, Info)
    },
    Next = State#state{
        registering = undefined,
        registered = true,
        conninfo = ConnInfo#{peername => Peer, keepalive => Lifetime},
        clientinfo = NewClientInfo,
        headers = lwm2m_gateway_emqx_client:headers(NewClientInfo)
    },
    Peer =:= maps:get(peername, ConnInfo) orelse lwm2m_gateway_emqx_channel:trace_as(Next#state.conninfo),
    Same = {NewClientInfo, Peer} =:= {ClientInfo, maps:get(peername, ConnInfo)},
    Same orelse lwm2m_gateway_emqx_channel:update_info(Next),
    Noted = lwm2m_gateway_emqx_channel:keep_note(Info, import(Next)),
    lwm2m_gateway_emqx_messages:deliver_held(observed(Noted)).

%% An application that observes this device is told when nobody knows of that any more.
observed(#state{comes = undefined} = State) ->
    State;
observed(#state{comes = with_something, endpoint = Endpoint} = State) ->
    ok = lwm2m_gateway_emqx_observed:here(Endpoint),
    State#state{comes = undefined};
observed(#state{endpoint = Endpoint} = State) ->
    Messages = lwm2m_gateway_emqx_observed:messages(lwm2m_gateway_emqx_observed:lost(Endpoint)),
    lists:foldl(fun lost/2, State#state{comes = undefined}, Messages).

lost({Pair, Payload}, #state{clientinfo = #{mountpoint := Mountpoint}} = State) ->
    {Topic, QoS} =
        case lwm2m_gateway_emqx_settings:current() of
            #{older := {_, _} = Older} when Pair =:= older -> Older;
            #{notify := Notify} -> Notify
        end,
    Mounted = emqx_mountpoint:mount(Mountpoint, Topic),
    lwm2m_gateway_emqx_messages:uplink(lost, Mounted, Payload, QoS, #{}, State).

%% @doc It was let in and did not turn up; the registration before may still stand.
-spec not_registered(state()) -> state().
not_registered(#state{registered = true} = State) -> lwm2m_gateway_emqx_messages:deliver_held(State);
not_registered(State) -> lwm2m_gateway_emqx_leaving:kick(timeout, State).

text(Text) when is_binary(Text); is_list(Text) -> Text;
text(Text) when is_atom(Text) -> atom_to_binary(Text);
text(Term) -> io_lib:format("~0p", [Term]).
