%% @doc A device as a client of EMQX: what a connection process is to an MQTT client. It sleeps
%% (hibernates) between two messages.
%%
%% The process starts when the device asks to register, and answers that request. So the client, its
%% session and its subscription exist before the device learns that it is registered. A slow
%% authenticator delays only this device.
-module(lwm2m_gateway_emqx_device).
-behaviour(gen_server).

-export([start_link/1]).

%% What EMQX calls of the module of a session.
-export([resume/2]).

%% What EMQX calls of the module of a connection (`conn_mod').
-export([call/2, call/3, cast/2, info/1, stats/1, stop/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0]).

-include("lwm2m_gateway_emqx_device.hrl").

-type options() :: #{
    endpoint := binary(),
    gateway := lwm2m_gateway:gateway(),
    ctx := map(),
    pending := counters:counters_ref()
}.

%% Milliseconds for the other node to say that it has the device.
-define(REGISTER_TIMEOUT, 30_000).
%% Words that a registration takes, so that the heap need not grow in steps. A process that hibernates has
%% what it needs, whatever this says.
-define(HEAP, 2586).
%% What belongs to a registration comes in several messages, and each time to hibernate between them would
%% cost more than the message. Milliseconds without one.
-define(SETTLE, 200).

-spec start_link(options()) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    %% Linked in init/1, because an owner that is the parent would end it with a crash report.
    gen_server:start(?MODULE, {self(), Options}, [{spawn_opt, [{min_heap_size, ?HEAP}]}]).

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
    #{commands := [{Topic, _QoS} | _]} = lwm2m_gateway_emqx_settings:current(),
    Mounted = emqx_mountpoint:mount(Mountpoint, lwm2m_gateway_emqx_messages:without_wildcard(Topic)),
    Payload = emqx_utils_json:encode(lwm2m_gateway_emqx_api:meant(Caller, Command)),
    {reply, ok, lwm2m_gateway_emqx_messages:command(Mounted, Payload, #{}, State), hibernate};
handle_call({subscribe, Topic, Options}, _From, #state{conn_state = connected} = State) ->
    #state{clientinfo = ClientInfo} = State,
    Mounted = emqx_mountpoint:mount(maps:get(mountpoint, ClientInfo), Topic),
    All = maps:merge(emqx_gateway_utils:default_subopts(), Options),
    Subscribed = lwm2m_gateway_emqx_subscriptions:subscribe(Mounted, All, State),
    Next = lwm2m_gateway_emqx_channel:keep_note(Subscribed),
    lwm2m_gateway_emqx_channel:update_info(Next),
    {reply, {ok, {Mounted, All}}, Next, hibernate};
handle_call({unsubscribe, Topic}, _From, #state{conn_state = connected} = State) ->
    #state{clientinfo = ClientInfo} = State,
    Mounted = emqx_mountpoint:mount(maps:get(mountpoint, ClientInfo), Topic),
    Unsubscribed = lwm2m_gateway_emqx_subscriptions:unsubscribe(Mounted, State),
    Next = lwm2m_gateway_emqx_channel:keep_note(Unsubscribed),
    lwm2m_gateway_emqx_channel:update_info(Next),
    {reply, ok, Next, hibernate};
handle_call(subscriptions, _From, #state{subscriptions = Subscriptions} = State) ->
    {reply, {ok, maps:to_list(Subscriptions)}, State, hibernate};
handle_call(info, _From, State) ->
    {reply, lwm2m_gateway_emqx_channel:channel_info(State), State, hibernate};
handle_call(stats, _From, State) ->
    {reply, lwm2m_gateway_emqx_channel:channel_stats(State), State, hibernate};
handle_call(kick, _From, State) ->
    {reply, ok, lwm2m_gateway_emqx_leaving:kick(kicked, State), hibernate};
handle_call(discard, _From, State) ->
    {reply, ok, lwm2m_gateway_emqx_leaving:kick(discarded, State), hibernate};
%% The device has registered at another node of the cluster.
handle_call({takeover, 'begin'}, _From, #state{conn_state = connected} = State) ->
    {reply, lwm2m_gateway_emqx_leaving:hand_over(State), State, hibernate};
handle_call({takeover, 'end'}, _From, State) ->
    {reply, [], lwm2m_gateway_emqx_leaving:kick(takenover, State), hibernate};
handle_call(_Request, _From, State) ->
    {reply, ignored, State, hibernate}.

%% What the store of another node still had of this device.
handle_cast({handed_on, Session}, #state{conn_state = connected} = State) ->
    {noreply, lwm2m_gateway_emqx_joining:import(State#state{session = Session}), hibernate};
handle_cast(_Message, State) ->
    {noreply, State, hibernate}.

handle_info({publish, Kind, Topic, Payload, QoS, Properties}, State) ->
    Next = lwm2m_gateway_emqx_messages:uplink(Kind, Topic, Payload, QoS, Properties, State),
    ok = lwm2m_gateway_emqx_devices:published(State#state.endpoint, State#state.pending),
    case Kind of
        register -> {noreply, Next, ?SETTLE};
        _ -> {noreply, Next, hibernate}
    end;
handle_info({deliver, Topic, Message}, State) ->
    {noreply, lwm2m_gateway_emqx_messages:deliver(Topic, Message, State), hibernate};
handle_info({authorize, Authorization, Request}, #state{conn_state = leaving} = State) ->
    %% The next one shall have it.
    lwm2m_gateway_emqx_owner ! {authorize, Authorization, Request},
    {noreply, State, hibernate};
handle_info({authorize, Authorization, Request}, State) ->
    {noreply, lwm2m_gateway_emqx_joining:authorize(Authorization, Request, State), ?SETTLE};
handle_info({restore, Info}, #state{conn_state = leaving} = State) ->
    lwm2m_gateway_emqx_owner ! {restore, Info},
    {noreply, State, hibernate};
handle_info({restore, Info}, #state{conn_state = connecting} = State) ->
    {noreply, lwm2m_gateway_emqx_joining:restore(Info, State), hibernate};
handle_info({restore, Info}, State) ->
    {noreply, lwm2m_gateway_emqx_joining:registered(Info, State), hibernate};
%% This node has not answered for a while, and the device may have gone.
handle_info(elsewhere, #state{registered = true, clientinfo = ClientInfo} = State) ->
    #{gwname := Name} = State#state.ctx,
    #{clientid := ClientId} = ClientInfo,
    Since = maps:get(connected_at, State#state.conninfo),
    case lwm2m_gateway_emqx_restored:elsewhere(Name, ClientId, Since) of
        here -> {noreply, State, hibernate};
        {there, Pid} -> {noreply, lwm2m_gateway_emqx_joining:hand_on(Pid, State), hibernate}
    end;
handle_info({registered, Info}, State) ->
    {noreply, lwm2m_gateway_emqx_joining:registered(Info, State), ?SETTLE};
handle_info({subscribe, Mountpoint, Filter, QoS}, #state{conn_state = connected} = State) ->
    Remounted = lwm2m_gateway_emqx_subscriptions:remount(Mountpoint, State),
    Subscribed = lwm2m_gateway_emqx_subscriptions:subscribe_commands([{Filter, QoS}], Remounted),
    Next = lwm2m_gateway_emqx_subscriptions:shown(Subscribed, Remounted),
    case State of
        %% Another mountpoint: this is the last of it.
        #state{registered = true, registering = undefined} -> {noreply, Next, hibernate};
        #state{} -> {noreply, Next, ?SETTLE}
    end;
handle_info({unsubscribe, Filter}, #state{conn_state = connected} = State) ->
    %% What is wanted instead comes next.
    {noreply, lwm2m_gateway_emqx_subscriptions:unsubscribe_commands(Filter, State), ?SETTLE};
handle_info({gone, _Reason}, #state{registering = Timer} = State) when Timer =/= undefined ->
    %% The registration before the one that is being made.
    {noreply, State#state{registered = false}, hibernate};
handle_info({gone, exported}, State) ->
    %% `{takeover, 'end'}' comes, or does not if the other node died meanwhile.
    _ = erlang:send_after(?REGISTER_TIMEOUT, self(), {gone, displaced}),
    {noreply, State, hibernate};
handle_info({gone, Reason}, State) ->
    lists:member(Reason, [deregistered, expired, kicked]) andalso
        lwm2m_gateway_emqx_observed:forget(State#state.endpoint),
    Left = lwm2m_gateway_emqx_leaving:leave(lwm2m_gateway_emqx_leaving:disconnect_reason(Reason), State),
    {noreply, Left, hibernate};
handle_info(left, State) ->
    {stop, normal, State};
handle_info({timeout, Timer, registering}, #state{registering = Timer} = State) ->
    {noreply, lwm2m_gateway_emqx_joining:not_registered(State#state{registering = undefined}), hibernate};
handle_info({timeout, Timer, expired}, #state{expire_timer = Timer} = State) ->
    {noreply, lwm2m_gateway_emqx_leaving:kick(expired, State), hibernate};
handle_info({timeout, Timer, stats}, #state{stats_timer = Timer} = State) ->
    lwm2m_gateway_emqx_channel:update_stats(State),
    {noreply, State#state{stats_timer = undefined}, hibernate};
handle_info({'EXIT', _Pid, Reason}, State) ->
    %% The owner's: the gateway stops. If it crashed, one report of that will do.
    case Reason of
        shutdown -> {stop, shutdown, State};
        _ -> {stop, {shutdown, gateway_crashed}, State}
    end;
%% Nothing has come for a while, or nothing of interest.
handle_info(_Message, State) ->
    {noreply, State, hibernate}.

terminate({shutdown, Reason}, State) ->
    terminate(Reason, State);
terminate(Reason, State) ->
    _ = lwm2m_gateway_emqx_leaving:clean_up(Reason, State),
    ok.
