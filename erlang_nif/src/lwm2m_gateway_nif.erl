%% @private The native library and nothing else: the module that is deleted and purged when the
%% application stops, because a NIF library cannot be loaded twice at a time.
-module(lwm2m_gateway_nif).

-export([
    start/3,
    stop/2,
    stop_all/1,
    ack/2,
    deliver/4,
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
    version/0
]).

-export_type([handle/0]).

-on_load(init/0).

-nifs([
    start/3,
    stop/2,
    stop_all/1,
    ack/2,
    deliver/4,
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
    version/0
]).

-define(NOT_LOADED, erlang:nif_error(not_loaded)).

-opaque handle() :: reference().

-type config() :: binary() | map().

-spec init() -> ok | {error, term()}.
init() ->
    case erlang:load_nif(filename:join(priv_dir(), "lwm2m_gateway_nif"), 0) of
        ok -> ok;
        {error, {Reason, Text}} -> {error, {Reason, Text ++ made_for()}}
    end.

%% What a package was made for, and what this is; erlang_nif/emqx/package.sh notes it.
made_for() ->
    case file:read_file(filename:join(priv_dir(), "made_for")) of
        {ok, MadeFor} ->
            ". The package was made for " ++ binary_to_list(MadeFor) ++ "; this node has OTP " ++
                erlang:system_info(otp_release);
        {error, _} ->
            ""
    end.

%% The library lies in `priv' beside this module's `ebin', also when another application carries
%% this module.
priv_dir() ->
    case code:priv_dir(lwm2m_gateway) of
        {error, bad_name} ->
            filename:join([filename:dirname(code:which(?MODULE)), "..", "priv"]);
        Dir ->
            Dir
    end.

-spec start(lwm2m_gateway:id(), config(), map()) ->
    {ok, handle()} | {error, lwm2m_gateway:start_error()}.
start(_Id, _Config, _Options) -> ?NOT_LOADED.

-spec stop(handle(), non_neg_integer()) -> ok | {error, timeout}.
stop(_Handle, _Milliseconds) -> ?NOT_LOADED.

-spec stop_all(non_neg_integer()) -> ok | {error, timeout}.
stop_all(_Milliseconds) -> ?NOT_LOADED.

-spec ack(handle(), lwm2m_gateway:batch()) -> ok.
ack(_Handle, _Batch) -> ?NOT_LOADED.

-type properties() :: {
    Expiry :: non_neg_integer() | undefined,
    ResponseTopic :: binary() | undefined,
    CorrelationData :: binary() | undefined
}.

-spec deliver(
    handle(),
    To :: undefined | {Endpoint :: binary(), Mountpoint :: binary()},
    {Topic :: binary(), Payload :: binary(), properties()},
    Receipt :: undefined | reference()
) -> ok | {error, stopped}.
deliver(_Handle, _To, _Message, _Receipt) -> ?NOT_LOADED.

-spec refuse_absent(handle(), binary(), binary(), properties()) -> ok | {error, stopped}.
refuse_absent(_Handle, _Topic, _Payload, _Properties) -> ?NOT_LOADED.

-spec refuse_unreachable(handle(), binary(), binary(), properties()) -> ok | {error, stopped}.
refuse_unreachable(_Handle, _Topic, _Payload, _Properties) -> ?NOT_LOADED.

-spec note(handle(), binary(), binary()) -> boolean().
note(_Handle, _Endpoint, _Note) -> ?NOT_LOADED.

-spec is_command(handle(), binary()) -> boolean().
is_command(_Handle, _Topic) -> ?NOT_LOADED.

-spec authorized(
    lwm2m_gateway:authorization(), allow | {allow, binary()} | {deny, binary()} | unavailable
) -> ok | {error, answered}.
authorized(_Authorization, _Decision) -> ?NOT_LOADED.

-spec psk_found(lwm2m_gateway:psk(), binary() | undefined) -> ok | {error, answered}.
psk_found(_Psk, _Key) -> ?NOT_LOADED.

-spec reload(handle(), config()) -> ok | {error, lwm2m_gateway:start_error() | stopped}.
reload(_Handle, _Config) -> ?NOT_LOADED.

-spec check_config(config()) ->
    {ok, [lwm2m_gateway:config_error()]}
    | {error, {invalid_config, [lwm2m_gateway:config_error()]}}.
check_config(_Config) -> ?NOT_LOADED.

-spec statistics(handle()) -> #{atom() => non_neg_integer()}.
statistics(_Handle) -> ?NOT_LOADED.

-spec listeners(handle()) -> [{binary(), lwm2m_gateway:address()}].
listeners(_Handle) -> ?NOT_LOADED.

-spec registrations(handle()) -> non_neg_integer().
registrations(_Handle) -> ?NOT_LOADED.

-spec devices(handle()) -> [lwm2m_gateway:device_info()].
devices(_Handle) -> ?NOT_LOADED.

-spec device(handle(), binary()) -> {ok, lwm2m_gateway:device_info()} | {error, not_found}.
device(_Handle, _Endpoint) -> ?NOT_LOADED.

-spec kick(handle(), binary()) -> boolean().
kick(_Handle, _Endpoint) -> ?NOT_LOADED.

-spec export(handle(), binary()) -> {ok, binary()} | {error, not_found}.
export(_Handle, _Endpoint) -> ?NOT_LOADED.

-spec import(handle(), binary(), binary()) -> boolean().
import(_Handle, _Endpoint, _Session) -> ?NOT_LOADED.

-spec version() -> binary().
version() -> ?NOT_LOADED.
