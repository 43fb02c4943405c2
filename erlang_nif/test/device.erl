%% A device for the tests: just enough CoAP (RFC 7252) over UDP to register and to answer.
-module(device).

-export([open/1, open_dtls/3, close/1, post/4, register/3, register/2, update/2, delete/2, request/1, request/2]).
-export([reply/3, reply/4, reset/2, notify/4, message/2]).

-record(device, {transport = gen_udp, socket, port}).

open(Gateway) ->
    [{_, {_, Port}} | _] = lwm2m_gateway:listeners(Gateway),
    {ok, Socket} = gen_udp:open(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    #device{socket = Socket, port = Port}.

%% A DTLS session by OTP's own implementation, with the first suite of LwM2M.
open_dtls(Gateway, Identity, Key) ->
    [Port | _] = [Port || {<<"dtls:", _/binary>>, {_, Port}} <- lwm2m_gateway:listeners(Gateway)],
    Options = [
        {protocol, dtls},
        {versions, ['dtlsv1.2']},
        {ciphers, [#{key_exchange => psk, cipher => aes_128_ccm_8, mac => aead, prf => default_prf}]},
        {psk_identity, Identity},
        {user_lookup_fun, {fun(psk, _, State) -> {ok, State} end, Key}},
        {verify, verify_none},
        {log_level, none},
        {active, false},
        binary
    ],
    case ssl:connect({127, 0, 0, 1}, Port, Options, 15_000) of
        {ok, Socket} -> {ok, #device{transport = ssl, socket = Socket}};
        {error, _} = Error -> Error
    end.

close(#device{transport = Transport, socket = Socket}) ->
    Transport:close(Socket).

register(Device, Endpoint) ->
    register(Device, Endpoint, []).

%% Registers; returns the location, or the code of the refusal.
register(Device, Endpoint, Query) ->
    case post(Device, [<<"rd">>], [<<"ep=", Endpoint/binary>>, <<"lt=300">> | Query], <<"</1/0>,</3/0>">>) of
        {{2, 1}, Options, _} -> {ok, proplists:get_all_values(8, Options)};
        {Code, _, Payload} -> {Code, Payload}
    end.

update(Device, Location) ->
    {Code, _, _} = post(Device, Location, [], <<>>),
    Code.

delete(Device, Location) ->
    {Code, _, _} = exchange(Device, {0, 4}, Location, [], <<>>),
    Code.

post(Device, Path, Query, Payload) ->
    exchange(Device, {0, 2}, Path, Query, Payload).

%% A Confirmable request and its response, piggybacked or separate.
exchange(Device, Code, Path, Query, Payload) ->
    Id = rand:uniform(16#FFFF),
    Token = rand:bytes(4),
    Options = [{11, Segment} || Segment <- Path] ++ [{15, Item} || Item <- Query],
    send(Device, encode(0, Code, Id, Token, Options, Payload)),
    response(Device, Token).

response(Device, Token) ->
    case message(Device, 5000) of
        {2, {0, 0}, _, _, _, _} ->
            response(Device, Token);
        {2, Code, _, Token, Options, Payload} ->
            {Code, Options, Payload};
        {0, Code, Id, Token, Options, Payload} ->
            send(Device, encode(2, {0, 0}, Id, <<>>, [], <<>>)),
            {Code, Options, Payload}
    end.

%% The next request of the gateway: {Code, Path, Id, Token}.
request(Device) ->
    request(Device, 5000).

request(Device, Timeout) ->
    case message(Device, Timeout) of
        {0, Code, Id, Token, Options, _} ->
            {Code, proplists:get_all_values(11, Options), Id, Token};
        timeout ->
            timeout
    end.

%% Answers a request with 2.05 and text, and other options than its format.
reply(Device, Request, Payload) ->
    reply(Device, Request, Payload, []).

reply(Device, {_, _, Id, Token}, Payload, Options) ->
    send(Device, encode(2, {2, 5}, Id, Token, Options ++ [{12, <<>>}], Payload)).

%% Refuses a message.
reset(Device, {_, _, Id, _Token}) ->
    send(Device, encode(3, {0, 0}, Id, <<>>, [], <<>>)).

%% A Non-confirmable notification with a token of an observation.
notify(Device, Token, Sequence, Payload) ->
    Id = rand:uniform(16#FFFF),
    send(Device, encode(1, {2, 5}, Id, Token, [{6, <<Sequence:24>>}, {12, <<>>}], Payload)).

message(#device{transport = Transport, socket = Socket}, Timeout) ->
    case Transport:recv(Socket, 0, Timeout) of
        {ok, {_, _, Datagram}} -> decode(Datagram);
        {ok, Datagram} -> decode(Datagram);
        {error, timeout} -> timeout
    end.

send(#device{transport = gen_udp, socket = Socket, port = Port}, Datagram) ->
    ok = gen_udp:send(Socket, {127, 0, 0, 1}, Port, Datagram);
send(#device{transport = ssl, socket = Socket}, Datagram) ->
    ok = ssl:send(Socket, Datagram).

encode(Type, {Class, Detail}, Id, Token, Options, Payload) ->
    Marker = [16#FF || Payload =/= <<>>],
    iolist_to_binary([
        <<1:2, Type:2, (byte_size(Token)):4, Class:3, Detail:5, Id:16, Token/binary>>,
        options(0, Options),
        Marker,
        Payload
    ]).

options(_, []) ->
    [];
options(Before, [{Number, Value} | Rest]) ->
    {Delta, DeltaMore} = nibble(Number - Before),
    {Length, LengthMore} = nibble(byte_size(Value)),
    [<<Delta:4, Length:4>>, DeltaMore, LengthMore, Value | options(Number, Rest)].

nibble(N) when N < 13 -> {N, <<>>};
nibble(N) -> {13, <<(N - 13)>>}.

decode(<<1:2, Type:2, Length:4, Class:3, Detail:5, Id:16, Token:Length/binary, Rest/binary>>) ->
    {Options, Payload} = decode_options(0, Rest, []),
    {Type, {Class, Detail}, Id, Token, Options, Payload}.

decode_options(_, <<>>, Options) ->
    {lists:reverse(Options), <<>>};
decode_options(_, <<16#FF, Payload/binary>>, Options) ->
    {lists:reverse(Options), Payload};
decode_options(Before, <<D:4, L:4, Rest/binary>>, Options) ->
    {Delta, Rest1} = more(D, Rest),
    {Length, Rest2} = more(L, Rest1),
    <<Value:Length/binary, Rest3/binary>> = Rest2,
    Number = Before + Delta,
    decode_options(Number, Rest3, [{Number, Value} | Options]).

more(13, <<N, Rest/binary>>) -> {N + 13, Rest};
more(14, <<N:16, Rest/binary>>) -> {N + 269, Rest};
more(N, Rest) -> {N, Rest}.
