%% @doc A device as a client of EMQX: what a connection process is to an MQTT client. It sleeps
%% (hibernates) between two messages.
%%
%% It comes to be when the device asks to register and answers that request, so that the client,
%% its session and its subscription are there before the device hears that it is registered. What
%% waits for somebody else, as an authenticator, keeps nobody but this device waiting.
-module(lwm2m_gateway_emqx_device).
-behaviour(gen_server).

-export([start_link/1, publish/5]).

%% What EMQX calls of the module of a session.
-export([resume/2]).

%% What EMQX calls of the module of a connection (`conn_mod').
-export([call/2, call/3, cast/2, info/1, stats/1, stop/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0]).

-type options() :: #{
    endpoint := binary(),
    gateway := lwm2m_gateway:gateway(),
    ctx := map(),
    pending := counters:counters_ref()
}.

%% A device that was let in and does not turn up.
-define(REGISTER_TIMEOUT, 30_000).
-define(STATS_INTERVAL, 30_000).
%% Commands that come before the registration stands.
-define(MAX_HELD, 100).
%% The longest time a timer of Erlang takes.
-define(MAX_TIMER, 16#FFFFFFFF).

-record(state, {
    endpoint :: binary(),
    gateway :: lwm2m_gateway:gateway(),
    ctx :: map(),
    pending :: counters:counters_ref(),
    %% `connecting' until it was let in for the first time; `leaving' when all is cleaned up and
    %% the owner has to forget it.
    conn_state = connecting :: connecting | connected | leaving,
    %% Let in, but not registered yet.
    registering :: reference() | undefined,
    registered = false :: boolean(),
    conninfo = #{} :: map(),
    clientinfo = #{} :: map(),
    headers = #{} :: map(),
    created_at :: integer(),
    subscriptions = #{} :: #{binary() => map()},
    %% Filters that commands come by; the others were added through EMQX's API.
    commands = [] :: [binary()],
    held = [] :: [{binary(), term()}],
    %% From another node of the cluster, until the registration stands here.
    session :: binary() | undefined,
    results = lwm2m_gateway_emqx_results:new() :: lwm2m_gateway_emqx_results:results(),
    %% Messages of the device and commands to it, with their bytes.
    received = {0, 0} :: lwm2m_gateway_emqx_client:traffic(),
    sent = {0, 0} :: lwm2m_gateway_emqx_client:traffic(),
    denied = false :: boolean(),
    stats_timer :: reference() | undefined,
    expire_timer :: reference() | undefined
}).

-spec start_link(options()) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    %% Linked in init/1, because an owner that is the parent would end it with a crash report.
    gen_server:start(?MODULE, {self(), Options}, []).

-spec call(pid(), term()) -> term().
call(Pid, Request) ->
    call(Pid, Request, infinity).

-spec call(pid(), term(), timeout()) -> term().
call(Pid, Request, Timeout) ->
    gen_server:call(Pid, Request, Timeout).

-spec cast(pid(), term()) -> ok.
cast(Pid, Request) ->
    gen_server:cast(Pid, Request).

-spec info(pid()) -> map().
info(Pid) when is_pid(Pid) ->
    call(Pid, info).

-spec stats(pid()) -> [{atom(), term()}].
stats(Pid) when is_pid(Pid) ->
    call(Pid, stats).

-spec stop(pid()) -> ok.
stop(Pid) ->
    gen_server:stop(Pid).

%% @doc What the process of another node left; see `{takeover, _}' below.
-spec resume(map(), term()) -> map().
resume(ClientInfo, Session) ->
    _ = emqx_hooks:run('session.resumed', [ClientInfo, #{}]),
    #{taken => Session}.

%% @doc Hands a message of a device to the broker. What fails there, in a route or a hook, costs
%% this message.
-spec publish(binary(), binary(), binary(), 0..2, Headers :: map()) -> ok | {error, term()}.
publish(Endpoint, Topic, Payload, QoS, Headers) ->
    try
        _ = emqx_broker:publish(
            emqx_message:make(Endpoint, QoS, Topic, Payload, #{retain => false}, Headers)
        ),
        ok
    catch
        Class:Reason:Stack ->
            logger:error(#{
                msg => "lwm2m_publish_failed",
                topic => Topic,
                reason => {Class, Reason},
                stacktrace => Stack
            }),
            {error, Reason}
    end.

init({Owner, Options}) ->
    #{endpoint := Endpoint, gateway := Gateway, ctx := Ctx, pending := Pending} = Options,
    _ = process_flag(trap_exit, true),
    true = link(Owner),
    {ok, #state{
        endpoint = Endpoint,
        gateway = Gateway,
        ctx = Ctx,
        pending = Pending,
        created_at = erlang:system_time(millisecond)
    }}.

handle_call({lookup_cmd, Path, Type}, _From, #state{results = Results} = State) ->
    {reply, {ok, lwm2m_gateway_emqx_results:find(Path, Type, Results)}, State, hibernate};
handle_call({send_cmd, Command}, {Caller, _}, #state{conn_state = connected} = State) ->
    #state{clientinfo = #{mountpoint := Mountpoint}} = State,
    #{commands := [{Topic, _QoS} | _]} = lwm2m_gateway_emqx_owner:settings(),
    Mounted = emqx_mountpoint:mount(Mountpoint, without_wildcard(Topic)),
    Payload = emqx_utils_json:encode(lwm2m_gateway_emqx_api:meant(Caller, Command)),
    {reply, ok, command(Mounted, Payload, #{}, State), hibernate};
handle_call({subscribe, Topic, Options}, _From, #state{conn_state = connected} = State) ->
    #state{clientinfo = ClientInfo} = State,
    Mounted = emqx_mountpoint:mount(maps:get(mountpoint, ClientInfo), Topic),
    All = maps:merge(emqx_gateway_utils:default_subopts(), Options),
    Next = subscribe(Mounted, All, State),
    update_info(Next),
    {reply, {ok, {Mounted, All}}, Next, hibernate};
handle_call({unsubscribe, Topic}, _From, #state{conn_state = connected} = State) ->
    #state{clientinfo = ClientInfo} = State,
    Next = unsubscribe(emqx_mountpoint:mount(maps:get(mountpoint, ClientInfo), Topic), State),
    update_info(Next),
    {reply, ok, Next, hibernate};
handle_call(subscriptions, _From, #state{subscriptions = Subscriptions} = State) ->
    {reply, {ok, maps:to_list(Subscriptions)}, State, hibernate};
handle_call(info, _From, State) ->
    {reply, channel_info(State), State, hibernate};
handle_call(stats, _From, State) ->
    {reply, channel_stats(State), State, hibernate};
handle_call(kick, _From, State) ->
    {reply, ok, kick(kicked, State), hibernate};
handle_call(discard, _From, State) ->
    {reply, ok, kick(discarded, State), hibernate};
%% The device has registered at another node of the cluster.
handle_call({takeover, 'begin'}, _From, #state{conn_state = connected} = State) ->
    {reply, hand_over(State), State, hibernate};
handle_call({takeover, 'end'}, _From, State) ->
    {reply, [], kick(takenover, State), hibernate};
handle_call(_Request, _From, State) ->
    {reply, ignored, State, hibernate}.

handle_cast(_Message, State) ->
    {noreply, State, hibernate}.

handle_info({publish, Kind, Topic, Payload, QoS, Properties}, State) ->
    Next = uplink(Kind, Topic, Payload, QoS, Properties, State),
    ok = lwm2m_gateway_emqx_owner:published(State#state.endpoint, State#state.pending),
    {noreply, Next, hibernate};
handle_info({deliver, Topic, Message}, State) ->
    {noreply, deliver(Topic, Message, State), hibernate};
handle_info({authorize, Authorization, Request}, #state{conn_state = leaving} = State) ->
    %% The next one shall have it.
    lwm2m_gateway_emqx_owner ! {authorize, Authorization, Request},
    {noreply, State, hibernate};
handle_info({authorize, Authorization, Request}, State) ->
    {noreply, authorize(Authorization, Request, State), hibernate};
handle_info({registered, Info}, State) ->
    {noreply, registered(Info, State), hibernate};
handle_info({subscribe, Mountpoint, Filter, QoS}, #state{conn_state = connected} = State) ->
    {noreply, subscribe_commands([{Filter, QoS}], remount(Mountpoint, State)), hibernate};
handle_info({unsubscribe, Filter}, #state{conn_state = connected} = State) ->
    {noreply, unsubscribe_commands(Filter, State), hibernate};
handle_info({gone, _Reason}, #state{registering = Timer} = State) when Timer =/= undefined ->
    %% The registration before the one that is being made.
    {noreply, State#state{registered = false}, hibernate};
handle_info({gone, exported}, State) ->
    %% `{takeover, 'end'}' comes, or does not if the other node died meanwhile.
    _ = erlang:send_after(?REGISTER_TIMEOUT, self(), {gone, displaced}),
    {noreply, State, hibernate};
handle_info({gone, Reason}, State) ->
    {noreply, leave(disconnect_reason(Reason), State), hibernate};
handle_info(left, State) ->
    {stop, normal, State};
handle_info({timeout, Timer, registering}, #state{registering = Timer} = State) ->
    {noreply, not_registered(State#state{registering = undefined}), hibernate};
handle_info({timeout, Timer, expired}, #state{expire_timer = Timer} = State) ->
    {noreply, kick(expired, State), hibernate};
handle_info({timeout, Timer, stats}, #state{stats_timer = Timer} = State) ->
    update_stats(State),
    {noreply, State#state{stats_timer = undefined}, hibernate};
handle_info({'EXIT', _Pid, Reason}, State) ->
    %% The owner's: the gateway stops. If it crashed, one report of that will do.
    case Reason of
        shutdown -> {stop, shutdown, State};
        _ -> {stop, {shutdown, gateway_crashed}, State}
    end;
handle_info(_Message, State) ->
    {noreply, State, hibernate}.

terminate({shutdown, Reason}, State) ->
    terminate(Reason, State);
terminate(Reason, State) ->
    _ = clean_up(Reason, State),
    ok.

%% Letting in.

authorize(Authorization, Request, State) ->
    Connection = lwm2m_gateway_emqx_client:connection(Request, State#state.gateway, ?MODULE),
    case admit(Connection, State) of
        {ok, Next} ->
            Mountpoint = maps:get(mountpoint, Next#state.clientinfo),
            Decision =
                case maps:get(mountpoint, Request) of
                    Mountpoint -> allow;
                    _ -> {allow, Mountpoint}
                end,
            _ = lwm2m_gateway:authorized(Authorization, Decision),
            cancel(Next#state.registering),
            Next#state{registering = erlang:start_timer(?REGISTER_TIMEOUT, self(), registering)};
        {Decision, Next} ->
            _ = lwm2m_gateway:authorized(Authorization, Decision),
            case Next#state.conn_state of
                connecting ->
                    leave(not_authorized, Next);
                _ ->
                    %% Of the one that is there already.
                    ok = trace_as(Next#state.conninfo),
                    Next
            end
    end.

admit({deny, _} = Denied, State) ->
    {Denied, State};
admit({ConnInfo, ClientInfo}, #state{ctx = Ctx} = State) ->
    ok = trace_as(ConnInfo),
    case run_hooks(Ctx, 'client.connect', [ConnInfo], #{}) of
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

%% What EMQX writes into its log and its traces from here on is of this client: authentication,
%% authorization, subscriptions, messages.
trace_as(#{clientid := ClientId, peername := Peer}) ->
    ok = emqx_logger:set_metadata_clientid(ClientId),
    emqx_logger:set_metadata_peername(esockd:format(Peer));
trace_as(_NotConnected) ->
    ok.

denied(Reason) ->
    {deny, ["Login Failed: ", text(Reason)]}.

connected(ConnInfo, #{clientid := ClientId} = ClientInfo, #state{conn_state = connected} = State) ->
    case State#state.clientinfo of
        #{clientid := ClientId} ->
            Mounted = commands(maps:get(mountpoint, ClientInfo)),
            Again = resubscribe(Mounted, set_client(ConnInfo, ClientInfo, State)),
            update_info(Again),
            {ok, schedule_expiry(Again)};
        _ ->
            %% The same device as another client.
            Clean = clean_up(normal, State),
            connected(ConnInfo, ClientInfo, Clean#state{conn_state = connecting})
    end;
connected(ConnInfo, ClientInfo, #state{ctx = Ctx} = State) ->
    ok = run_hooks(Ctx, 'client.connack', [ConnInfo, connection_accepted, #{}]),
    ok = run_hooks(Ctx, 'client.connected', [ClientInfo, ConnInfo]),
    Connected = set_client(ConnInfo, ClientInfo, State#state{conn_state = connected}),
    try open_session(ConnInfo, Connected) of
        {ok, #{session := Opened}} ->
            Resumed = take_over(Opened, Connected),
            Subscribed = subscribe_commands(commands(maps:get(mountpoint, ClientInfo)), Resumed),
            insert_info(Subscribed),
            {ok, schedule_expiry(Subscribed)};
        {error, Reason} ->
            no_session(Reason, Connected)
    catch
        throw:Reason -> no_session(Reason, Connected)
    end.

%% With a node that goes down in this moment the session there is lost.
open_session(ConnInfo, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    Session = fun(_, _) -> session_info(State) end,
    try
        emqx_gateway_ctx:open_session(Ctx, false, ClientInfo, ConnInfo, Session, ?MODULE)
    catch
        throw:{badrpc, nodedown} ->
            emqx_gateway_ctx:open_session(Ctx, true, ClientInfo, ConnInfo, Session, ?MODULE)
    end.

no_session(Reason, State) ->
    logger:error(
        #{msg => "failed_to_open_session", reason => Reason},
        maps:with([clientid, username], State#state.clientinfo)
    ),
    {unavailable, (clean_up(no_session, State))#state{conn_state = connecting}}.

set_client(ConnInfo, ClientInfo, State) ->
    ConnectedAt = maps:get(connected_at, State#state.conninfo, maps:get(connected_at, ConnInfo)),
    State#state{
        conninfo = ConnInfo#{connected_at => ConnectedAt},
        clientinfo = ClientInfo,
        headers = lwm2m_gateway_emqx_client:headers(ClientInfo)
    }.

schedule_expiry(#state{ctx = Ctx, clientinfo = ClientInfo, expire_timer = Former} = State) ->
    cancel(Former),
    case emqx_gateway_ctx:connection_expire_interval(Ctx, ClientInfo) of
        undefined ->
            State#state{expire_timer = undefined};
        Interval ->
            Timer = erlang:start_timer(min(Interval, ?MAX_TIMER), self(), expired),
            State#state{expire_timer = Timer}
    end.

%% All that another node needs to go on: what the gateway has, and what only this process has.
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

take_over(#{taken := #{endpoint := Endpoint} = Taken}, #state{endpoint = Endpoint} = State) ->
    #{session := Session, subscriptions := Subscriptions, results := Results} = Taken,
    maps:fold(
        fun subscribe/3,
        State#state{session = Session, results = lwm2m_gateway_emqx_results:from_map(Results)},
        Subscriptions
    );
%% A new session, or one of another device with this client id.
take_over(_Session, State) ->
    State.

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

%% The registration stands, or has changed.
registered(_Info, #state{conn_state = State} = Data) when State =/= connected ->
    Data;
registered(#{peer := {Host, _} = Peer, lifetime := Granted, query := Query} = Info, State) ->
    #state{conninfo = ConnInfo, clientinfo = ClientInfo} = State,
    cancel(State#state.registering),
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
    Peer =:= maps:get(peername, ConnInfo) orelse trace_as(Next#state.conninfo),
    {NewClientInfo, Peer} =:= {ClientInfo, maps:get(peername, ConnInfo)} orelse update_info(Next),
    deliver_held(import(Next)).

%% It was let in and did not turn up; the registration before may still stand.
not_registered(#state{registered = true} = State) -> deliver_held(State);
not_registered(State) -> kick(timeout, State).

%% Messages.

%% Also for a response topic of a command: it is the device that publishes there.
uplink(Kind, Topic, Payload, QoS, Properties, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    Action = #{action_type => publish, qos => QoS, retain => false},
    case emqx_gateway_ctx:authorize(Ctx, ClientInfo, Action, Topic) of
        allow ->
            Headers = lwm2m_gateway_emqx_client:headers(Properties, State#state.headers),
            publish(State#state.endpoint, Topic, Payload, QoS, Headers) =:= ok orelse
                emqx_gateway_ctx:metrics_inc(Ctx, 'delivery.dropped'),
            counted(Kind, Payload, State#state{
                denied = false, results = results(Kind, Payload, State#state.results)
            });
        deny ->
            emqx_gateway_ctx:metrics_inc(Ctx, 'delivery.dropped'),
            %% Once, until it is allowed again.
            State#state.denied orelse
                logger:warning(
                    #{msg => "publish_denied", topic => Topic},
                    maps:with([clientid, username], ClientInfo)
                ),
            counted(Kind, Payload, State#state{
                denied = true, results = results(Kind, Payload, State#state.results)
            })
    end.

results(response, Payload, Results) -> lwm2m_gateway_emqx_results:answered(Payload, Results);
results(notify, Payload, Results) -> lwm2m_gateway_emqx_results:notified(Payload, Results);
results(_Kind, _Payload, Results) -> Results.

%% A registration and its updates are answered, which is not seen here otherwise. They are rare, so
%% the numbers are brought up to date with them.
counted(Kind, Payload, State) when Kind =:= register; Kind =:= update ->
    Counted = State#state{
        received = count(Payload, State#state.received), sent = count(<<>>, State#state.sent)
    },
    _ = update_stats(Counted),
    Counted;
counted(_Kind, Payload, State) ->
    ensure_stats(State#state{received = count(Payload, State#state.received)}).

count(Payload, {Messages, Bytes}) ->
    {Messages + 1, Bytes + byte_size(Payload)}.

%% Before the registration stands the gateway would answer that there is none.
deliver(Topic, Message, #state{registering = Timer, held = Held} = State) when
    Timer =/= undefined, length(Held) < ?MAX_HELD
->
    State#state{held = [{Topic, Message} | Held]};
deliver(Topic, Message, #state{conn_state = connected, ctx = Ctx} = State) ->
    ok = run_hooks(Ctx, 'message.delivered', [State#state.clientinfo, Message]),
    emqx_gateway_ctx:metrics_inc(Ctx, 'messages.delivered'),
    case emqx_message:payload(Message) of
        %% Somebody clears a retained one.
        <<>> -> State;
        Payload -> command(Topic, Payload, properties(Message), State)
    end;
deliver(_Topic, _Message, #state{ctx = Ctx} = State) ->
    emqx_gateway_ctx:metrics_inc(Ctx, 'delivery.dropped'),
    State.

deliver_held(#state{held = Held} = State) ->
    lists:foldl(
        fun({Topic, Message}, To) -> deliver(Topic, Message, To) end,
        State#state{held = []},
        lists:reverse(Held)
    ).

%% What of the message's properties counts, the Message-Expiry-Interval less the time since then.
properties(Message) ->
    case emqx_message:get_header(properties, Message, #{}) of
        #{} = Properties ->
            maps:fold(fun(Key, Value, To) -> property(Key, Value, Message, To) end, #{}, Properties);
        _ ->
            #{}
    end.

property('Message-Expiry-Interval', Seconds, Message, To) ->
    Age = erlang:system_time(millisecond) - emqx_message:timestamp(Message),
    To#{expiry => max(0, Seconds - max(0, Age) div 1000)};
property('Response-Topic', Topic, _Message, To) ->
    To#{response_topic => Topic};
property('Correlation-Data', Data, _Message, To) ->
    To#{correlation_data => Data};
property(_Key, _Value, _Message, To) ->
    To.

command(Topic, Payload, Properties, State) ->
    #state{gateway = Gateway, endpoint = Endpoint, clientinfo = #{mountpoint := Mountpoint}} = State,
    case lwm2m_gateway:deliver_to(Gateway, Endpoint, Mountpoint, Topic, Payload, Properties) of
        ok -> ok;
        {error, stopped} -> emqx_gateway_ctx:metrics_inc(State#state.ctx, 'delivery.dropped')
    end,
    Results =
        case emqx_utils_json:safe_decode(Payload, [return_maps]) of
            {ok, #{} = Command} ->
                lwm2m_gateway_emqx_results:requested(Command, State#state.results);
            _ ->
                State#state.results
        end,
    ensure_stats(State#state{sent = count(Payload, State#state.sent), results = Results}).

%% Subscriptions.

commands(Mountpoint) ->
    #{commands := Commands} = lwm2m_gateway_emqx_owner:settings(),
    [{emqx_mountpoint:mount(Mountpoint, Topic), QoS} || {Topic, QoS} <- Commands].

subscribe_commands(Filters, State) ->
    lists:foldl(
        fun({Filter, QoS}, #state{subscriptions = Subscriptions, commands = Commands} = To) ->
            case Subscriptions of
                #{Filter := #{qos := QoS}} -> To;
                #{} -> try_subscribe(Filter, QoS, To#state{commands = add(Filter, Commands)})
            end
        end,
        State,
        Filters
    ).

%% A new registration ends the one before and wants the same again: no command may be lost between
%% the two. What is not wanted any more goes with the device or with its mountpoint.
unsubscribe_commands(Filter, #state{clientinfo = ClientInfo} = State) ->
    case lists:keymember(Filter, 1, commands(maps:get(mountpoint, ClientInfo))) of
        true ->
            State;
        false ->
            Next = unsubscribe(Filter, State),
            update_info(Next),
            Next
    end.

%% The configuration has changed.
remount(Mountpoint, #state{clientinfo = #{mountpoint := Mountpoint}} = State) ->
    State;
remount(Mountpoint, #state{clientinfo = ClientInfo} = State) ->
    Next = resubscribe(
        commands(Mountpoint), State#state{clientinfo = ClientInfo#{mountpoint := Mountpoint}}
    ),
    update_info(Next),
    Next.

try_subscribe(Filter, QoS, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    Action = #{action_type => subscribe, qos => QoS},
    case emqx_gateway_ctx:authorize(Ctx, ClientInfo, Action, Filter) of
        allow ->
            Options = maps:merge(emqx_gateway_utils:default_subopts(), #{qos => QoS}),
            Next = subscribe(Filter, Options, State),
            update_info(Next),
            Next;
        deny ->
            logger:warning(
                #{msg => "subscribe_denied", topic => Filter},
                maps:with([clientid, username], ClientInfo)
            ),
            State
    end.

resubscribe(Filters, #state{commands = Former} = State) ->
    Wanted = [Filter || {Filter, _} <- Filters],
    Left = lists:foldl(fun unsubscribe/2, State, Former -- Wanted),
    subscribe_commands(Filters, Left).

subscribe(Filter, Options, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    #{clientid := ClientId} = ClientInfo,
    _ = emqx_broker:subscribe(Filter, ClientId, Options),
    ok = run_hooks(Ctx, 'session.subscribed', [ClientInfo, Filter, Options]),
    State#state{subscriptions = maps:put(Filter, Options, State#state.subscriptions)}.

unsubscribe(Filter, #state{ctx = Ctx, subscriptions = Subscriptions} = State) ->
    case maps:take(Filter, Subscriptions) of
        {Options, Others} ->
            _ = emqx_broker:unsubscribe(Filter),
            %% Rules about this event want the options.
            ok = run_hooks(Ctx, 'session.unsubscribed', [State#state.clientinfo, Filter, Options]),
            State#state{
                subscriptions = Others, commands = lists:delete(Filter, State#state.commands)
            };
        error ->
            State
    end.

add(Filter, Filters) ->
    [Filter | lists:delete(Filter, Filters)].

without_wildcard(Topic) ->
    case binary:split(Topic, [<<"/#">>, <<"/+">>, <<"#">>, <<"+">>]) of
        [Fixed | _] -> Fixed
    end.

%% The end.

kick(_Reason, #state{conn_state = leaving} = State) ->
    State;
kick(Reason, #state{gateway = Gateway, endpoint = Endpoint} = State) ->
    _ = lwm2m_gateway:kick(Gateway, Endpoint),
    leave(Reason, State).

%% The owner may still send something until it says that it knows.
leave(_Reason, #state{conn_state = leaving} = State) ->
    State;
leave(Reason, State) ->
    Clean = clean_up(Reason, State),
    lwm2m_gateway_emqx_owner ! {leave, self()},
    Clean#state{conn_state = leaving, registering = undefined, registered = false}.

clean_up(Reason, #state{conn_state = connected, ctx = Ctx, clientinfo = ClientInfo} = State) ->
    #{clientid := ClientId} = ClientInfo,
    ConnInfo = (State#state.conninfo)#{disconnected_at => erlang:system_time(millisecond)},
    Reason =:= discarded orelse
        run_hooks(Ctx, 'client.disconnected', [ClientInfo, Reason, ConnInfo]),
    #state{} =
        Unsubscribed = lists:foldl(
            fun unsubscribe/2, State, maps:keys(State#state.subscriptions)
        ),
    case Reason of
        takenover ->
            ok = run_hooks(Ctx, 'session.takenover', [ClientInfo, session_info(State)]);
        _ ->
            ok = run_hooks(Ctx, 'session.terminated', [ClientInfo, Reason, session_info(State)])
    end,
    #{gwname := Name} = Ctx,
    ok = emqx_gateway_cm:unregister_channel(Name, ClientId),
    cancel(State#state.expire_timer),
    cancel(State#state.registering),
    Unsubscribed#state{
        conninfo = #{}, expire_timer = undefined, registering = undefined, held = []
    };
clean_up(_Reason, State) ->
    State.

%% As EMQX calls it.
disconnect_reason(deregistered) -> normal;
disconnect_reason(expired) -> timeout;
disconnect_reason(kicked) -> kicked;
disconnect_reason(displaced) -> takenover;
disconnect_reason(Other) -> Other.

%% What the client list shows.

channel_info(State) ->
    #state{conninfo = ConnInfo, clientinfo = ClientInfo, conn_state = ConnState} = State,
    #{
        conninfo => ConnInfo,
        conn_state => ConnState,
        clientinfo => ClientInfo,
        session => session_info(State),
        sockinfo => maps:merge(
            #{sockstate => running, active_n => undefined},
            maps:with([socktype, peername, sockname], ConnInfo)
        )
    }.

session_info(#state{created_at = CreatedAt, subscriptions = Subscriptions}) ->
    lwm2m_gateway_emqx_client:session(CreatedAt, Subscriptions).

channel_stats(#state{received = Received, sent = Sent, subscriptions = Subscriptions}) ->
    lwm2m_gateway_emqx_client:stats(Received, Sent, Subscriptions).

insert_info(#state{ctx = Ctx, clientinfo = #{clientid := ClientId}} = State) ->
    emqx_gateway_ctx:insert_channel_info(
        Ctx, ClientId, channel_info(State), channel_stats(State)
    ).

update_info(#state{ctx = Ctx, clientinfo = #{clientid := ClientId}} = State) ->
    _ = emqx_gateway_ctx:set_chan_info(Ctx, ClientId, channel_info(State)),
    update_stats(State).

update_stats(#state{conn_state = connected, ctx = Ctx, clientinfo = #{clientid := ClientId}} = State) ->
    _ = emqx_gateway_ctx:set_chan_stats(Ctx, ClientId, channel_stats(State)),
    ok;
update_stats(_State) ->
    ok.

ensure_stats(#state{stats_timer = undefined} = State) ->
    case lwm2m_gateway_emqx_owner:settings() of
        #{enable_stats := true} ->
            Timer = erlang:start_timer(?STATS_INTERVAL, self(), stats),
            State#state{stats_timer = Timer};
        #{} ->
            State
    end;
ensure_stats(State) ->
    State.

%% EMQX counts the hooks of a gateway.
run_hooks(Ctx, Name, Args) ->
    emqx_gateway_ctx:metrics_inc(Ctx, Name),
    _ = emqx_hooks:run(Name, Args),
    ok.

run_hooks(Ctx, Name, Args, Acc) ->
    emqx_gateway_ctx:metrics_inc(Ctx, Name),
    emqx_hooks:run_fold(Name, Args, Acc).

cancel(undefined) -> false;
cancel(Timer) -> erlang:cancel_timer(Timer).

text(Text) when is_binary(Text); is_list(Text) -> Text;
text(Text) when is_atom(Text) -> atom_to_binary(Text);
text(Term) -> io_lib:format("~0p", [Term]).
