%% @doc The owner of the gateway: takes its events and hands them to the processes of the devices.
%% Nothing here waits for anybody: what may take long is done by a device's process or by one of
%% its own.
-module(lwm2m_gateway_emqx_owner).
-behaviour(gen_server).

-export([start_link/2, gateway_config/1, plugin_config/1]).
-export([gateway/0]).

-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Publishes between here and the broker; beyond, the gateway is not told to go on.
-define(MAX_PENDING, 20_000).
%% Registers and handshakes that wait for somebody; beyond, they are turned away.
-define(MAX_WAITING, 10_000).
%% While messages keep coming, the gateway is told to go on only after so many milliseconds. It
%% collects meanwhile, and one message for all costs a fraction of what waking up for each does.
-define(COLLECT, 5).
-define(METRICS_INTERVAL, 5_000).
-define(CALL_TIMEOUT, 14_000).
-define(ASK_TIMEOUT, 1_000).
-define(NOT_WRITTEN, <<
    "The store of the LwM2M gateway cannot be written: new data is lost when the node stops. The log says "
    "why"
>>).

-record(state, {
    ctx :: map(),
    gateway :: lwm2m_gateway:gateway(),
    id :: lwm2m_gateway:id(),
    %% Configuration of EMQX and of the plugin.
    emqx :: map(),
    plugin :: map(),
    %% The plugin's as EMQX has it: the newest, good or not, and with stars that stand for keys.
    stored :: map(),
    keys = #{} :: lwm2m_gateway_emqx_secrets:keys(),
    store = durable :: durable | failing | refused,
    %% `refused': it is not served although it is configured.
    http = served :: served | refused,
    nodes :: pid() | undefined,
    %% Entries among EMQX's listeners.
    listeners = #{} :: lwm2m_gateway_emqx_listener:entries(),
    endpoints = #{} :: #{pid() => binary()},
    workers = #{} :: #{pid() => []},
    %% Publishes on their way; the batch to acknowledge when there are fewer.
    pending :: counters:counters_ref(),
    unacknowledged :: lwm2m_gateway:batch() | undefined,
    %% When the last batch came.
    last = 0 :: integer(),
    %% As they were counted last.
    metrics = #{} :: lwm2m_gateway_emqx_metrics:statistics(),
    %% About the configuration, as they were logged.
    warnings = [] :: [lwm2m_gateway:config_error()]
}).

-spec start_link(map(), map()) -> {ok, pid()} | {error, term()}.
start_link(Config, Ctx) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Config, Ctx}, []).

%% @doc The configuration of EMQX's gateway has changed.
-spec gateway_config(map()) -> ok | {error, term()}.
gateway_config(Config) ->
    gen_server:call(?MODULE, {gateway_config, Config}, ?CALL_TIMEOUT).

%% @doc The plugin's configuration has changed; nothing happens while the gateway is not loaded. An
%% error if it is refused and EMQX hears of it; otherwise there is an alarm.
-spec plugin_config(map()) -> ok | {error, binary()}.
plugin_config(Config) ->
    try gen_server:call(?MODULE, {plugin_config, Config}, ?CALL_TIMEOUT) of
        ok -> ok;
        {error, Reason} -> {error, lwm2m_gateway_emqx_alarm:text(Reason)}
    catch
        exit:{noproc, _} -> ok
    end.

%% @doc The gateway, and whether its HTTP API is served as configured.
-spec gateway() -> {ok, lwm2m_gateway:gateway(), served | refused} | error.
gateway() ->
    try
        gen_server:call(?MODULE, gateway, ?ASK_TIMEOUT)
    catch
        exit:_ -> error
    end.

init({Emqx, Ctx}) ->
    true = process_flag(trap_exit, true) =/= undefined,
    _ = process_flag(message_queue_data, off_heap),
    Stored = lwm2m_gateway_emqx_stored:read(),
    %% What an owner that crashed has left behind holds the ports.
    _ = lwm2m_gateway:stop_all(3000),
    ok = lwm2m_gateway_emqx_devices:new(),
    case lwm2m_gateway_emqx_running:start(Stored, Emqx) of
        {ok, #{gateway := Gateway, plugin := Plugin} = Running} ->
            Newest =
                case Stored of
                    {ok, Config} -> Config;
                    unknown -> Plugin
                end,
            [Mine, Theirs] = [lwm2m_gateway_emqx_secrets:keys(Of) || Of <- [Plugin, Newest]],
            State = with_running(Running, #state{
                ctx = Ctx,
                gateway = Gateway,
                id = lwm2m_gateway:id(Gateway),
                emqx = Emqx,
                plugin = Plugin,
                stored = Newest,
                keys = maps:merge(Mine, Theirs),
                pending = counters:new(1, [write_concurrency])
            }),
            {ok, open_listeners(State), {continue, started}};
        {error, Reason} ->
            {stop, Reason}
    end.

%% What the configuration makes of the gateway.
with_running(Running, State) ->
    #{emqx := Emqx, plugin := Plugin, store := Store, http := Http, warnings := Warnings} = Running,
    State#state{
        emqx = Emqx, plugin = Plugin, store = Store, http = Http, warnings = Warnings
    }.

running(State) ->
    #{
        gateway => State#state.gateway,
        emqx => State#state.emqx,
        plugin => State#state.plugin,
        store => State#state.store,
        http => State#state.http,
        warnings => State#state.warnings
    }.

reload(Emqx, Plugin, State) ->
    case lwm2m_gateway_emqx_running:reload(Emqx, Plugin, running(State)) of
        {ok, Running} -> {ok, open_listeners(with_running(Running, State))};
        {error, _} = Error -> {Error, State}
    end.

watch_nodes(#state{gateway = Gateway} = State) ->
    case lwm2m_gateway_emqx_nodes:start_link(Gateway) of
        {ok, Nodes} ->
            State#state{nodes = Nodes};
        {error, Reason} ->
            %% Of an owner that was killed there may still be one.
            logger:warning(#{msg => "lwm2m_nodes_not_watched", reason => Reason}),
            _ = erlang:send_after(?METRICS_INTERVAL, self(), watch_nodes),
            State#state{nodes = undefined}
    end.

%% EMQX opens a session under a lock of the whole cluster, and waits for a node that does not answer
%% for more than a minute. A device that has asked meanwhile asks again.
free_waiting(Pids) ->
    lists:foreach(
        fun(Pid) ->
            case process_info(Pid, current_stacktrace) of
                {_, Stack} ->
                    lists:keymember(emqx_gateway_cm, 1, Stack) andalso exit(Pid, kill);
                undefined ->
                    ok
            end
        end,
        Pids
    ),
    %% The gateway answers for a process that is gone when nobody has its question any more.
    true = garbage_collect(),
    ok.

handle_continue(started, #state{ctx = Ctx} = First) ->
    ok = hide(First),
    State = watch_nodes(First),
    _ = erlang:send_after(?METRICS_INTERVAL, self(), metrics),
    {noreply, State#state{metrics = lwm2m_gateway_emqx_metrics:known(Ctx)}}.

handle_call({gateway_config, Emqx}, _From, #state{plugin = Plugin} = State) ->
    {Result, Next} = reload(Emqx, Plugin, State),
    {reply, Result, Next};
handle_call({plugin_config, Given}, _From, #state{keys = Keys} = State) ->
    case change(lwm2m_gateway_emqx_secrets:revealed(Given, Keys), State) of
        {ok, #state{plugin = Plugin} = Next} ->
            ok = lwm2m_gateway_emqx_accepted:write(Plugin),
            ok = lwm2m_gateway_emqx_alarm:clear(config),
            {reply, ok, stored(Given, lwm2m_gateway_emqx_secrets:keys(Plugin), Next)};
        {{error, Reason} = Error, Next} ->
            case lwm2m_gateway_emqx_stored:hears_refusals() of
                true ->
                    {reply, Error, Next};
                false ->
                    %% EMQX stores it all the same, so an alarm is the way to tell somebody. Who
                    %% mends it may send back the stars of what was refused.
                    ok = lwm2m_gateway_emqx_running:refused(Reason),
                    New = lwm2m_gateway_emqx_secrets:keys(Given),
                    {reply, ok, stored(Given, maps:merge(Keys, New), Next)}
            end
    end;
handle_call(gateway, _From, #state{gateway = Gateway, http = Http} = State) ->
    {reply, {ok, Gateway, Http}, State};
handle_call(shown, _From, #state{stored = Stored} = State) ->
    {reply, lwm2m_gateway_emqx_secrets:hidden(Stored), State};
handle_call(_Request, _From, State) ->
    {reply, ignored, State}.

handle_cast(_Message, State) ->
    {noreply, State}.

handle_info({lwm2m_gateway, Id, Batch, Events}, #state{id = Id} = State) ->
    Next = lists:foldl(fun event/2, State, Events),
    Now = erlang:monotonic_time(millisecond),
    case Now - State#state.last > 2 * ?COLLECT of
        true ->
            {noreply, acknowledge(Next#state{unacknowledged = Batch, last = Now})};
        false ->
            _ = erlang:send_after(?COLLECT, self(), acknowledge),
            {noreply, Next#state{unacknowledged = Batch, last = Now}}
    end;
handle_info(acknowledge, State) ->
    {noreply, acknowledge(State)};
handle_info({'EXIT', Pid, _Reason}, #state{nodes = Pid} = State) ->
    {noreply, watch_nodes(State)};
handle_info({'EXIT', Pid, _Reason}, #state{endpoints = Endpoints} = State) ->
    case Endpoints of
        %% It did not take its leave: without a client there is no registration either.
        #{Pid := Endpoint} -> lwm2m_gateway:kick(State#state.gateway, Endpoint);
        #{} -> ok
    end,
    {noreply, gone(Pid, State)};
handle_info({leave, Pid}, State) ->
    Left = gone(Pid, State),
    Pid ! left,
    {noreply, Left};
handle_info({authorize, Authorization, Request}, State) ->
    {noreply, authorize(Authorization, Request, State)};
handle_info({restore, Info}, State) ->
    {noreply, restore(Info, State)};
handle_info(watch_nodes, State) ->
    {noreply, watch_nodes(State)};
handle_info({unreachable, _Nodes}, #state{endpoints = Endpoints} = State) ->
    ok = free_waiting(maps:keys(Endpoints)),
    {noreply, State};
handle_info(thawed, #state{endpoints = Endpoints} = State) ->
    lists:foreach(fun(Pid) -> Pid ! elsewhere end, maps:keys(Endpoints)),
    {noreply, State};
handle_info(metrics, State) ->
    _ = erlang:send_after(?METRICS_INTERVAL, self(), metrics),
    {noreply, count_metrics(State)};
handle_info(_Message, State) ->
    {noreply, State}.

terminate(_Reason, #state{gateway = Gateway, listeners = Listeners} = State) ->
    %% From here on others have the answers.
    _ = (catch lwm2m_gateway_emqx_nodes:stop(State#state.nodes)),
    Counted =
        try
            count_metrics(State)
        catch
            _:_ -> State
        end,
    lists:foreach(fun lwm2m_gateway_emqx_listener:close/1, maps:keys(Listeners)),
    %% From here on no command is taken; those that were are answered.
    _ = lwm2m_gateway:stop(Gateway, 1000),
    Until = erlang:monotonic_time(millisecond) + 2000,
    #state{endpoints = Endpoints} = last_events(acknowledge_all(State), Until),
    %% The answers go out by the devices' processes, which end behind them.
    lists:foreach(fun(Pid) -> exit(Pid, shutdown) end, maps:keys(Endpoints)),
    wait(Endpoints, Until),
    ok = lwm2m_gateway_emqx_metrics:gone(State#state.ctx, Counted#state.metrics),
    ok = lwm2m_gateway_emqx_alarm:clear(store),
    ok = lwm2m_gateway_emqx_alarm:clear(http),
    lwm2m_gateway_emqx_settings:forget().

%% All that the gateway still had to say.
last_events(#state{id = Id} = State, Until) ->
    receive
        {lwm2m_gateway, Id, Batch, Events} ->
            %% Of a stopped gateway there is nothing to ask any more.
            Next = lists:foldl(fun event/2, State, [E || E <- Events, element(1, E) =/= lost]),
            case lists:keymember(stopped, 1, Events) of
                true -> Next;
                false -> last_events(acknowledge_all(Next#state{unacknowledged = Batch}), Until)
            end
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        State
    end.

acknowledge_all(#state{unacknowledged = undefined} = State) ->
    State;
acknowledge_all(#state{gateway = Gateway, unacknowledged = Batch} = State) ->
    ok = lwm2m_gateway:ack(Gateway, Batch),
    State#state{unacknowledged = undefined}.

wait(Endpoints, _Until) when map_size(Endpoints) =:= 0 ->
    ok;
wait(Endpoints, Until) ->
    receive
        {'EXIT', Pid, _} -> wait(maps:remove(Pid, Endpoints), Until)
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        lists:foreach(fun(Pid) -> exit(Pid, kill) end, maps:keys(Endpoints))
    end.

%% Configuration.

change({ok, Plugin}, #state{emqx = Emqx} = State) ->
    case lwm2m_gateway_emqx_config:readable(Plugin) of
        ok -> reload(Emqx, Plugin, State);
        {error, _} = Error -> {Error, State}
    end;
change({error, _} = Error, State) ->
    {Error, State}.

stored(Stored, Keys, State) ->
    Next = State#state{stored = Stored, keys = Keys},
    ok = hide(Next),
    Next.

%% Keys are no longer than it takes where EMQX shows them.
hide(#state{stored = Stored}) ->
    Owner = self(),
    lwm2m_gateway_emqx_stored:hide(Stored, fun() ->
        gen_server:call(Owner, shown, ?CALL_TIMEOUT)
    end).

open_listeners(#state{gateway = Gateway, listeners = Open} = State) ->
    State#state{listeners = lwm2m_gateway_emqx_listener:update(Gateway, Open)}.

%% Events of the gateway.

event({publish, Kind, Endpoint, Topic, Payload, QoS}, State) ->
    event({publish, Kind, Endpoint, Topic, Payload, QoS, #{}}, State);
event({publish, Kind, Endpoint, Topic, Payload, QoS, Properties}, #state{pending = Pending} = State) ->
    case lwm2m_gateway_emqx_devices:publishing(Endpoint, Pending) of
        {ok, Pid} ->
            Pid ! {publish, Kind, Topic, Payload, QoS, Properties};
        full ->
            emqx_gateway_ctx:metrics_inc(State#state.ctx, 'delivery.dropped');
        none ->
            %% About a device that is gone: what the gateway itself has to say.
            Headers = lwm2m_gateway_emqx_client:headers(Properties, #{}),
            _ = lwm2m_gateway_emqx_messages:publish(Endpoint, Topic, Payload, QoS, Headers)
    end,
    State;
event({subscribe, Endpoint, Mountpoint, Filter, QoS}, State) ->
    to_device(Endpoint, {subscribe, Mountpoint, Filter, QoS}, State);
event({unsubscribe, Endpoint, Filter}, State) ->
    to_device(Endpoint, {unsubscribe, Filter}, State);
event({authorize, Authorization, Request}, State) ->
    authorize(Authorization, Request, State);
event({psk, Psk, #{identity := Identity}}, State) ->
    look_up(Psk, Identity, State);
event({device, gone, #{endpoint := Endpoint, reason := Reason}}, State) ->
    to_device(Endpoint, {gone, Reason}, State);
event({device, registered, #{restored := true} = Info}, State) ->
    restore(Info, State);
event({device, _, #{endpoint := Endpoint, listener := Listener} = Info}, State) ->
    case lwm2m_gateway_emqx_devices:set_listener(Endpoint, listener_id(Listener)) of
        true ->
            to_device(Endpoint, {registered, Info}, State);
        false ->
            %% It was let in and thrown out at the same time.
            _ = lwm2m_gateway:kick(State#state.gateway, Endpoint),
            State
    end;
event({log, _, _, _} = Event, State) ->
    ok = lwm2m_gateway:log(Event),
    State;
event({lost, _Count}, State) ->
    resynchronize(State);
event(_Event, State) ->
    State.

to_device(Endpoint, Message, State) ->
    _ =
        case lwm2m_gateway_emqx_devices:pid(Endpoint) of
            none -> ok;
            Pid -> Pid ! Message
        end,
    State.

authorize(Authorization, #{endpoint := Endpoint, listener := Listener} = Request, State) ->
    #state{endpoints = Endpoints, gateway = Gateway} = State,
    %% Those that have a process but no registration.
    Waiting = map_size(Endpoints) - lwm2m_gateway:registrations(Gateway),
    case lwm2m_gateway_emqx_devices:pid(Endpoint) of
        Pid when is_pid(Pid) ->
            case is_process_alive(Pid) of
                true ->
                    Pid ! {authorize, Authorization, Request},
                    State;
                false ->
                    authorize(Authorization, Request, gone(Pid, State))
            end;
        none when Waiting >= ?MAX_WAITING ->
            _ = lwm2m_gateway:authorized(Authorization, unavailable),
            State;
        none ->
            case start_device(Endpoint, Listener, State) of
                {ok, New, Next} ->
                    New ! {authorize, Authorization, Request},
                    Next;
                {error, _} ->
                    _ = lwm2m_gateway:authorized(Authorization, unavailable),
                    State
            end
    end.

%% A device that the store has brought back.
restore(#{endpoint := Endpoint, listener := Listener} = Info, State) ->
    case lwm2m_gateway_emqx_devices:pid(Endpoint) of
        Pid when is_pid(Pid) ->
            case is_process_alive(Pid) of
                true ->
                    Pid ! {restore, Info},
                    State;
                false ->
                    restore(Info, gone(Pid, State))
            end;
        none ->
            case start_device(Endpoint, Listener, State) of
                {ok, New, Next} ->
                    New ! {restore, Info},
                    Next;
                {error, _} ->
                    _ = lwm2m_gateway:kick(State#state.gateway, Endpoint),
                    State
            end
    end.

start_device(Endpoint, Listener, State) ->
    #state{endpoints = Endpoints, gateway = Gateway, ctx = Ctx, pending = Pending} = State,
    Options = #{gateway => Gateway, ctx => Ctx, pending => Pending, endpoint => Endpoint},
    case lwm2m_gateway_emqx_device:start_link(Options) of
        {ok, Pid} ->
            ok = lwm2m_gateway_emqx_devices:add(Endpoint, Pid, listener_id(Listener)),
            {ok, Pid, State#state{endpoints = Endpoints#{Pid => Endpoint}}};
        {error, _} = Error ->
            Error
    end.

listener_id(Listener) ->
    case lwm2m_gateway_emqx_settings:current() of
        #{listeners := #{Listener := #{id := Id}}} -> Id;
        #{} -> undefined
    end.

%% EMQX's own look-up, in a process of its own because anybody may hook into it.
look_up(Psk, Identity, #state{workers = Workers} = State) when
    map_size(Workers) < ?MAX_WAITING
->
    Pid = spawn_link(fun() ->
        Key =
            case emqx_tls_psk:lookup(psk, Identity, undefined) of
                {ok, Secret} when byte_size(Secret) > 0, byte_size(Secret) =< 256 -> Secret;
                _ -> undefined
            end,
        lwm2m_gateway:psk_found(Psk, Key)
    end),
    State#state{workers = Workers#{Pid => []}};
look_up(Psk, _Identity, State) ->
    _ = lwm2m_gateway:psk_found(Psk, undefined),
    State.

gone(Pid, #state{endpoints = Endpoints, workers = Workers, pending = Pending} = State) ->
    case maps:take(Pid, Endpoints) of
        {Endpoint, Others} ->
            case lwm2m_gateway_emqx_devices:take(Endpoint) of
                {Pid, Waiting} -> counters:sub(Pending, 1, Waiting);
                none -> ok
            end,
            State#state{endpoints = Others};
        error ->
            State#state{workers = maps:remove(Pid, Workers)}
    end.

%% Events about devices were lost: what is registered is what counts.
resynchronize(#state{gateway = Gateway, endpoints = Endpoints} = State) ->
    Registered = maps:from_list([
        {Endpoint, Info}
     || #{endpoint := Endpoint} = Info <- lwm2m_gateway:devices(Gateway)
    ]),
    Known = maps:from_list([{Endpoint, []} || Endpoint <- maps:values(Endpoints)]),
    maps:foreach(
        fun(Endpoint, _) -> to_device(Endpoint, {gone, expired}, State) end,
        maps:without(maps:keys(Registered), Known)
    ),
    maps:foreach(
        fun(Endpoint, Info) ->
            case Known of
                #{Endpoint := _} -> to_device(Endpoint, {registered, Info}, State);
                #{} -> lwm2m_gateway:kick(Gateway, Endpoint)
            end
        end,
        Registered
    ),
    State.

%% Not while too much is still on its way to the broker.
acknowledge(#state{unacknowledged = undefined} = State) ->
    State;
acknowledge(#state{gateway = Gateway, pending = Pending, unacknowledged = Batch} = State) ->
    case counters:get(Pending, 1) > ?MAX_PENDING of
        false ->
            ok = lwm2m_gateway:ack(Gateway, Batch),
            State#state{unacknowledged = undefined};
        true ->
            _ = erlang:send_after(?COLLECT, self(), acknowledge),
            State
    end.

count_metrics(#state{gateway = Gateway, ctx = Ctx, metrics = Former} = State) ->
    Now = lwm2m_gateway:statistics(Gateway),
    ok = lwm2m_gateway_emqx_metrics:count(Ctx, Now, Former),
    watch_store(Now, State#state{metrics = Now}).

watch_store(#{store_failing := 1}, #state{store = durable} = State) ->
    lwm2m_gateway_emqx_alarm:raise(store, <<"the store cannot be written">>, ?NOT_WRITTEN),
    State#state{store = failing};
watch_store(#{store_failing := 0}, #state{store = failing} = State) ->
    ok = lwm2m_gateway_emqx_alarm:clear(store),
    State#state{store = durable};
watch_store(_Statistics, State) ->
    State.
