%% @doc An LwM2M gateway inside this node: devices speak LwM2M (CoAP over UDP or DTLS) to its
%% listeners, their messages come to a process, the <em>owner</em>, as MQTT topics with JSON.
%%
%% == Events ==
%% The owner gets batches:
%% ```
%% {lwm2m_gateway, Id, Batch, Events :: [event()]}
%% '''
%% `Id' is {@link id/1} of the gateway. The owner acknowledges what it has dealt with by
%% {@link ack/2}. Without acknowledgement the gateway sends `credit' batches and then waits:
%% events queue up inside, at most `max_queue' publishes, and more publishes are dropped and
%% counted (`publish_dropped' of {@link statistics/1}). The longer the owner takes, the larger the
%% batches get.
%%
%% == Life of a gateway ==
%% A gateway runs until {@link stop/1}, the death of its owner, or until no process holds its
%% handle any more. So keep the handle. {@link lwm2m_gateway_server} is an owner that does all of
%% this.
%%
%% Functions that take a handle raise `badarg' when it is none, for instance because the
%% application was stopped since.
-module(lwm2m_gateway).

-export([
    start/1,
    stop/1, stop/2,
    stop_all/1,
    id/1,
    ack/2,
    deliver/3, deliver/4,
    deliver_to/5, deliver_to/6,
    deliver_durably/4,
    deliver_to_durably/6,
    note/3,
    refuse_absent/4,
    refuse_unreachable/4,
    is_command/2,
    authorized/2,
    psk_found/2,
    reload/2,
    check_config/1,
    statistics/1,
    listeners/1,
    registrations/1,
    devices/1,
    device/2,
    kick/2,
    export/2,
    import/3,
    log/1,
    version/0
]).

-export_type([
    gateway/0,
    id/0,
    batch/0,
    config/0,
    options/0,
    event/0,
    kind/0,
    registration_request/0,
    psk_request/0,
    device_info/0,
    gone_info/0,
    gone_reason/0,
    decision/0,
    authorization/0,
    psk/0,
    start_error/0,
    config_error/0,
    properties/0,
    receipt/0,
    receipt_message/0,
    address/0,
    log_level/0
]).

-record(lwm2m_gateway, {
    id :: id(),
    handle :: lwm2m_gateway_nif:handle()
}).

-opaque gateway() :: #lwm2m_gateway{}.
%% Handle of a running gateway.

-type id() :: pos_integer().
%% Names a gateway of this node in the messages to its owner.

-type batch() :: pos_integer().
%% Number of a batch, one more than the one before.

-type config() :: iodata() | #{atom() | binary() => term()}.
%% The configuration of the gateway: JSON or TOML text, or a map with the same keys. In a map,
%% keys are atoms or binaries; values are maps, lists, binaries, strings (lists of characters),
%% numbers, booleans and other atoms, which stand for their name.

-type options() :: #{
    config => config(),
    owner => pid(),
    subscriptions => shared | per_device,
    authorize => boolean(),
    psk => boolean(),
    device_events => boolean(),
    log => off | log_level(),
    credit => pos_integer(),
    max_queue => pos_integer()
}.
%% <dl>
%% <dt>`config'</dt><dd>Default: everything as in the reference of the configuration.</dd>
%% <dt>`owner'</dt><dd>Who gets the events; default: the caller.</dd>
%% <dt>`subscriptions'</dt><dd>Whether the owner subscribes once for all devices (`shared', the
%%   default) or for each device while it is registered.</dd>
%% <dt>`authorize'</dt><dd>Whether the owner is asked at each Register; default `false'.</dd>
%% <dt>`psk'</dt><dd>Whether the owner is asked for keys that the configuration lacks; default
%%   `false'.</dd>
%% <dt>`device_events'</dt><dd>Whether the owner is told who comes and goes; default `false'.</dd>
%% <dt>`log'</dt><dd>What the gateway logs is sent to the owner from this level on; default
%%   `info'.</dd>
%% <dt>`credit'</dt><dd>Batches that are sent without being acknowledged; default 16.</dd>
%% <dt>`max_queue'</dt><dd>Publishes that wait for an acknowledgement; default 65536. They are
%%   also limited to 64 MiB.</dd>
%% </dl>

-type log_level() :: error | warning | info | debug.

-type kind() :: register | update | response | notify | send | series.
%% What a publish is about.

-type event() ::
    {publish, kind(), Endpoint :: binary(), Topic :: binary(), Payload :: binary(), QoS :: 0..2}
    | {publish, kind(), Endpoint :: binary(), Topic :: binary(), Payload :: binary(), QoS :: 0..2, #{
        correlation_data := binary()
    }}
    | {subscribe, Filter :: binary(), QoS :: 0..2}
    | {unsubscribe, Filter :: binary()}
    | {subscribe, Endpoint :: binary(), Mountpoint :: binary(), Filter :: binary(), QoS :: 0..2}
    | {unsubscribe, Endpoint :: binary(), Filter :: binary()}
    | {authorize, authorization(), registration_request()}
    | {psk, psk(), psk_request()}
    | {device, registered | updated, device_info()}
    | {device, gone, gone_info()}
    | {log, log_level(), Target :: binary(), Text :: binary()}
    | {lost, Count :: pos_integer()}
    | {stopped, normal}.
%% <ul>
%% <li>`publish': a message for the broker. Messages of one device come in order. The form with
%%   properties only comes for a command that was delivered with `correlation_data'.</li>
%% <li>`subscribe', `unsubscribe' with a filter alone: with `subscriptions => shared'. Messages of
%%   the filter go to {@link deliver/4}.</li>
%% <li>`subscribe', `unsubscribe' with an endpoint: with `subscriptions => per_device'. Messages
%%   go to {@link deliver_to/6}.</li>
%% <li>`authorize': answered by {@link authorized/2}.</li>
%% <li>`psk': answered by {@link psk_found/2}.</li>
%% <li>`device': with `device_events => true'.</li>
%% <li>`lost': so many `subscribe', `unsubscribe' and `device' events were lost, because more than
%%   a million waited for an acknowledgement. {@link devices/1} tells how things stand.</li>
%% <li>`stopped': the last event of a gateway that {@link stop/1} or {@link stop_all/1}
%%   ended.</li>
%% </ul>

-type address() :: {inet:ip_address(), inet:port_number()}.

-type registration_request() :: #{
    endpoint := binary(),
    peer := address(),
    listener := binary(),
    identity => binary(),
    mountpoint := binary(),
    lifetime := non_neg_integer(),
    version := binary(),
    query := [{binary(), binary()}]
}.
%% A device that wants to register. `query' is as sent, passwords included; `identity' is the PSK
%% identity of its connection, if there is one; `lifetime' is in seconds.

-type psk_request() :: #{
    listener := binary(),
    identity := binary(),
    peer := address()
}.
%% A DTLS handshake that waits for a key.

-type device_info() :: #{
    endpoint := binary(),
    peer := address(),
    listener := binary(),
    identity => binary(),
    mountpoint := binary(),
    lifetime := non_neg_integer(),
    version := binary(),
    queue_mode := boolean(),
    registered_at := non_neg_integer(),
    idle_ms := non_neg_integer(),
    alternate_path := binary(),
    objects := [binary()],
    query := [{binary(), binary()}],
    observations := non_neg_integer(),
    queued := non_neg_integer(),
    restored => true,
    note => binary()
}.
%% A registered device. `lifetime' is in seconds, `registered_at' in milliseconds since 1970,
%% `listener' as in `<<"udp:default">>', `query' without secrets. In events only: `restored' when the store has
%% brought it back just now, and `note' that {@link note/3} had left with it.

-type gone_info() :: #{endpoint := binary(), reason := gone_reason()}.

-type gone_reason() :: deregistered | expired | kicked | displaced | listener_closed | exported | lost.

-opaque authorization() :: reference().
%% Names a Register that waits. When no process holds it any more, the device is told that the
%% service is unavailable (5.03), as it is after 15 seconds.

-type decision() ::
    allow
    | {allow, Mountpoint :: iodata()}
    | {deny, Reason :: iodata()}
    | unavailable.
%% `{allow, Mountpoint}' gives the device another mountpoint than the configured one: 1,024 bytes at
%% most, without `+', `#' and NUL. A denied device is answered 4.03 with the reason, of which it gets
%% the first 512 bytes; `unavailable' is 5.03.

-opaque psk() :: reference().
%% Names a handshake that waits. When no process holds it any more, the identity is unknown.

-type config_error() :: {Key :: binary(), Message :: binary()}.

-type start_error() ::
    {invalid_config, [config_error()]}
    | {bind | credentials | dtls | http | models | store | topic | system, Message :: binary()}
    | owner_dead.

-type properties() :: #{
    expiry => non_neg_integer(),
    response_topic => iodata(),
    correlation_data => iodata()
}.
%% Of a message from the broker (MQTT 5): `expiry' is what is left of its Message-Expiry-Interval in
%% seconds. Answers go to `response_topic' as well, with `correlation_data', within
%% `response_topics' of the configuration. The owner publishes there with rights of its own: where
%% it knows those of the sender, it leaves out what that one may not publish to.

-opaque receipt() :: reference().
%% Names a command whose sender wants to know when it is safe.

-type receipt_message() ::
    {lwm2m_gateway_receipt, receipt(), ok | {error, refused | no_store | failed}}.
%% `ok': all that the command has caused is in the store, or has its answer. `refused': it was not
%% taken, because it is no command, finds no room, or the gateway stops; what is refused is answered.
%% `failed': the store cannot be written, and the command goes on from memory. With `store.sync' of
%% `off', a store is what the system has taken, not what the disk has.

%% @doc Starts a gateway. Raises `badarg' when an option is not one.
-spec start(options()) -> {ok, gateway()} | {error, start_error()}.
start(Options) when is_map(Options) ->
    Defaults = #{
        config => #{},
        owner => self(),
        subscriptions => shared,
        authorize => false,
        psk => false,
        device_events => false,
        log => info,
        credit => 16,
        max_queue => 65536
    },
    All = maps:merge(Defaults, Options),
    map_size(All) =:= map_size(Defaults) orelse error(badarg, [Options]),
    #{config := Config} = All,
    Id = erlang:unique_integer([positive]),
    try lwm2m_gateway_nif:start(Id, config(Config), maps:remove(config, All)) of
        {ok, Handle} -> {ok, #lwm2m_gateway{id = Id, handle = Handle}};
        {error, _} = Error -> Error
    catch
        error:badarg -> error(badarg, [Options])
    end;
start(Options) ->
    error(badarg, [Options]).

%% @doc Stops a gateway and waits up to five seconds for its end. See {@link stop/2}.
-spec stop(gateway()) -> ok | {error, timeout}.
stop(Gateway) ->
    stop(Gateway, 5000).

%% @doc Stops a gateway: what still waits is answered, the sockets are closed. `{stopped, normal}'
%% is the last event to the owner. Stopping it again is no error. After `{error, timeout}' it goes
%% on stopping.
-spec stop(gateway(), Milliseconds :: non_neg_integer()) -> ok | {error, timeout}.
stop(#lwm2m_gateway{handle = Handle}, Milliseconds) ->
    lwm2m_gateway_nif:stop(Handle, Milliseconds).

%% @doc Stops every gateway of this node, and waits for those whose owner or handle is gone. When
%% it returns `ok', no thread of a gateway runs any more.
-spec stop_all(Milliseconds :: non_neg_integer()) -> ok | {error, timeout}.
stop_all(Milliseconds) ->
    lwm2m_gateway_nif:stop_all(Milliseconds).

%% @doc What the messages to the owner call this gateway.
-spec id(gateway()) -> id().
id(#lwm2m_gateway{id = Id}) ->
    Id.

%% @doc Acknowledges a batch and all before it. Costs less than a microsecond when nothing waits.
-spec ack(gateway(), batch()) -> ok.
ack(#lwm2m_gateway{handle = Handle}, Batch) ->
    lwm2m_gateway_nif:ack(Handle, Batch).

%% @equiv deliver(Gateway, Topic, Payload, #{})
-spec deliver(gateway(), Topic :: iodata(), Payload :: iodata()) -> ok | {error, stopped}.
deliver(Gateway, Topic, Payload) ->
    deliver(Gateway, Topic, Payload, #{}).

%% @doc Takes a message from the broker that may be a command. What is no command is ignored; what
%% cannot be taken is answered by an event.
-spec deliver(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    ok | {error, stopped}.
deliver(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    lwm2m_gateway_nif:deliver(Handle, undefined, message(Topic, Payload, Properties), undefined).

%% @equiv deliver_to(Gateway, Endpoint, Mountpoint, Topic, Payload, #{})
-spec deliver_to(
    gateway(), Endpoint :: iodata(), Mountpoint :: iodata(), Topic :: iodata(), Payload :: iodata()
) ->
    ok | {error, stopped}.
deliver_to(Gateway, Endpoint, Mountpoint, Topic, Payload) ->
    deliver_to(Gateway, Endpoint, Mountpoint, Topic, Payload, #{}).

%% @doc Takes a command for one device from an owner that subscribed for it. If the device is gone
%% by now, the answer is published below the mountpoint.
-spec deliver_to(
    gateway(),
    Endpoint :: iodata(),
    Mountpoint :: iodata(),
    Topic :: iodata(),
    Payload :: iodata(),
    properties()
) ->
    ok | {error, stopped}.
deliver_to(#lwm2m_gateway{handle = Handle}, Endpoint, Mountpoint, Topic, Payload, Properties) ->
    To = {binary(Endpoint), binary(Mountpoint)},
    lwm2m_gateway_nif:deliver(Handle, To, message(Topic, Payload, Properties), undefined).

%% @doc As {@link deliver/4}; the caller gets one {@link receipt_message()} as well.
-spec deliver_durably(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    {ok, receipt()} | {error, stopped}.
deliver_durably(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    deliver_with_receipt(Handle, undefined, message(Topic, Payload, Properties)).

%% @doc As {@link deliver_to/6}; the caller gets one {@link receipt_message()} as well.
-spec deliver_to_durably(
    gateway(),
    Endpoint :: iodata(),
    Mountpoint :: iodata(),
    Topic :: iodata(),
    Payload :: iodata(),
    properties()
) ->
    {ok, receipt()} | {error, stopped}.
deliver_to_durably(Gateway, Endpoint, Mountpoint, Topic, Payload, Properties) ->
    #lwm2m_gateway{handle = Handle} = Gateway,
    To = {binary(Endpoint), binary(Mountpoint)},
    deliver_with_receipt(Handle, To, message(Topic, Payload, Properties)).

message(Topic, Payload, Properties) ->
    {binary(Topic), binary(Payload), properties(Properties)}.

deliver_with_receipt(Handle, To, Message) ->
    Receipt = make_ref(),
    case lwm2m_gateway_nif:deliver(Handle, To, Message, Receipt) of
        ok ->
            {ok, Receipt};
        {error, stopped} = Error ->
            %% There is nothing to be told of.
            receive
                {lwm2m_gateway_receipt, Receipt, _} -> Error
            after 0 -> Error
            end
    end.

%% @doc Keeps something with a device in the store, up to 64 KiB: it comes back with the event about
%% the device when that is restored. It ends with the registration. `false' when there is no store, no
%% such device, or when it is too long.
-spec note(gateway(), Endpoint :: iodata(), Note :: iodata()) -> boolean().
note(#lwm2m_gateway{handle = Handle}, Endpoint, Note) ->
    lwm2m_gateway_nif:note(Handle, binary(Endpoint), binary(Note)).

%% @doc Answers a command that the broker has given to nobody: 4.04 `not_registered' for a device that is
%% not here either, 5.03 `not_subscribed' for one that is. What is no command is ignored.
-spec refuse_absent(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    ok | {error, stopped}.
refuse_absent(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    lwm2m_gateway_nif:refuse_absent(
        Handle, binary(Topic), binary(Payload), properties(Properties)
    ).

%% @doc Answers a command for a device of another gateway that does not answer: 5.03
%% `node_unreachable'. Whether it is carried out nobody knows. What is no command is ignored.
-spec refuse_unreachable(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    ok | {error, stopped}.
refuse_unreachable(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    lwm2m_gateway_nif:refuse_unreachable(
        Handle, binary(Topic), binary(Payload), properties(Properties)
    ).

%% @doc Whether a topic is one that commands come by.
-spec is_command(gateway(), Topic :: iodata()) -> boolean().
is_command(#lwm2m_gateway{handle = Handle}, Topic) ->
    lwm2m_gateway_nif:is_command(Handle, binary(Topic)).

%% @doc Answers an `authorize' event, from any process. `{error, answered}' if it was answered
%% before. An answer that comes after the device gave up does no harm.
-spec authorized(authorization(), decision()) -> ok | {error, answered}.
authorized(Authorization, allow) ->
    lwm2m_gateway_nif:authorized(Authorization, allow);
authorized(Authorization, {allow, Mountpoint}) ->
    lwm2m_gateway_nif:authorized(Authorization, {allow, binary(Mountpoint)});
authorized(Authorization, {deny, Reason}) ->
    lwm2m_gateway_nif:authorized(Authorization, {deny, binary(Reason)});
authorized(Authorization, unavailable) ->
    lwm2m_gateway_nif:authorized(Authorization, unavailable).

%% @doc Answers a `psk' event, from any process: with the bytes of the key, 1 to 256 of them, or
%% `undefined' for an unknown identity. `{error, answered}' if it was answered before.
-spec psk_found(psk(), Key :: binary() | undefined) -> ok | {error, answered}.
psk_found(Psk, Key) ->
    lwm2m_gateway_nif:psk_found(Psk, Key).

%% @doc Takes a new configuration and reads the object definitions again. After an error the old
%% one stays in force.
-spec reload(gateway(), config()) -> ok | {error, start_error() | stopped}.
reload(#lwm2m_gateway{handle = Handle}, Config) ->
    lwm2m_gateway_nif:reload(Handle, config(Config)).

%% @doc Reads a configuration without using it: its warnings, or all its errors.
-spec check_config(config()) ->
    {ok, Warnings :: [config_error()]} | {error, {invalid_config, [config_error()]}}.
check_config(Config) ->
    lwm2m_gateway_nif:check_config(config(Config)).

%% @doc Counters and gauges. Beside those of the gateway: `owner_batches' and `owner_events' sent
%% to the owner, `owner_unacknowledged' batches, `owner_queue' and `owner_queue_bytes' waiting for
%% an acknowledgement, `publish_dropped', `log_dropped' and `events_lost' because too much waited.
%% Those of the owner remain after a stop.
-spec statistics(gateway()) -> #{atom() => non_neg_integer()}.
statistics(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:statistics(Handle).

%% @doc Name, as in `<<"udp:default">>', and bound address of each listener.
-spec listeners(gateway()) -> [{binary(), address()}].
listeners(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:listeners(Handle).

%% @doc Number of registered devices.
-spec registrations(gateway()) -> non_neg_integer().
registrations(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:registrations(Handle).

%% @doc All registered devices, in no order. Takes five seconds at most.
-spec devices(gateway()) -> [device_info()].
devices(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:devices(Handle).

%% @doc One registered device. Takes five seconds at most.
-spec device(gateway(), Endpoint :: iodata()) -> {ok, device_info()} | {error, not_found}.
device(#lwm2m_gateway{handle = Handle}, Endpoint) ->
    lwm2m_gateway_nif:device(Handle, binary(Endpoint)).

%% @doc Ends a registration; `false' when there is none.
-spec kick(gateway(), Endpoint :: iodata()) -> boolean().
kick(#lwm2m_gateway{handle = Handle}, Endpoint) ->
    lwm2m_gateway_nif:kick(Handle, binary(Endpoint)).

%% @doc Ends a registration without a report and returns what another gateway needs to go on with
%% the device: its observations and the commands that wait. Takes five seconds at most.
-spec export(gateway(), Endpoint :: iodata()) -> {ok, Session :: binary()} | {error, not_found}.
export(#lwm2m_gateway{handle = Handle}, Endpoint) ->
    lwm2m_gateway_nif:export(Handle, binary(Endpoint)).

%% @doc Goes on with what {@link export/2} returned elsewhere, once the device has registered here;
%% `false' when it has not. Raises `badarg' when it is no such session.
-spec import(gateway(), Endpoint :: iodata(), Session :: binary()) -> boolean().
import(#lwm2m_gateway{handle = Handle}, Endpoint, Session) ->
    lwm2m_gateway_nif:import(Handle, binary(Endpoint), Session).

%% @doc Hands a `log' event to the logger of OTP, with domain `[lwm2m_gateway]'.
-spec log(event()) -> ok.
log({log, Level, Target, Text}) ->
    logger:log(Level, "~ts: ~ts", [Target, Text], #{domain => [lwm2m_gateway]}).

%% @doc Version of the native library.
-spec version() -> binary().
version() ->
    lwm2m_gateway_nif:version().

config(Config) when is_map(Config) -> Config;
config(Config) -> binary(Config).

binary(Data) when is_binary(Data) -> Data;
binary(Data) -> iolist_to_binary(Data).

properties(Properties) ->
    {
        expiry(Properties),
        maybe_binary(response_topic, Properties),
        maybe_binary(correlation_data, Properties)
    }.

maybe_binary(Key, Properties) ->
    case Properties of
        #{Key := Value} -> binary(Value);
        #{} -> undefined
    end.

expiry(#{expiry := Expiry}) when is_integer(Expiry), Expiry >= 0 -> min(Expiry, 16#FFFFFFFF);
expiry(#{expiry := _}) -> error(badarg);
expiry(#{}) -> undefined.
