%% The page in the dashboard of EMQX 6.2 and later.
-module(lwm2m_gateway_emqx_page_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [config/0, free_port/0, registered/1, start/2, stop/0]).

-define(LOCAL, #{<<"host">> => <<"localhost:18083">>}).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions(since_5_9)) end, fun(_) -> ok end, [
        {timeout, 20, fun what_the_package_says/0},
        {timeout, 20, fun the_page_and_its_files/0},
        {timeout, 20, fun nodes_and_devices/0},
        {timeout, 60, fun many_devices/0},
        {timeout, 20, fun other_nodes/0},
        {timeout, 20, fun the_console/0},
        {timeout, 20, fun hostile_requests/0},
        {timeout, 20, fun without_a_gateway/0}
    ]}.

%% EMQX shows the page of a plugin whose package names it.
what_the_package_says() ->
    {ok, Text} = file:read_file(filename:join(os:getenv("PACKAGE"), "release.json")),
    ?assertMatch(#{<<"index">> := <<"/ui">>}, stand_in_json:decode(Text)).

the_page_and_its_files() ->
    start(config(), #{}),
    {200, Headers, Page} = get(<<"/ui">>, ?LOCAL),
    ?assertMatch(#{<<"content-type">> := <<"text/html", _/binary>>, <<"cache-control">> := <<"no-store">>}, Headers),
    %% In EMQX's own pages, and nothing in it.
    #{<<"content-security-policy">> := Policy} = Headers,
    ?assertMatch({_, _}, binary:match(Policy, <<"frame-ancestors 'self'; frame-src 'none'">>)),
    ?assertEqual(nomatch, binary:match(Policy, <<"unsafe">>)),
    %% All that it names is there; a browser resolves the names beside `ui'.
    {match, Names} = re:run(Page, "(?:src|href)=\"([^\"]+)\"", [global, {capture, [1], binary}]),
    ?assertEqual([<<"ui/page.css">>, <<"ui/page.js">>], lists:sort([Name || [Name] <- Names])),
    [
        ?assertMatch({200, #{<<"content-type">> := Type}, <<_, _/binary>>}, get(<<"/", Name/binary>>, ?LOCAL))
     || {Name, Type} <- [
            {<<"ui/page.js">>, <<"text/javascript; charset=utf-8">>}, {<<"ui/page.css">>, <<"text/css; charset=utf-8">>}
        ]
    ],
    stop().

nodes_and_devices() ->
    start(config(), #{}),
    {_, First} = registered(<<"a-1">>),
    {_, Second} = registered(<<"b-2">>),
    #{<<"nodes">> := [Node], <<"devices">> := Devices, <<"more">> := false} = devices(<<>>, ?LOCAL),
    ?assertMatch(#{<<"state">> := <<"running">>, <<"counters">> := #{<<"registrations">> := 2}}, Node),
    ?assertEqual([<<"a-1">>, <<"b-2">>], [Endpoint || #{<<"endpoint">> := Endpoint} <- Devices]),
    Name = atom_to_binary(node()),
    [#{<<"peer">> := <<"127.0.0.1:", _/binary>>, <<"node">> := Name, <<"listener">> := <<"udp:default">>} | _] = Devices,
    ?assertMatch(#{<<"devices">> := [#{<<"endpoint">> := <<"b-2">>}]}, devices(<<"?search=-2">>, ?LOCAL)),
    ?assertMatch(#{<<"devices">> := []}, devices(<<"?search=c">>, ?LOCAL)),
    device:close(First),
    device:close(Second),
    stop().

%% The first hundred, in the order of their names.
many_devices() ->
    start(config(), #{}),
    Numbers = lists:seq(1, 103),
    Devices = [
        begin
            {_, Device} = registered(iolist_to_binary(io_lib:format("many-~4..0b", [1000 - N]))),
            Device
        end
     || N <- Numbers
    ],
    #{<<"devices">> := Shown, <<"more">> := true} = devices(<<>>, ?LOCAL),
    Names = [Endpoint || #{<<"endpoint">> := Endpoint} <- Shown],
    ?assertEqual({100, <<"many-0897">>, <<"many-0996">>}, {length(Names), hd(Names), lists:last(Names)}),
    ?assertEqual(Names, lists:sort(Names)),
    lists:foreach(fun device:close/1, Devices),
    stop().

%% What `erpc' says of them: a hundred devices of all nodes; without the plugin; no answer.
other_nodes() ->
    Of = fun(Prefix, Numbers) ->
        [#{endpoint => iolist_to_binary(io_lib:format("~s~3..0b", [Prefix, N]))} || N <- Numbers]
    end,
    View = fun(Devices, More) -> {ok, #{counters => #{registrations => 7}, devices => Devices, more => More}} end,
    [Undef] = erpc:multicall([node()], lwm2m_gateway_emqx_page, no_such_function, [<<>>]),
    [Gone] = erpc:multicall(['nobody@127.0.0.1'], lwm2m_gateway_emqx_page, here, [<<>>]),
    #{nodes := Nodes, devices := Devices, more := true} = lwm2m_gateway_emqx_page:merged([
        {one, View(Of("a", lists:seq(1, 60)), false)}, {two, View(Of("b", lists:seq(1, 60)), false)},
        {three, Undef}, {four, Gone}, {five, {ok, #{}}}
    ]),
    ?assertEqual([running, running, without, unreachable, stopped], [State || #{state := State} <- Nodes]),
    ?assertEqual({100, one, two}, {length(Devices), maps:get(node, hd(Devices)), maps:get(node, lists:last(Devices))}),
    ?assertMatch(#{more := false}, lwm2m_gateway_emqx_page:merged([{one, View(Of("a", [1]), false)}])),
    ?assertMatch(#{more := true}, lwm2m_gateway_emqx_page:merged([{one, View(Of("a", [1]), true)}])).

%% Only what names the dashboard can be in it, and only at an address that a browser gets at.
the_console() ->
    Port = free_port(),
    Text = integer_to_binary(Port),
    Url = fun(Host) -> <<"http://", Host/binary, ":", Text/binary, "/">> end,
    Origin = <<"http://localhost:18083">>,
    start(config(), #{<<"http_bind">> => Text}),
    Served = Url(<<"localhost">>),
    ?assertMatch(#{<<"state">> := <<"served">>, <<"url">> := Served, <<"ancestors">> := []}, console(?LOCAL)),
    ?assertMatch({_, _}, frames(?LOCAL, <<"'none'">>)),
    ?assertMatch(#{<<"state">> := <<"local">>}, console(#{<<"host">> => <<"emqx.example.org">>})),
    ok = update(#{<<"http_bind">> => Text, <<"http_frame_ancestors">> => [Origin]}),
    ?assertMatch(#{<<"state">> := <<"served">>, <<"ancestors">> := [Origin]}, console(?LOCAL)),
    ?assertMatch({_, _}, frames(?LOCAL, Served)),
    ?assertMatch({_, _}, frames(#{<<"host">> => <<"emqx.example.org">>}, <<"'none'">>)),
    Token = filename:join(os:getenv("PACKAGE"), "token.page"),
    ok = file:write_file(Token, <<"a-token-of-the-page\n">>),
    ok = file:change_mode(Token, 8#600),
    Other = integer_to_binary(free_port()),
    Anywhere = #{<<"http_bind">> => <<"0.0.0.0:", Other/binary>>, <<"http_token_file">> => iolist_to_binary(Token)},
    ok = update(Anywhere),
    Elsewhere = <<"http://emqx.example.org:", Other/binary, "/">>,
    ?assertMatch(#{<<"state">> := <<"served">>, <<"url">> := Elsewhere}, console(#{<<"host">> => <<"EMQX.example.org:18083">>})),
    %% What is no origin is refused, and what was in force stays.
    ?assertMatch({error, <<"http_frame_ancestors: ", _/binary>>}, update(Anywhere#{<<"http_frame_ancestors">> => [<<"*">>]})),
    ok = update(#{}),
    ?assertMatch(#{<<"state">> := <<"off">>}, console(?LOCAL)),
    stop(),
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Busy} = inet:port(Taken),
    start(config(), #{<<"http_bind">> => integer_to_binary(Busy)}),
    ?assertMatch(#{<<"state">> := <<"refused">>}, console(?LOCAL)),
    ok = gen_tcp:close(Taken),
    stop().

hostile_requests() ->
    Port = integer_to_binary(free_port()),
    start(config(), #{<<"http_bind">> => Port, <<"http_frame_ancestors">> => [<<"http://localhost:18083">>]}),
    [
        ?assertEqual({Path, {404, #{}, #{}}}, {Path, get(Path, ?LOCAL)})
     || Path <- [
            <<"/config.hocon">>, <<"/ui/..">>, <<"/ui/../config.hocon">>, <<"/ui/..%2fconfig.hocon">>,
            <<"/ui/page.html">>, <<"/ui/page.js/x">>, <<"/ui/%00">>, <<"/ui/devices/a">>
        ]
    ],
    [?assertEqual({404, #{}, #{}}, stand_in:plugin_api(M, <<"/ui/devices">>, ?LOCAL)) || M <- [post, put, patch, delete]],
    [
        begin
            Asked = #{<<"host">> => Host},
            ?assertMatch(#{<<"state">> := <<"local">>}, console(Asked)),
            ?assertMatch({_, _}, frames(Asked, <<"'none'">>))
        end
     || Host <- [<<"localhost; script-src *">>, <<"localhost\r\nX: y">>, <<"localhost\n">>, <<>>, <<"a@localhost">>, <<"localhost:1:2">>]
    ],
    Long = binary:copy(<<"x">>, 100_000),
    ?assertMatch(#{<<"devices">> := []}, devices(<<"?search=", Long/binary>>, ?LOCAL)),
    stop().

without_a_gateway() ->
    start(config(), #{}),
    ok = stand_in:call(emqx_gateway, unload, [lwm2m]),
    #{<<"nodes">> := [Node], <<"devices">> := [], <<"console">> := Console} = devices(<<>>, ?LOCAL),
    ?assertMatch({#{<<"state">> := <<"stopped">>}, #{<<"state">> := <<"off">>}}, {Node, Console}),
    ?assertMatch({200, _, _}, get(<<"/ui">>, ?LOCAL)),
    stop().

get(Path, Headers) ->
    stand_in:plugin_api(get, Path, Headers).

devices(Query, Headers) ->
    {200, #{<<"content-type">> := <<"application/json">>}, Body} = get(<<"/ui/devices", Query/binary>>, Headers),
    Body.

console(Headers) ->
    maps:get(<<"console">>, devices(<<>>, Headers)).

frames(Headers, What) ->
    {200, #{<<"content-security-policy">> := Policy}, _} = get(<<"/ui">>, Headers),
    binary:match(Policy, <<"frame-src ", What/binary>>).

update(Plugin) ->
    stand_in:call(emqx_plugins, update_config, [<<"lwm2m_gateway">>, Plugin]).
