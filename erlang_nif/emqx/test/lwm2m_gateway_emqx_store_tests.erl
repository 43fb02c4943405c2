%% What the store brings back: devices as clients of EMQX, with what belongs to them.
-module(lwm2m_gateway_emqx_store_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [config/0, free_port/0, gateway/0, start/1, stop/0, wait/1]).

-define(APP, lwm2m_gateway).
-define(OWNER, lwm2m_gateway_emqx_owner).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        {timeout, 30, fun a_restart_loses_nothing/0},
        {timeout, 30, fun a_crash_loses_nothing/0},
        {timeout, 30, fun what_authentication_said_is_kept/0},
        {timeout, 30, fun nobody_comes_back_unauthenticated/0},
        {timeout, 30, fun who_has_moved_stays_there/0},
        {timeout, 30, fun who_moved_here_from_there_comes_back/0},
        {timeout, 30, fun what_comes_from_another_store/0},
        {timeout, 30, fun expired_authentication_ends/0},
        {timeout, 30, fun session_that_cannot_be_opened/0},
        {timeout, 30, fun a_store_that_cannot_be_used/0},
        {timeout, 60, fun a_full_disk/0},
        {timeout, 60, fun many_devices/0}
    ]}.

at_port() ->
    (config())#{listeners => #{udp => #{default => #{bind => {{127, 0, 0, 1}, free_port()}, max_connections => 100000}}}}.

%% As a node that stops and starts: EMQX has forgotten everything.
restart() ->
    stop(),
    stand_in:forget(),
    ok = application:start(?APP).

%% What a batch of the store waits for at most, and more.
written() ->
    timer:sleep(300).

connected() ->
    [{ClientInfo, ConnInfo} || {run, ['client.connected', [ClientInfo, ConnInfo]]} <- stand_in:calls(emqx_hooks)].

filters() ->
    lists:sort([F || {F, _, _} <- stand_in:subscriptions()]).

answers(Id) ->
    Key = iolist_to_binary(["\"reqID\":", integer_to_list(Id), ","]),
    [Payload || #{payload := Payload} <- stand_in:published(), binary:match(Payload, Key) =/= nomatch].

command(Endpoint, Id, Type, Path) ->
    Json = io_lib:format("{\"reqID\":~b,\"msgType\":\"~s\",\"data\":{\"path\":\"~s\"}}", [Id, Type, Path]),
    stand_in:publish(<<"lwm2m/", Endpoint/binary, "/dn/dm">>, iolist_to_binary(Json)).

registered(Endpoint) ->
    {_, Device} = Registered = plugin:registered(Endpoint),
    wait(fun() -> stand_in:client(Endpoint) =/= undefined end),
    %% Its process knows that the registration stands, and has said what to note.
    wait(fun() -> element(7, sys:get_state(stand_in:client(Endpoint))) =:= undefined end),
    _ = Device,
    Registered.

a_restart_loses_nothing() ->
    start(at_port()),
    {Location, Device} = registered(<<"kept">>),
    ?assertMatch([{_, New}] when not is_map_key(restored, New), connected()),
    Client = stand_in:client(<<"kept">>),
    {ok, _} = gen_server:call(Client, {subscribe, <<"tx">>, #{qos => 1}}),
    command(<<"kept">>, 1, "observe", "/3/0/9"),
    {{0, 1}, _, _, Token} = Observe = device:request(Device),
    device:reply(Device, Observe, <<"50">>, [{6, <<>>}]),
    wait(fun() -> [] =/= answers(1) end),
    %% Under way, and without an answer.
    command(<<"kept">>, 2, "read", "/3/0/0"),
    {{0, 1}, _, _, _} = device:request(Device),
    restart(),
    ?assertEqual([], answers(2)),
    wait(fun() -> stand_in:client(<<"kept">>) =/= undefined end),
    ?assertEqual([<<"lwm2m/kept/dn/#">>, <<"lwm2m/kept/tx">>], filters()),
    ?assertMatch([{#{clientid := <<"kept">>, mountpoint := <<"lwm2m/kept/">>}, #{restored := true}}], connected()),
    ?assertEqual([], [C || {authenticate, _} = C <- stand_in:calls(emqx_gateway_ctx)]),
    [{_, #{conninfo := ConnInfo}}] = stand_in:clients(),
    ?assertNot(is_map_key(restored, ConnInfo)),
    %% The request comes again, and its answer says so.
    Again = answering(Device, [<<"3">>, <<"0">>, <<"0">>]),
    device:reply(Device, Again, <<"Example">>),
    wait(fun() -> [] =/= answers(2) end),
    [Answer] = answers(2),
    ?assertMatch({_, _}, binary:match(Answer, <<"\"repeated\":true">>)),
    device:notify(Device, Token, 9, <<"51">>),
    wait(fun() -> [] =/= [A || A <- answers(1), binary:match(A, <<"notify">>) =/= nomatch] end),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    %% And once more, with what was added since.
    {ok, _} = gen_server:call(stand_in:client(<<"kept">>), {subscribe, <<"ty">>, #{qos => 1}}),
    ok = gen_server:call(stand_in:client(<<"kept">>), {unsubscribe, <<"tx">>}),
    restart(),
    wait(fun() -> filters() =:= [<<"lwm2m/kept/dn/#">>, <<"lwm2m/kept/ty">>] end),
    device:close(Device),
    stop().

%% The next request for a path; others are repetitions of before.
answering(Device, Path) ->
    case device:request(Device) of
        {{0, 1}, Path, _, _} = Request -> Request;
        {_, _, _, _} -> answering(Device, Path)
    end.

a_crash_loses_nothing() ->
    start(at_port()),
    {Location, Device} = registered(<<"crash">>),
    written(),
    stand_in:forget(),
    plugin:crash(),
    wait(fun() -> [] =/= connected() end),
    ?assertMatch([{_, #{restored := true}}], connected()),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    ?assertEqual(1, ets:info(lwm2m_gateway_emqx_devices, size)),
    ?assertEqual([<<"lwm2m/crash/dn/#">>], filters()),
    device:close(Device),
    stop().

with_authentication(Config) ->
    Config#{authentication => #{enable => true}}.

what_authentication_said_is_kept() ->
    start(with_authentication(at_port())),
    stand_in:set({emqx_gateway_ctx, authenticate}, fun(_, ClientInfo) ->
        {ok, ClientInfo#{
            auth_expire_at => undefined,
            is_superuser => true,
            username => <<"somebody">>,
            client_attrs => #{<<"group">> => <<"g">>}
        }}
    end),
    {_, Device} = registered(<<"super">>),
    restart(),
    wait(fun() -> [] =/= connected() end),
    [{ClientInfo, _}] = connected(),
    ?assertMatch(
        #{is_superuser := true, username := <<"somebody">>, client_attrs := #{<<"group">> := <<"g">>}, listener := 'lwm2m:udp:default'},
        ClientInfo
    ),
    ?assertNot(is_map_key(password, ClientInfo)),
    ?assertEqual([], [C || {authenticate, _} = C <- stand_in:calls(emqx_gateway_ctx)]),
    device:close(Device),
    stop().

%% Who registered before EMQX was told to authenticate registers anew.
nobody_comes_back_unauthenticated() ->
    Config = at_port(),
    start(Config),
    {Location, Device} = registered(<<"anybody">>),
    stand_in:set(config, with_authentication(Config)),
    restart(),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 0 end),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    ?assertEqual([], connected()),
    ?assertEqual([], stand_in:clients()),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    ?assertMatch({ok, _}, device:register(Device, <<"anybody">>)),
    device:close(Device),
    stop().

%% Another node has the client; `Since' is when it connected there.
elsewhere(Since) ->
    Self = self(),
    Other = spawn(fun Loop() -> receive Message -> Self ! {there, Message}, Loop() end end),
    stand_in:set({emqx_gateway_cm, lookup_channels}, [Other]),
    stand_in:set({emqx_gateway_cm, get_chan_info}, #{conninfo => #{connected_at => Since}}).

who_has_moved_stays_there() ->
    start(at_port()),
    {Location, Device} = registered(<<"moved">>),
    command(<<"moved">>, 1, "observe", "/3/0/9"),
    Observe = device:request(Device),
    device:reply(Device, Observe, <<"50">>, [{6, <<>>}]),
    wait(fun() -> [] =/= answers(1) end),
    elsewhere(erlang:system_time(millisecond) + 1000),
    restart(),
    %% The other node is told what this one has kept.
    Session = receive {there, {'$gen_cast', {handed_on, Handed}}} -> Handed after 5000 -> timeout end,
    ?assertMatch({_, _}, binary:match(Session, <<"/3/0/9">>)),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    ?assertEqual({[], [], []}, {connected(), stand_in:clients(), filters()}),
    ?assertEqual(0, lwm2m_gateway:registrations(gateway())),
    %% Nothing is said of it, and the next start knows nothing of it either.
    ?assertEqual([], stand_in:published()),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    restart(),
    ?assertEqual(0, lwm2m_gateway:registrations(gateway())),
    ?assertEqual(timeout, receive {there, Again} -> Again after 100 -> timeout end),
    device:close(Device),
    stop().

who_moved_here_from_there_comes_back() ->
    start(at_port()),
    {Location, Device} = registered(<<"mine">>),
    elsewhere(erlang:system_time(millisecond) - 60000),
    restart(),
    wait(fun() -> [] =/= stand_in:clients() end),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    ?assertEqual(timeout, receive {there, Message} -> Message after 0 -> timeout end),
    device:close(Device),
    stop().

%% The other side of it: what a node had kept comes to the one that has the device.
what_comes_from_another_store() ->
    start(at_port()),
    {_, Device} = registered(<<"got">>),
    Client = stand_in:client(<<"got">>),
    Command = <<"{\"reqID\":7,\"msgType\":\"observe\",\"data\":{\"path\":\"/3/0/9\"}}">>,
    Session = <<"{\"observations\":[{\"token\":\"00000000000000aa\",\"command\":", Command/binary, "}],\"commands\":[]}">>,
    gen_server:cast(Client, {handed_on, Session}),
    ?assertMatch({{0, 1}, [<<"3">>, <<"0">>, <<"9">>], _, <<0, 0, 0, 0, 0, 0, 0, 16#AA>>}, device:request(Device)),
    device:close(Device),
    stop().

expired_authentication_ends() ->
    start(with_authentication(at_port())),
    Until = erlang:system_time(millisecond) + 2000,
    stand_in:set({emqx_gateway_ctx, authenticate}, fun(_, ClientInfo) ->
        {ok, ClientInfo#{auth_expire_at => Until}}
    end),
    {Location, Device} = registered(<<"until">>),
    stop(),
    timer:sleep(max(0, Until - erlang:system_time(millisecond))),
    ok = application:start(?APP),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 0 end),
    wait(fun() -> stand_in:clients() =:= [] end),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    device:close(Device),
    stop().

%% Then it has to come by itself.
session_that_cannot_be_opened() ->
    start(at_port()),
    {Location, Device} = registered(<<"locked">>),
    stop(),
    stand_in:set({emqx_gateway_ctx, open_session}, {error, client_id_unavailable}),
    ok = application:start(?APP),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 0 end),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    ?assertEqual({[], []}, {stand_in:clients(), filters()}),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    stand_in:unset({emqx_gateway_ctx, open_session}),
    ?assertMatch({ok, _}, device:register(Device, <<"locked">>)),
    device:close(Device),
    stop().

%% Something else is in its place: the gateway runs, and somebody is told.
a_store_that_cannot_be_used() ->
    start(at_port()),
    stop(),
    Folder = filename:join(stand_in:data_dir(), "lwm2m_gateway"),
    ok = file:del_dir_r(Folder),
    ok = file:write_file(Folder, <<"a file">>),
    ok = application:start(?APP),
    ?assertMatch([{<<"lwm2m_gateway_store">>, <<"store: ", _/binary>>}], stand_in:alarms()),
    {_, Device} = plugin:registered(<<"unkept">>),
    restart(),
    ?assertEqual(0, lwm2m_gateway:registrations(gateway())),
    ok = file:delete(Folder),
    restart(),
    ?assertEqual([], stand_in:alarms()),
    ?assertEqual(8#700, mode(Folder)),
    device:close(Device),
    stop().

mode(Folder) ->
    {ok, Info} = file:read_file_info(Folder),
    element(8, Info) band 8#777.

%% On a small file system, where the test may make one.
a_full_disk() ->
    start(at_port()),
    stop(),
    Folder = filename:join(stand_in:data_dir(), "lwm2m_gateway"),
    ok = file:del_dir_r(Folder),
    ok = file:make_dir(Folder),
    case os:cmd("mount -t tmpfs -o size=8m,mode=0700 lwm2m-test " ++ Folder ++ " && echo mounted") of
        "mounted\n" ->
            try full_disk(Folder)
            after
                _ = application:stop(?APP),
                "" = os:cmd("umount -l " ++ Folder)
            end;
        Refused ->
            ?debugFmt("SKIPPED: a full disk: ~s", [Refused])
    end.

full_disk(Folder) ->
    ok = application:start(?APP),
    {_, First} = registered(<<"before">>),
    written(),
    Filler = filename:join(Folder, "filler"),
    {ok, Open} = file:open(Filler, [write, raw]),
    ok = fill(Open),
    Alarms = fun() -> ?OWNER ! metrics, _ = sys:get_state(?OWNER), stand_in:alarms() end,
    Device = device:open(gateway()),
    Number = register_until(fun() -> [] =/= Alarms() end, Device, 1),
    ?assertMatch([{<<"lwm2m_gateway_store">>, _}], stand_in:alarms()),
    %% The service goes on.
    ?assertEqual(Number + 1, lwm2m_gateway:registrations(gateway())),
    command(<<"before">>, 1, "read", "/3/0/0"),
    device:reply(First, device:request(First), <<"x">>),
    wait(fun() -> [] =/= answers(1) end),
    ?assertMatch([{_, _}], [binary:match(Answer, <<"\"durable\":false">>) || Answer <- answers(1)]),
    %% Room again: what was kept in memory is written.
    ok = file:delete(Filler),
    "" = os:cmd("mount -o remount,size=40m " ++ Folder),
    wait(fun() -> [] =:= Alarms() end),
    written(),
    restart(),
    wait(fun() -> Number + 1 =:= length(stand_in:clients()) end),
    device:close(First),
    device:close(Device),
    stop().

fill(File) ->
    case file:write(File, binary:copy(<<0>>, 4096)) of
        ok -> fill(File);
        {error, enospc} -> file:close(File)
    end.

register_until(Done, Device, Number) when Number < 300 ->
    Endpoint = <<"more-", (integer_to_binary(Number))/binary>>,
    {ok, _} = device:register(Device, Endpoint, [<<"filler=", (binary:copy(<<"x">>, 250))/binary>> || _ <- lists:seq(1, 4)]),
    timer:sleep(60),
    case Done() of
        true -> Number;
        false -> register_until(Done, Device, Number + 1)
    end.

%% All are clients again, each once.
many_devices() ->
    start(at_port()),
    Number = 200,
    Device = device:open(gateway()),
    Endpoint = fun(N) -> <<"many-", (integer_to_binary(N))/binary>> end,
    Locations = [begin {ok, L} = device:register(Device, Endpoint(N)), L end || N <- lists:seq(1, Number)],
    written(),
    restart(),
    wait(fun() -> Number =:= length(stand_in:clients()) end),
    ?assertEqual(Number, length(filters())),
    ?assertEqual(Number, length(connected())),
    ?assertEqual(Number, lwm2m_gateway:registrations(gateway())),
    ?assertEqual({2, 4}, device:update(Device, lists:last(Locations))),
    device:close(Device),
    stop().
