%% The plugin's configuration: one that cannot be read, and keys.
-module(lwm2m_gateway_emqx_keys_tests).

-include_lib("eunit/include/eunit.hrl").

-import(plugin, [
    start/0, stop/0, wait/1
]).

-define(APP, lwm2m_gateway).
-define(OWNER, lwm2m_gateway_emqx_owner).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        {timeout, 20, fun unreadable_configuration/0},
        {timeout, 20, fun keys_are_hidden/0},
        {timeout, 20, fun keys_of_another_node/0},
        {timeout, 20, fun refused_where_emqx_hears_it/0},
        fun stars/0
    ]}.

%% EMQX has none then. The last good one counts, and is not lost.
unreadable_configuration() ->
    start(),
    Good = #{<<"publish_deregister">> => true, <<"psk_credentials">> => [credential(<<"a">>, <<"00ff">>)]},
    ok = put_config(Good),
    stop(),
    [
        begin
            stand_in:unset(plugin_config),
            ok = application:start(?APP),
            ?assertMatch([{<<"lwm2m_gateway_config">>, <<"config: config.hocon", _/binary>>}], stand_in:alarms()),
            ?assertEqual({ok, Good}, lwm2m_gateway_emqx_accepted:read()),
            ?assertMatch(#{<<"psk_credentials">> := [#{<<"key">> := <<"00ff">>}]}, in_force()),
            stop()
        end
     || _ <- [1, 2]
    ],
    %% Without one that was good there are the defaults, which are not taken for good.
    _ = file:delete(lwm2m_gateway_emqx_accepted:file()),
    ok = application:start(?APP),
    ?assertMatch([{<<"lwm2m_gateway_config">>, <<"config: config.hocon", _/binary>>}], stand_in:alarms()),
    ?assertEqual(error, lwm2m_gateway_emqx_accepted:read()),
    ok = put_config(Good),
    ?assertEqual([], stand_in:alarms()),
    stop().

keys_are_hidden() ->
    Further = <<"{\"listeners\": {\"dtls\": {\"x\": {\"bind\": 0, \"psk\": [{\"identity\": \"f\", \"key\": \"1234\"}]}}}}">>,
    Given = #{<<"psk_credentials">> => [credential(<<"a">>, <<"00ff">>), credential(<<"b">>, <<"text:x">>)], <<"further">> => Further},
    start(),
    ok = put_config(Given),
    wait(fun() -> shown() =/= Given end),
    Stars = <<"******">>,
    Shown = shown(),
    ?assertMatch(#{<<"psk_credentials">> := [#{<<"identity">> := <<"a">>, <<"key">> := Stars}, #{<<"key">> := Stars}]}, Shown),
    #{<<"further">> := Text} = Shown,
    ?assertMatch({_, _}, binary:match(Text, Stars)),
    ?assertEqual(nomatch, binary:match(Text, <<"1234">>)),
    ?assertEqual(Given, keys_in(in_force())),
    %% Stars that come back change nothing but what else was changed.
    ok = put_config(Shown#{<<"publish_deregister">> => true}),
    ?assertEqual([], stand_in:alarms()),
    ?assertEqual(Given, keys_in(in_force())),
    ?assertMatch(#{<<"publish_deregister">> := true}, in_force()),
    %% Nor does a new start.
    stop(),
    ok = application:start(?APP),
    ?assertEqual([], stand_in:alarms()),
    ?assertEqual(Given, keys_in(in_force())),
    %% One changes, one is new, one has another name and so no key.
    ok = put_config(#{<<"psk_credentials">> => [credential(<<"a">>, <<"11">>), credential(<<"b">>, Stars)]}),
    wait(fun() -> not lists:member(<<"11">>, [K || #{<<"key">> := K} <- maps:get(<<"psk_credentials">>, shown())]) end),
    ?assertMatch(#{<<"psk_credentials">> := [#{<<"key">> := <<"11">>}, #{<<"key">> := <<"text:x">>}]}, in_force()),
    ok = put_config(#{<<"psk_credentials">> => [credential(<<"a">>, <<"22">>), credential(<<"c">>, Stars)]}),
    ?assertMatch([{<<"lwm2m_gateway_config">>, <<"psk_credentials: stars stand for", _/binary>>}], stand_in:alarms()),
    ?assertMatch(#{<<"psk_credentials">> := [#{<<"key">> := <<"11">>}, _]}, in_force()),
    %% Keys of what was refused are not shown either, and may be sent back.
    wait(fun() -> [Stars, Stars] =:= [K || #{<<"key">> := K} <- maps:get(<<"psk_credentials">>, shown())] end),
    ok = put_config(#{<<"psk_credentials">> => [credential(<<"a">>, Stars)]}),
    ?assertEqual([], stand_in:alarms()),
    ?assertMatch(#{<<"psk_credentials">> := [#{<<"key">> := <<"22">>}]}, in_force()),
    %% Those that were there before the plugin started.
    stop(),
    stand_in:set(plugin_config, Given),
    ok = application:start(?APP),
    wait(fun() -> shown() =:= lwm2m_gateway_emqx_secrets:hidden(Given) end),
    ?assertEqual(Given, keys_in(in_force())),
    stop().

%% At the start of a node EMQX takes what another shows.
keys_of_another_node() ->
    start(),
    Stars = #{<<"psk_credentials">> => [credential(<<"a">>, <<"******">>)]},
    stop(),
    _ = file:delete(lwm2m_gateway_emqx_accepted:file()),
    stand_in:set(plugin_config, Stars),
    ?assertMatch({error, _}, application:start(?APP)),
    ?assertMatch([{<<"lwm2m_gateway_config">>, <<"psk_credentials: stars", _/binary>>}], stand_in:alarms()),
    ok = lwm2m_gateway_emqx_accepted:write(#{<<"psk_credentials">> => [credential(<<"a">>, <<"77">>)]}),
    ok = application:start(?APP),
    ?assertMatch(#{<<"psk_credentials">> := [#{<<"key">> := <<"77">>}]}, in_force()),
    stop().

%% EMQX 5.9 and later.
refused_where_emqx_hears_it() ->
    [Former] = [M || {emqx_plugins, _} = M <- stand_in:functions(before_5_9)],
    stand_in:load_modules([M || {emqx_plugins, _} = M <- stand_in:functions(since_5_9)]),
    try
        start(),
        Given = #{<<"psk_credentials">> => [credential(<<"a">>, <<"00ff">>)]},
        ok = stand_in:call(emqx_plugins, update_config, [<<"lwm2m_gateway">>, Given]),
        wait(fun() -> shown() =:= lwm2m_gateway_emqx_secrets:hidden(Given) end),
        ?assertMatch(
            {error, <<"format: ", _/binary>>},
            stand_in:call(emqx_plugins, update_config, [<<"lwm2m_gateway">>, Given#{<<"format">> => <<"nonsense">>}])
        ),
        ?assertEqual([], stand_in:alarms()),
        ?assertEqual(Given, keys_in(in_force())),
        stop()
    after
        stand_in:load_modules([Former])
    end.

stars() ->
    Hidden = fun lwm2m_gateway_emqx_secrets:hidden/1,
    %% What has no keys stays as it is, also a text that is not as we would write it.
    Plain = #{<<"further">> => <<"{ \"coap\" : {} }">>, <<"psk_credentials">> => [], <<"psk_file_keys">> => <<"hex">>},
    ?assertEqual(Plain, Hidden(Plain)),
    ?assertEqual(#{<<"further">> => <<"[">>}, Hidden(#{<<"further">> => <<"[">>})),
    ?assertEqual(#{}, lwm2m_gateway_emqx_secrets:keys(Plain)),
    %% The same identity in two places has two keys.
    Two = #{
        <<"psk_credentials">> => [credential(<<"a">>, <<"01">>)],
        <<"further">> => stand_in_json:encode(#{<<"x">> => [#{<<"identity">> => <<"a">>, <<"key">> => <<"02">>}]})
    },
    Keys = lwm2m_gateway_emqx_secrets:keys(Two),
    ?assertEqual([<<"01">>, <<"02">>], lists:sort(maps:values(Keys))),
    {ok, Again} = lwm2m_gateway_emqx_secrets:revealed(Hidden(Two), Keys),
    ?assertEqual(Keys, lwm2m_gateway_emqx_secrets:keys(Again)),
    ?assertEqual(#{}, lwm2m_gateway_emqx_secrets:keys(Hidden(Two))),
    ?assertMatch(
        {error, {invalid_config, [{<<"further">>, <<_, _/binary>>}]}},
        lwm2m_gateway_emqx_secrets:revealed(maps:with([<<"further">>], Hidden(Two)), #{})
    ).

credential(Identity, Key) ->
    #{<<"identity">> => Identity, <<"key">> => Key, <<"endpoints">> => []}.

%% As EMQX's HTTP API does it.
put_config(Config) ->
    stand_in:call(emqx_plugins, put_config, [<<"lwm2m_gateway">>, Config, Config]).

shown() ->
    {ok, Config} = lwm2m_gateway_emqx_stored:read(),
    Config.

in_force() ->
    {ok, Config} = lwm2m_gateway_emqx_accepted:read(),
    Config.

%% The text of `further' is another after it was hidden, with the same in it.
keys_in(Config) ->
    case maps:with([<<"psk_credentials">>, <<"further">>], Config) of
        #{<<"further">> := Text} = Keys ->
            case stand_in_json:decode(Text) of
                #{<<"listeners">> := _} = Further ->
                    Original = <<"{\"listeners\": {\"dtls\": {\"x\": {\"bind\": 0, \"psk\": [{\"identity\": \"f\", \"key\": \"1234\"}]}}}}">>,
                    ?assertEqual(stand_in_json:decode(Original), Further),
                    Keys#{<<"further">> => Original};
                _ ->
                    Keys
            end;
        Keys ->
            Keys
    end.
