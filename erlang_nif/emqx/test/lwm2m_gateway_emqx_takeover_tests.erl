%% Whose the gateway is, whatever happens on the way.
-module(lwm2m_gateway_emqx_takeover_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [
    config/0, gateway/0, start/0, stop/0
]).

-define(APP, lwm2m_gateway).
-define(OWNER, lwm2m_gateway_emqx_owner).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        {timeout, 300, fun thousand_take_overs/0},
        {timeout, 20, fun no_gateway_at_all/0},
        {timeout, 20, fun names_that_are_not_given_back/0},
        {timeout, 20, fun library_left_behind/0}
    ]}.

%% The locker of the gateway before lingers, and everything that EMQX does on the way fails now and
%% then, once or for good, before it has done anything or afterwards.
thousand_take_overs() ->
    stand_in:reset(),
    stand_in:set(config, config()),
    stand_in:set(plugin_config, #{<<"shards">> => 1}),
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
    ?assertEqual({ok, [?APP]}, stand_in:start_plugin()),
    ?assertMatch([_ | _], lwm2m_gateway:listeners(gateway())),
    %% While the plugin runs, a module that is loaded again changes nothing.
    _ = code:purge(lwm2m_gateway_emqx_takeover),
    {module, _} = code:load_file(lwm2m_gateway_emqx_takeover),
    ?assertMatch([_ | _], lwm2m_gateway:listeners(gateway())),
    stop().
