-module(lwm2m_gateway_server_tests).

-include_lib("eunit/include/eunit.hrl").

all_test_() ->
    {foreach, fun quiet/0, fun stop_application/1, [
        fun events_come_and_are_acknowledged/0,
        fun other_messages/0,
        fun end_of_the_server/0,
        fun bad_configuration/0,
        fun end_of_the_gateway/0,
        fun application_with_gateways/0
    ]}.

quiet() ->
    logger:set_primary_config(level, none),
    application:load(lwm2m_gateway).

stop_application(_) ->
    _ = application:stop(lwm2m_gateway),
    application:unset_env(lwm2m_gateway, gateways).

options() ->
    #{config => #{listeners => #{udp => #{default => #{bind => "127.0.0.1:0"}}}}, credit => 1}.

start() ->
    ok = application:start(lwm2m_gateway),
    {ok, Server} = lwm2m_gateway_server:start_link(collector, self(), options()),
    {Server, started()}.

started() ->
    receive
        {started, _, Gateway} -> Gateway
    after 5000 -> error(not_started)
    end.

event() ->
    receive
        {event, Event} -> Event
    after 5000 -> error(no_event)
    end.

terminated() ->
    receive
        {terminated, Reason, Count} -> {Reason, Count}
    after 5000 -> error(not_terminated)
    end.

events_come_and_are_acknowledged() ->
    {Server, Gateway} = start(),
    ?assertEqual(Gateway, lwm2m_gateway_server:gateway(Server)),
    ?assertMatch({subscribe, _, _}, event()),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    ?assertMatch({publish, register, <<"a">>, _, _, _}, event()),
    {ok, _} = device:register(Device, <<"b">>),
    ?assertMatch({publish, register, <<"b">>, _, _, _}, event()),
    ok = gen_server:stop(Server),
    device:close(Device).

other_messages() ->
    {Server, _} = start(),
    Server ! hello,
    receive
        {info, Message} -> ?assertEqual(hello, Message)
    end,
    ?assertEqual({error, unknown_call}, gen_server:call(Server, hello)),
    ok = gen_server:stop(Server).

%% What is still to be said when the server stops reaches the callback, batch by batch.
end_of_the_server() ->
    {Server, Gateway} = start(),
    Device = device:open(Gateway),
    {ok, _} = device:register(Device, <<"a">>),
    _ = [event(), event()],
    Read = <<"{\"reqID\":1,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}">>,
    ok = lwm2m_gateway:deliver(Gateway, <<"lwm2m/a/dn/cmd">>, Read),
    _ = device:request(Device),
    ok = gen_server:stop(Server),
    ?assertMatch({publish, response, <<"a">>, _, _, _}, event()),
    ?assertMatch({normal, 3}, terminated()),
    device:close(Device).

bad_configuration() ->
    ok = application:start(lwm2m_gateway),
    process_flag(trap_exit, true),
    ?assertMatch(
        {error, {invalid_config, [{<<"foo">>, _}]}},
        lwm2m_gateway_server:start_link(collector, self(), #{config => #{foo => 1}})
    ).

end_of_the_gateway() ->
    process_flag(trap_exit, true),
    {Server, Gateway} = start(),
    ok = lwm2m_gateway:stop(Gateway),
    receive
        {'EXIT', Server, Reason} -> ?assertEqual(gateway_stopped, Reason)
    end.

%% A crash of the callback module is a restart of the gateway, on the same address.
application_with_gateways() ->
    {ok, Socket} = gen_udp:open(0, []),
    {ok, Port} = inet:port(Socket),
    gen_udp:close(Socket),
    Bind = iolist_to_binary(io_lib:format("127.0.0.1:~w", [Port])),
    Options = #{config => #{listeners => #{udp => #{default => #{bind => Bind}}}}},
    application:set_env(lwm2m_gateway, gateways, [{test_gateway, collector, self(), Options}]),
    ok = application:start(lwm2m_gateway),
    First = started(),
    ?assertEqual(First, lwm2m_gateway_server:gateway(test_gateway)),
    Device = device:open(First),
    {ok, _} = device:register(Device, <<"crash">>),
    ?assertMatch({{crash, _}, _}, terminated()),
    Second = started(),
    ?assertNotEqual(lwm2m_gateway:id(First), lwm2m_gateway:id(Second)),
    {ok, _} = device:register(Device, <<"a">>),
    ok = application:stop(lwm2m_gateway),
    ?assertMatch({shutdown, _}, terminated()),
    device:close(Device).
