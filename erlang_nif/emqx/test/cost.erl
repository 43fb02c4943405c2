%% What a registration costs on this side of EMQX, by hand:
%%
%%   erlang_nif/emqx/test/cost.sh LIBRARY SIMULATOR [DEVICES]
%%
%% The modules of EMQX answer at once and do nothing else, so that what is left is the plugin's and that of the
%% functions of the library it calls. The gateway's own threads do not count.
-module(cost).

-export([run/0, call/3]).

-define(OWNER, lwm2m_gateway_emqx_owner).
-define(CALLS, cost_calls).

run() ->
    [Devices, Port] = [list_to_integer(os:getenv(V)) || V <- ["DEVICES", "PORT"]],
    Calls = counters:new(1, []),
    ok = persistent_term:put(?CALLS, Calls),
    stand_in:load(stand_in:functions()),
    stand_in:reset(),
    Config = plugin:config(),
    Listener = #{bind => {{127, 0, 0, 1}, Port}, max_connections => 1000000},
    stand_in:set(config, Config#{listeners => #{udp => #{default => Listener}}}),
    ok = application:start(lwm2m_gateway),
    quick(),
    ok = begin_to_count(Calls),
    io:format("ready~n"),
    wait(fun() -> lwm2m_gateway:registrations(plugin:gateway()) >= Devices end),
    timer:sleep(2000),
    report("registration", Devices, Calls),
    ok = begin_to_count(Calls),
    %% All of them below another mountpoint.
    Last = self(),
    ok = persistent_term:put({?CALLS, moved}, {counters:new(1, []), Devices, Last}),
    quick(),
    Start = erlang:monotonic_time(microsecond),
    ok = plugin:update(Config#{
        mountpoint => <<"other/${endpoint_name}/">>, listeners => #{udp => #{default => Listener}}
    }),
    Taken = erlang:monotonic_time(microsecond) - Start,
    receive moved -> ok after 60000 -> io:format("not all have moved~n") end,
    Moved = erlang:monotonic_time(microsecond) - Start,
    timer:sleep(1000),
    report("new mountpoint", Devices, Calls),
    io:format("new mountpoint: taken after ~b ms, the last device of ~b subscribed after ~b ms~n", [
        Taken div 1000, Devices, Moved div 1000
    ]),
    Pids = [P || {_, P, _, _} <- ets:tab2list(lwm2m_gateway_emqx_devices)],
    Bytes = lists:sum([element(2, process_info(P, memory)) || P <- Pids]),
    io:format("memory of a process: ~b bytes~n", [Bytes div max(1, length(Pids))]),
    halt(0).

report(What, Devices, Calls) ->
    {Ran, Collections, Reductions} = spent(),
    io:format("~s: ~.1f calls into EMQX, ~.1f us of the schedulers, ~.1f garbage collections, ~b reductions~n", [
        What,
        counters:get(Calls, 1) / Devices,
        Ran / 1000 / Devices,
        Collections / Devices,
        Reductions div Devices
    ]).

begin_to_count(Calls) ->
    ok = counters:put(Calls, 1, 0),
    _ = put(before, counted()),
    ok.

spent() ->
    list_to_tuple(lists:zipwith(fun(A, B) -> A - B end, counted(), get(before))).

%% Nanoseconds that the threads which run Erlang have had a core, whatever else the machine does.
counted() ->
    Ran = [
        binary_to_integer(hd(binary:split(Times, <<" ">>)))
     || Task <- filelib:wildcard("/proc/self/task/*"),
        {ok, Name} <- [file:read_file(filename:join(Task, "comm"))],
        binary:match(Name, [<<"sched">>, <<"erts_dc">>, <<"erts_di">>]) =/= nomatch,
        {ok, Times} <- [file:read_file(filename:join(Task, "schedstat"))]
    ],
    {Collections, _, _} = erlang:statistics(garbage_collection),
    {Reductions, _} = erlang:statistics(exact_reductions),
    [lists:sum(Ran), Collections, Reductions].

%% EMQX's modules for a device, without anything in them.
quick() ->
    Modules = [
        emqx_gateway_ctx, emqx_gateway_cm, emqx_hooks, emqx_broker, emqx_message, emqx_mountpoint,
        emqx_gateway_utils, emqx_logger, esockd, esockd_access, emqx_router
    ],
    [load(M, E) || {M, E} <- stand_in:functions(), lists:member(M, Modules)].

load(Module, Exports) ->
    Forms = [
        {attribute, 1, module, Module},
        {attribute, 1, export, Exports}
        | [function(Module, F, A) || {F, A} <- Exports]
    ],
    {ok, Module, Beam} = compile:forms(Forms),
    _ = code:purge(Module),
    {module, Module} = code:load_binary(Module, "cost", Beam).

function(Module, Function, Arity) ->
    Variables = [{var, 1, list_to_atom("A" ++ integer_to_list(N))} || N <- lists:seq(1, Arity)],
    List = lists:foldr(fun(V, Tail) -> {cons, 1, V, Tail} end, {nil, 1}, Variables),
    Arguments = [{atom, 1, Module}, {atom, 1, Function}, List],
    Body = {call, 1, {remote, 1, {atom, 1, ?MODULE}, {atom, 1, call}}, Arguments},
    {function, 1, Function, Arity, [{clause, 1, Variables, [], [Body]}]}.

call(Module, Function, Arguments) ->
    counters:add(persistent_term:get(?CALLS), 1, 1),
    answer(Module, Function, Arguments).

answer(emqx_gateway_ctx, authenticate, [_, ClientInfo]) -> {ok, ClientInfo#{auth_expire_at => undefined}};
answer(emqx_gateway_ctx, authorize, _) -> allow;
answer(emqx_gateway_ctx, connection_expire_interval, _) -> undefined;
answer(emqx_gateway_ctx, open_session, [_, _, Info, ConnInfo, New, _]) -> {ok, #{session => New(Info, ConnInfo)}};
answer(emqx_gateway_ctx, _, _) -> ok;
answer(emqx_gateway_cm, lookup_channels, _) -> [];
answer(emqx_hooks, run_fold, [_, _, Acc]) -> Acc;
answer(emqx_broker, publish, _) -> [];
answer(emqx_broker, subscribe, [<<"other/", _/binary>>, _, _]) ->
    {Counter, Devices, Last} = persistent_term:get({?CALLS, moved}),
    ok = counters:add(Counter, 1, 1),
    _ = counters:get(Counter, 1) =:= Devices andalso (Last ! moved),
    ok;
answer(emqx_message, make, [From, QoS, Topic, Payload, Flags, Headers]) ->
    #{from => From, qos => QoS, topic => Topic, payload => Payload, flags => Flags, headers => Headers};
answer(emqx_mountpoint, mount, [Mountpoint, Topic]) -> <<Mountpoint/binary, Topic/binary>>;
answer(emqx_gateway_utils, default_subopts, []) -> #{rh => 1, rap => 0, nl => 0, qos => 0, is_new => true};
answer(esockd, format, _) -> "127.0.0.1:1";
answer(esockd_access, match, _) -> nomatch;
answer(Module, Function, Arguments) when Module =:= emqx_gateway_cm; Module =:= esockd ->
    stand_in:call(Module, Function, Arguments);
answer(_, _, _) -> ok.

wait(Condition) ->
    case Condition() of
        true -> ok;
        false -> timer:sleep(20), wait(Condition)
    end.
