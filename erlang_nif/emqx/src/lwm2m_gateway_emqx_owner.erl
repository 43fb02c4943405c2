%% @doc The owner of the gateway: takes its events and hands them to the processes of the devices.
%% Nothing here waits for anybody: what may take long is done by a device's process or by one of
%% its own.
-module(lwm2m_gateway_emqx_owner).
-behaviour(gen_server).

-export([start_link/2, gateway_config/1, plugin_config/1]).
-export([settings/0, count/1, published/2]).

-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Endpoint, process, listener, publishes on their way to the process.
-define(DEVICES, lwm2m_gateway_emqx_devices).
-define(PENDING, 4).
-define(SETTINGS, lwm2m_gateway_emqx_settings).

%% Publishes between here and the broker; beyond, the gateway is not told to go on.
-define(MAX_PENDING, 20_000).
%% Those of one device; beyond, they are dropped and counted.
-define(MAX_DEVICE_PENDING, 2_000).
%% Registers and handshakes that wait for somebody; beyond, they are turned away.
-define(MAX_WAITING, 10_000).
%% While messages keep coming, the gateway is told to go on only after so many milliseconds. It
%% collects meanwhile, and one message for all costs a fraction of what waking up for each does.
-define(COLLECT, 5).
-define(METRICS_INTERVAL, 5_000).
-define(CALL_TIMEOUT, 14_000).
-define(UNREADABLE, <<"config.hocon of the plugin cannot be read, or does not fit the schema">>).

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
    %% Entries among EMQX's listeners.
    listeners = #{} :: #{lwm2m_gateway_emqx_listener:name() => term()},
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

-spec settings() -> lwm2m_gateway_emqx_config:settings().
settings() ->
    persistent_term:get(?SETTINGS).

%% @doc Devices of a listener.
-spec count(Listener :: atom()) -> non_neg_integer().
count(Listener) ->
    try
        ets:select_count(?DEVICES, [{{'_', '_', Listener, '_'}, [], [true]}])
    catch
        error:badarg -> 0
    end.

%% @doc A device's process has dealt with a publish.
-spec published(Endpoint :: binary(), counters:counters_ref()) -> ok.
published(Endpoint, Pending) ->
    try
        _ = ets:update_counter(?DEVICES, Endpoint, {?PENDING, -1}),
        counters:sub(Pending, 1, 1)
    catch
        %% The owner has written the device off, and its publishes with it.
        error:badarg -> ok
    end.

init({Emqx, Ctx}) ->
    true = process_flag(trap_exit, true) =/= undefined,
    _ = process_flag(message_queue_data, off_heap),
    Stored = lwm2m_gateway_emqx_stored:read(),
    %% What an owner that crashed has left behind holds the ports.
    _ = lwm2m_gateway:stop_all(3000),
    true = is_list(ets:info(ets:new(?DEVICES, table_options()))),
    case start_with(Stored, Emqx, Ctx) of
        {ok, #state{plugin = Plugin} = State} ->
            Newest =
                case Stored of
                    {ok, Config} -> Config;
                    unknown -> Plugin
                end,
            [Mine, Theirs] = [lwm2m_gateway_emqx_secrets:keys(Of) || Of <- [Plugin, Newest]],
            {ok, State#state{stored = Newest, keys = maps:merge(Mine, Theirs)},
                {continue, started}};
        {error, Reason} ->
            {stop, Reason}
    end.

start_with({ok, Stored}, Emqx, Ctx) ->
    case revealed(Stored) of
        {ok, Plugin} -> start_with_stored(Plugin, Emqx, Ctx);
        {error, Reason} -> start_with_another(Reason, accepted_other_than(Stored), Emqx, Ctx)
    end;
start_with(unknown, Emqx, Ctx) ->
    %% Without any the defaults will do; they are not what somebody wants, so they are not kept.
    start_with_another({config, ?UNREADABLE}, accepted_other_than(#{}) ++ [#{}], Emqx, Ctx).

start_with_stored(Plugin, Emqx, Ctx) ->
    case readable_and_started(Plugin, Emqx, Ctx) of
        {ok, State} ->
            ok = lwm2m_gateway_emqx_accepted:write(Plugin),
            ok = lwm2m_gateway_emqx_alarm:clear(config),
            {ok, State};
        {error, {bind, _}} = Error ->
            %% Not the plugin's.
            Error;
        {error, Reason} ->
            start_with_another(Reason, accepted_other_than(Plugin), Emqx, Ctx);
        {unreadable, Reason} ->
            %% Perhaps there is no listener that would read it.
            Others = accepted_other_than(Plugin) ++ [Plugin],
            start_with_another(Reason, Others, Emqx, Ctx)
    end.

readable_and_started(Plugin, Emqx, Ctx) ->
    case lwm2m_gateway_emqx_config:readable(Plugin) of
        ok -> start_gateway(Emqx, Plugin, Ctx);
        {error, Reason} -> {unreadable, Reason}
    end.

%% EMQX has the stars that it is to show. At the start of a node it takes the configuration of
%% another that runs, and so do we with the keys.
revealed(Stored) ->
    case lwm2m_gateway_emqx_secrets:revealed(Stored, #{}) of
        {ok, Plugin} -> {ok, Plugin};
        {error, _} -> lwm2m_gateway_emqx_secrets:revealed(Stored, lwm2m_gateway_emqx_accepted:keys())
    end.

%% EMQX stores a configuration of the plugin whether it can be used or not.
accepted_other_than(Plugin) ->
    case lwm2m_gateway_emqx_accepted:read() of
        {ok, Accepted} when Accepted =/= Plugin -> [Accepted];
        _ -> []
    end.

start_with_another(Reason, [], _Emqx, _Ctx) ->
    {error, Reason};
start_with_another(Reason, [Plugin | Others], Emqx, Ctx) ->
    case start_gateway(Emqx, Plugin, Ctx) of
        {ok, State} ->
            refused(Reason),
            {ok, State};
        {error, _} ->
            start_with_another(Reason, Others, Emqx, Ctx)
    end.

refused(Reason) ->
    lwm2m_gateway_emqx_alarm:raise(
        config,
        Reason,
        <<"The plugin lwm2m_gateway cannot use its configuration; the last that works is in force">>
    ).

start_gateway(Emqx, Plugin, Ctx) ->
    case configure(Emqx, Plugin) of
        {ok, Config, Settings, Warnings} ->
            Options = #{
                config => Config,
                subscriptions => per_device,
                authorize => true,
                psk => true,
                device_events => true,
                credit => 1
            },
            ok = persistent_term:put(?SETTINGS, Settings),
            case lwm2m_gateway:start(Options) of
                {ok, Gateway} ->
                    warn(Warnings),
                    State = #state{
                        ctx = Ctx,
                        gateway = Gateway,
                        id = lwm2m_gateway:id(Gateway),
                        emqx = Emqx,
                        plugin = Plugin,
                        stored = Plugin,
                        pending = counters:new(1, [write_concurrency]),
                        warnings = Warnings
                    },
                    {ok, open_listeners(State)};
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

table_options() ->
    [named_table, public, set, {read_concurrency, true}, {write_concurrency, true}].

handle_continue(started, #state{ctx = Ctx} = State) ->
    ok = hide(State),
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
                    refused(Reason),
                    New = lwm2m_gateway_emqx_secrets:keys(Given),
                    {reply, ok, stored(Given, maps:merge(Keys, New), Next)}
            end
    end;
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
handle_info(metrics, State) ->
    _ = erlang:send_after(?METRICS_INTERVAL, self(), metrics),
    {noreply, count_metrics(State)};
handle_info(_Message, State) ->
    {noreply, State}.

terminate(_Reason, #state{gateway = Gateway, listeners = Listeners} = State) ->
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
    _ = persistent_term:erase(?SETTINGS),
    ok.

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

configure(Emqx, Plugin) ->
    case lwm2m_gateway_emqx_config:to_gateway(Emqx, Plugin, emqx_release:version()) of
        {ok, Config} ->
            {Checked, Imagined} = lwm2m_gateway_emqx_config:to_check(Config, Plugin),
            case lwm2m_gateway:check_config(Checked) of
                {ok, Warnings} ->
                    Settings = lwm2m_gateway_emqx_config:settings(Emqx, Config),
                    {ok, Config, Settings, [W || W <- Warnings, is_of_use(W, Imagined)]};
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

is_of_use({Key, Message}, Imagined) ->
    %% What the gateway takes for no placeholder is rendered here, after authentication.
    binary:match(Message, <<"${client_attrs.">>) =:= nomatch andalso
        %% Not about a listener that there is not.
        string:prefix(Key, Imagined) =:= nomatch andalso
        %% The host knows keys.
        not (binary:match(Message, <<"unless the host knows">>) =/= nomatch andalso
            emqx_conf:get([psk_authentication, enable], false)).

warn(Warnings) ->
    lists:foreach(
        fun({Key, Message}) ->
            logger:warning(#{msg => "lwm2m_gateway_config", key => Key, warning => Message})
        end,
        Warnings
    ).

reload(Emqx, Plugin, #state{gateway = Gateway, warnings = Known} = State) ->
    case configure(Emqx, Plugin) of
        {ok, Config, Settings, Warnings} ->
            %% First, because devices are told at once.
            Former = settings(),
            ok = persistent_term:put(?SETTINGS, Settings),
            case lwm2m_gateway:reload(Gateway, Config) of
                ok ->
                    warn(Warnings -- Known),
                    Next = State#state{emqx = Emqx, plugin = Plugin, warnings = Warnings},
                    {ok, open_listeners(Next)};
                {error, _} = Error ->
                    ok = persistent_term:put(?SETTINGS, Former),
                    {Error, State}
            end;
        {error, _} = Error ->
            {Error, State}
    end.

%% Entries for those that run, and no others.
open_listeners(#state{gateway = Gateway, listeners = Open} = State) ->
    #{listeners := Configured} = settings(),
    Running = maps:from_list([
        {{Id, Bind}, Max}
     || {Name, _Address} <- lwm2m_gateway:listeners(Gateway),
        #{Name := #{id := Id, bind := Bind, max_connections := Max}} <- [Configured]
    ]),
    maps:foreach(
        fun(Name, Max) ->
            case Running of
                #{Name := Max} -> ok;
                #{} -> _ = lwm2m_gateway_emqx_listener:close(Name)
            end
        end,
        Open
    ),
    maps:foreach(
        fun({Id, _} = Name, Max) ->
            case Open of
                #{Name := Max} ->
                    ok;
                #{} ->
                    Options = #{id => Id, max_connections => Max},
                    case lwm2m_gateway_emqx_listener:open(Name, Options) of
                        ok ->
                            ok;
                        {error, Reason} ->
                            logger:warning(#{
                                msg => "lwm2m_listener_not_shown", name => Name, reason => Reason
                            })
                    end
            end
        end,
        Running
    ),
    State#state{listeners = Running}.

%% Events of the gateway.

event({publish, Kind, Endpoint, Topic, Payload, QoS}, State) ->
    event({publish, Kind, Endpoint, Topic, Payload, QoS, #{}}, State);
event({publish, Kind, Endpoint, Topic, Payload, QoS, Properties}, #state{pending = Pending} = State) ->
    try ets:update_counter(?DEVICES, Endpoint, {?PENDING, 1}) of
        Waiting when Waiting =< ?MAX_DEVICE_PENDING ->
            counters:add(Pending, 1, 1),
            Pid = ets:lookup_element(?DEVICES, Endpoint, 2),
            Pid ! {publish, Kind, Topic, Payload, QoS, Properties};
        _ ->
            _ = ets:update_counter(?DEVICES, Endpoint, {?PENDING, -1}),
            emqx_gateway_ctx:metrics_inc(State#state.ctx, 'delivery.dropped')
    catch
        error:badarg ->
            %% About a device that is gone: what the gateway itself has to say.
            Headers = lwm2m_gateway_emqx_client:headers(Properties, #{}),
            _ = lwm2m_gateway_emqx_device:publish(Endpoint, Topic, Payload, QoS, Headers)
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
event({device, _, #{endpoint := Endpoint, listener := Listener} = Info}, State) ->
    case ets:update_element(?DEVICES, Endpoint, {3, listener_id(Listener)}) of
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
    case ets:lookup(?DEVICES, Endpoint) of
        [{_, Pid, _, _}] -> Pid ! Message;
        [] -> ok
    end,
    State.

authorize(Authorization, #{endpoint := Endpoint, listener := Listener} = Request, State) ->
    #state{endpoints = Endpoints, gateway = Gateway, ctx = Ctx, pending = Pending} = State,
    %% Those that have a process but no registration.
    Waiting = map_size(Endpoints) - lwm2m_gateway:registrations(Gateway),
    case ets:lookup(?DEVICES, Endpoint) of
        [{_, Pid, _, _}] ->
            case is_process_alive(Pid) of
                true ->
                    Pid ! {authorize, Authorization, Request},
                    State;
                false ->
                    authorize(Authorization, Request, gone(Pid, State))
            end;
        [] when Waiting >= ?MAX_WAITING ->
            _ = lwm2m_gateway:authorized(Authorization, unavailable),
            State;
        [] ->
            Options = #{gateway => Gateway, ctx => Ctx, pending => Pending, endpoint => Endpoint},
            case lwm2m_gateway_emqx_device:start_link(Options) of
                {ok, Pid} ->
                    true = ets:insert(?DEVICES, {Endpoint, Pid, listener_id(Listener), 0}),
                    Pid ! {authorize, Authorization, Request},
                    State#state{endpoints = Endpoints#{Pid => Endpoint}};
                {error, _} ->
                    _ = lwm2m_gateway:authorized(Authorization, unavailable),
                    State
            end
    end.

listener_id(Listener) ->
    case settings() of
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
            case ets:take(?DEVICES, Endpoint) of
                [{_, Pid, _, Waiting}] -> counters:sub(Pending, 1, Waiting);
                [] -> ok
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
    State#state{metrics = Now}.
