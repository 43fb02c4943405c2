%% Who observes a device is told when nobody has the observation any more.
-module(lwm2m_gateway_emqx_observed_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [config/0, crash/0, free_port/0, gateway/0, registered/1, start/2, stop/0, update/1, wait/1]).

-define(APP, lwm2m_gateway).
-define(OBSERVED, lwm2m_gateway_emqx_observed).
-define(NO_STORE, #{<<"store_enable">> => false}).
-define(OTHER, 'other@127.0.0.1').

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        {timeout, 20, fun a_crash_without_a_store/0},
        {timeout, 20, fun a_crash_with_a_store/0},
        {timeout, 20, fun of_another_node/0},
        {timeout, 20, fun brought_by_another_node/0},
        {timeout, 20, fun what_has_ended_is_not_lost/0},
        {timeout, 20, fun nodes_tell_each_other/0},
        {timeout, 20, fun a_reset_ends_it/0},
        {timeout, 20, fun by_the_older_topics/0},
        {timeout, 20, fun what_the_gateway_asks_for_itself/0},
        {timeout, 20, fun the_rest_is_counted/0},
        {timeout, 20, fun nodes_tell_each_other_of_the_rest/0},
        {timeout, 20, fun it_is_bounded/0}
    ]}.

at_port() ->
    (config())#{listeners => #{udp => #{default => #{bind => {{127, 0, 0, 1}, free_port()}, max_connections => 1000}}}}.

command(Endpoint, Id, Type, Path) ->
    Json = io_lib:format("{\"reqID\":~s,\"msgType\":\"~s\",\"data\":{\"path\":\"~s\"}}", [Id, Type, Path]),
    stand_in:publish(<<"lwm2m/", Endpoint/binary, "/dn/dm">>, iolist_to_binary(Json)).

observe(Device, Endpoint, Id, Path) ->
    command(Endpoint, Id, "observe", Path),
    {{0, 1}, _, _, _} = Request = device:request(Device),
    device:reply(Device, Request, <<"50">>, [{6, <<>>}]),
    wait(fun() -> lists:keymember(iolist_to_binary(Path), 1, known(Endpoint)) end).

known(Endpoint) ->
    case ets:lookup(?OBSERVED, Endpoint) of
        [{_, _, {Observations, _}}] -> [{Path, ReqId} || {Path, ReqId, _, _} <- Observations];
        [] -> []
    end.

%% Notifications about what is lost.
lost() ->
    [
        {Topic, stand_in_json:decode(Payload)}
     || #{topic := Topic, payload := Payload} <- stand_in:published(),
        binary:match(Payload, <<"observation_lost">>) =/= nomatch
    ].

again(Device, Endpoint) ->
    device:close(Device),
    {_, Other} = registered(Endpoint),
    wait(fun() -> [] =/= [C || C <- [stand_in:client(Endpoint)], is_pid(C)] end),
    _ = sys:get_state(stand_in:client(Endpoint)),
    Other.

a_crash_without_a_store() ->
    start(at_port(), ?NO_STORE),
    {_, Device} = registered(<<"a">>),
    observe(Device, <<"a">>, "7", "/3/0/9"),
    observe(Device, <<"a">>, "\"x\"", "/3/0/7"),
    crash(),
    Again = again(Device, <<"a">>),
    wait(fun() -> length(lost()) =:= 2 end),
    ?assertMatch(
        [
            {<<"lwm2m/a/up/notify">>, #{
                <<"reqID">> := 7,
                <<"msgType">> := <<"notify">>,
                <<"data">> := #{<<"code">> := <<"4.04">>, <<"reqPath">> := <<"/3/0/9">>}
            }},
            {<<"lwm2m/a/up/notify">>, #{
                <<"reqID">> := <<"x">>, <<"data">> := #{<<"reqPath">> := <<"/3/0/7">>}
            }}
        ],
        lists:sort(fun({_, #{<<"reqID">> := A}}, {_, #{<<"reqID">> := B}}) -> A =< B end, lost())
    ),
    %% Once.
    crash(),
    Third = again(Again, <<"a">>),
    ?assertEqual(2, length(lost())),
    device:close(Third),
    stop().

a_crash_with_a_store() ->
    start(at_port(), #{}),
    {_, Device} = registered(<<"b">>),
    observe(Device, <<"b">>, "1", "/3/0/9"),
    %% A batch of the store.
    timer:sleep(300),
    crash(),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 1 end),
    {ok, _} = device:register(Device, <<"b">>, [<<"lwm2m=1.1">>]),
    _ = sys:get_state(stand_in:client(<<"b">>)),
    ?assertEqual([], lost()),
    ?assertMatch([{<<"/3/0/9">>, 1}], known(<<"b">>)),
    device:close(Device),
    stop().

of_another_node() ->
    start(at_port(), #{}),
    ?OBSERVED ! {has, ?OTHER, <<"c">>, {[{[<<"/3/0/9">>, <<"/3303/0">>], 4, today, json}], []}},
    {_, Device} = registered(<<"c">>),
    wait(fun() -> [] =/= lost() end),
    ?assertMatch(
        [{<<"lwm2m/c/up/notify">>, #{<<"reqID">> := 4, <<"data">> := #{<<"reqPaths">> := [<<"/3/0/9">>, <<"/3303/0">>]}}}],
        lost()
    ),
    ?assertEqual([], known(<<"c">>)),
    device:close(Device),
    stop().

%% That one hands over what it has.
brought_by_another_node() ->
    start(at_port(), #{}),
    Taken = #{taken => #{endpoint => <<"d">>, session => <<"{}">>, subscriptions => #{}, results => results()}},
    ?OBSERVED ! {has, ?OTHER, <<"d">>, {[{<<"/3/0/9">>, 4, today, json}], []}},
    stand_in:set({emqx_gateway_ctx, open_session}, fun(_, _, #{clientid := ClientId}, _, _, _) ->
        ok = stand_in:set({channel, ClientId}, self()),
        {ok, #{session => Taken, present => true}}
    end),
    {_, Device} = registered(<<"d">>),
    wait(fun() -> ets:lookup(?OBSERVED, <<"d">>) =:= [{<<"d">>, node(), {[{<<"/3/0/9">>, 4, today, json}], []}}] end),
    ?assertEqual([], lost()),
    device:close(Device),
    stop().

results() ->
    lwm2m_gateway_emqx_results:to_map(lwm2m_gateway_emqx_results:new()).

what_has_ended_is_not_lost() ->
    start(at_port(), ?NO_STORE),
    {Location, Device} = registered(<<"e">>),
    observe(Device, <<"e">>, "1", "/3/0/9"),
    observe(Device, <<"e">>, "2", "/3/0/7"),
    %% By command, by the device, with the registration.
    command(<<"e">>, "3", "cancel-observe", "/3/0/9"),
    Cancel = device:request(Device),
    device:reply(Device, Cancel, <<"50">>),
    wait(fun() -> known(<<"e">>) =:= [{<<"/3/0/7">>, 2}] end),
    ok = ?OBSERVED:notified(<<"e">>, <<"{\"reqID\":2,\"msgType\":\"notify\",\"data\":{\"code\":\"4.05\",\"reqPath\":\"/3/0/7\"}}">>, today),
    wait(fun() -> known(<<"e">>) =:= [] end),
    observe(Device, <<"e">>, "4", "/3/0/9"),
    {2, 2} = device:delete(Device, Location),
    wait(fun() -> known(<<"e">>) =:= [] end),
    Again = again(Device, <<"e">>),
    observe(Again, <<"e">>, "5", "/3/0/9"),
    true = lwm2m_gateway:kick(gateway(), <<"e">>),
    wait(fun() -> known(<<"e">>) =:= [] end),
    Third = again(Again, <<"e">>),
    ?assertEqual([], lost()),
    device:close(Third),
    stop().

nodes_tell_each_other() ->
    start(at_port(), #{}),
    {_, Device} = registered(<<"f">>),
    observe(Device, <<"f">>, "1", "/3/0/9"),
    ?OBSERVED ! {hello, self()},
    ?assertEqual([{<<"f">>, node(), {[{<<"/3/0/9">>, 1, today, json}], []}}], receive {rows, Rows} -> Rows after 5000 -> timeout end),
    %% What is here counts; what is not is learnt.
    ?OBSERVED ! {rows, [{<<"f">>, ?OTHER, {[], []}}, {<<"g">>, ?OTHER, {[{<<"/1/0/1">>, 2, today, json}], []}}]},
    _ = sys:get_state(?OBSERVED),
    ?assertMatch([{<<"/3/0/9">>, 1}], known(<<"f">>)),
    ?assertMatch([{<<"/1/0/1">>, 2}], known(<<"g">>)),
    %% One that has moved there is not forgotten with what ends here.
    ?OBSERVED:forget(<<"g">>),
    _ = sys:get_state(?OBSERVED),
    ?assertMatch([_], known(<<"g">>)),
    ?OBSERVED ! {has, ?OTHER, <<"g">>, {[], []}},
    _ = sys:get_state(?OBSERVED),
    ?assertEqual([], known(<<"g">>)),
    device:close(Device),
    stop().

%% A device that does not know an observation answers its notification's acknowledgement, or the question
%% whether it still stands, with a Reset; the application is told then, and not once more.
a_reset_ends_it() ->
    start(at_port(), ?NO_STORE),
    {_, Device} = registered(<<"i">>),
    observe(Device, <<"i">>, "1", "/3/0/9"),
    observe(Device, <<"i">>, "2", "/3/0/7"),
    observe(Device, <<"i">>, "2", "/3/0/6"),
    Reset = fun(Id, Data) ->
        Payload = ["{\"reqID\":", Id, ",\"msgType\":\"coap_reset\",\"data\":", Data, "}"],
        ok = ?OBSERVED:answered(<<"i">>, iolist_to_binary(Payload), today),
        _ = sys:get_state(?OBSERVED),
        lists:sort(known(<<"i">>))
    end,
    %% Of a command that is no observation, though its path is observed; of one that nobody can tell.
    Three = [{<<"/3/0/6">>, 2}, {<<"/3/0/7">>, 2}, {<<"/3/0/9">>, 1}],
    ?assertEqual(Three, Reset("9", "{\"path\":\"/3/0/9\"}")),
    ?assertEqual(Three, Reset("2", "null")),
    ?assertEqual([{<<"/3/0/6">>, 2}, {<<"/3/0/9">>, 1}], Reset("2", "{\"path\":\"/3/0/7\"}")),
    ?assertEqual([{<<"/3/0/6">>, 2}], Reset("1", "null")),
    %% By the device itself: the answer to observing again.
    command(<<"i">>, "2", "observe", "/3/0/6"),
    ok = device:reset(Device, device:request(Device)),
    wait(fun() -> known(<<"i">>) =:= [] end),
    crash(),
    Again = again(Device, <<"i">>),
    ?assertEqual([], lost()),
    device:close(Again),
    stop().

older(Endpoint, Id, Name, Path) ->
    Json = io_lib:format("{\"CmdID\":~s,\"Command\":\"~s\",\"BaseName\":\"~s\"}", [Id, Name, Path]),
    stand_in:publish(<<"lwm2m/", Endpoint/binary, "/command">>, iolist_to_binary(Json)).

%% In both forms, where their answers went.
by_the_older_topics() ->
    start(at_port(), ?NO_STORE#{<<"legacy_enable">> => true}),
    {_, Device} = registered(<<"j">>),
    Observe = fun(Ask) ->
        Ask(),
        Request = device:request(Device),
        device:reply(Device, Request, <<"50">>, [{6, <<>>}])
    end,
    Known = fun(Paths) -> wait(fun() -> lists:sort([P || {P, _} <- known(<<"j">>)]) =:= Paths end) end,
    Observe(fun() -> older(<<"j">>, "1", "Observe", "/3/0/9") end),
    Observe(fun() -> older(<<"j">>, "2", "observe", "/3/0/7") end),
    Observe(fun() -> older(<<"j">>, "3", "Observe", "/3/0/6") end),
    Observe(fun() ->
        stand_in:publish(<<"lwm2m/j/command">>, <<"{\"reqID\":4,\"msgType\":\"observe\",\"data\":{\"path\":\"/3/0/13\"}}">>)
    end),
    Observe(fun() -> command(<<"j">>, "5", "observe", "/1/0/1") end),
    Known([<<"/1/0/1">>, <<"/3/0/13">>, <<"/3/0/6">>, <<"/3/0/7">>, <<"/3/0/9">>]),
    %% Ended by command, and by an error of the device.
    older(<<"j">>, "6", "Cancel-Observe", "/3/0/6"),
    Cancel = device:request(Device),
    device:reply(Device, Cancel, <<"50">>),
    Known([<<"/1/0/1">>, <<"/3/0/13">>, <<"/3/0/7">>, <<"/3/0/9">>]),
    ok = ?OBSERVED:notified(<<"j">>, <<"{\"CmdID\":2,\"Command\":\"observe\",\"Error\":\"Not Found\"}">>, older),
    Known([<<"/1/0/1">>, <<"/3/0/13">>, <<"/3/0/9">>]),
    crash(),
    Again = again(Device, <<"j">>),
    wait(fun() -> length(lost()) =:= 3 end),
    ?assertMatch(
        [
            {<<"lwm2m/j/response">>, #{<<"reqID">> := 4, <<"data">> := #{<<"reqPath">> := <<"/3/0/13">>}}},
            {<<"lwm2m/j/response">>, #{<<"CmdID">> := 1, <<"Command">> := <<"Observe">>, <<"Error">> := <<"Not Found">>}},
            {<<"lwm2m/j/up/notify">>, #{<<"reqID">> := 5, <<"data">> := #{<<"reqPath">> := <<"/1/0/1">>}}}
        ],
        lists:sort(lost())
    ),
    device:close(Again),
    stop().

%% It asks for these again.
what_the_gateway_asks_for_itself() ->
    start(at_port(), ?NO_STORE),
    Auto = <<"{\"is_auto_observe\":true,\"msgType\":\"observe\",\"data\":{\"code\":\"2.05\",\"reqPath\":\"/3/0/9\"}}">>,
    ok = ?OBSERVED:answered(<<"k">>, Auto, today),
    Nameless = <<"{\"msgType\":\"observe\",\"data\":{\"code\":\"2.05\",\"reqPath\":\"/3/0/7\"}}">>,
    ok = ?OBSERVED:answered(<<"k">>, Nameless, today),
    _ = sys:get_state(?OBSERVED),
    ?assertEqual([{<<"/3/0/7">>, undefined}], known(<<"k">>)),
    [{today, Text}] = ?OBSERVED:messages(?OBSERVED:lost(<<"k">>)),
    ?assertNot(is_map_key(<<"reqID">>, stand_in_json:decode(Text))),
    stop().

observed(Endpoint, Type, N, Pair) ->
    Payload = io_lib:format("{\"reqID\":~b,\"msgType\":\"~s\",\"data\":{\"code\":\"2.05\",\"reqPath\":\"/3/~b\"}}", [N, Type, N]),
    ok = ?OBSERVED:answered(Endpoint, iolist_to_binary(Payload), Pair).

%% Each of the first, and one message that says how many there are besides.
the_rest_is_counted() ->
    start(at_port(), ?NO_STORE),
    lists:foreach(fun(N) -> observed(<<"l">>, "observe", N, today) end, lists:seq(1, 100)),
    lists:foreach(fun(N) -> observed(<<"l">>, "observe", N, older) end, lists:seq(101, 103)),
    %% Again, and what has ended of the first and of the others.
    lists:foreach(fun(N) -> observed(<<"l">>, "observe", N, today) end, [5, 70, 100]),
    lists:foreach(fun(N) -> observed(<<"l">>, "cancel-observe", N, today) end, [70, 71, 500]),
    Reset = <<"{\"reqID\":72,\"msgType\":\"coap_reset\",\"data\":{\"path\":\"/3/72\"}}">>,
    ok = ?OBSERVED:answered(<<"l">>, Reset, today),
    {_, Device} = registered(<<"l">>),
    wait(fun() -> length(lost()) =:= 64 end),
    Rest = [
        {Topic, Data}
     || #{topic := Topic, payload := Payload} <- stand_in:published(),
        binary:match(Payload, <<"observations_lost">>) =/= nomatch,
        #{<<"msgType">> := <<"notify">>, <<"data">> := Data} <- [stand_in_json:decode(Payload)]
    ],
    ?assertMatch([{<<"lwm2m/l/up/notify">>, #{<<"code">> := <<"4.04">>, <<"count">> := 33}}, {_, #{<<"count">> := 3}}], Rest),
    ?assertEqual([], ets:lookup(?OBSERVED, <<"l">>)),
    device:close(Device),
    stop().

%% Only the change when it is long.
nodes_tell_each_other_of_the_rest() ->
    start(at_port(), ?NO_STORE),
    lists:foreach(fun(N) -> observed(<<"m">>, "observe", N, today) end, lists:seq(1, 70)),
    _ = sys:get_state(?OBSERVED),
    [{_, Node, {First, Rest} = Known}] = ets:lookup(?OBSERVED, <<"m">>),
    ?assertEqual({64, 6, node()}, {length(First), length(Rest), Node}),
    ?OBSERVED ! {has, ?OTHER, <<"m">>, Known},
    ?OBSERVED ! {changed, ?OTHER, <<"m">>, {set, {<<"/3/71">>, 71, today, json}}},
    ?OBSERVED ! {changed, ?OTHER, <<"m">>, {ended, <<"/3/1">>, any, today}},
    _ = sys:get_state(?OBSERVED),
    [{_, ?OTHER, {Others, More}}] = ets:lookup(?OBSERVED, <<"m">>),
    ?assertEqual({63, 7}, {length(Others), length(More)}),
    stop().

it_is_bounded() ->
    start(at_port(), #{}),
    lists:foreach(fun(N) -> observed(<<"h">>, "observe", N, today) end, lists:seq(1, 1200)),
    _ = sys:get_state(?OBSERVED),
    [{_, _, {First, Rest}}] = ets:lookup(?OBSERVED, <<"h">>),
    ?assertEqual({64, 1024}, {length(First), length(Rest)}),
    stop().
