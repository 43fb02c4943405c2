%% Commands for devices that nobody has, and what a node does that knows of another one that does not answer.
-module(lwm2m_gateway_emqx_nodes_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [config/0, gateway/0, hooks/0, registered/1, start/0, stop/0, wait/1]).

-define(NODES, lwm2m_gateway_emqx_nodes).
-define(OWNER, lwm2m_gateway_emqx_owner).
-define(OTHER, 'other@127.0.0.1').

all_test_() ->
    {setup,
        fun() ->
            stand_in:load(stand_in:functions()),
            _ = application:load(lwm2m_gateway),
            application:set_env(lwm2m_gateway, nodes_pause, 50)
        end,
        fun(_) -> application:unset_env(lwm2m_gateway, nodes_pause) end, [
            {timeout, 20, fun nobody_has_the_device/0},
            {timeout, 20, fun node_does_not_answer/0},
            {timeout, 20, fun what_was_sent_before_that_was_known/0},
            {timeout, 20, fun a_node_is_killed/0},
            {timeout, 20, fun what_is_sent_is_bounded/0},
            {timeout, 20, fun node_says_good_bye/0},
            {timeout, 20, fun nobody_waits_for_it/0},
            {timeout, 20, fun who_waits_is_freed/0},
            {timeout, 20, fun a_node_that_was_away/0},
            {timeout, 20, fun hooks_are_taken_back/0}
        ]}.

read(Id) ->
    iolist_to_binary(io_lib:format("{\"reqID\":~b,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}", [Id])).

answers(Id) ->
    Key = iolist_to_binary(["\"reqID\":", integer_to_list(Id), ","]),
    [{Topic, Payload} || #{topic := Topic, payload := Payload} <- stand_in:published(), binary:match(Payload, Key) =/= nomatch].

answered(Id, Topic, Reason) ->
    wait(fun() -> [] =/= answers(Id) end),
    [{At, Payload}] = answers(Id),
    ?assertEqual({Id, Topic}, {Id, At}),
    ?assertMatch({Payload, {_, _}}, {Payload, binary:match(Payload, Reason)}).

nobody_has_the_device() ->
    start(),
    {_, Device} = registered(<<"here">>),
    stand_in:publish(<<"lwm2m/nobody/dn/dm">>, read(1)),
    answered(1, <<"lwm2m/nobody/up/resp">>, <<"not_registered">>),
    %% EMQX did not let it subscribe, or has not yet; nobody gets round that, but it is said.
    true = ets:match_delete(stand_in, {{subscription, <<"lwm2m/here/dn/#">>, '_'}, '_', '_'}),
    stand_in:publish(<<"lwm2m/here/dn/dm">>, read(2)),
    answered(2, <<"lwm2m/here/up/resp">>, <<"\"reason\":\"not_subscribed\"">>),
    %% What is no command, what is stored, and what is empty.
    stand_in:publish(<<"some/topic">>, read(3)),
    Stored = stand_in:call(emqx_message, make, [<<"a">>, 0, <<"lwm2m/nobody/dn/dm">>, read(4), #{retain => true}, #{}]),
    ok = ?NODES:on_dropped(Stored, #{}, no_subscribers),
    stand_in:publish(<<"lwm2m/nobody/dn/dm">>, <<>>),
    Expired = stand_in:call(emqx_message, make, [<<"a">>, 0, <<"lwm2m/nobody/dn/dm">>, read(5), #{}, #{}]),
    ok = ?NODES:on_dropped(Expired, #{}, expired),
    stand_in:publish(<<"lwm2m/nobody/dn/dm">>, read(6)),
    wait(fun() -> [] =/= answers(6) end),
    ?assertEqual([[], [], []], [answers(Id) || Id <- [3, 4, 5]]),
    ?assertEqual(timeout, device:request(Device, 100)),
    device:close(Device),
    stop().

%% It was there once.
freeze() ->
    ?NODES ! {here, ?OTHER},
    _ = sys:get_state(?NODES),
    wait(fun() -> ?NODES:unreachable() =:= [?OTHER] end).

node_does_not_answer() ->
    start(),
    {_, Device} = registered(<<"here">>),
    stand_in:set({emqx_router, match_routes}, fun
        (<<"lwm2m/there/", _/binary>>) -> [{route, <<"lwm2m/there/dn/#">>, ?OTHER}, {route, <<"#">>, node()}];
        (<<"lwm2m/both/", _/binary>>) -> [{route, <<"lwm2m/both/dn/#">>, ?OTHER}, {route, <<"lwm2m/both/dn/#">>, node()}];
        (_) -> [{route, <<"lwm2m/here/dn/#">>, node()}]
    end),
    Somebody = spawn(fun() -> receive stop -> ok end end),
    true = ets:insert(stand_in, [{{subscription, <<"lwm2m/", E/binary, "/dn/#">>, Somebody}, <<"x">>, #{}} || E <- [<<"there">>, <<"both">>]]),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(1)),
    freeze(),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(2)),
    answered(2, <<"lwm2m/there/up/resp">>, <<"\"code\":\"5.03\"">>),
    answered(2, <<"lwm2m/there/up/resp">>, <<"\"reason\":\"node_unreachable\"">>),
    ?assertEqual([], answers(1)),
    stand_in:publish(<<"lwm2m/both/dn/dm">>, read(3)),
    stand_in:publish(<<"lwm2m/here/dn/dm">>, read(4)),
    ?assertMatch({{0, 1}, _, _, _}, device:request(Device)),
    %% It is there again.
    Back = spawn_link(fun Loop() -> ?NODES ! {here, ?OTHER}, timer:sleep(10), Loop() end),
    wait(fun() -> ?NODES:unreachable() =:= [] end),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(5)),
    _ = sys:get_state(?OWNER),
    ?assertEqual([[], [], []], [answers(Id) || Id <- [3, 4, 5]]),
    true = unlink(Back),
    true = exit(Back, kill),
    Somebody ! stop,
    device:close(Device),
    stop().

there() ->
    stand_in:set({emqx_router, match_routes}, fun
        (<<"lwm2m/there/", _/binary>>) -> [{route, <<"lwm2m/there/dn/#">>, ?OTHER}];
        (_) -> []
    end),
    Somebody = spawn(fun() -> receive stop -> ok end end),
    true = ets:insert(stand_in, {{subscription, <<"lwm2m/there/dn/#">>, Somebody}, <<"x">>, #{}}),
    ?NODES ! {here, ?OTHER},
    _ = sys:get_state(?NODES).

%% It took nothing any more when these came. What it had before is its own.
what_was_sent_before_that_was_known() ->
    start(),
    there(),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(1)),
    timer:sleep(2),
    ?NODES ! {here, ?OTHER},
    _ = sys:get_state(?NODES),
    timer:sleep(2),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(2)),
    stand_in:publish(<<"some/topic">>, read(3)),
    stand_in:publish(<<"lwm2m/nobody/dn/dm">>, read(4)),
    ?assertEqual(0, length(answers(2))),
    wait(fun() -> ?NODES:unreachable() =:= [?OTHER] end),
    answered(2, <<"lwm2m/there/up/resp">>, <<"\"reason\":\"node_unreachable\"">>),
    _ = sys:get_state(?NODES),
    ?assertEqual([[], []], [answers(Id) || Id <- [1, 3]]),
    ?assertEqual([{bytes, 0}], ets:tab2list(lwm2m_gateway_emqx_sent)),
    stop().

%% Then it is known at once.
a_node_is_killed() ->
    start(),
    application:set_env(lwm2m_gateway, nodes_pause, 60000),
    stop(),
    start(),
    there(),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(1)),
    ?NODES ! {nodedown, ?OTHER},
    _ = sys:get_state(?NODES),
    ?assertEqual([?OTHER], ?NODES:unreachable()),
    answered(1, <<"lwm2m/there/up/resp">>, <<"\"reason\":\"node_unreachable\"">>),
    stand_in:publish(<<"lwm2m/there/dn/dm">>, read(2)),
    answered(2, <<"lwm2m/there/up/resp">>, <<"\"reason\":\"node_unreachable\"">>),
    ?NODES ! {nodeup, ?OTHER},
    ?NODES ! {here, ?OTHER},
    ?NODES ! ask,
    _ = sys:get_state(?NODES),
    ?assertEqual([], ?NODES:unreachable()),
    application:set_env(lwm2m_gateway, nodes_pause, 50),
    stop().

what_is_sent_is_bounded() ->
    start(),
    there(),
    Large = stand_in:call(emqx_message, make, [<<"a">>, 0, <<"lwm2m/there/dn/dm">>, binary:copy(<<"x">>, 1_000_000), #{}, #{}]),
    _ = sys:suspend(?NODES),
    [lwm2m_gateway_emqx_sent:add([?OTHER], Large) || _ <- lists:seq(1, 20)],
    ?assertEqual(1 + 16, ets:info(lwm2m_gateway_emqx_sent, size)),
    ?assertEqual([{bytes, 16_000_000}], ets:lookup(lwm2m_gateway_emqx_sent, bytes)),
    _ = sys:resume(?NODES),
    stop().

%% An orderly stop is no reason to worry.
node_says_good_bye() ->
    start(),
    ?NODES ! {here, ?OTHER},
    _ = sys:get_state(?NODES),
    ?assert(ets:member(stand_in, {hook, 'message.publish'})),
    ?NODES ! {bye, ?OTHER},
    timer:sleep(500),
    ?assertEqual([], ?NODES:unreachable()),
    ?assertNot(ets:member(stand_in, {hook, 'message.publish'})),
    stop().

%% EMQX waits for the lock of the cluster; devices do not.
nobody_waits_for_it() ->
    start(),
    freeze(),
    stand_in:set({emqx_gateway_ctx, open_session}, fun(_, _, _, _, _, _) -> timer:sleep(infinity) end),
    {Location, Device} = registered(<<"ep1">>),
    wait(fun() -> [] =/= stand_in:clients() end),
    ?assertEqual(1, length([Name || Name <- hooks(), Name =:= 'session.created'])),
    ?assertEqual([<<"lwm2m/ep1/dn/#">>], [F || {F, _, _} <- stand_in:subscriptions()]),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    device:close(Device),
    stop().

%% One that has asked before that was known is not kept waiting either.
who_waits_is_freed() ->
    start(),
    Self = self(),
    %% As the function of EMQX that waits.
    {module, emqx_gateway_cm} = waiting(),
    stand_in:set({emqx_gateway_ctx, open_session}, fun(_, _, _, _, _, _) ->
        Self ! waits,
        emqx_gateway_cm:wait()
    end),
    Device = device:open(gateway()),
    Waiting = spawn_link(fun() -> Self ! {first, catch device:register(Device, <<"ep2">>)} end),
    receive waits -> ok after 5000 -> error(timeout) end,
    freeze(),
    %% It is told that the service is unavailable, and comes again.
    receive {first, Answer} -> ?assertMatch({{5, 3}, _}, Answer) after 5000 -> error(timeout) end,
    false = is_process_alive(Waiting),
    Again = device:open(gateway()),
    ?assertMatch({ok, _}, device:register(Again, <<"ep2">>)),
    device:close(Device),
    device:close(Again),
    stop(),
    stand_in:load(stand_in:functions()).

%% A module of that name with a function that never returns.
waiting() ->
    Forms = [
        {attribute, 1, module, emqx_gateway_cm},
        {attribute, 1, export, [{wait, 0}, {lookup_channels, 2}, {unregister_channel, 2}, {register_channel, 4}, {get_chan_info, 3}]},
        {function, 1, wait, 0, [{clause, 1, [], [], [
            {'receive', 1, [{clause, 1, [{atom, 1, never}], [], [{atom, 1, ok}]}]}
        ]}]}
    | [
        {function, 1, Name, Arity, [{clause, 1, Vars, [], [
            {call, 1, {remote, 1, {atom, 1, stand_in}, {atom, 1, call}}, [
                {atom, 1, emqx_gateway_cm}, {atom, 1, Name},
                lists:foldr(fun(V, L) -> {cons, 1, V, L} end, {nil, 1}, Vars)
            ]}
        ]}]}
     || {Name, Arity} <- [{lookup_channels, 2}, {unregister_channel, 2}, {register_channel, 4}, {get_chan_info, 3}],
        Vars <- [[{var, 1, list_to_atom("V" ++ integer_to_list(N))} || N <- lists:seq(1, Arity)]]
    ]],
    {ok, Module, Binary} = compile:forms(Forms),
    code:load_binary(Module, "waiting", Binary).

%% This one has slept: devices that have gone to another node meanwhile are that one's.
a_node_that_was_away() ->
    start(),
    {Location, Device} = registered(<<"ep3">>),
    {Kept, Other} = registered(<<"ep4">>),
    Self = self(),
    There = spawn(fun Loop() -> receive Message -> Self ! {there, Message}, Loop() end end),
    stand_in:set({emqx_gateway_cm, lookup_channels}, fun(_, ClientId) ->
        [There || ClientId =:= <<"ep3">>]
    end),
    stand_in:set({emqx_gateway_cm, get_chan_info}, #{conninfo => #{connected_at => erlang:system_time(millisecond) + 1000}}),
    true = erlang:suspend_process(whereis(?NODES)),
    timer:sleep(400),
    true = erlang:resume_process(whereis(?NODES)),
    ?assertMatch(<<_, _/binary>>, receive {there, {'$gen_cast', {handed_on, Session}}} -> Session after 5000 -> timeout end),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 1 end),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    ?assertEqual({2, 4}, device:update(Other, Kept)),
    device:close(Device),
    device:close(Other),
    stop().

hooks_are_taken_back() ->
    start(),
    freeze(),
    ?assert(ets:member(stand_in, {hook, 'message.publish'})),
    exit(whereis(?NODES), kill),
    wait(fun() -> is_pid(whereis(?NODES)) andalso ?NODES:unreachable() =:= [] end),
    wait(fun() -> ets:member(stand_in, {hook, 'message.dropped'}) end),
    ?assertNot(ets:member(stand_in, {hook, 'message.publish'})),
    stop(),
    ?assertNot(ets:member(stand_in, {hook, 'message.dropped'})).
