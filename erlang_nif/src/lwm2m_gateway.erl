%% @doc An LwM2M gateway inside this node. Devices connect to its listeners (CoAP over UDP or DTLS);
%% a process, the <em>owner</em>, receives their messages as MQTT topics with JSON.
%%
%% == Events ==
%% The owner gets batches:
%% ```
%% {lwm2m_gateway, Id, Batch, Events :: [event()]}
%% '''
%% `Id' is {@link id/1} of the gateway. The owner acknowledges handled batches with {@link ack/2}.
%% Without acknowledgement the gateway sends `credit' batches and then waits. Meanwhile it queues
%% events, including up to `max_queue' publishes; further publishes are dropped and counted
%% (`publish_dropped' of {@link statistics/1}). The longer the owner takes, the larger the batches
%% become.
%%
%% == Life of a gateway ==
%% A gateway runs until {@link stop/1} is called, its owner dies, or no process holds its handle any
%% more. So keep the handle. {@link lwm2m_gateway_server} is an owner that does all of this.
%%
%% Functions that take a handle raise `badarg' if it is not valid, for instance because the
%% application has been stopped.
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
%% Identifies a gateway of this node in the messages to its owner.

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
%% <dt>`config'</dt><dd>The configuration; default: the default of every key.</dd>
%% <dt>`owner'</dt><dd>The process that gets the events; default: the caller.</dd>
%% <dt>`subscriptions'</dt><dd>Whether the owner subscribes once for all devices (`shared', the
%%   default) or for each device while it is registered.</dd>
%% <dt>`authorize'</dt><dd>Whether the owner is asked at each Register; default `false'.</dd>
%% <dt>`psk'</dt><dd>Whether the owner is asked for keys that are not in the configuration; default
%%   `false'.</dd>
%% <dt>`device_events'</dt><dd>Whether the owner gets an event when a device registers, sends an
%%   Update or is gone; default `false'.</dd>
%% <dt>`log'</dt><dd>The lowest level of log lines that are sent to the owner; default `info'.</dd>
%% <dt>`credit'</dt><dd>How many batches are sent before one must be acknowledged; default 16.</dd>
%% <dt>`max_queue'</dt><dd>How many publishes may wait for an acknowledgement; default 65536. They
%%   are also limited to 64 MiB.</dd>
%% </dl>

-type log_level() :: error | warning | info | debug.

-type kind() :: register | update | response | notify | send | series.
%% Kind of a publish.

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
%% <li>`publish': a message for the broker. Messages of one device are in order. The form with
%%   properties is used only for a command that was delivered with `correlation_data'.</li>
%% <li>`subscribe', `unsubscribe' with a filter alone: with `subscriptions => shared'. Pass
%%   messages that match the filter to {@link deliver/4}.</li>
%% <li>`subscribe', `unsubscribe' with an endpoint: with `subscriptions => per_device'. Pass their
%%   messages to {@link deliver_to/6}.</li>
%% <li>`authorize': answer it with {@link authorized/2}.</li>
%% <li>`psk': answer it with {@link psk_found/2}.</li>
%% <li>`device': with `device_events => true'.</li>
%% <li>`lost': the number of `subscribe', `unsubscribe' and `device' events that were lost, because
%%   more than a million waited for an acknowledgement. {@link devices/1} returns the current
%%   state.</li>
%% <li>`stopped': the last event of a gateway that was stopped by {@link stop/1} or
%%   {@link stop_all/1}.</li>
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
%% A device that wants to register. `query' is as sent, including passwords; `identity' is the PSK
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
%% `listener' such as `<<"udp:default">>', `query' without secrets. Only in events: `restored' if the
%% device has just been restored from the store, and the `note' that {@link note/3} stored with it.

-type gone_info() :: #{endpoint := binary(), reason := gone_reason()}.

-type gone_reason() :: deregistered | expired | kicked | displaced | listener_closed | exported | lost.

-opaque authorization() :: reference().
%% Identifies a Register that waits. If no process holds it any more, the device is answered 5.03,
%% as it is after 15 seconds.

-type decision() ::
    allow
    | {allow, Mountpoint :: iodata()}
    | {deny, Reason :: iodata()}
    | unavailable.
%% `{allow, Mountpoint}' gives the device another mountpoint than the configured one: at most 1,024
%% bytes, without `+', `#' and NUL. A denied device is answered 4.03 with the first 512 bytes of the
%% reason; with `unavailable' it is answered 5.03.

-opaque psk() :: reference().
%% Identifies a handshake that waits. If no process holds it any more, the identity is treated as
%% unknown.

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
%% Properties of a message from the broker (MQTT 5). `expiry' is what is left of its
%% Message-Expiry-Interval, in seconds. Answers are also published to `response_topic', with
%% `correlation_data', if `response_topics' of the configuration allows it. They are published with
%% the owner's permissions: leave out a response topic to which the sender may not publish.

-opaque receipt() :: reference().
%% Identifies a command whose sender wants to know when it is safe.

-type receipt_message() ::
    {lwm2m_gateway_receipt, receipt(), ok | {error, refused | no_store | failed}}.
%% `ok': every effect of the command is in the store or answered. `refused': it was not accepted,
%% because it is not a command, there is no room, or the gateway is stopping; refused commands are
%% answered. `failed': the store cannot be written, and the command continues from memory. With
%% `store.sync' = `off', "in the store" means that the operating system has the data, not the disk.

%% @doc Starts a gateway. Raises `badarg' for an invalid option.
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

%% @doc Stops a gateway and waits up to five seconds. See {@link stop/2}.
-spec stop(gateway()) -> ok | {error, timeout}.
stop(Gateway) ->
    stop(Gateway, 5000).

%% @doc Stops a gateway: waiting commands are answered and the sockets are closed.
%% `{stopped, normal}' is the last event to the owner. Stopping it again is not an error. After
%% `{error, timeout}' the stop continues in the background.
-spec stop(gateway(), Milliseconds :: non_neg_integer()) -> ok | {error, timeout}.
stop(#lwm2m_gateway{handle = Handle}, Milliseconds) ->
    lwm2m_gateway_nif:stop(Handle, Milliseconds).

%% @doc Stops every gateway of this node, and waits for those whose owner or handle is gone. After
%% `ok' no thread of a gateway is running.
-spec stop_all(Milliseconds :: non_neg_integer()) -> ok | {error, timeout}.
stop_all(Milliseconds) ->
    lwm2m_gateway_nif:stop_all(Milliseconds).

%% @doc The id of this gateway in messages to its owner.
-spec id(gateway()) -> id().
id(#lwm2m_gateway{id = Id}) ->
    Id.

%% @doc Acknowledges a batch and all earlier ones. Takes less than a microsecond if nothing waits.
-spec ack(gateway(), batch()) -> ok.
ack(#lwm2m_gateway{handle = Handle}, Batch) ->
    lwm2m_gateway_nif:ack(Handle, Batch).

%% @equiv deliver(Gateway, Topic, Payload, #{})
-spec deliver(gateway(), Topic :: iodata(), Payload :: iodata()) -> ok | {error, stopped}.
deliver(Gateway, Topic, Payload) ->
    deliver(Gateway, Topic, Payload, #{}).

%% @doc Delivers a message from the broker that may be a command. Other messages are ignored. A
%% command that cannot be accepted is answered by an event.
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

%% @doc Delivers a command for one device, from an owner that subscribed for that device. If the
%% device is gone, the answer is published below the mountpoint.
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

%% @doc Like {@link deliver/4}; the caller also gets one {@link receipt_message()}.
-spec deliver_durably(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    {ok, receipt()} | {error, stopped}.
deliver_durably(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    deliver_with_receipt(Handle, undefined, message(Topic, Payload, Properties)).

%% @doc Like {@link deliver_to/6}; the caller also gets one {@link receipt_message()}.
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

%% @doc Stores a note with a device, up to 64 KiB. The event about the restored device contains it
%% after a restart. It is deleted with the registration. Returns `false' if there is no store or no
%% such device, or if the note is too long.
-spec note(gateway(), Endpoint :: iodata(), Note :: iodata()) -> boolean().
note(#lwm2m_gateway{handle = Handle}, Endpoint, Note) ->
    lwm2m_gateway_nif:note(Handle, binary(Endpoint), binary(Note)).

%% @doc Answers a command that the broker could deliver to no subscriber: 4.04 `not_registered' if the
%% device is not registered here either, 5.03 `not_subscribed' if it is. Other messages are ignored.
-spec refuse_absent(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    ok | {error, stopped}.
refuse_absent(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    lwm2m_gateway_nif:refuse_absent(
        Handle, binary(Topic), binary(Payload), properties(Properties)
    ).

%% @doc Answers a command for a device of another gateway that does not respond: 5.03
%% `node_unreachable'. The command may or may not be carried out. Other messages are ignored.
-spec refuse_unreachable(gateway(), Topic :: iodata(), Payload :: iodata(), properties()) ->
    ok | {error, stopped}.
refuse_unreachable(#lwm2m_gateway{handle = Handle}, Topic, Payload, Properties) ->
    lwm2m_gateway_nif:refuse_unreachable(
        Handle, binary(Topic), binary(Payload), properties(Properties)
    ).

%% @doc Whether a topic is a command topic.
-spec is_command(gateway(), Topic :: iodata()) -> boolean().
is_command(#lwm2m_gateway{handle = Handle}, Topic) ->
    lwm2m_gateway_nif:is_command(Handle, binary(Topic)).

%% @doc Answers an `authorize' event, from any process. Returns `{error, answered}' if it was answered
%% before. An answer after the device has given up has no effect.
-spec authorized(authorization(), decision()) -> ok | {error, answered}.
authorized(Authorization, allow) ->
    lwm2m_gateway_nif:authorized(Authorization, allow);
authorized(Authorization, {allow, Mountpoint}) ->
    lwm2m_gateway_nif:authorized(Authorization, {allow, binary(Mountpoint)});
authorized(Authorization, {deny, Reason}) ->
    lwm2m_gateway_nif:authorized(Authorization, {deny, binary(Reason)});
authorized(Authorization, unavailable) ->
    lwm2m_gateway_nif:authorized(Authorization, unavailable).

%% @doc Answers a `psk' event, from any process: with the key, 1 to 256 bytes, or `undefined' for an
%% unknown identity. Returns `{error, answered}' if it was answered before.
-spec psk_found(psk(), Key :: binary() | undefined) -> ok | {error, answered}.
psk_found(Psk, Key) ->
    lwm2m_gateway_nif:psk_found(Psk, Key).

%% @doc Applies a new configuration and reads the object definitions again. After an error the old
%% configuration stays in effect.
-spec reload(gateway(), config()) -> ok | {error, start_error() | stopped}.
reload(#lwm2m_gateway{handle = Handle}, Config) ->
    lwm2m_gateway_nif:reload(Handle, config(Config)).

%% @doc Checks a configuration without using it. Returns its warnings, or all its errors.
-spec check_config(config()) ->
    {ok, Warnings :: [config_error()]} | {error, {invalid_config, [config_error()]}}.
check_config(Config) ->
    lwm2m_gateway_nif:check_config(config(Config)).

%% @doc Counters and gauges. In addition to those of the gateway: `owner_batches' and `owner_events'
%% sent to the owner; `owner_unacknowledged' batches; `owner_queue' and `owner_queue_bytes' waiting
%% for an acknowledgement; `publish_dropped', `log_dropped' and `events_lost' because the queue was
%% full. Those of the owner remain after a stop.
-spec statistics(gateway()) -> #{atom() => non_neg_integer()}.
statistics(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:statistics(Handle).

%% @doc Name, such as `<<"udp:default">>', and bound address of each listener.
-spec listeners(gateway()) -> [{binary(), address()}].
listeners(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:listeners(Handle).

%% @doc Number of registered devices.
-spec registrations(gateway()) -> non_neg_integer().
registrations(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:registrations(Handle).

%% @doc All registered devices, in no particular order. Takes at most five seconds.
-spec devices(gateway()) -> [device_info()].
devices(#lwm2m_gateway{handle = Handle}) ->
    lwm2m_gateway_nif:devices(Handle).

%% @doc One registered device. Takes at most five seconds.
-spec device(gateway(), Endpoint :: iodata()) -> {ok, device_info()} | {error, not_found}.
device(#lwm2m_gateway{handle = Handle}, Endpoint) ->
    lwm2m_gateway_nif:device(Handle, binary(Endpoint)).

%% @doc Ends a registration. Returns `false' if there is none.
-spec kick(gateway(), Endpoint :: iodata()) -> boolean().
kick(#lwm2m_gateway{handle = Handle}, Endpoint) ->
    lwm2m_gateway_nif:kick(Handle, binary(Endpoint)).

%% @doc Ends a registration without a report, and returns what another gateway needs to continue with
%% the device: its observations and waiting commands. Takes at most five seconds.
-spec export(gateway(), Endpoint :: iodata()) -> {ok, Session :: binary()} | {error, not_found}.
export(#lwm2m_gateway{handle = Handle}, Endpoint) ->
    lwm2m_gateway_nif:export(Handle, binary(Endpoint)).

%% @doc Continues a session that {@link export/2} returned at another gateway, after the device has
%% registered here. Returns `false' if the device is not registered. Raises `badarg' for anything
%% that is not such a session.
-spec import(gateway(), Endpoint :: iodata(), Session :: binary()) -> boolean().
import(#lwm2m_gateway{handle = Handle}, Endpoint, Session) ->
    lwm2m_gateway_nif:import(Handle, binary(Endpoint), Session).

%% @doc Passes a `log' event to OTP's logger, with domain `[lwm2m_gateway]'.
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
