-module(lwm2m_gateway_tests).

-include_lib("eunit/include/eunit.hrl").

all_test_() ->
    {setup, fun start_application/0, fun stop_application/1, [
        fun config_errors_are_told/0,
        fun config_as_text_or_map/0,
        fun options_are_checked/0,
        fun calls_check_their_arguments/0,
        fun busy_address/0,
        fun register_command_answer/0,
        fun notifications_come_in_order/0,
        fun authorization_is_asked/0,
        fun late_answers_and_other_devices/0,
        fun forgotten_question_is_unavailable/0,
        fun mountpoint_of_the_owner/0,
        {timeout, 20, fun keys_of_the_owner/0},
        fun subscriptions_per_device/0,
        fun device_events/0,
        fun kick/0,
        {timeout, 20, fun a_command_is_safe/0},
        fun receipts_without_store/0,
        {timeout, 20, fun note_comes_back/0},
        fun statistics/0,
        fun two_gateways/0,
        fun another_process_as_owner/0,
        fun death_of_the_owner/0,
        fun death_of_the_owner_before_the_start/0,
        fun forgotten_handle/0,
        fun stop_is_the_end/0,
        {timeout, 20, fun credit_and_drops/0},
        fun control_events_are_not_dropped/0,
        fun acknowledging_an_older_batch_changes_nothing/0,
        fun reload/0,
        fun reload_of_listeners/0,
        fun log_levels/0,
        {timeout, 20, fun schedulers_stay_free/0},
        {timeout, 60, fun many_gateways/0},
        {timeout, 60, fun application_restarts/0},
        {timeout, 60, fun purged_during_a_start/0}
    ]}.

start_application() ->
    {ok, Started} = application:ensure_all_started(lwm2m_gateway),
    logger:set_primary_config(level, error),
    Started.

stop_application(_) ->
    application:stop(lwm2m_gateway).

%% Helpers

config() ->
    #{
        listeners => #{udp => #{default => #{bind => <<"127.0.0.1:0">>}}},
        shards => 2,
        lifetime_min => "1s"
    }.

start() ->
    start(#{}).

start(Options) ->
    {ok, Gateway} = lwm2m_gateway:start(maps:merge(#{config => config()}, Options)),
    Gateway.

stop(Gateway) ->
    ok = lwm2m_gateway:stop(Gateway),
    flush().

flush() ->
    receive
        _ -> flush()
    after 0 -> ok
    end.

%% The next event of a gateway that matches; those before it are forgotten. Batches are
%% acknowledged.
-define(next(Gateway, Pattern),
    next(
        Gateway,
        fun
            (Pattern) -> true;
            (_) -> false
        end,
        ??Pattern
    )
).

next(Gateway, Matches, Wanted) ->
    Rest =
        case get({events, Gateway}) of
            undefined -> [];
            Events -> Events
        end,
    next(Gateway, Matches, Wanted, Rest).

next(Gateway, Matches, Wanted, []) ->
    next(Gateway, Matches, Wanted, batch(Gateway, Wanted));
next(Gateway, Matches, Wanted, [Event | Events]) ->
    case Matches(Event) of
        true ->
            put({events, Gateway}, Events),
            Event;
        false ->
            next(Gateway, Matches, Wanted, Events)
    end.

batch(Gateway, Wanted) ->
    Id = lwm2m_gateway:id(Gateway),
    receive
        {lwm2m_gateway, Id, Batch, Events} ->
            ok = lwm2m_gateway:ack(Gateway, Batch),
            Events
    after 20_000 -> error({nothing_came, Wanted})
    end.

command(Path, Id) ->
    io_lib:format("{\"reqID\":\"~w\",\"msgType\":\"read\",\"data\":{\"path\":\"~s\"}}", [Id, Path]).

eventually(Check) ->
    eventually(Check, 200).

eventually(Check, 0) ->
    error({never, Check});
eventually(Check, Tries) ->
    case Check() of
        true ->
            ok;
        false ->
            timer:sleep(25),
            eventually(Check, Tries - 1)
    end.

contains(Binary, Part) ->
    binary:match(Binary, Part) =/= nomatch.

%% What a gateway that runs does: it answers a CoAP ping with a Reset.
listens(Port) ->
    {ok, Socket} = gen_udp:open(0, [binary, {active, false}]),
    ok = gen_udp:connect(Socket, {127, 0, 0, 1}, Port),
    Listens = answers(Socket, 20),
    gen_udp:close(Socket),
    Listens.

%% A ping that waits in a socket while it is closed is lost.
answers(Socket, Tries) when Tries > 0 ->
    Ping = gen_udp:send(Socket, <<16#40, 0, 16#12, 16#34>>),
    case Ping =:= ok andalso gen_udp:recv(Socket, 0, 1000) of
        {ok, {_, _, <<16#70, 0, 16#12, 16#34>>}} -> true;
        {error, econnrefused} -> false;
        {error, timeout} -> answers(Socket, Tries - 1);
        false when Ping =:= {error, econnrefused} -> false
    end.

port(Gateway) ->
    [{_, {_, Port}}] = lwm2m_gateway:listeners(Gateway),
    Port.

%% Tests

config_errors_are_told() ->
    {error, {invalid_config, Errors}} = lwm2m_gateway:start(#{
        config => #{foo => 1, qmode_time_window => <<"soon">>}
    }),
    ?assertMatch([{<<"foo">>, _}, {<<"qmode_time_window">>, _}], lists:sort(Errors)),
    ?assertEqual(
        {error, {invalid_config, Errors}},
        lwm2m_gateway:check_config("foo = 1\nqmode_time_window = \"soon\"")
    ),
    ?assertMatch({error, {invalid_config, [{<<>>, _}]}}, lwm2m_gateway:check_config("{")),
    ?assertMatch({error, {invalid_config, [{<<>>, _}]}}, lwm2m_gateway:check_config(<<255>>)),
    ?assertMatch({ok, [{<<"enable_stats">>, _}]}, lwm2m_gateway:check_config(#{enable_stats => true})).

config_as_text_or_map() ->
    Texts = [
        "[listeners.udp.one]\nbind = \"127.0.0.1:0\"",
        <<"{\"listeners\": {\"udp\": {\"one\": {\"bind\": \"127.0.0.1:0\"}}}}">>,
        #{listeners => #{udp => #{one => #{bind => "127.0.0.1:0"}}}},
        #{<<"listeners">> => #{<<"udp">> => #{<<"one">> => #{<<"bind">> => <<"127.0.0.1:0">>}}}}
    ],
    lists:foreach(
        fun(Config) ->
            Gateway = start(#{config => Config}),
            ?assertMatch([{<<"udp:one">>, {{127, 0, 0, 1}, _}}], lwm2m_gateway:listeners(Gateway)),
            stop(Gateway)
        end,
        Texts
    ).

options_are_checked() ->
    Wrong = [
        no_map,
        #{unknown => 1},
        #{credit => 0},
        #{max_queue => -1},
        #{owner => nobody},
        #{subscriptions => some},
        #{authorize => yes},
        #{log => loud},
        #{config => 17},
        #{config => #{listeners => self()}},
        #{config => lists:foldl(fun(_, Inner) -> #{a => Inner} end, #{}, lists:seq(1, 1000))}
    ],
    [?assertError(badarg, lwm2m_gateway:start(Options)) || Options <- Wrong].

calls_check_their_arguments() ->
    Gateway = start(),
    ?assertError(badarg, lwm2m_gateway:ack(Gateway, 1000)),
    ?assertError(badarg, lwm2m_gateway:ack(Gateway, -1)),
    ?assertError(badarg, lwm2m_gateway:deliver(Gateway, <<255>>, <<>>)),
    ?assertError(badarg, lwm2m_gateway:deliver(Gateway, <<"t">>, <<>>, #{expiry => -1})),
    ?assertError(badarg, lwm2m_gateway:authorized(make_ref(), allow)),
    ?assertError(badarg, lwm2m_gateway:psk_found(make_ref(), undefined)),
    ?assertError(badarg, lwm2m_gateway_nif:statistics(make_ref())),
    ?assertError(function_clause, lwm2m_gateway:statistics(make_ref())),
    ?assertEqual(ok, lwm2m_gateway:deliver(Gateway, <<"no/command">>, <<"x">>)),
    ?assert(lwm2m_gateway:is_command(Gateway, "lwm2m/a/dn/cmd")),
    ?assertNot(lwm2m_gateway:is_command(Gateway, "lwm2m/a/up/resp")),
    {ok, Version} = application:get_key(lwm2m_gateway, vsn),
    ?assertEqual(list_to_binary(Version), lwm2m_gateway:version()),
    stop(Gateway).

busy_address() ->
    Gateway = start(),
    Bind = io_lib:format("127.0.0.1:~w", [port(Gateway)]),
    Config = #{listeners => #{udp => #{default => #{bind => iolist_to_binary(Bind)}}}},
    ?assertMatch({error, {bind, _}}, lwm2m_gateway:start(#{config => Config})),
    ?assertMatch({error, {models, _}}, lwm2m_gateway:start(#{config => #{xml_dir => "/absent"}})),
    stop(Gateway).

register_command_answer() ->
    Gateway = start(),
    ?assertMatch({subscribe, <<"lwm2m/+/dn/#">>, 0}, ?next(Gateway, {subscribe, _, _})),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"sensor">>),
    {publish, register, <<"sensor">>, <<"lwm2m/sensor/up/resp">>, Report, 0} =
        ?next(Gateway, {publish, _, _, _, _, _}),
    ?assert(contains(Report, <<"\"msgType\":\"register\"">>)),
    ?assertEqual(1, lwm2m_gateway:registrations(Gateway)),
    ok = lwm2m_gateway:deliver(Gateway, "lwm2m/sensor/dn/cmd", command("/3/0/0", 5), #{expiry => 60}),
    Request = device:request(Device),
    ?assertMatch({{0, 1}, [<<"3">>, <<"0">>, <<"0">>], _, _}, Request),
    device:reply(Device, Request, <<"ACME">>),
    {publish, response, <<"sensor">>, <<"lwm2m/sensor/up/resp">>, Answer, 0} =
        ?next(Gateway, {publish, response, _, _, _, _}),
    [?assert(contains(Answer, Part)) || Part <- [<<"\"reqID\":\"5\"">>, <<"ACME">>]],
    %% With a response topic there is a second one (B14), but none on a topic of commands.
    Reply = #{response_topic => "answers/7", correlation_data => <<0, 7>>},
    ok = lwm2m_gateway:deliver(Gateway, "lwm2m/sensor/dn/cmd", command("/3/0/0", 7), Reply),
    device:reply(Device, device:request(Device), <<"ACME">>),
    {publish, response, <<"sensor">>, <<"lwm2m/sensor/up/resp">>, Again, 0} =
        ?next(Gateway, {publish, response, _, _, _, _}),
    ?assertEqual(
        {publish, response, <<"sensor">>, <<"answers/7">>, Again, 0, #{correlation_data => <<0, 7>>}},
        ?next(Gateway, {publish, response, _, _, _, _, _})
    ),
    Refused = #{response_topic => <<"lwm2m/sensor/dn/cmd">>},
    ok = lwm2m_gateway:deliver(Gateway, "lwm2m/sensor/dn/cmd", command("/3/0/0", 8), Refused),
    device:reply(Device, device:request(Device), <<"ACME">>),
    _ = ?next(Gateway, {publish, response, <<"sensor">>, <<"lwm2m/sensor/up/resp">>, _, 0}),
    ?assertMatch(#{replies_refused := 1}, lwm2m_gateway:statistics(Gateway)),
    %% A device nobody knows is answered for.
    ok = lwm2m_gateway:deliver(Gateway, "lwm2m/other/dn/cmd", command("/3/0/0", 6)),
    {publish, response, <<"other">>, _, Refusal, _} =
        ?next(Gateway, {publish, response, <<"other">>, _, _, _}),
    ?assert(contains(Refusal, <<"4.04">>)),
    device:close(Device),
    stop(Gateway).

notifications_come_in_order() ->
    Gateway = start(),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"sensor">>),
    Observe = "{\"reqID\":1,\"msgType\":\"observe\",\"data\":{\"path\":\"/3/0/13\"}}",
    ok = lwm2m_gateway:deliver(Gateway, "lwm2m/sensor/dn/cmd", Observe),
    {_, _, _, Token} = Request = device:request(Device),
    device:reply(Device, Request, <<"0">>, [{6, <<0:24>>}]),
    _ = ?next(Gateway, {publish, response, _, _, _, _}),
    Count = 500,
    Values = [integer_to_binary(N) || N <- lists:seq(1, Count)],
    %% A device does not send faster than the answers come.
    lists:foreach(
        fun(Value) ->
            device:notify(Device, Token, binary_to_integer(Value), Value),
            {publish, notify, _, _, Payload, _} = ?next(Gateway, {publish, notify, _, _, _, _}),
            ?assert(contains(Payload, <<"\"value\":", Value/binary>>))
        end,
        Values
    ),
    device:close(Device),
    stop(Gateway).

authorization_is_asked() ->
    Gateway = start(#{authorize => true}),
    Device = device:open(Gateway),
    Self = self(),
    Register = fun(Query) ->
        spawn_link(fun() -> Self ! {registered, device:register(Device, <<"a">>, Query)} end)
    end,
    Outcome = fun() ->
        receive
            {registered, Result} -> Result
        after 5000 -> error(no_answer)
        end
    end,
    Register([<<"password=secret">>]),
    {authorize, Ref, Request} = ?next(Gateway, {authorize, _, _}),
    ?assertMatch(
        #{
            endpoint := <<"a">>,
            peer := {{127, 0, 0, 1}, _},
            listener := <<"udp:default">>,
            mountpoint := <<"lwm2m/a/">>,
            lifetime := 300,
            query := [{<<"ep">>, <<"a">>}, {<<"lt">>, <<"300">>}, {<<"password">>, <<"secret">>}]
        },
        Request
    ),
    ?assertEqual(0, lwm2m_gateway:registrations(Gateway)),
    ok = lwm2m_gateway:authorized(Ref, {deny, <<"not you">>}),
    ?assertEqual({error, answered}, lwm2m_gateway:authorized(Ref, allow)),
    ?assertEqual({{4, 3}, <<"not you">>}, Outcome()),
    Register([]),
    {authorize, Ref2, _} = ?next(Gateway, {authorize, _, _}),
    ?assertError(badarg, lwm2m_gateway:psk_found(Ref2, undefined)),
    ?assertError(function_clause, lwm2m_gateway:authorized(Ref2, perhaps)),
    ok = lwm2m_gateway:authorized(Ref2, unavailable),
    ?assertMatch({{5, 3}, _}, Outcome()),
    Register([]),
    {authorize, Ref3, _} = ?next(Gateway, {authorize, _, _}),
    ok = lwm2m_gateway:authorized(Ref3, allow),
    ?assertMatch({ok, [<<"rd">>, _]}, Outcome()),
    ?assertMatch({publish, register, <<"a">>, _, _, _}, ?next(Gateway, {publish, _, _, _, _, _})),
    device:close(Device),
    stop(Gateway).

late_answers_and_other_devices() ->
    Gateway = start(#{authorize => true}),
    Self = self(),
    Devices = [{N, device:open(Gateway)} || N <- [<<"one">>, <<"two">>]],
    [
        spawn_link(fun() -> Self ! {Name, device:register(Device, Name)} end)
     || {Name, Device} <- Devices
    ],
    Refs = [
        {Name, Ref}
     || {authorize, Ref, #{endpoint := Name}} <- [
            ?next(Gateway, {authorize, _, _}),
            ?next(Gateway, {authorize, _, _})
        ]
    ],
    {_, Ref1} = lists:keyfind(<<"one">>, 1, Refs),
    {_, Ref2} = lists:keyfind(<<"two">>, 1, Refs),
    %% The second is answered while the first waits.
    ok = lwm2m_gateway:authorized(Ref2, allow),
    receive
        {<<"two">>, Two} -> ?assertMatch({ok, _}, Two)
    after 5000 -> error(two_is_stalled)
    end,
    timer:sleep(500),
    spawn_link(fun() -> ok = lwm2m_gateway:authorized(Ref1, allow) end),
    receive
        {<<"one">>, One} -> ?assertMatch({ok, _}, One)
    after 5000 -> error(one_is_forgotten)
    end,
    [device:close(Device) || {_, Device} <- Devices],
    stop(Gateway).

forgotten_question_is_unavailable() ->
    %% The owner takes the question and forgets it, in a process that ends.
    Self = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        Gateway = start(#{authorize => true}),
        Self ! {gateway, Gateway},
        Forget = fun Loop() ->
            receive
                {lwm2m_gateway, _, Batch, _} ->
                    ok = lwm2m_gateway:ack(Gateway, Batch),
                    true = garbage_collect(),
                    Loop();
                stop ->
                    ok = lwm2m_gateway:stop(Gateway)
            end
        end,
        Forget()
    end),
    receive
        {gateway, Gateway} ->
            Device = device:open(Gateway),
            ?assertMatch({{5, 3}, _}, device:register(Device, <<"a">>)),
            device:close(Device)
    end,
    Owner ! stop,
    receive
        {'DOWN', Monitor, process, Owner, Reason} -> ?assertEqual(normal, Reason)
    end.

mountpoint_of_the_owner() ->
    Gateway = start(#{authorize => true}),
    Device = device:open(Gateway),
    Self = self(),
    spawn_link(fun() -> Self ! {registered, device:register(Device, <<"a">>)} end),
    {authorize, Ref, _} = ?next(Gateway, {authorize, _, _}),
    [
        ?assertError(badarg, lwm2m_gateway:authorized(Ref, {allow, NoTopic}))
     || NoTopic <- [<<"tenant/+/">>, <<"a#">>, <<0>>, binary:copy(<<"x">>, 1025)]
    ],
    ok = lwm2m_gateway:authorized(Ref, {allow, <<"tenant/7/">>}),
    ?assertMatch(
        {publish, register, <<"a">>, <<"tenant/7/up/resp">>, _, _},
        ?next(Gateway, {publish, _, _, _, _, _})
    ),
    {ok, Info} = lwm2m_gateway:device(Gateway, <<"a">>),
    ?assertMatch(#{mountpoint := <<"tenant/7/">>}, Info),
    receive
        {registered, Registered} -> ?assertMatch({ok, _}, Registered)
    end,
    device:close(Device),
    stop(Gateway).

keys_of_the_owner() ->
    {ok, _} = application:ensure_all_started(ssl),
    Config = #{listeners => #{dtls => #{default => #{bind => "127.0.0.1:0"}}}},
    Gateway = start(#{psk => true, device_events => true, config => Config}),
    Key = <<"sixteen bytes ok">>,
    Self = self(),
    Connect = fun() ->
        spawn_link(fun() ->
            Result = device:open_dtls(Gateway, "sensor", Key),
            Self ! {connected, Result},
            case Result of
                {ok, Device} -> Self ! {registered, device:register(Device, <<"a">>)};
                {error, _} -> ok
            end,
            receive
                stop -> ok
            end
        end)
    end,
    _ = Connect(),
    {psk, Ref, Request} = ?next(Gateway, {psk, _, _}),
    ?assertMatch(
        #{identity := <<"sensor">>, listener := <<"dtls:default">>, peer := {{127, 0, 0, 1}, _}},
        Request
    ),
    ?assertError(badarg, lwm2m_gateway:psk_found(Ref, <<>>)),
    ?assertError(badarg, lwm2m_gateway:psk_found(Ref, binary:copy(<<"x">>, 257))),
    ?assertError(badarg, lwm2m_gateway:authorized(Ref, allow)),
    ok = lwm2m_gateway:psk_found(Ref, undefined),
    ?assertEqual({error, answered}, lwm2m_gateway:psk_found(Ref, Key)),
    receive
        {connected, Refused} -> ?assertMatch({error, _}, Refused)
    end,
    Sensor = Connect(),
    {psk, Ref2, _} = ?next(Gateway, {psk, _, _}),
    ok = lwm2m_gateway:psk_found(Ref2, Key),
    receive
        {registered, Registered} -> ?assertMatch({ok, [<<"rd">>, _]}, Registered)
    end,
    {device, registered, Info} = ?next(Gateway, {device, registered, _}),
    ?assertMatch(
        #{endpoint := <<"a">>, identity := <<"sensor">>, listener := <<"dtls:default">>}, Info
    ),
    Sensor ! stop,
    stop(Gateway).

subscriptions_per_device() ->
    Gateway = start(#{subscriptions => per_device}),
    Device = device:open(Gateway),
    {ok, Location} = device:register(Device, <<"a">>),
    {subscribe, <<"a">>, Mountpoint, Filter, 0} = ?next(Gateway, {subscribe, _, _, _, _}),
    ?assertEqual({<<"lwm2m/a/">>, <<"lwm2m/a/dn/#">>}, {Mountpoint, Filter}),
    ok = lwm2m_gateway:deliver_to(Gateway, <<"a">>, Mountpoint, <<"lwm2m/a/dn/x">>, command("/3/0/0", 1)),
    Request = device:request(Device),
    device:reply(Device, Request, <<"ACME">>),
    {publish, response, <<"a">>, _, Answer, _} = ?next(Gateway, {publish, response, _, _, _, _}),
    ?assert(contains(Answer, <<"ACME">>)),
    ?assert(lwm2m_gateway:kick(Gateway, <<"a">>)),
    ?assertEqual({unsubscribe, <<"a">>, Filter}, ?next(Gateway, {unsubscribe, _, _})),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    ok = lwm2m_gateway:deliver_to(
        Gateway, <<"a">>, Mountpoint, <<"lwm2m/a/dn/x">>, command("/3/0/0", 2), #{expiry => 5}
    ),
    {publish, response, <<"a">>, <<"lwm2m/a/up/resp">>, Gone, _} =
        ?next(Gateway, {publish, response, _, _, _, _}),
    ?assert(contains(Gone, <<"4.04">>)),
    device:close(Device),
    stop(Gateway).

device_events() ->
    Gateway = start(#{device_events => true}),
    Device = device:open(Gateway),
    {ok, Location} = device:register(Device, <<"a">>, [<<"b=UQ">>, <<"lwm2m=1.1">>]),
    {device, registered, Info} = ?next(Gateway, {device, registered, _}),
    ?assertMatch(
        #{
            endpoint := <<"a">>,
            peer := {{127, 0, 0, 1}, _},
            listener := <<"udp:default">>,
            mountpoint := <<"lwm2m/a/">>,
            lifetime := 300,
            version := <<"1.1">>,
            alternate_path := <<"/">>,
            objects := [<<"/1/0">>, <<"/3/0">>],
            observations := 0,
            queued := 0
        },
        Info
    ),
    ?assert(abs(maps:get(registered_at, Info) - erlang:system_time(millisecond)) < 10000),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    ?assertMatch({device, updated, #{endpoint := <<"a">>}}, ?next(Gateway, {device, updated, _})),
    ?assertMatch([#{endpoint := <<"a">>}], lwm2m_gateway:devices(Gateway)),
    ?assertMatch({ok, #{endpoint := <<"a">>}}, lwm2m_gateway:device(Gateway, "a")),
    ?assertEqual({error, not_found}, lwm2m_gateway:device(Gateway, "b")),
    ?assertEqual({error, not_found}, lwm2m_gateway:device(Gateway, <<255>>)),
    ?assert(lwm2m_gateway:kick(Gateway, "a")),
    ?assertEqual(
        {device, gone, #{endpoint => <<"a">>, reason => kicked}}, ?next(Gateway, {device, gone, _})
    ),
    device:close(Device),
    stop(Gateway).

kick() ->
    Gateway = start(),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    ?assertNot(lwm2m_gateway:kick(Gateway, <<"b">>)),
    ?assertNot(lwm2m_gateway:kick(Gateway, <<255>>)),
    ?assert(lwm2m_gateway:kick(Gateway, <<"a">>)),
    eventually(fun() -> lwm2m_gateway:registrations(Gateway) =:= 0 end),
    device:close(Device),
    stop(Gateway).

statistics() ->
    Gateway = start(),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    _ = ?next(Gateway, {publish, register, _, _, _, _}),
    #{registered := 1, registrations := 1, published := 1, datagrams_received := 1} =
        Running = lwm2m_gateway:statistics(Gateway),
    ?assertMatch(#{owner_events := 2, owner_batches := 2, owner_unacknowledged := 0}, Running),
    ?assertMatch(#{owner_queue := 0, owner_queue_bytes := 0, publish_dropped := 0}, Running),
    device:close(Device),
    stop(Gateway),
    ?assertMatch(#{registered := 1, owner_events := 3}, lwm2m_gateway:statistics(Gateway)).

two_gateways() ->
    One = start(),
    Two = start(#{config => maps:merge(config(), #{mountpoint => "two/${endpoint_name}/"})}),
    ?assertNotEqual(lwm2m_gateway:id(One), lwm2m_gateway:id(Two)),
    Device1 = device:open(One),
    Device2 = device:open(Two),
    {ok, _} = device:register(Device1, <<"a">>),
    {ok, _} = device:register(Device2, <<"a">>),
    ?assertMatch(
        {publish, register, <<"a">>, <<"lwm2m/a/up/resp">>, _, _},
        ?next(One, {publish, _, _, _, _, _})
    ),
    ?assertMatch(
        {publish, register, <<"a">>, <<"two/a/up/resp">>, _, _},
        ?next(Two, {publish, _, _, _, _, _})
    ),
    ok = lwm2m_gateway:stop(One),
    ?assertEqual(1, lwm2m_gateway:registrations(Two)),
    ?assertEqual({2, 1}, element(1, device:post(
        Device2, [<<"rd">>], [<<"ep=b">>, <<"lt=60">>], <<"</1/0>">>
    ))),
    device:close(Device1),
    device:close(Device2),
    stop(Two).

another_process_as_owner() ->
    Self = self(),
    Owner = spawn_link(fun Loop() ->
        receive
            {lwm2m_gateway, _, _, _} = Message -> Self ! {from_owner, Message}, Loop();
            stop -> ok
        end
    end),
    Gateway = start(#{owner => Owner}),
    Id = lwm2m_gateway:id(Gateway),
    receive
        {from_owner, {lwm2m_gateway, Id, 1, [{subscribe, _, _}]}} -> ok
    after 5000 -> error(no_event)
    end,
    ok = lwm2m_gateway:stop(Gateway),
    Owner ! stop.

death_of_the_owner() ->
    Owner = spawn(fun() -> receive stop -> ok end end),
    Gateway = start(#{owner => Owner}),
    Port = port(Gateway),
    ?assert(listens(Port)),
    Owner ! stop,
    eventually(fun() -> not listens(Port) end),
    ?assertEqual({error, stopped}, lwm2m_gateway:deliver(Gateway, <<"t">>, <<>>)),
    ?assertEqual({error, stopped}, lwm2m_gateway:reload(Gateway, config())),
    ?assertEqual(ok, lwm2m_gateway:stop(Gateway)).

death_of_the_owner_before_the_start() ->
    {Owner, Monitor} = spawn_monitor(fun() -> ok end),
    receive
        {'DOWN', Monitor, process, Owner, _} -> ok
    end,
    ?assertEqual({error, owner_dead}, lwm2m_gateway:start(#{owner => Owner, config => config()})),
    ?assertEqual(ok, lwm2m_gateway:stop_all(5000)).

forgotten_handle() ->
    Self = self(),
    %% The owner lives on, the handle goes with the process that started the gateway.
    {Pid, Monitor} = spawn_monitor(fun() -> Self ! {port, port(start(#{owner => Self}))} end),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok
    end,
    receive
        {port, Port} -> eventually(fun() -> not listens(Port) end)
    end,
    flush().

stop_is_the_end() ->
    Gateway = start(),
    Port = port(Gateway),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    ok = lwm2m_gateway:deliver(Gateway, <<"lwm2m/a/dn/cmd">>, command("/3/0/0", 1)),
    _ = device:request(Device),
    ok = lwm2m_gateway:stop(Gateway),
    %% What waited is answered, then nothing comes.
    ?assertMatch({publish, response, _, _, _, _}, ?next(Gateway, {publish, response, _, _, _, _})),
    ?assertEqual({stopped, normal}, ?next(Gateway, {stopped, _})),
    ?assertEqual([], get({events, Gateway})),
    ?assertNot(listens(Port)),
    ?assertEqual(ok, lwm2m_gateway:stop(Gateway)),
    ?assertEqual({error, stopped}, lwm2m_gateway:deliver(Gateway, <<"lwm2m/a/dn/cmd">>, <<"{}">>)),
    ?assertEqual([], lwm2m_gateway:devices(Gateway)),
    ?assertEqual([], lwm2m_gateway:listeners(Gateway)),
    ?assertEqual(0, lwm2m_gateway:registrations(Gateway)),
    ?assertNot(lwm2m_gateway:kick(Gateway, <<"a">>)),
    receive
        Unexpected -> error({unexpected, Unexpected})
    after 200 -> ok
    end,
    device:close(Device).

credit_and_drops() ->
    Gateway = start(#{credit => 2, max_queue => 10}),
    Id = lwm2m_gateway:id(Gateway),
    Device = device:open(Gateway),
    {ok, Location} = device:register(Device, <<"a">>),
    %% The subscription and the first report have used the credit up. Each Register publishes.
    [{ok, _} = device:register(Device, <<"a">>) || _ <- lists:seq(1, 30)],
    ?assert(is_list(Location)),
    eventually(fun() -> map_get(publish_dropped, lwm2m_gateway:statistics(Gateway)) =:= 20 end),
    Full = lwm2m_gateway:statistics(Gateway),
    ?assertMatch(#{owner_unacknowledged := 2, owner_queue := 10, published := 31}, Full),
    ?assert(map_get(owner_queue_bytes, Full) > 10),
    {messages, Messages} = process_info(self(), messages),
    ?assertEqual([1, 2], [Batch || {lwm2m_gateway, It, Batch, _} <- Messages, It =:= Id]),
    %% One acknowledgement, one batch with all that waited.
    ok = lwm2m_gateway:ack(Gateway, 1),
    receive
        {lwm2m_gateway, Id, 3, Events} -> ?assertEqual(10, length(Events))
    after 1000 -> error(no_batch)
    end,
    ?assertMatch(
        #{owner_queue := 0, owner_queue_bytes := 0, owner_unacknowledged := 2},
        lwm2m_gateway:statistics(Gateway)
    ),
    device:close(Device),
    stop(Gateway).

control_events_are_not_dropped() ->
    Gateway = start(#{
        credit => 1, max_queue => 1, device_events => true, subscriptions => per_device
    }),
    Device = device:open(Gateway),
    Count = 300,
    Name = fun(N) -> <<"device-", (integer_to_binary(N))/binary>> end,
    [{ok, _} = device:register(Device, Name(N)) || N <- lists:seq(1, Count)],
    Statistics = lwm2m_gateway:statistics(Gateway),
    ?assertMatch(#{events_lost := 0}, Statistics),
    ?assert(map_get(publish_dropped, Statistics) > 0),
    Come = [
        begin
            {subscribe, Endpoint, _, _, _} = ?next(Gateway, {subscribe, _, _, _, _}),
            Endpoint
        end
     || _ <- lists:seq(1, Count)
    ],
    ?assertEqual([Name(N) || N <- lists:seq(1, Count)], Come),
    device:close(Device),
    stop(Gateway).

acknowledging_an_older_batch_changes_nothing() ->
    Gateway = start(#{credit => 4}),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    {ok, _} = device:register(Device, <<"a">>),
    eventually(fun() ->
        map_get(owner_unacknowledged, lwm2m_gateway:statistics(Gateway)) =:= 3
    end),
    Unacknowledged = fun(Batch) ->
        ok = lwm2m_gateway:ack(Gateway, Batch),
        map_get(owner_unacknowledged, lwm2m_gateway:statistics(Gateway))
    end,
    ?assertEqual([1, 1, 1, 0, 0], [Unacknowledged(Batch) || Batch <- [2, 2, 1, 3, 2]]),
    device:close(Device),
    stop(Gateway).

reload() ->
    Gateway = start(),
    ?assertMatch({subscribe, <<"lwm2m/+/dn/#">>, _}, ?next(Gateway, {subscribe, _, _})),
    Port = port(Gateway),
    New = (config())#{mountpoint => "new/${endpoint_name}/"},
    ?assertMatch({error, {invalid_config, _}}, lwm2m_gateway:reload(Gateway, New#{foo => 1})),
    ?assertEqual(ok, lwm2m_gateway:reload(Gateway, New)),
    ?assertEqual({unsubscribe, <<"lwm2m/+/dn/#">>}, ?next(Gateway, {unsubscribe, _})),
    ?assertMatch({subscribe, <<"new/+/dn/#">>, _}, ?next(Gateway, {subscribe, _, _})),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    ?assertMatch(
        {publish, register, _, <<"new/a/up/resp">>, _, _}, ?next(Gateway, {publish, _, _, _, _, _})
    ),
    ?assertEqual(Port, port(Gateway)),
    device:close(Device),
    stop(Gateway).

reload_of_listeners() ->
    Gateway = start(#{device_events => true}),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    Old = port(Gateway),
    Listeners = #{udp => #{other => #{bind => "127.0.0.1:0"}}},
    ok = lwm2m_gateway:reload(Gateway, (config())#{listeners => Listeners}),
    ?assertMatch([{<<"udp:other">>, _}], lwm2m_gateway:listeners(Gateway)),
    ?assertEqual(
        {device, gone, #{endpoint => <<"a">>, reason => listener_closed}},
        ?next(Gateway, {device, gone, _})
    ),
    %% Another thread may close its socket a little later.
    eventually(fun() -> not listens(Old) end),
    ?assert(listens(port(Gateway))),
    Another = start(),
    Taken = iolist_to_binary(io_lib:format("127.0.0.1:~w", [port(Another)])),
    Busy = #{udp => #{other => #{bind => Taken}}},
    ?assertMatch({error, {bind, _}}, lwm2m_gateway:reload(Gateway, (config())#{listeners => Busy})),
    ?assert(listens(port(Gateway))),
    device:close(Device),
    stop(Another),
    stop(Gateway).

log_levels() ->
    Quiet = start(#{log => error}),
    Loud = start(#{log => debug}),
    [ok = lwm2m_gateway:reload(Gateway, config()) || Gateway <- [Quiet, Loud]],
    {log, info, Target, Text} = Event = ?next(Loud, {log, info, _, _}),
    ?assert(contains(Target, <<"lwm2m_gateway">>)),
    ?assert(byte_size(Text) > 0),
    ?assertEqual(ok, lwm2m_gateway:log(Event)),
    ?assertMatch({subscribe, _, _}, ?next(Quiet, {subscribe, _, _})),
    QuietId = lwm2m_gateway:id(Quiet),
    receive
        {lwm2m_gateway, QuietId, _, Events} -> error({not_quiet, Events})
    after 100 -> ok
    end,
    stop(Quiet),
    stop(Loud).

%% While a gateway stops, which takes half a second, its caller keeps no ordinary scheduler: the VM
%% would tell of a process that ran for so long.
schedulers_stay_free() ->
    Gateway = start(),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    %% A command under way keeps a gateway from ending at once.
    ok = lwm2m_gateway:deliver(Gateway, <<"lwm2m/a/dn/cmd">>, command("/3/0/0", 1)),
    _ = device:request(Device),
    Former = erlang:system_monitor(self(), [{long_schedule, 300}]),
    {Stopper, Monitor} = spawn_monitor(fun() ->
        {Microseconds, ok} = timer:tc(fun() -> lwm2m_gateway:stop(Gateway) end),
        exit({took, Microseconds})
    end),
    receive
        {'DOWN', Monitor, process, Stopper, {took, Took}} -> ?assert(Took > 400_000, Took)
    end,
    receive
        {monitor, Stopper, long_schedule, Info} -> error({kept_a_scheduler, Info})
    after 0 -> ok
    end,
    _ = erlang:system_monitor(Former),
    device:close(Device),
    flush().

many_gateways() ->
    Descriptors = fun() -> length(filelib:wildcard("/proc/self/fd/*")) end,
    stop(start()),
    Before = Descriptors(),
    [stop(start()) || _ <- lists:seq(1, 20)],
    [spawn(fun() -> start() end) || _ <- lists:seq(1, 20)],
    eventually(fun() -> Descriptors() =< Before + 2 end),
    ?assertEqual(ok, lwm2m_gateway:stop_all(5000)).

%% The native library is let go of and loaded again, with gateways running at the stop.
application_restarts() ->
    [
        begin
            Gateway = start(),
            Port = port(Gateway),
            Device = device:open(Gateway),
            {ok, _} = device:register(Device, <<"a">>),
            ?assertMatch(
                {publish, register, _, _, _, _}, ?next(Gateway, {publish, _, _, _, _, _})
            ),
            Abandoned = port_of_abandoned(),
            ok = application:stop(lwm2m_gateway),
            ?assertNot(erlang:module_loaded(lwm2m_gateway_nif)),
            ?assertNot(listens(Port)),
            ?assertNot(listens(Abandoned)),
            ?assertEqual({stopped, normal}, last_event(lwm2m_gateway:id(Gateway), none)),
            ok = application:start(lwm2m_gateway),
            ?assertError(badarg, lwm2m_gateway:statistics(Gateway)),
            device:close(Device)
        end
     || _ <- lists:seq(1, 10)
    ],
    %% A second instance beside the first is refused and harms nobody.
    Gateway = start(),
    ?assertEqual({error, on_load_failure}, load_again()),
    ?assert(listens(port(Gateway))),
    stop(Gateway).

%% The VM kills a process that runs in code which is purged, but lets its call on a dirty scheduler go on: what
%% that makes afterwards, for nobody, must not bring the VM down.
purged_during_a_start() ->
    [
        begin
            Starting = [spawn_monitor(fun start/0) || _ <- [1, 2]],
            timer:sleep(N rem 10),
            true = code:delete(lwm2m_gateway_nif),
            _ = code:purge(lwm2m_gateway_nif),
            _ = [receive {'DOWN', M, process, Pid, _} -> ok end || {Pid, M} <- Starting],
            timer:sleep(5),
            case code:load_file(lwm2m_gateway_nif) of
                {module, _} -> ok;
                %% A process was so late that it loaded the module itself.
                {error, on_load_failure} -> ?assert(erlang:module_loaded(lwm2m_gateway_nif))
            end
        end
     || N <- lists:seq(1, 200)
    ],
    %% What they started has ended or ends now.
    ok = lwm2m_gateway:stop_all(5000),
    Gateway = start(),
    ?assert(listens(port(Gateway))),
    stop(Gateway).

%% A gateway whose owner dies at this moment.
port_of_abandoned() ->
    Self = self(),
    spawn(fun() ->
        Gateway = start(),
        Self ! {port, port(Gateway)}
    end),
    receive
        {port, Port} -> Port
    after 5000 -> error(no_port)
    end.

last_event(Id, Last) ->
    receive
        {lwm2m_gateway, Id, _, Events} -> last_event(Id, lists:last(Events))
    after 0 -> Last
    end.

load_again() ->
    logger:set_primary_config(level, none),
    {error, Reason} = code:load_file(lwm2m_gateway_nif),
    logger:set_primary_config(level, error),
    {error, Reason}.

%% The store

with_store(Path) ->
    start(#{config => (config())#{store => #{path => list_to_binary(Path)}}, device_events => true}).

store_path() ->
    Name = io_lib:format("lwm2m-nif-~b", [erlang:unique_integer([positive])]),
    filename:join("/tmp", lists:flatten([Name, "-", os:getpid()])).

read(Id) ->
    [<<"{\"reqID\":">>, integer_to_binary(Id), <<",\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}">>].

told({ok, Receipt}) ->
    receive
        {lwm2m_gateway_receipt, Receipt, Outcome} -> Outcome
    after 5000 -> timeout
    end.

a_command_is_safe() ->
    Path = store_path(),
    Gateway = with_store(Path),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"safe">>, []),
    ?next(Gateway, {device, registered, _}),
    Topic = <<"lwm2m/safe/dn/dm">>,
    ?assertEqual(ok, told(lwm2m_gateway:deliver_durably(Gateway, Topic, read(1), #{}))),
    Mount = <<"lwm2m/safe/">>,
    ?assertEqual(
        ok, told(lwm2m_gateway:deliver_to_durably(Gateway, <<"safe">>, Mount, Topic, read(2), #{}))
    ),
    ?assertEqual(
        {error, refused}, told(lwm2m_gateway:deliver_durably(Gateway, <<"other">>, read(3), #{}))
    ),
    device:close(Device),
    stop(Gateway),
    ?assertEqual({error, stopped}, lwm2m_gateway:deliver_durably(Gateway, Topic, read(4), #{})),
    ?assertEqual(timeout, receive {lwm2m_gateway_receipt, _, _} = Told -> Told after 0 -> timeout end),
    %% Both are in the store, and wait again.
    Again = with_store(Path),
    List = <<"{\"reqID\":5,\"msgType\":\"list-queue\"}">>,
    ok = lwm2m_gateway:deliver(Again, Topic, List),
    {publish, response, _, _, Listed, _} = ?next(Again, {publish, response, <<"safe">>, _, _, _}),
    [?assertMatch({Id, {_, _}}, {Id, binary:match(Listed, Id)}) || Id <- [<<"\"reqID\":1,">>, <<"\"reqID\":2,">>]],
    stop(Again),
    ok = file:del_dir_r(Path).

receipts_without_store() ->
    Gateway = start(),
    Topic = <<"lwm2m/nobody/dn/dm">>,
    ?assertEqual(
        {error, no_store}, told(lwm2m_gateway:deliver_durably(Gateway, Topic, read(1), #{}))
    ),
    ?assertNot(lwm2m_gateway:note(Gateway, <<"nobody">>, <<"note">>)),
    stop(Gateway).

note_comes_back() ->
    Path = store_path(),
    Gateway = with_store(Path),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"noted">>, []),
    {device, registered, New} = ?next(Gateway, {device, registered, _}),
    ?assertEqual([], maps:keys(maps:with([restored, note], New))),
    ?assert(lwm2m_gateway:note(Gateway, <<"noted">>, <<"first">>)),
    ?assert(lwm2m_gateway:note(Gateway, <<"noted">>, ["sec", <<"ond">>])),
    ?assertNot(lwm2m_gateway:note(Gateway, <<"noted">>, binary:copy(<<"x">>, 65537))),
    ?assertNot(lwm2m_gateway:note(Gateway, <<"nobody">>, <<"note">>)),
    stop(Gateway),
    Again = with_store(Path),
    ?assertMatch(
        {device, registered, #{endpoint := <<"noted">>, restored := true, note := <<"second">>}},
        ?next(Again, {device, registered, _})
    ),
    %% It ends with the registration.
    true = lwm2m_gateway:kick(Again, <<"noted">>),
    ?next(Again, {device, gone, _}),
    Other = device:open(Again),
    {ok, _} = device:register(Other, <<"noted">>, []),
    device:close(Other),
    stop(Again),
    Third = with_store(Path),
    {device, registered, #{restored := true} = Bare} = ?next(Third, {device, registered, _}),
    ?assertNot(maps:is_key(note, Bare)),
    device:close(Device),
    stop(Third),
    ok = file:del_dir_r(Path).
