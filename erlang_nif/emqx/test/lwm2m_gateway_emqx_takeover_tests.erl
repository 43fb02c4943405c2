%% Whose the gateway is, whatever happens on the way.
-module(lwm2m_gateway_emqx_takeover_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [
    config/0, gateway/0, start/0, stop/0, wait/1
]).

-define(APP, lwm2m_gateway).
-define(OWNER, lwm2m_gateway_emqx_owner).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        {timeout, 300, fun thousand_take_overs/0},
        {timeout, 3600, fun many_at_once/0},
        {timeout, 20, fun no_gateway_at_all/0},
        {timeout, 20, fun names_that_are_not_given_back/0},
        {timeout, 20, fun library_left_behind/0}
    ]}.

%% The locker of the gateway before lingers, and everything that EMQX does on the way fails now and
%% then, once or for good, before it has done anything or afterwards.
thousand_take_overs() ->
    stand_in:reset(),
    stand_in:set(config, config()),
    stand_in:set(plugin_config, #{<<"shards">> => 1, <<"store_enable">> => false}),
    ok = application:set_env(?APP, takeover_pause, 1, [{persistent, true}]),
    lists:foreach(fun take_over_with_fault/1, lists:seq(1, 1000)),
    ok = application:unset_env(?APP, takeover_pause, [{persistent, true}]).

take_over_with_fault(N) ->
    Steps = [
        {emqx_conf, get},
        {emqx_gateway, unload},
        {emqx_gateway_registry, unreg},
        {emqx_gateway_registry, reg},
        {emqx_gateway, load}
    ],
    Step = nth(N, Steps),
    Kinds = [
        fun(_) -> error({badmatch, injected}) end,
        fun(_) -> exit({timeout, injected}) end,
        fun(_) -> throw(injected) end,
        fun(_) -> Step =:= {emqx_conf, get} andalso exit(injected), {error, injected} end,
        fun(Do) -> _ = Do(), exit({timeout, injected}) end
    ],
    Kind = nth(N div 10 + N div 100, Kinds),
    %% At the start in every other cycle, at the stop in the others.
    Times =
        case N rem 100 of
            For when For < 10 -> 1_000;
            _ -> N rem 4
        end,
    {AtStart, AtStop} = nth(N, [{Times, 0}, {0, Times}]),
    ok = stand_in:forget(),
    ok = stand_in:set(linger, N rem 3),
    ok = stand_in:fail(Step, AtStart, Kind),
    case AtStart > 4 of
        false -> started(N, start_plugin(N));
        true -> missing_and_mended(N, Step, fun() -> {error, _} = start_plugin(N) end)
    end,
    ok = stand_in:fail(Step, AtStop, Kind),
    case {AtStart > 4, AtStop > 4} of
        {true, _} -> ok;
        {_, false} -> ok = application:stop(?APP);
        {_, true} -> missing_and_mended(N, Step, fun() -> ok = application:stop(?APP) end)
    end,
    stopped(N, {emqx_gateway_lwm2m, true}),
    ?assertEqual({N, []}, {N, stand_in:alarms()}).

%% As EMQX does it takes longer.
start_plugin(N) when N rem 50 =:= 0 -> stand_in:start_plugin();
start_plugin(_) -> application:ensure_all_started(?APP).

started(N, Result) ->
    ?assertEqual({N, {ok, [?APP]}}, {N, Result}),
    ?assertEqual({N, {lwm2m_gateway_emqx, true}}, {N, stand_in:state()}),
    ?assertMatch({N, [_]}, {N, lwm2m_gateway:listeners(gateway())}),
    ?assertEqual({N, []}, {N, stand_in:alarms()}).

stopped(N, State) ->
    ?assertEqual({N, false}, {N, erlang:module_loaded(lwm2m_gateway_nif)}),
    ?assertEqual({N, undefined}, {N, whereis(?OWNER)}),
    ?assertEqual({N, State}, {N, stand_in:state()}).

%% Neither gateway is there, which an alarm tells; the next start makes it good.
missing_and_mended(N, Step, Fun) ->
    _ = Fun(),
    ?assertMatch({N, #{<<"lwm2m_gateway_missing">> := _}}, {N, maps:from_list(stand_in:alarms())}),
    stopped(N, stand_in:state()),
    ok = stand_in:heal(Step),
    started(N, start_plugin(N)),
    ok = application:stop(?APP).

nth(N, List) ->
    lists:nth(1 + N rem length(List), List).

%% Two starts at once, starts during a stop, an operator who ends the gateway and loads it again meanwhile,
%% the locker lingers, loads fail: when all have done, there is one gateway, ours if the plugin runs, or the
%% alarm. By hand, with so many `TAKEOVER_CYCLES' and a `TAKEOVER_SEED': it depends on how busy the machine is.
many_at_once() ->
    Cycles = list_to_integer(os:getenv("TAKEOVER_CYCLES", "0")),
    Seed = list_to_integer(os:getenv("TAKEOVER_SEED", "1")),
    _ = application:stop(?APP),
    stand_in:reset(),
    stand_in:set(config, config()),
    stand_in:set(plugin_config, #{<<"shards">> => 1, <<"store_enable">> => false}),
    ok = application:set_env(?APP, takeover_pause, 1, [{persistent, true}]),
    lists:foreach(
        fun(N) ->
            _ = rand:seed(exsss, {Seed, N, N}),
            at_once(N)
        end,
        lists:seq(1, Cycles)
    ),
    ok = application:unset_env(?APP, takeover_pause, [{persistent, true}]).

at_once(N) ->
    ok = stand_in:forget(),
    ok = stand_in:set(linger, any([0, 0, 1, 5, 20])),
    Operator = fun operator/0,
    Actors = [
        fun stand_in:start_plugin/0,
        fun stand_in:start_plugin/0,
        fun() -> application:ensure_all_started(?APP) end,
        fun() -> application:stop(?APP) end,
        fun() -> application:stop(?APP) end,
        Operator
    ],
    %% From a plugin that runs, or from one that does not.
    any([true, false]) andalso stand_in:start_plugin(),
    Fails = any([0, 0, 0, 1, 3, 100]),
    Kind = any([
        fun(_) -> error({badmatch, injected}) end,
        fun(_) -> exit({timeout, injected}) end,
        fun(_) -> {error, injected} end,
        fun(Do) -> _ = Do(), exit({timeout, injected}) end
    ]),
    ok = stand_in:fail({emqx_gateway, load}, Fails, Kind),
    Chosen = [any(Actors) || _ <- lists:seq(1, any([2, 3, 4]))],
    Pids = [acting(Actor, any([0, 0, 1, 5, 20, 60])) || Actor <- Chosen],
    lists:foreach(fun(Pid) -> ended(N, Pid) end, Pids),
    ok = stand_in:heal({emqx_gateway, load}),
    %% EMQX refuses a load while the locker of the gateway before lingers.
    settled(N, lists:member(Operator, Chosen)),
    %% And whatever that was, it can be made good.
    {ok, _} = stand_in:start_plugin(),
    started(N, {ok, [?APP]}),
    ok = application:stop(?APP),
    stopped(N, {emqx_gateway_lwm2m, true}),
    ?assertEqual({N, []}, {N, stand_in:alarms()}).

any(List) ->
    lists:nth(rand:uniform(length(List)), List).

acting(Actor, After) ->
    {Pid, _} = spawn_monitor(fun() -> timer:sleep(After), Actor() end),
    Pid.

%% Of two that load a module with an `on_load' at once, the code server of OTP 25 forgets to answer the second:
%% EMQX 5.8 would wait for ever, too.
ended(N, Pid) ->
    receive
        {'DOWN', _, process, Pid, _} -> ok
    after 10000 ->
        ?assertEqual({N, {current_function, {code_server, call, 1}}}, {N, process_info(Pid, current_function)}),
        true = exit(Pid, kill)
    end.

%% As one who disables the gateway and enables it again: EMQX may refuse either.
operator() ->
    _ = (catch stand_in:call(emqx_gateway, unload, [lwm2m])),
    timer:sleep(2),
    catch stand_in:call(emqx_gateway, load, [lwm2m, config()]).

settled(N, IsRefused) ->
    Runs = lists:keymember(?APP, 1, application:which_applications(infinity)),
    Alarms = [Name || {Name, _} <- stand_in:alarms()],
    {Module, Loaded} = stand_in:state(),
    ?assertEqual({N, Runs}, {N, Module =:= lwm2m_gateway_emqx}),
    %% A second start may load the library while the first one fails; that is no gateway, and does not hinder the
    %% next.
    ?assert(not Runs orelse erlang:module_loaded(lwm2m_gateway_nif)),
    ?assertEqual({N, Runs andalso Loaded}, {N, is_pid(whereis(?OWNER))}),
    %% What EMQX refused us is told; what it refused the operator, the operator does again.
    IsRight = Loaded orelse IsRefused orelse lists:member(<<"lwm2m_gateway_missing">>, Alarms),
    ?assertMatch({true, _, _, _, _}, {IsRight, N, Runs, stand_in:state(), stand_in:alarms()}),
    Runs andalso not Loaded andalso
        begin
            %% The supervisor of a load that failed stays, with its locker.
            wait(fun() -> is_pid(whereis(lwm2m)) orelse whereis(emqx_gateway_lwm2m_locker) =:= undefined end),
            stand_in:call(emqx_gateway, load, [lwm2m, config()])
        end.

no_gateway_at_all() ->
    stand_in:reset(),
    stand_in:set(config, config()),
    %% A start that fails early: the built-in gateway is not touched, unless it is missing.
    true = register(lwm2m_gateway_sup, self()),
    ?assertMatch({error, _}, application:start(?APP)),
    ?assertEqual([], stand_in:calls(emqx_gateway) -- [{lookup, [lwm2m]}]),
    ok = stand_in:call(emqx_gateway, unload, [lwm2m]),
    ?assertMatch({error, _}, application:start(?APP)),
    ?assertEqual({emqx_gateway_lwm2m, true}, stand_in:state()),
    ?assertMatch([{<<"lwm2m_gateway_config">>, _}], stand_in:alarms()),
    true = unregister(lwm2m_gateway_sup),
    ok = application:start(?APP),
    ?assertEqual([], stand_in:alarms()),
    %% What to do is in the alarm.
    ok = stand_in:fail({emqx_gateway, load}, 1_000, fun(_) -> {error, injected} end),
    stop(),
    [{_, _, Message}] = ets:lookup(stand_in, {alarm, <<"lwm2m_gateway_missing">>}),
    ?assertNotEqual(nomatch, binary:match(Message, <<"emqx ctl plugins start lwm2m_gateway-">>)),
    ok = stand_in:heal({emqx_gateway, load}),
    ok = application:start(?APP),
    stop().

%% A process that does not end by itself is ended.
names_that_are_not_given_back() ->
    stand_in:reset(),
    stand_in:set(config, config()),
    stand_in:set(linger, infinity),
    ok = stand_in:call(emqx_gateway, unload, [lwm2m]),
    {ok, _} = stand_in:call(emqx_gateway, load, [lwm2m, config()]),
    stand_in:set(linger, 0),
    Locker = whereis(emqx_gateway_lwm2m_locker),
    ok = application:start(?APP),
    ?assertEqual(false, is_process_alive(Locker)),
    ?assertEqual({lwm2m_gateway_emqx, true}, stand_in:state()),
    stop().

%% As an earlier version left it when its stop failed: EMQX could not load the module again.
library_left_behind() ->
    start(),
    stop(),
    {module, _} = code:load_file(lwm2m_gateway_nif),
    ?assertEqual({error, on_load_failure}, code:load_file(lwm2m_gateway_nif)),
    %% A start that is under way loses nothing to the modules that are loaded for another one.
    Load = fun() ->
        _ = code:purge(lwm2m_gateway_emqx_takeover),
        {module, _} = code:load_file(lwm2m_gateway_emqx_takeover),
        erlang:module_loaded(lwm2m_gateway_nif)
    end,
    ok = lwm2m_gateway_emqx_takeover:begin_change(),
    ?assert(Load()),
    ok = lwm2m_gateway_emqx_takeover:end_change(),
    ?assertNot(Load()),
    {module, _} = code:load_file(lwm2m_gateway_nif),
    ?assertEqual({ok, [?APP]}, stand_in:start_plugin()),
    ?assertMatch([_ | _], lwm2m_gateway:listeners(gateway())),
    %% While the plugin runs, a module that is loaded again changes nothing.
    _ = code:purge(lwm2m_gateway_emqx_takeover),
    {module, _} = code:load_file(lwm2m_gateway_emqx_takeover),
    ?assertMatch([_ | _], lwm2m_gateway:listeners(gateway())),
    stop().
