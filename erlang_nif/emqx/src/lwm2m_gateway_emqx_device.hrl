%% The state of the process of a device, for the modules that work on it.

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
    %% Until the registration stands: whether the store or another node had something of it.
    comes :: with_something | with_nothing | undefined,
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
    %% Of what the store has with the registration.
    noted :: term(),
    denied = false :: boolean(),
    stats_timer :: reference() | undefined,
    expire_timer :: reference() | undefined
}).

-type state() :: #state{}.
