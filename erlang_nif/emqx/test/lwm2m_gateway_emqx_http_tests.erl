%% The HTTP API in the broker: fields of the plugin's configuration, metrics, console.
-module(lwm2m_gateway_emqx_http_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [config/0, crash/0, free_port/0, gateway/0, registered/1, start/2, stop/0, wait/1]).

-define(APP, lwm2m_gateway).
-define(TOKEN, <<"a-token-of-this-test">>).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        {timeout, 20, fun nothing_is_served_unasked/0},
        {timeout, 20, fun metrics_and_console/0},
        {timeout, 20, fun with_a_token/0},
        {timeout, 20, fun keys_are_not_shown/0},
        {timeout, 20, fun what_cannot_be_served/0}
    ]}.

nothing_is_served_unasked() ->
    start(config(), #{<<"http_bind">> => <<>>, <<"http_token_file">> => <<>>, <<"http_allowed_hosts">> => []}),
    ?assertEqual([], [T || T <- threads(), T =:= <<"lwm2m-http">>]),
    stop().

metrics_and_console() ->
    Port = free_port(),
    start(config(), #{<<"http_bind">> => integer_to_binary(Port)}),
    {_, Device} = registered(<<"shown">>),
    {200, Metrics} = get(Port, "/metrics", []),
    ?assertEqual([<<"lwm2m-http">>], [T || T <- threads(), T =:= <<"lwm2m-http">>]),
    ?assertMatch({_, {_, _}}, {Metrics, binary:match(Metrics, <<"\nlwm2m_listener_registrations{listener=\"udp:default\"} 1\n">>)}),
    {200, Console} = get(Port, "/", []),
    ?assertMatch({_, _}, binary:match(Console, <<"<title>">>)),
    {200, Devices} = get(Port, "/v1/devices", []),
    ?assertMatch(#{<<"devices">> := [#{<<"endpoint">> := <<"shown">>}]}, stand_in_json:decode(Devices)),
    {200, About} = get(Port, "/v1/about", []),
    ?assertMatch({_, _}, binary:match(About, <<"udp:default">>)),
    %% A command is answered there, and not published.
    Self = self(),
    _ = spawn_link(fun() -> Self ! {answer, post(Port, "/v1/devices/shown/commands", read())} end),
    Read = device:request(Device),
    device:reply(Device, Read, <<"Example">>),
    receive {answer, {200, Answer}} -> ?assertMatch({_, _}, binary:match(Answer, <<"Example">>)) after 5000 -> error(timeout) end,
    ?assertEqual([], [M || #{payload := P} = M <- stand_in:published(), binary:match(P, <<"Example">>) =/= nomatch]),
    %% The address is free for the owner that follows.
    crash(),
    ?assertMatch({200, _}, get(Port, "/metrics", [])),
    ?assertEqual([], stand_in:alarms()),
    device:close(Device),
    stop(),
    ?assertEqual(refused, get(Port, "/metrics", [])).

with_a_token() ->
    Port = free_port(),
    Plugin = #{
        <<"http_bind">> => iolist_to_binary(["127.0.0.1:", integer_to_list(Port)]),
        <<"http_token_file">> => token_file(8#600),
        <<"http_allowed_hosts">> => [<<"lwm2m.example.org">>]
    },
    start(config(), Plugin),
    ?assertMatch({401, _}, get(Port, "/metrics", [])),
    ?assertMatch({401, _}, get(Port, "/v1/devices", [])),
    ?assertMatch({200, _}, get(Port, "/metrics", [bearer(?TOKEN)])),
    ?assertMatch({200, _}, get(Port, "/v1/about", [bearer(?TOKEN), <<"Host: lwm2m.example.org">>])),
    ?assertMatch({401, _}, get(Port, "/v1/about", [bearer(<<"another-token">>)])),
    stop(),
    start(config(), Plugin#{<<"http_metrics_public">> => true}),
    ?assertMatch({200, _}, get(Port, "/metrics", [])),
    ?assertMatch({401, _}, get(Port, "/v1/devices", [])),
    stop().

%% Neither the plugin's keys nor the token.
keys_are_not_shown() ->
    Port = free_port(),
    start(config(), #{
        <<"http_bind">> => integer_to_binary(Port),
        <<"http_token_file">> => token_file(8#600),
        <<"psk_credentials">> => [#{<<"identity">> => <<"a">>, <<"key">> => <<"00ff77">>}],
        <<"further">> => <<"{\"listeners\": {\"dtls\": {\"x\": {\"bind\": 0, \"psk\": [{\"identity\": \"f\", \"key\": \"123488\"}]}}}}">>
    }),
    ?assertEqual([], stand_in:alarms()),
    [
        begin
            {200, Text} = get(Port, Path, [bearer(?TOKEN)]),
            ?assertEqual({Path, nomatch}, {Path, binary:match(Text, [<<"00ff77">>, <<"123488">>, ?TOKEN])})
        end
     || Path <- ["/v1/config", "/v1/keys", "/v1/about", "/metrics", "/"]
    ],
    stop().

%% Devices are served all the same, and an alarm says what is wrong.
what_cannot_be_served() ->
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Taken),
    [
        begin
            start(config(), Plugin),
            ?assertMatch({Reason, [{<<"lwm2m_gateway_http">>, _}]}, {Reason, stand_in:alarms()}),
            [{_, Text}] = stand_in:alarms(),
            ?assertMatch({Text, {_, _}}, {Text, binary:match(Text, Reason)}),
            {_, Device} = registered(<<"served">>),
            device:close(Device),
            stop(),
            ?assertEqual([], stand_in:alarms())
        end
     || {Plugin, Reason} <- [
            {#{<<"http_bind">> => integer_to_binary(Port)}, <<"http.bind">>},
            {#{<<"http_bind">> => <<"0.0.0.0:0">>}, <<"http.token_file">>},
            {#{<<"http_bind">> => <<"0">>, <<"http_token_file">> => token_file(8#644)}, <<"644">>},
            {#{<<"http_bind">> => <<"0">>, <<"http_token_file">> => <<"/no/such/file">>}, <<"/no/such/file">>}
        ]
    ],
    %% Nothing else is refused for that reason, and it is served as soon as it can be.
    start(config(), #{<<"http_bind">> => integer_to_binary(Port)}),
    ?assertEqual(ok, plugin:update((config())#{mountpoint => <<"new/${endpoint_name}/">>})),
    ?assertMatch([{<<"lwm2m_gateway_http">>, _}], stand_in:alarms()),
    ok = gen_tcp:close(Taken),
    ?assertEqual(ok, plugin:update(config())),
    ?assertEqual([], stand_in:alarms()),
    ?assertMatch({200, _}, get(Port, "/metrics", [])),
    %% A change takes effect at once, one that cannot does not.
    Other = free_port(),
    ok = put_config(#{<<"http_bind">> => integer_to_binary(Other)}),
    ?assertMatch({200, _}, get(Other, "/metrics", [])),
    ok = put_config(#{<<"http_bind">> => <<"0.0.0.0:0">>}),
    ?assertMatch([{<<"lwm2m_gateway_config">>, <<"http: http.bind", _/binary>>}], stand_in:alarms()),
    ?assertMatch({200, _}, get(Other, "/metrics", [])),
    stop(),
    %% What cannot be meant is refused, by the name of the field.
    start(config(), #{}),
    ok = put_config(#{<<"http_bind">> => <<"nowhere">>}),
    ?assertMatch([{<<"lwm2m_gateway_config">>, <<"http_bind: ", _/binary>>}], stand_in:alarms()),
    stop().

put_config(Config) ->
    stand_in:call(emqx_plugins, put_config, [<<"lwm2m_gateway">>, Config, #{}]).

%% Not in the data folder, which the start of a test empties.
token_file(Mode) ->
    File = filename:join(os:getenv("PACKAGE"), io_lib:format("token.~.8b", [Mode])),
    ok = file:write_file(File, [?TOKEN, $\n]),
    ok = file:change_mode(File, Mode),
    iolist_to_binary(File).

read() ->
    <<"{\"reqID\":1,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}">>.

bearer(Token) ->
    [<<"Authorization: Bearer ">>, Token].

get(Port, Path, Headers) ->
    request(Port, ["GET ", Path, " HTTP/1.1"], Headers, <<>>).

post(Port, Path, Body) ->
    Length = ["Content-Length: ", integer_to_list(byte_size(Body))],
    request(Port, ["POST ", Path, " HTTP/1.1"], [Length, <<"Content-Type: application/json">>], Body).

request(Port, Line, Headers, Body) ->
    Host = [<<"Host: localhost">> || not lists:any(fun is_host/1, Headers)],
    Lines = [[H, "\r\n"] || H <- [Line, <<"Connection: close">> | Host ++ Headers]],
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}], 5000) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, [Lines, "\r\n", Body]),
            Answer = received(Socket, <<>>),
            [<<"HTTP/1.1 ", Status:3/binary, _/binary>>, Content] = binary:split(Answer, <<"\r\n\r\n">>),
            {binary_to_integer(Status), Content};
        {error, econnrefused} ->
            refused
    end.

is_host(Header) ->
    string:prefix(iolist_to_binary(Header), <<"Host:">>) =/= nomatch.

received(Socket, Before) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, More} -> received(Socket, <<Before/binary, More/binary>>);
        {error, closed} -> Before
    end.

%% Names of the threads of this process.
threads() ->
    [
        string:trim(Name)
     || File <- filelib:wildcard("/proc/self/task/*/comm"), {ok, Name} <- [file:read_file(File)]
    ].
