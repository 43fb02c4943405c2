%% A host for the end-to-end tests: the application with one gateway, whose owner is an MQTT 5
%% client of a broker.
%%
%%   erl -noshell -pa ... -s e2e_host start BROKER_PORT CONFIG
%%
%% `CONFIG' is a file. SIGTERM ends.
-module(e2e_host).
-behaviour(lwm2m_gateway_server).

-export([start/1]).
-export([init/2, handle_event/2, handle_info/2, terminate/2]).

-record(client, {
    gateway :: lwm2m_gateway:gateway(),
    socket :: gen_tcp:socket(),
    %% Of a packet that has not come as a whole.
    buffer = <<>> :: binary(),
    %% Packet identifier of the last packet that has one.
    packet = 0 :: non_neg_integer()
}).

-define(CONNECT, 1).
-define(CONNACK, 2).
-define(PUBLISH, 3).
-define(PUBACK, 4).
-define(PUBREC, 5).
-define(PUBREL, 6).
-define(PUBCOMP, 7).
-define(SUBSCRIBE, 8).
-define(SUBACK, 9).
-define(UNSUBSCRIBE, 10).
-define(DISCONNECT, 14).

start([Port, File]) ->
    {ok, Config} = file:read_file(atom_to_list(File)),
    ok = application:load(lwm2m_gateway),
    Broker = {{127, 0, 0, 1}, list_to_integer(atom_to_list(Port))},
    Gateway = {gateway, ?MODULE, Broker, #{config => Config}},
    ok = application:set_env(lwm2m_gateway, gateways, [Gateway]),
    %% When the gateway ends for good, so does the node.
    {ok, _} = application:ensure_all_started(lwm2m_gateway, permanent).

init(Gateway, {Address, Port}) ->
    {ok, Socket} = gen_tcp:connect(Address, Port, [binary, {active, false}, {nodelay, true}]),
    Client = #client{gateway = Gateway, socket = Socket},
    %% A clean start, no keep-alive, no properties, an identifier by the broker.
    send(Client, ?CONNECT, 0, [text(<<"MQTT">>), <<5, 2, 0:16, 0>>, text(<<>>)]),
    {?CONNACK, _, <<_, 0, _/binary>>} = receive_packet(Socket),
    ok = inet:setopts(Socket, [{active, once}]),
    {ok, Client}.

handle_event({publish, _Kind, _Endpoint, Topic, Payload, 0}, Client) ->
    send(Client, ?PUBLISH, 0, [text(Topic), 0, Payload]),
    {ok, Client};
handle_event({publish, _Kind, _Endpoint, Topic, Payload, QoS}, Client0) ->
    Client = next_packet(Client0),
    send(Client, ?PUBLISH, QoS bsl 1, [text(Topic), packet_id(Client), 0, Payload]),
    {ok, Client};
handle_event({subscribe, Filter, QoS}, Client0) ->
    Client = next_packet(Client0),
    send(Client, ?SUBSCRIBE, 2, [packet_id(Client), 0, text(Filter), QoS]),
    {ok, Client};
handle_event({unsubscribe, Filter}, Client0) ->
    Client = next_packet(Client0),
    send(Client, ?UNSUBSCRIBE, 2, [packet_id(Client), 0, text(Filter)]),
    {ok, Client}.

handle_info({tcp, Socket, Data}, Client = #client{socket = Socket, buffer = Buffer}) ->
    Rest = packets(<<Buffer/binary, Data/binary>>, Client),
    ok = inet:setopts(Socket, [{active, once}]),
    {ok, Client#client{buffer = Rest}};
handle_info({tcp_closed, _}, _) ->
    error(the_broker_is_gone).

terminate(_Reason, Client = #client{socket = Socket}) ->
    send(Client, ?DISCONNECT, 0, []),
    gen_tcp:close(Socket).

%% MQTT 5

packets(Buffer, Client) ->
    case packet(Buffer) of
        {Type, Flags, Body, Rest} ->
            handle(Type, Flags, Body, Client),
            packets(Rest, Client);
        more ->
            Buffer
    end.

handle(?PUBLISH, Flags, <<Length:16, Topic:Length/binary, Rest0/binary>>, Client) ->
    QoS = (Flags bsr 1) band 3,
    Rest =
        case {QoS, Rest0} of
            {0, _} ->
                Rest0;
            {1, <<Id:2/binary, Rest1/binary>>} ->
                send(Client, ?PUBACK, 0, Id),
                Rest1;
            {2, <<Id:2/binary, Rest1/binary>>} ->
                send(Client, ?PUBREC, 0, Id),
                Rest1
        end,
    {PropertiesLength, Rest2} = variable(Rest),
    <<Properties:PropertiesLength/binary, Payload/binary>> = Rest2,
    ok = lwm2m_gateway:deliver(Client#client.gateway, Topic, Payload, properties(Properties));
handle(?PUBREC, _, <<Id:2/binary, _/binary>>, Client) ->
    send(Client, ?PUBREL, 2, Id);
handle(?PUBREL, _, <<Id:2/binary, _/binary>>, Client) ->
    send(Client, ?PUBCOMP, 0, Id);
handle(?SUBACK, _, _, _) ->
    io:format("subscribed~n");
handle(_, _, _, _) ->
    ok.

%% Message Expiry Interval, as the only one a forwarded command of the tests has.
properties(<<2, Expiry:32, _/binary>>) -> #{expiry => Expiry};
properties(_) -> #{}.

packet(<<Type:4, Flags:4, Rest0/binary>>) ->
    case variable(Rest0) of
        {Length, Rest1} when byte_size(Rest1) >= Length ->
            <<Body:Length/binary, Rest/binary>> = Rest1,
            {Type, Flags, Body, Rest};
        _ ->
            more
    end;
packet(_) ->
    more.

variable(Buffer) -> variable(Buffer, 0, 0).

variable(<<More:1, Seven:7, Rest/binary>>, Shift, Sum) when Shift < 28 ->
    case {More, Sum bor (Seven bsl Shift)} of
        {0, Value} -> {Value, Rest};
        {1, Value} -> variable(Rest, Shift + 7, Value)
    end;
variable(<<>>, _, _) ->
    more.

receive_packet(Socket) ->
    {ok, <<Type:4, Flags:4, Length>>} = gen_tcp:recv(Socket, 2, 5000),
    {ok, Body} = gen_tcp:recv(Socket, Length, 5000),
    {Type, Flags, Body}.

send(#client{socket = Socket}, Type, Flags, Body) ->
    Header = <<Type:4, Flags:4>>,
    ok = gen_tcp:send(Socket, [Header, length_of(iolist_size(Body)), Body]).

length_of(N) when N < 128 -> [N];
length_of(N) -> [(N band 127) bor 128 | length_of(N bsr 7)].

text(Text) ->
    <<(byte_size(Text)):16, Text/binary>>.

next_packet(Client = #client{packet = Packet}) ->
    Client#client{packet = Packet rem 16#FFFF + 1}.

packet_id(#client{packet = Packet}) ->
    <<Packet:16>>.
