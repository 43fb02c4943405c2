-module(lwm2m_gateway_emqx_tests).

-include_lib("eunit/include/eunit.hrl").

-include_lib("kernel/include/file.hrl").

-import(plugin, [
    config/0, free_port/0, gateway/0, hooks/0, is_type/2, registered/1, start/0, start/1, start/2, stop/0, update/1, wait/1, crash/0
]).

-export([log/2]).

-define(APP, lwm2m_gateway).
-define(OWNER, lwm2m_gateway_emqx_owner).

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        fun package_is_one_application/0,
        fun configuration_page/0,
        {timeout, 20, fun take_over_and_back/0},
        {timeout, 20, fun failed_start_gives_back/0},
        {timeout, 20, fun second_start/0},
        {timeout, 20, fun disabled_gateway/0},
        {timeout, 20, fun configuration_maps/0},
        {timeout, 20, fun certificates/0},
        {timeout, 20, fun update_condition/0},
        {timeout, 20, fun plugin_configuration_before_it_is_visible/0},
        {timeout, 20, fun refused_configuration_and_restart/0},
        {timeout, 20, fun alarm_shows_the_newest_reason/0},
        {timeout, 20, fun keys_are_checked_without_listener/0},
        {timeout, 20, fun warned_once/0},
        {timeout, 20, fun listener_changed/0},
        {timeout, 20, fun mountpoint_changed/0},
        {timeout, 20, fun listeners_are_shown/0},
        {timeout, 20, fun device_is_a_client/0},
        {timeout, 20, fun calls_of_a_registration/0},
        {timeout, 20, fun device_leaves/0},
        {timeout, 20, fun kick/0},
        {timeout, 20, fun commands_and_results/0},
        {timeout, 20, fun b14_response_topic/0},
        {timeout, 20, fun observe_over_http/0},
        {timeout, 20, fun subscriptions_through_the_api/0},
        {timeout, 20, fun slow_authenticator/0},
        {timeout, 20, fun refused_device/0},
        {timeout, 20, fun refused_address/0},
        {timeout, 20, fun mountpoint_of_the_authenticator/0},
        {timeout, 20, fun authentication_expires/0},
        {timeout, 20, fun names_that_emqx_authenticates/0},
        fun rules_of_registration/0,
        {timeout, 20, fun publish_denied/0},
        {timeout, 20, fun traces_by_client/0},
        {timeout, 20, fun register_again/0},
        {timeout, 20, fun another_client_id/0},
        {timeout, 20, fun commands_wait_for_the_registration/0},
        {timeout, 20, fun key_of_the_broker/0},
        {timeout, 20, fun session_moves/0},
        {timeout, 20, fun session_of_a_node_that_is_down/0},
        {timeout, 20, fun owner_crashes/0},
        {timeout, 20, fun owner_keeps_crashing/0},
        {timeout, 20, fun process_of_a_device_dies/0},
        {timeout, 20, fun c8_commands_under_way_are_answered_at_the_end/0},
        {timeout, 20, fun broker_fails/0},
        {timeout, 30, fun counters_of_the_gateway/0},
        fun results_are_bounded/0,
        fun discover_for_the_api/0
    ]}.

%% The package.

package_is_one_application() ->
    {ok, Text} = file:read_file(filename:join(os:getenv("PACKAGE"), "release.json")),
    #{<<"name">> := Name, <<"rel_vsn">> := Version, <<"rel_apps">> := Apps} = Release = stand_in_json:decode(Text),
    NameVersion = <<Name/binary, "-", Version/binary>>,
    ?assertEqual([NameVersion], Apps),
    ?assertEqual(NameVersion, iolist_to_binary(filename:basename(os:getenv("PACKAGE")))),
    ?assertMatch(#{<<"with_config_schema">> := true, <<"description">> := <<_, _/binary>>}, Release),
    {ok, [{application, ?APP, Keys}]} = file:consult(filename:join([os:getenv("APP"), "ebin", "lwm2m_gateway.app"])),
    ?assertEqual({lwm2m_gateway_emqx_app, []}, proplists:get_value(mod, Keys)),
    Applications = proplists:get_value(applications, Keys),
    ?assert(lists:member(emqx_gateway, Applications)),
    %% EMQX calls this by the name of the plugin.
    {module, _} = code:ensure_loaded(lwm2m_gateway_app),
    ?assert(erlang:function_exported(lwm2m_gateway_app, on_config_changed, 2)).

%% Each field has texts in both languages and a default, which is the gateway's own.
configuration_page() ->
    Priv = filename:join(os:getenv("APP"), "priv"),
    {ok, Schema} = file:read_file(filename:join(Priv, "config_schema.avsc")),
    {ok, I18n} = file:read_file(filename:join(Priv, "config_i18n.json")),
    {ok, Hocon} = file:read_file(filename:join(Priv, "config.hocon")),
    #{<<"fields">> := Fields} = stand_in_json:decode(Schema),
    Texts = stand_in_json:decode(I18n),
    {match, Used} = re:run(Schema, "\"(\\$[a-z0-9_]+)\"", [global, {capture, [1], binary}]),
    Ids = lists:usort(lists:append(Used)) -- [<<"$ui">>],
    [?assertMatch({Id, #{Id := #{<<"en">> := <<_, _/binary>>, <<"zh">> := <<_, _/binary>>}}}, {Id, Texts}) || Id <- Ids],
    ?assertEqual([], maps:keys(Texts) -- Ids),
    Names = [Name || #{<<"name">> := Name, <<"default">> := _} <- Fields],
    ?assertEqual(length(Fields), length(Names)),
    {match, Defaults} = re:run(Hocon, "^([a-z0-9_]+) = ", [global, multiline, {capture, [1], binary}]),
    ?assertEqual(lists:sort(Names), lists:sort(lists:append(Defaults))).

%% Take-over.

take_over_and_back() ->
    start(),
    ?assertEqual(
        [{unreg, [lwm2m]}, {reg, [lwm2m, [{cbkmod, lwm2m_gateway_emqx}, {schema, emqx_lwm2m_schema}]]}],
        stand_in:calls(emqx_gateway_registry)
    ),
    Order = [
        {Module, Function}
     || {Module, Function, _} <- stand_in:calls(),
        lists:member(Module, [emqx_conf, emqx_gateway, emqx_gateway_registry])
    ],
    Replacement = [
        {emqx_conf, get},
        {emqx_gateway, unload},
        {emqx_gateway_registry, unreg},
        {emqx_gateway_registry, reg},
        {emqx_gateway, load}
    ],
    ?assertEqual(Replacement, Order),
    ?assertMatch([_ | _], lwm2m_gateway:listeners(gateway())),
    stop(),
    ?assertEqual([lwm2m, [{cbkmod, emqx_gateway_lwm2m}, {schema, emqx_lwm2m_schema}]], last_registered()),
    ?assertEqual(false, erlang:module_loaded(lwm2m_gateway_nif)),
    ?assertEqual(undefined, whereis(?OWNER)),
    ?assertEqual([], stand_in:listeners()).

last_registered() ->
    {reg, Arguments} = lists:last(stand_in:calls(emqx_gateway_registry)),
    Arguments.

failed_start_gives_back() ->
    stand_in:reset(),
    stand_in:set(config, (config())#{listeners => #{udp => #{default => #{bind => {{1, 2, 3, 4}, 57000}}}}}),
    ?assertMatch({error, {{badconf, #{key := listeners}}, _}}, application:start(?APP)),
    ?assertMatch([lwm2m, [{cbkmod, emqx_gateway_lwm2m} | _]], last_registered()),
    ?assertEqual(false, erlang:module_loaded(lwm2m_gateway_nif)),
    %% And what failed once starts when the reason is gone.
    stand_in:set(config, config()),
    ok = application:start(?APP),
    stop().

second_start() ->
    [
        begin
            start(),
            {_, Device} = registered(<<"again">>),
            device:close(Device),
            stop()
        end
     || _ <- lists:seq(1, 3)
    ].

disabled_gateway() ->
    stand_in:reset(),
    ok = application:start(?APP),
    ?assertEqual([{unload, [lwm2m]}], stand_in:calls(emqx_gateway)),
    ?assertEqual(ok, lwm2m_gateway_app:on_config_changed(#{}, #{})),
    stop().

%% Configuration.

configuration_maps() ->
    start(),
    Emqx = (config())#{
        xml_dir => <<"/tmp">>,
        lifetime_min => 15000,
        lifetime_max => 86400000,
        qmode_time_window => 22,
        auto_observe => true,
        idle_timeout => 30000,
        enable_stats => true,
        update_msg_publish_condition => contains_object_list,
        listeners => #{
            udp => #{
                port => #{bind => 5783, max_connections => 1024, enable => true, access_rules => ["allow 10.0.0.1", "deny ::1"], max_conn_rate => 1000, udp_options => #{recbuf => 1024, active_n => 100}},
                six => #{bind => {{0, 0, 0, 0, 0, 0, 0, 1}, 5784}, max_connections => infinity, mountpoint => <<"x/${client_attrs.group}/">>}
            },
            dtls => #{
                sec => #{
                    bind => {{127, 0, 0, 1}, 5684},
                    dtls_options => #{
                        ciphers => ["ECDHE-ECDSA-AES256-GCM-SHA384", "PSK-AES128-GCM-SHA256"],
                        handshake_timeout => 15000,
                        hibernate_after => 5000,
                        reuse_sessions => true,
                        versions => ['dtlsv1.2', dtlsv1],
                        certfile => <<"cert.pem">>
                    }
                }
            }
        }
    },
    Plugin = #{
        <<"psk_credentials">> => [
            #{<<"identity">> => <<"a">>, <<"key">> => <<"text:secret">>, <<"endpoints">> => []},
            #{<<"identity">> => <<"b">>, <<"key">> => <<"00ff">>, <<"endpoints">> => [<<"b-*">>]}
        ],
        <<"psk_file">> => <<>>,
        <<"psk_endpoint_rule">> => <<"equal">>,
        <<"series_enable">> => true,
        <<"series_mapping">> => #{<<"/3303/0/5700">> => <<"temperature">>},
        <<"legacy_enable">> => true,
        <<"legacy_command_topic">> => <<"command">>,
        <<"queue_max_commands">> => 7,
        <<"compat_location">> => <<"endpoint">>,
        <<"send_topic">> => <<"up/send">>,
        <<"further">> => <<"{\"coap\": {\"nstart\": 2}, \"compat\": {\"bad_version\": \"4.00\"}}">>
    },
    {ok, Config} = lwm2m_gateway_emqx_config:to_gateway(Emqx, Plugin, "5.8.9"),
    ?assertMatch(
        #{
            <<"lifetime_max">> := <<"86400000ms">>,
            <<"qmode_time_window">> := 22,
            <<"auto_observe">> := true,
            <<"coap">> := #{<<"nstart">> := 2},
            <<"queue">> := #{<<"max_commands">> := 7},
            <<"series">> := #{<<"mapping">> := #{<<"/3303/0/5700">> := <<"temperature">>}},
            <<"compat">> := #{
                <<"location">> := <<"endpoint">>, <<"bad_version">> := <<"4.00">>, <<"firmware_topic">> := true
            },
            <<"translators">> := #{
                <<"command">> := #{<<"topic">> := <<"dn/#">>},
                <<"series">> := #{<<"enable">> := true},
                <<"send">> := #{<<"topic">> := <<"up/send">>},
                <<"legacy">> := #{<<"enable">> := true, <<"command">> := #{<<"topic">> := <<"command">>}}
            },
            <<"listeners">> := #{
                <<"udp">> := #{
                    <<"port">> := #{
                        <<"bind">> := 5783,
                        <<"max_connections">> := 1024,
                        <<"max_conn_rate">> := 1000,
                        <<"access_rules">> := [<<"allow 10.0.0.1">>, <<"deny ::1">>],
                        <<"udp_options">> := #{<<"recbuf">> := 4096}
                    },
                    <<"six">> := #{<<"bind">> := <<"[::1]:5784">>, <<"mountpoint">> := <<"x/${client_attrs.group}/">>}
                },
                <<"dtls">> := #{
                    <<"sec">> := #{
                        <<"bind">> := <<"127.0.0.1:5684">>,
                        <<"psk">> := [#{<<"identity">> := <<"a">>}, #{<<"endpoints">> := [<<"b-*">>]}],
                        <<"endpoint_rule">> := <<"equal">>,
                        <<"dtls_options">> := #{
                            <<"ciphers">> := [<<"PSK-AES128-CCM8">>, <<"PSK-AES128-CCM">>, <<"PSK-AES128-GCM-SHA256">>],
                            <<"handshake_timeout">> := <<"15000ms">>
                        }
                    }
                }
            }
        },
        Config
    ),
    ?assertMatch({ok, _}, lwm2m_gateway:check_config(Config)),
    ?assertMatch(
        #{commands := [{<<"dn/#">>, 0}, {<<"command">>, 0}]},
        lwm2m_gateway_emqx_config:settings(Emqx, Config)
    ),
    ?assertMatch(
        {error, {invalid_config, [{<<"further">>, _}]}},
        lwm2m_gateway_emqx_config:to_gateway(Emqx, #{<<"further">> => <<"[">>}, "5.8.9")
    ),
    stop().

%% Those of a DTLS listener count with `verify_peer', as EMQX's own gateway uses them.
certificates() ->
    os:putenv("EMQX_TEST_ETC", "/etc/emqx"),
    Suites = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "PSK-AES128-GCM-SHA256"],
    Options = #{
        certfile => <<"${EMQX_TEST_ETC}/certs/cert.pem">>,
        keyfile => <<"/certs/key.pem">>,
        cacertfile => "/certs/cacert.pem",
        password => fun() -> <<"secret">> end,
        verify => verify_peer,
        fail_if_no_peer_cert => false,
        depth => 10,
        ciphers => Suites,
        versions => ['dtlsv1.2']
    },
    Mapped = fun(Dtls, Plugin) ->
        Listener = #{bind => {{127, 0, 0, 1}, 5684}, dtls_options => Dtls},
        Emqx = (config())#{listeners => #{dtls => #{sec => Listener}}},
        {ok, Config} = lwm2m_gateway_emqx_config:to_gateway(Emqx, Plugin, "5.8.9"),
        #{<<"listeners">> := #{<<"dtls">> := #{<<"sec">> := #{<<"dtls_options">> := Found}}}} = Config,
        ?assertMatch({ok, _}, lwm2m_gateway:check_config(Config)),
        Found
    end,
    Ciphers = [
        <<"PSK-AES128-CCM8">>,
        <<"PSK-AES128-CCM">>,
        <<"PSK-AES128-GCM-SHA256">>,
        <<"ECDHE-ECDSA-AES128-CCM8">>,
        <<"ECDHE-RSA-AES128-GCM-SHA256">>
    ],
    ?assertEqual(
        #{
            <<"certfile">> => <<"/etc/emqx/certs/cert.pem">>,
            <<"keyfile">> => <<"/certs/key.pem">>,
            <<"cacertfile">> => <<"/certs/cacert.pem">>,
            <<"password">> => <<"secret">>,
            <<"verify">> => <<"verify_peer">>,
            <<"depth">> => 10,
            <<"ciphers">> => Ciphers
        },
        Mapped(Options, #{})
    ),
    %% The plugin's list is about keys.
    Psk = #{<<"psk_ciphers">> => [<<"PSK-AES128-CCM8">>]},
    #{<<"ciphers">> := Own} = Mapped(Options#{ciphers => []}, Psk),
    ?assertEqual(
        [
            <<"PSK-AES128-CCM8">>,
            <<"ECDHE-ECDSA-AES128-CCM8">>,
            <<"ECDHE-ECDSA-AES128-GCM-SHA256">>,
            <<"ECDHE-RSA-AES128-GCM-SHA256">>
        ],
        Own
    ),
    %% EMQX's default: devices show none.
    ?assertEqual(
        #{<<"ciphers">> => lists:sublist(Ciphers, 3)}, Mapped(Options#{verify => verify_none}, #{})
    ).

update_condition() ->
    Condition = fun(Emqx, Plugin, Version) ->
        {ok, #{<<"update_msg_publish_condition">> := Value}} =
            lwm2m_gateway_emqx_config:to_gateway(Emqx, Plugin, Version),
        Value
    end,
    Emqx = (config())#{update_msg_publish_condition => contains_object_list},
    ?assertEqual(contains_object_list, Condition(Emqx, #{}, "5.8.9")),
    ?assertEqual(contains_object_list, Condition(Emqx, #{}, "6.2.2")),
    ?assertEqual(always, Condition((config())#{update_msg_publish_condition => always}, #{}, "5.8.9")),
    Key = <<"update_msg_publish_condition">>,
    Built = fun(Version) -> Condition(Emqx, #{Key => <<"emqx">>}, Version) end,
    [?assertEqual({V, <<"always">>}, {V, Built(V)}) || V <- ["5.8.9", "5.10.4", "6.0.3", "6.1.0"]],
    [?assertEqual({V, contains_object_list}, {V, Built(V)}) || V <- ["6.1.1", "6.2.2", "6.3.0-beta.2"]],
    ?assertEqual(contains_object_list, Condition(Emqx, #{Key => <<"gateway">>}, "5.8.9")),
    ?assertEqual(<<"object_list_changed">>, Condition(Emqx, #{Key => <<"object_list_changed">>}, "5.8.9")).

%% EMQX asks for the old value until the callback has returned.
plugin_configuration_before_it_is_visible() ->
    start(),
    stand_in:set(plugin_config, #{}),
    ok = lwm2m_gateway_app:on_config_changed(#{}, #{<<"publish_deregister">> => true}),
    {Location, Device} = registered(<<"bye">>),
    ?assertEqual({2, 2}, device:delete(Device, Location)),
    wait(fun() -> [] =/= [M || #{payload := P} = M <- stand_in:published(), is_type(P, <<"deregister">>)] end),
    %% A mistake is told by an alarm, and nothing changes.
    ok = lwm2m_gateway_app:on_config_changed(#{}, #{<<"lifetime_policy">> => <<"nonsense">>}),
    ?assertMatch([{activate, [<<"lwm2m_gateway_config">>, #{reason := _}, _]}], [C || {activate, _} = C <- stand_in:calls(emqx_alarm)]),
    ?assertMatch([_ | _], lwm2m_gateway:listeners(gateway())),
    ok = lwm2m_gateway_app:on_config_changed(#{}, #{}),
    ?assertEqual([], stand_in:alarms()),
    stop().

%% EMQX stores what was refused; the plugin starts with what was good.
refused_configuration_and_restart() ->
    start(),
    Good = #{<<"publish_deregister">> => true},
    Bad = #{<<"format">> => <<"nonsense">>},
    ok = lwm2m_gateway_app:on_config_changed(#{}, Good),
    ok = lwm2m_gateway_app:on_config_changed(Good, Bad),
    stand_in:set(plugin_config, Bad),
    stop(),
    ?assertEqual([], stand_in:alarms()),
    ok = application:start(?APP),
    ?assertMatch([{<<"lwm2m_gateway_config">>, <<"format: ", _/binary>>}], stand_in:alarms()),
    {Location, Device} = registered(<<"bye">>),
    ?assertEqual({2, 2}, device:delete(Device, Location)),
    wait(fun() -> [] =/= [M || #{payload := P} = M <- stand_in:published(), is_type(P, <<"deregister">>)] end),
    %% What EMQX's gateway is given later goes with the good one.
    ?assertEqual(ok, update((config())#{lifetime_min => 2000})),
    ok = lwm2m_gateway_app:on_config_changed(Bad, #{}),
    ?assertEqual([], stand_in:alarms()),
    stop(),
    %% A file that is missing: without a listener that reads it this is no reason not to start.
    stand_in:set(plugin_config, #{<<"psk_file">> => <<"/nonexistent">>}),
    [
        begin
            ok = application:start(?APP),
            ?assertMatch([{<<"lwm2m_gateway_config">>, <<"psk_file: ", _/binary>>}], stand_in:alarms()),
            stop(),
            _ = file:delete(lwm2m_gateway_emqx_accepted:file())
        end
     || _ <- [1, 2]
    ],
    stand_in:set(plugin_config, Bad),
    %% None that works: the built-in gateway, and an alarm.
    ?assertMatch({error, _}, application:start(?APP)),
    ?assertMatch([lwm2m, [{cbkmod, emqx_gateway_lwm2m} | _]], last_registered()),
    ?assertMatch([{<<"lwm2m_gateway_config">>, _}], stand_in:alarms()),
    stand_in:set(plugin_config, Good),
    ok = application:start(?APP),
    ?assertEqual([], stand_in:alarms()),
    {ok, #file_info{mode = Mode}} = file:read_file_info(lwm2m_gateway_emqx_accepted:file()),
    ?assertEqual(8#600, Mode band 8#777),
    stop().

alarm_shows_the_newest_reason() ->
    start(),
    Reason = fun(Config) ->
        ok = lwm2m_gateway_app:on_config_changed(#{}, Config),
        [{<<"lwm2m_gateway_config">>, Text}] = stand_in:alarms(),
        Text
    end,
    ?assertMatch(<<"format: ", _/binary>>, Reason(#{<<"format">> => <<"nonsense">>})),
    ?assertMatch(<<"queue_max_age: ", _/binary>>, Reason(#{<<"queue_max_age">> => <<"abc">>})),
    ?assertMatch(<<"compat_location: ", _/binary>>, Reason(#{<<"compat_location">> => <<"abc">>})),
    ?assertMatch(<<"series_qos: ", _/binary>>, Reason(#{<<"series_qos">> => 7})),
    ?assertMatch(<<"legacy_command_topic: ", _/binary>>, Reason(#{<<"legacy_command_topic">> => <<"a/#/b">>, <<"legacy_enable">> => true})),
    ?assertEqual(<<"further: must be a JSON object">>, Reason(#{<<"further">> => <<"[">>})),
    stop().

keys_are_checked_without_listener() ->
    start(),
    [
        begin
            ok = lwm2m_gateway_app:on_config_changed(#{}, Config),
            ?assertMatch({Key, [{<<"lwm2m_gateway_config">>, <<Key:(byte_size(Key))/binary, ": ", _/binary>>}]}, {Key, stand_in:alarms()})
        end
     || {Key, Config} <- [
            {<<"psk_takeover">>, #{<<"psk_takeover">> => <<"nonsense">>}},
            {<<"psk_credentials">>, #{<<"psk_credentials">> => [#{<<"identity">> => <<"x">>, <<"key">> => <<"zz">>, <<"endpoints">> => []}]}},
            {<<"psk_ciphers">>, #{<<"psk_ciphers">> => [<<"nonsense">>]}},
            {<<"psk_file">>, #{<<"psk_file">> => <<"/nonexistent">>}}
        ]
    ],
    ok = lwm2m_gateway_app:on_config_changed(#{}, #{<<"psk_credentials">> => [#{<<"identity">> => <<"x">>, <<"key">> => <<"00ff">>, <<"endpoints">> => []}]}),
    ?assertEqual([], stand_in:alarms()),
    ?assertMatch([{<<"udp:default">>, _}], lwm2m_gateway:listeners(gateway())),
    stop().

warned_once() ->
    Warned = fun(Fun) ->
        Self = self(),
        Handler = #{config => #{to => Self}, level => warning},
        ok = logger:add_handler(?MODULE, ?MODULE, Handler),
        ok = logger:set_handler_config(default, level, none),
        ok = logger:set_primary_config(level, warning),
        Fun(),
        ok = logger:set_primary_config(level, none),
        ok = logger:remove_handler(?MODULE),
        logged()
    end,
    Dtls = fun(Listener) ->
        Bind = #{bind => {{127, 0, 0, 1}, 0}, dtls_options => #{}},
        (config())#{listeners => #{dtls => #{sec => maps:merge(Bind, Listener)}}}
    end,
    start(),
    ?assertEqual([], Warned(fun() -> ok = update((config())#{lifetime_min => 2000}) end)),
    ?assertEqual([], Warned(fun() -> ok = update(Dtls(#{enable => false})) end)),
    ?assertMatch([<<"listeners.dtls.sec">>], Warned(fun() -> ok = update(Dtls(#{})) end)),
    ?assertEqual([], Warned(fun() -> ok = update((Dtls(#{}))#{lifetime_min => 2000}) end)),
    stop().

%% As a handler of the logger.
log(#{msg := {report, #{key := Key}}}, #{config := #{to := Pid}}) ->
    Pid ! {logged, Key};
log(_Event, _Config) ->
    ok.

logged() ->
    receive
        {logged, Key} -> [Key | logged()]
    after 0 -> []
    end.

listener_changed() ->
    start(),
    {_, Device} = registered(<<"stays">>),
    Two = #{udp => #{default => #{bind => {{127, 0, 0, 1}, 0}}, more => #{bind => {{127, 0, 0, 1}, 0}}}},
    ?assertEqual(ok, update((config())#{listeners => Two})),
    ?assertEqual(2, length(lwm2m_gateway:listeners(gateway()))),
    ?assertEqual(2, length(stand_in:listeners())),
    ?assertMatch([{<<"stays">>, _}], stand_in:clients()),
    %% One that cannot be: all stays as it was, and EMQX can tell its user.
    Bad = #{udp => #{default => #{bind => {{1, 2, 3, 4}, 57000}}}},
    ?assertMatch({error, {badconf, #{key := listeners}}}, update((config())#{listeners => Bad})),
    ?assertEqual(2, length(lwm2m_gateway:listeners(gateway()))),
    device:close(Device),
    stop().

%% Devices stay registered and listen to the new topics.
mountpoint_changed() ->
    start(),
    {_, Device} = registered(<<"moved">>),
    Config = config(),
    #{translators := Translators} = Config,
    Read = <<"{\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/1\"}}">>,
    ?assertEqual(ok, update(Config#{mountpoint => <<"new/${endpoint_name}/">>})),
    wait(fun() -> [<<"new/moved/dn/#">>] =:= [F || {F, _, _} <- stand_in:subscriptions()] end),
    stand_in:publish(<<"new/moved/dn/x">>, Read),
    {{0, 1}, [<<"3">>, <<"0">>, <<"1">>], _, _} = Request = device:request(Device),
    device:reply(Device, Request, <<"x">>),
    ?assertMatch([{_, #{clientinfo := #{mountpoint := <<"new/moved/">>}}}], stand_in:clients()),
    %% Another command topic, and back.
    ?assertEqual(ok, update(Config#{translators => Translators#{command => #{topic => <<"c">>, qos => 1}}})),
    wait(fun() -> [{<<"lwm2m/moved/c">>, 1}] =:= [{F, Q} || {F, _, #{qos := Q}} <- stand_in:subscriptions()] end),
    stand_in:publish(<<"lwm2m/moved/c">>, Read),
    ?assertMatch({{0, 1}, _, _, _}, device:request(Device)),
    device:close(Device),
    stop().

listeners_are_shown() ->
    start(),
    [{'lwm2m:udp:default', {{127, 0, 0, 1}, 0}} = Name] = stand_in:listeners(),
    [Pid] = [Pid || {{listener, N}, Pid} <- ets:tab2list(stand_in), N =:= Name],
    ?assertEqual(0, lwm2m_gateway_emqx_listener:get_current_connections(Pid)),
    {_, Device} = registered(<<"counted">>),
    wait(fun() -> lwm2m_gateway_emqx_listener:get_current_connections(Pid) =:= 1 end),
    ?assertEqual(1024, lwm2m_gateway_emqx_listener:get_max_connections(Pid)),
    device:close(Device),
    stop().

%% Clients.

device_is_a_client() ->
    start(),
    {_, Device} = registered(<<"ep1">>),
    [{<<"ep1">>, Info}] = stand_in:clients(),
    #{conninfo := ConnInfo, clientinfo := ClientInfo, conn_state := connected, session := #{created_at := _}} = Info,
    ?assertMatch(
        #{
            proto_name := <<"LwM2M">>,
            proto_ver := <<"1.1">>,
            keepalive := 300,
            clean_start := true,
            expiry_interval := 0,
            peername := {{127, 0, 0, 1}, _},
            connected_at := _,
            conn_mod := lwm2m_gateway_emqx_device
        },
        ConnInfo
    ),
    ?assertMatch(
        #{
            zone := default,
            protocol := lwm2m,
            listener := 'lwm2m:udp:default',
            clientid := <<"ep1">>,
            username := <<"ep1">>,
            endpoint_name := <<"ep1">>,
            lifetime := 300,
            mountpoint := <<"lwm2m/ep1/">>,
            is_bridge := false,
            peerhost := {127, 0, 0, 1}
        },
        ClientInfo
    ),
    ?assertEqual(error, maps:find(password, ClientInfo)),
    wait(fun() ->
        [Stats] = [S || {{info, {<<"ep1">>, _}}, _, S} <- ets:tab2list(stand_in)],
        {1, 1} =:= {proplists:get_value(recv_msg, Stats), proplists:get_value(send_pkt, Stats)}
    end),
    ?assertMatch([{<<"lwm2m/ep1/dn/#">>, <<"ep1">>, #{qos := 0, rh := 1}}], stand_in:subscriptions()),
    wait(fun() -> stand_in:published() =/= [] end),
    [#{from := <<"ep1">>, topic := <<"lwm2m/ep1/up/resp">>, qos := 0, flags := #{retain := false}}] = stand_in:published(),
    ?assertEqual(['client.connect', 'client.connack', 'client.connected', 'session.subscribed'], hooks()),
    device:close(Device),
    stop().

%% Each costs; docs/emqx.md has the list.
calls_of_a_registration() ->
    start(),
    stand_in:forget(),
    {_, Device} = registered(<<"calls">>),
    wait(fun() -> [] =/= [P || #{payload := P} <- stand_in:published(), is_type(P, <<"register">>)] end),
    _ = sys:get_state(stand_in:client(<<"calls">>)),
    Counted = lists:foldl(
        fun({Module, Function, _}, To) -> maps:update_with({Module, Function}, fun(N) -> N + 1 end, 1, To) end,
        #{},
        [Call || {Module, _, _} = Call <- stand_in:calls(), Module =/= emqx_gateway_metrics]
    ),
    ?assertEqual(
        #{
            {emqx_broker, publish} => 1,
            {emqx_broker, subscribe} => 1,
            {emqx_gateway_ctx, authenticate} => 1,
            {emqx_gateway_ctx, authorize} => 2,
            {emqx_gateway_ctx, connection_expire_interval} => 1,
            {emqx_gateway_ctx, insert_channel_info} => 1,
            {emqx_gateway_ctx, metrics_inc} => 4,
            {emqx_gateway_ctx, open_session} => 1,
            {emqx_gateway_ctx, set_chan_stats} => 1,
            {emqx_gateway_utils, default_subopts} => 1,
            {emqx_hooks, run} => 3,
            {emqx_hooks, run_fold} => 1,
            {emqx_logger, set_metadata_clientid} => 1,
            {emqx_logger, set_metadata_peername} => 1,
            {emqx_message, make} => 1,
            {emqx_mountpoint, mount} => 1,
            {esockd, format} => 1,
            {esockd_access, match} => 1
        },
        Counted
    ),
    device:close(Device),
    stop().

device_leaves() ->
    start(),
    {Location, Device} = registered(<<"ep2">>),
    ?assertEqual({2, 2}, device:delete(Device, Location)),
    wait(fun() -> stand_in:clients() =:= [] end),
    ?assertEqual([], stand_in:subscriptions()),
    ?assertEqual(undefined, stand_in:client(<<"ep2">>)),
    ?assertEqual(
        ['client.disconnected', 'session.terminated', 'session.unsubscribed'],
        lists:sort(lists:nthtail(4, hooks()))
    ),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    stop().

kick() ->
    start(),
    {Location, Device} = registered(<<"ep3">>),
    ok = lwm2m_gateway_emqx_device:call(stand_in:client(<<"ep3">>), kick, 5000),
    ?assertEqual([], stand_in:clients()),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 0 end),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    ?assertMatch({ok, _}, device:register(Device, <<"ep3">>)),
    ?assertMatch([_], stand_in:clients()),
    stop().

commands_and_results() ->
    start(),
    {_, Device} = registered(<<"ep4">>),
    Pid = stand_in:client(<<"ep4">>),
    Lookup = fun(Path, Action) ->
        {ok, Result} = gen_server:call(Pid, {lookup_cmd, Path, Action}),
        Result
    end,
    ?assertEqual(undefined, Lookup(<<"/3/0/0">>, <<"read">>)),
    ok = gen_server:call(Pid, {send_cmd, #{<<"msgType">> => <<"read">>, <<"data">> => #{<<"path">> => <<"/3/0/0">>}}}),
    Request = {{0, 1}, [<<"3">>, <<"0">>, <<"0">>], _, _} = device:request(Device),
    device:reply(Device, Request, <<"EMQ">>),
    wait(fun() -> Lookup(<<"/3/0/0">>, <<"read">>) =/= undefined end),
    ?assertMatch({<<"2.05">>, <<"content">>, [#{<<"path">> := <<"/3/0/0">>, <<"value">> := <<"EMQ">>}]}, Lookup(<<"/3/0/0">>, <<"read">>)),
    %% What clears a retained message is no command.
    stand_in:publish(<<"lwm2m/ep4/dn/dm">>, <<>>),
    %% From an application, with what is left of its time.
    stand_in:publish(
        <<"lwm2m/ep4/dn/dm">>,
        <<"{\"reqID\":1,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/1\"}}">>,
        #{properties => #{'Message-Expiry-Interval' => 60}}
    ),
    ?assertMatch({{0, 1}, [<<"3">>, <<"0">>, <<"1">>], _, _}, device:request(Device)),
    ?assertEqual(undefined, Lookup(<<"/3/0/1">>, <<"read">>)),
    ?assertEqual(ignored, gen_server:call(Pid, nonsense)),
    ?assertMatch(#{clientinfo := #{clientid := <<"ep4">>}}, lwm2m_gateway_emqx_device:info(Pid)),
    Stats = lwm2m_gateway_emqx_device:stats(Pid),
    ?assertMatch({3, 3}, {proplists:get_value(send_pkt, Stats), proplists:get_value(send_msg, Stats)}),
    %% The report and the answer, with their bytes.
    Bytes = lists:sum([byte_size(Payload) || #{payload := Payload} <- stand_in:published()]),
    ?assertMatch({2, Bytes}, {proplists:get_value(recv_msg, Stats), proplists:get_value(recv_oct, Stats)}),
    stop().

%% The answer goes there as well, as the device's own message: with its authorization.
b14_response_topic() ->
    start(),
    {_, Device} = registered(<<"ep4">>),
    Answers = fun(Topic) ->
        [Message || #{topic := T} = Message <- stand_in:published(), T =:= Topic]
    end,
    Read = fun(Reply) ->
        stand_in:publish(
            <<"lwm2m/ep4/dn/dm">>,
            <<"{\"reqID\":1,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/1\"}}">>,
            #{properties => #{'Response-Topic' => Reply, 'Correlation-Data' => <<0, 7>>}}
        ),
        device:reply(Device, device:request(Device), <<"EMQ">>)
    end,
    Read(<<"answers/7">>),
    wait(fun() -> Answers(<<"answers/7">>) =/= [] end),
    [#{payload := Payload, headers := Headers}] = Answers(<<"answers/7">>),
    ?assertMatch(#{properties := #{'Correlation-Data' := <<0, 7>>}, username := _}, Headers),
    ?assertMatch(#{payload := Payload}, lists:last(Answers(<<"lwm2m/ep4/up/resp">>))),
    stand_in:set({emqx_gateway_ctx, authorize}, fun
        (_, _, #{action_type := publish}, <<"answers/8">>) -> deny;
        (_, _, _, _) -> allow
    end),
    Read(<<"answers/8">>),
    Read(<<"answers/9">>),
    wait(fun() -> Answers(<<"answers/9">>) =/= [] end),
    ?assertEqual([], Answers(<<"answers/8">>)),
    stop().

observe_over_http() ->
    Command = #{<<"msgType">> => <<"cancel-observe">>, <<"data">> => #{<<"path">> => <<"/3/0/0">>}},
    Meant = fun(Enable) ->
        put({minirest_handler, meta}, #{query_string => #{<<"enable">> => Enable}}),
        #{<<"msgType">> := Type} = in_another_process(fun(Self) -> lwm2m_gateway_emqx_api:meant(Self, Command) end),
        Type
    end,
    ?assertEqual(<<"observe">>, Meant(<<"true">>)),
    ?assertEqual(<<"cancel-observe">>, Meant(<<"false">>)),
    erase({minirest_handler, meta}),
    ?assertEqual(Command, in_another_process(fun(Self) -> lwm2m_gateway_emqx_api:meant(Self, Command) end)).

in_another_process(Fun) ->
    Self = self(),
    spawn_link(fun() -> Self ! {result, Fun(Self)} end),
    receive {result, Result} -> Result end.

subscriptions_through_the_api() ->
    start(),
    {_, Device} = registered(<<"ep5">>),
    Pid = stand_in:client(<<"ep5">>),
    ?assertMatch({ok, {<<"lwm2m/ep5/tx">>, #{qos := 1}}}, gen_server:call(Pid, {subscribe, <<"tx">>, #{qos => 1}})),
    {ok, Subscriptions} = gen_server:call(Pid, subscriptions),
    ?assertEqual([<<"lwm2m/ep5/dn/#">>, <<"lwm2m/ep5/tx">>], lists:sort([Topic || {Topic, _} <- Subscriptions])),
    stand_in:publish(<<"lwm2m/ep5/tx">>, <<"{\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/1\"}}">>),
    ?assertMatch({{0, 1}, [<<"3">>, <<"0">>, <<"1">>], _, _}, device:request(Device)),
    ok = gen_server:call(Pid, {unsubscribe, <<"tx">>}),
    ?assertMatch({ok, [{<<"lwm2m/ep5/dn/#">>, _}]}, gen_server:call(Pid, subscriptions)),
    stop().

%% Authentication.

slow_authenticator() ->
    start(),
    Self = self(),
    stand_in:set({emqx_gateway_ctx, authenticate}, fun
        (_, #{clientid := <<"slow">>} = ClientInfo) ->
            Self ! {asked, self()},
            receive go -> {ok, ClientInfo#{auth_expire_at => undefined}} end;
        (_, ClientInfo) ->
            {ok, ClientInfo#{auth_expire_at => undefined}}
    end),
    Slow = device:open(gateway()),
    spawn_link(fun() -> Self ! {answer, device:register(device:open(gateway()), <<"slow">>)} end),
    Asked = receive {asked, Pid} -> Pid end,
    {_, Fast} = registered(<<"fast">>),
    receive {answer, _} -> ?assert(false) after 100 -> ok end,
    Asked ! go,
    receive {answer, Answer} -> ?assertMatch({ok, _}, Answer) end,
    device:close(Slow),
    device:close(Fast),
    stop().

refused_device() ->
    start(),
    stand_in:set({emqx_gateway_ctx, authenticate}, fun(_, #{password := <<"wrong">>, username := <<"imei1">>}) ->
        {error, bad_username_or_password}
    end),
    Device = device:open(gateway()),
    {Code, Text} = device:register(Device, <<"refused">>, [<<"imei=imei1">>, <<"password=wrong">>]),
    ?assertEqual({{4, 3}, <<"Login Failed: bad_username_or_password">>}, {Code, Text}),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    ?assertEqual(['client.connect'], hooks()),
    stand_in:set({emqx_hooks, run_fold}, fun('client.connect', _, _) -> {error, not_today} end),
    ?assertMatch({{4, 3}, <<"Login Failed: not_today">>}, device:register(Device, <<"refused">>)),
    stop().

refused_address() ->
    Listeners = #{udp => #{default => #{bind => {{127, 0, 0, 1}, 0}, access_rules => ["deny 127.0.0.1"]}}},
    start((config())#{listeners => Listeners}),
    %% There is no answer.
    spawn(fun() -> device:register(device:open(gateway()), <<"outside">>) end),
    wait(fun() -> maps:get(datagrams_denied, lwm2m_gateway:statistics(gateway())) > 0 end),
    stop().

mountpoint_of_the_authenticator() ->
    start((config())#{mountpoint => <<"lwm2m/${client_attrs.group}/${endpoint_name}/">>}),
    stand_in:set({emqx_gateway_ctx, authenticate}, fun(_, #{mountpoint := Mountpoint} = ClientInfo) ->
        <<"lwm2m/${client_attrs.group}/ep6/">> = Mountpoint,
        {ok, ClientInfo#{auth_expire_at => undefined, mountpoint => <<"lwm2m/g1/ep6/">>}}
    end),
    {Location, Device} = registered(<<"ep6">>),
    ?assertMatch([{<<"lwm2m/g1/ep6/dn/#">>, _, _}], stand_in:subscriptions()),
    wait(fun() -> stand_in:published() =/= [] end),
    ?assertMatch([#{topic := <<"lwm2m/g1/ep6/up/resp">>}], stand_in:published()),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    wait(fun() -> length(stand_in:published()) =:= 2 end),
    ?assertMatch([{<<"lwm2m/g1/ep6/dn/#">>, _, _}], stand_in:subscriptions()),
    %% One that would reach into those of others.
    stand_in:set({emqx_gateway_ctx, authenticate}, fun(_, ClientInfo) ->
        {ok, ClientInfo#{auth_expire_at => undefined, mountpoint => <<"lwm2m/+/ep6x/">>}}
    end),
    ?assertMatch({{4, 3}, _}, device:register(device:open(gateway()), <<"ep6x">>)),
    ?assertMatch([_], stand_in:subscriptions()),
    stop().

authentication_expires() ->
    start(),
    stand_in:set({emqx_gateway_ctx, authenticate}, fun(_, ClientInfo) ->
        {ok, ClientInfo#{auth_expire_at => erlang:system_time(millisecond) + 300}}
    end),
    {Location, Device} = registered(<<"ep7">>),
    wait(fun() -> stand_in:clients() =:= [] end),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 0 end),
    ?assertEqual({4, 4}, device:update(Device, Location)),
    stop().

%% EMQX tells by the process whose a line of its log is: each call that writes one is made by a
%% process that says so.
traces_by_client() ->
    start(),
    Self = self(),
    Said = fun(What, Answer) ->
        #{clientid := ClientId, peername := Peer} = logger:get_process_metadata(),
        Self ! {What, ClientId, Peer},
        Answer
    end,
    stand_in:set({emqx_gateway_ctx, authenticate}, fun
        (_, #{username := <<"bad">>}) -> {error, not_authorized};
        (_, Info) -> Said(authenticate, {ok, Info#{auth_expire_at => undefined}})
    end),
    stand_in:set({emqx_gateway_ctx, authorize}, fun(_, _, #{action_type := Type}, _) -> Said({authorize, Type}, allow) end),
    stand_in:set({emqx_broker, subscribe}, fun(_, _, _) -> Said(subscribe, ok) end),
    stand_in:set({emqx_broker, publish}, fun(_) -> Said(publish, []) end),
    {Location, Device} = registered(<<"traced">>),
    [#{peername := {_, Port}}] = [ConnInfo || {_, #{conninfo := ConnInfo}} <- stand_in:clients()],
    Peer = "127.0.0.1:" ++ integer_to_list(Port),
    [
        receive {What, ClientId, P} -> ?assertEqual({What, <<"traced">>, Peer}, {What, ClientId, P}) end
     || What <- [authenticate, {authorize, subscribe}, subscribe, {authorize, publish}, publish]
    ],
    %% Another that only wants to be it changes nothing.
    ?assertMatch({{4, 3}, _}, device:register(device:open(gateway()), <<"traced">>, [<<"lwm2m=1.1">>, <<"device_id=x">>, <<"imei=bad">>])),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    receive {publish, Name, From} -> ?assertEqual({<<"traced">>, Peer}, {Name, From}) end,
    device:close(Device),
    stop().

publish_denied() ->
    start(),
    stand_in:set({emqx_gateway_ctx, authorize}, fun(_, _, #{action_type := Type}, _) ->
        case Type of publish -> deny; subscribe -> allow end
    end),
    {_, Device} = registered(<<"ep8">>),
    wait(fun() -> [] =/= [ok || {metrics_inc, [_, 'delivery.dropped']} <- stand_in:calls(emqx_gateway_ctx)] end),
    ?assertEqual([], stand_in:published()),
    ?assertMatch([{<<"lwm2m/ep8/dn/#">>, _, _}], stand_in:subscriptions()),
    %% Without the subscription the device is registered all the same.
    stand_in:set({emqx_gateway_ctx, authorize}, deny),
    {_, Other} = registered(<<"ep9">>),
    ?assertEqual(1, length(stand_in:subscriptions())),
    device:close(Device),
    device:close(Other),
    stop().

register_again() ->
    start(),
    {_, Device} = registered(<<"ep10">>),
    Pid = stand_in:client(<<"ep10">>),
    {_, Elsewhere} = registered(<<"ep10">>),
    ?assertEqual(Pid, stand_in:client(<<"ep10">>)),
    ?assertMatch([_], stand_in:clients()),
    ?assertMatch([_], stand_in:subscriptions()),
    ?assertEqual(1, length([ok || 'client.connected' <- hooks()])),
    %% No moment without subscription.
    {_, _} = registered(<<"ep10">>),
    wait(fun() -> 3 =:= length(stand_in:published()) end),
    ?assertEqual([], [Call || {unsubscribe, _} = Call <- stand_in:calls(emqx_broker)]),
    %% Somebody else who only has the name changes nothing.
    stand_in:set({emqx_gateway_ctx, authenticate}, {error, not_authorized}),
    ?assertMatch({{4, 3}, _}, device:register(device:open(gateway()), <<"ep10">>)),
    ?assertMatch([{<<"ep10">>, #{conn_state := connected}}], stand_in:clients()),
    device:close(Device),
    device:close(Elsewhere),
    stop().

another_client_id() ->
    start(),
    Device = device:open(gateway()),
    {ok, _} = device:register(Device, <<"ep11">>, [<<"lwm2m=1.1">>, <<"device_id=one">>, <<"imei=7">>]),
    ?assertMatch([{<<"one">>, #{clientinfo := #{username := <<"7">>, endpoint_name := <<"ep11">>}}}], stand_in:clients()),
    {ok, _} = device:register(Device, <<"ep11">>, [<<"lwm2m=1.1">>, <<"device_id=two">>]),
    ?assertMatch([{<<"two">>, _}], stand_in:clients()),
    ?assertEqual(undefined, stand_in:client(<<"one">>)),
    stop().

%% A retained command comes with the subscription, before the device is registered.
commands_wait_for_the_registration() ->
    start(),
    stand_in:set({emqx_hooks, run}, fun
        ('session.subscribed', [_, Filter, _]) ->
            Command = <<"{\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/2\"}}">>,
            Message = stand_in:call(emqx_message, make, [<<"a">>, 0, <<"lwm2m/ep12/dn/x">>, Command, #{}, #{}]),
            self() ! {deliver, Filter, Message},
            ok;
        (_, _) ->
            ok
    end),
    {_, Device} = registered(<<"ep12">>),
    ?assertMatch({{0, 1}, [<<"3">>, <<"0">>, <<"2">>], _, _}, device:request(Device)),
    stop().

key_of_the_broker() ->
    {ok, _} = application:ensure_all_started(ssl),
    Bind = {{127, 0, 0, 1}, 0},
    Listeners = #{
        udp => #{default => #{bind => Bind}},
        dtls => #{default => #{bind => Bind, dtls_options => #{ciphers => []}}}
    },
    start((config())#{listeners => Listeners}),
    stand_in:set({emqx_tls_psk, lookup}, fun
        (psk, <<"known">>, _) -> {ok, <<"the key">>};
        (psk, _, _) -> error
    end),
    {ok, Device} = device:open_dtls(gateway(), "known", <<"the key">>),
    ?assertMatch({ok, _}, device:register(Device, <<"secure">>, [<<"lwm2m=1.1">>])),
    ?assertMatch([{<<"secure">>, #{clientinfo := #{cn := <<"known">>}, conninfo := #{socktype := ssl}}}], stand_in:clients()),
    %% Its names are those that the key proves.
    {ok, _} = device:register(Device, <<"secure">>, [<<"lwm2m=1.1">>, <<"device_id=other">>, <<"imei=admin">>]),
    ?assertMatch([{<<"secure">>, #{clientinfo := #{username := <<"known">>}}}], stand_in:clients()),
    %% The name of the identity is its own while it is connected.
    Plain = device:open(gateway()),
    ?assertMatch({{4, 3}, _}, device:register(Plain, <<"known">>)),
    ?assertMatch({{4, 3}, _}, device:register(Plain, <<"plain">>, [<<"lwm2m=1.1">>, <<"device_id=known">>])),
    ?assertMatch({ok, _}, device:register(Plain, <<"plain">>, [<<"lwm2m=1.1">>])),
    device:close(Plain),
    ?assertMatch({error, _}, device:open_dtls(gateway(), "unknown", <<"the key">>)),
    device:close(Device),
    stop().

%% With authentication on it is EMQX that knows who is who.
names_that_emqx_authenticates() ->
    {ok, _} = application:ensure_all_started(ssl),
    Bind = {{127, 0, 0, 1}, 0},
    Listeners = #{
        udp => #{default => #{bind => Bind}},
        dtls => #{default => #{bind => Bind, dtls_options => #{ciphers => []}}}
    },
    start((config())#{
        listeners => Listeners,
        authentication => #{mechanism => password_based, enable => true},
        mountpoint => <<"m/${username}/">>
    }),
    stand_in:set({emqx_tls_psk, lookup}, fun(psk, _, _) -> {ok, <<"the key">>} end),
    {ok, Device} = device:open_dtls(gateway(), "known", <<"the key">>),
    Names = [<<"lwm2m=1.1">>, <<"device_id=one">>, <<"imei=7${clientid}">>],
    {ok, _} = device:register(Device, <<"secure">>, Names),
    ?assertMatch(
        [{<<"one">>, #{clientinfo := #{username := <<"7${clientid}">>, mountpoint := <<"m/7${clientid}/">>}}}],
        stand_in:clients()
    ),
    ?assertMatch([{<<"m/7${clientid}/dn/#">>, _, _}], stand_in:subscriptions()),
    %% Without DTLS as well.
    Plain = device:open(gateway()),
    ?assertMatch({ok, _}, device:register(Plain, <<"known">>, [<<"lwm2m=1.1">>])),
    %% One mountpoint, one device.
    Thief = device:open(gateway()),
    ?assertMatch({{4, 3}, _}, device:register(Thief, <<"thief">>, [<<"lwm2m=1.1">>, <<"imei=known">>])),
    device:close(Thief),
    device:close(Plain),
    device:close(Device),
    stop().

%% What becomes of the gateway's own rules where EMQX authenticates.
rules_of_registration() ->
    Listener = fun(Type, Of, Emqx, Plugin) ->
        Whole = maps:merge(config(), Emqx#{listeners => #{Type => #{default => Of#{bind => 1}}}}),
        {ok, #{<<"listeners">> := #{} = Listeners}} = lwm2m_gateway_emqx_config:to_gateway(Whole, Plugin, "5.8.9"),
        #{<<"default">> := Result} = maps:get(atom_to_binary(Type), Listeners),
        Result
    end,
    Registers = fun(Of, Emqx, Plugin) -> maps:get(<<"plain_registers">>, Listener(udp, Of, Emqx, Plugin)) end,
    Authn = #{authentication => #{backend => http}},
    ?assertEqual(<<"uncovered">>, Registers(#{}, #{}, #{})),
    ?assertEqual(<<"any">>, Registers(#{}, Authn, #{})),
    ?assertEqual(<<"any">>, Registers(Authn, #{}, #{})),
    ?assertEqual(<<"uncovered">>, Registers(#{enable_authn => false}, Authn, #{})),
    ?assertEqual(<<"uncovered">>, Registers(#{}, #{authentication => #{enable => false}}, #{})),
    ?assertEqual(<<"uncovered">>, Registers(#{}, Authn, #{<<"plain_registers">> => <<"uncovered">>})),
    ?assertEqual(<<"any">>, Registers(#{}, #{}, #{<<"plain_registers">> => <<"any">>})),
    Shared = fun(Mountpoint) ->
        [maps:get(<<"shared_mountpoint">>, Listener(Type, Of, Emqx, #{}), false)
         || Type <- [udp, dtls],
            {Of, Emqx} <- [{#{}, #{mountpoint => Mountpoint}}, {#{mountpoint => Mountpoint}, #{}}]]
    end,
    ?assertEqual([true, true, true, true], Shared(<<"lwm2m/">>)),
    ?assertEqual([true, true, true, true], Shared(<<"${client_attrs.group}/">>)),
    ?assertEqual([false, false, false, false], Shared(<<"lwm2m/${username}">>)),
    ?assertEqual([false, false, false, false], Shared(<<"lwm2m/${endpoint_name}/">>)).

%% Two owners in one node cannot be, so the process of the other node is played here.
session_moves() ->
    start(),
    {_, Device} = registered(<<"ep13">>),
    Old = stand_in:client(<<"ep13">>),
    {ok, _} = gen_server:call(Old, {subscribe, <<"tx">>, #{qos => 1}}),
    stand_in:publish(<<"lwm2m/ep13/dn/x">>, <<"{\"reqID\":9,\"msgType\":\"observe\",\"data\":{\"path\":\"/3/0/9\"}}">>),
    Request = {{0, 1}, [<<"3">>, <<"0">>, <<"9">>], _, Token} = device:request(Device),
    device:reply(Device, Request, <<"50">>, [{6, <<>>}]),
    wait(fun() -> {ok, undefined} =/= gen_server:call(Old, {lookup_cmd, <<"/3/0/9">>, <<"observe">>}) end),
    Session = gen_server:call(Old, {takeover, 'begin'}),
    ?assertMatch(#{endpoint := <<"ep13">>, session := <<_, _/binary>>, subscriptions := #{<<"lwm2m/ep13/tx">> := _}}, Session),
    ?assertEqual(0, lwm2m_gateway:registrations(gateway())),
    ?assertEqual([], gen_server:call(Old, {takeover, 'end'})),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    ?assertEqual([], stand_in:subscriptions()),
    %% The device comes to the other node.
    stand_in:set({emqx_gateway_ctx, open_session}, fun(_, false, Info, _, _, Module) ->
        ok = stand_in:set({channel, <<"ep13">>}, self()),
        {ok, #{session => Module:resume(Info, Session), present => true, pendings => []}}
    end),
    {_, Again} = registered(<<"ep13">>),
    ?assertMatch({{0, 1}, [<<"3">>, <<"0">>, <<"9">>], _, Token}, device:request(Again)),
    ?assertEqual([<<"lwm2m/ep13/dn/#">>, <<"lwm2m/ep13/tx">>], lists:sort([F || {F, _, _} <- stand_in:subscriptions()])),
    ?assertMatch(
        {ok, {<<"2.05">>, _, _}},
        gen_server:call(stand_in:client(<<"ep13">>), {lookup_cmd, <<"/3/0/9">>, <<"observe">>})
    ),
    ?assert(lists:member('session.takenover', hooks())),
    ?assert(lists:member('session.resumed', hooks())),
    device:close(Device),
    device:close(Again),
    stop().

session_of_a_node_that_is_down() ->
    start(),
    stand_in:set({emqx_gateway_ctx, open_session}, fun
        (_, false, _, _, _, _) ->
            throw({badrpc, nodedown});
        (_, true, #{clientid := ClientId} = Info, ConnInfo, New, _) ->
            ok = stand_in:set({channel, ClientId}, self()),
            {ok, #{session => New(Info, ConnInfo), present => false, pendings => []}}
    end),
    {_, Device} = registered(<<"ep17">>),
    ?assertMatch([{<<"ep17">>, _}], stand_in:clients()),
    device:close(Device),
    stop().

owner_crashes() ->
    start((config())#{listeners => #{udp => #{default => #{bind => {{127, 0, 0, 1}, free_port()}}}}}, #{<<"store_enable">> => false}),
    {_, Device} = registered(<<"ep14">>),
    Pid = stand_in:client(<<"ep14">>),
    Monitor = monitor(process, Pid),
    %% The owner's exit must not be there before the monitor.
    #{} = lwm2m_gateway_emqx_device:info(Pid),
    exit(whereis(?OWNER), kill),
    receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertMatch({shutdown, _}, Reason) end,
    wait(fun() -> whereis(?OWNER) =/= undefined andalso (catch lwm2m_gateway:listeners(gateway())) =/= [] end),
    ?assertEqual([], stand_in:clients()),
    ?assertMatch([_], stand_in:listeners()),
    ?assertMatch({ok, _}, device:register(Device, <<"ep14">>)),
    stop().

%% It comes again and again, after pauses, and with the configuration of now.
owner_keeps_crashing() ->
    start(config(), #{<<"store_enable">> => false}),
    Config = (config())#{listeners => #{udp => #{default => #{bind => {{127, 0, 0, 1}, 0}}, more => #{bind => {{127, 0, 0, 1}, 0}}}}},
    ok = update(Config),
    Supervisor = supervisor(),
    crash(),
    ?assertEqual([], stand_in:alarms()),
    [crash() || _ <- lists:seq(1, 2)],
    ?assertMatch([{<<"lwm2m_gateway_down">>, <<"killed">>}], stand_in:alarms()),
    ?assertEqual(2, length(lwm2m_gateway:listeners(gateway()))),
    %% A start that fails is no end either, and a new configuration is tried at once.
    exit(whereis(?OWNER), kill),
    wait(fun() -> whereis(?OWNER) =:= undefined end),
    ?assertMatch({error, _}, update((config())#{listeners => #{udp => #{default => #{bind => {{1, 2, 3, 4}, 57000}}}}})),
    ?assertEqual(ok, update(config())),
    ?assertMatch([_], lwm2m_gateway:listeners(gateway())),
    ?assertEqual(Supervisor, supervisor()),
    exit(whereis(?OWNER), kill),
    stop(),
    ?assertEqual([], stand_in:alarms()),
    ?assertEqual(undefined, whereis(lwm2m_gateway_emqx_keeper)).

supervisor() ->
    {dictionary, Dictionary} = process_info(whereis(lwm2m_gateway_emqx_keeper), dictionary),
    hd(proplists:get_value('$ancestors', Dictionary)).

process_of_a_device_dies() ->
    start(),
    {_, Device} = registered(<<"ep15">>),
    exit(stand_in:client(<<"ep15">>), kill),
    wait(fun() -> lwm2m_gateway:registrations(gateway()) =:= 0 end),
    wait(fun() -> ets:info(lwm2m_gateway_emqx_devices, size) =:= 0 end),
    device:close(Device),
    stop().

c8_commands_under_way_are_answered_at_the_end() ->
    start(config(), #{<<"store_enable">> => false}),
    {_, Device} = registered(<<"ep17">>),
    stand_in:publish(
        <<"lwm2m/ep17/dn/dm">>, <<"{\"reqID\":8,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/1\"}}">>
    ),
    ?assertMatch({{0, 1}, _, _, _}, device:request(Device)),
    stop(),
    Answers = [P || M <- stand_in:published(), (P = stand_in:call(emqx_message, payload, [M])) =/= <<>>],
    ?assertMatch([_ | _], [P || P <- Answers, binary:match(P, <<"gateway_stopping">>) =/= nomatch]),
    device:close(Device).

%% What `emqx ctl gateway-metrics lwm2m' shows.
counters_of_the_gateway() ->
    start(config(), #{<<"store_enable">> => false}),
    Metric = fun(Name) -> proplists:get_value(Name, stand_in:call(emqx_gateway_metrics, lookup, [lwm2m])) end,
    Now = fun(Name) -> ?OWNER ! metrics, _ = sys:get_state(?OWNER), Metric(Name) end,
    ?assertEqual(0, Now(registered)),
    ?assertEqual(0, Metric(registrations)),
    {Location, Device} = registered(<<"ep20">>),
    wait(fun() -> 1 =:= Now(registrations) end),
    ?assertEqual(1, Metric(registered)),
    ?assertEqual(Metric(datagrams_received), Metric('packets.coap.received')),
    ?assertEqual(Metric(bytes_sent), Metric('bytes.sent')),
    ?assert(Metric(memory_registrations) > 0),
    %% A crash loses the devices, and their number, but no counter.
    Counted = Metric(registered),
    crash(),
    ?assertEqual(0, Now(registrations)),
    ?assertEqual(Counted, Metric(registered)),
    ?assertEqual(0, Metric(memory_registrations)),
    {_, Again} = registered(<<"ep20">>),
    wait(fun() -> 1 =:= Now(registrations) end),
    ?assertEqual(Counted + 1, Metric(registered)),
    ?assertEqual({4, 4}, device:update(Again, Location)),
    device:close(Device),
    device:close(Again),
    %% EMQX prints no more of a name.
    ?assertEqual([], [Name || {Name, _} <- stand_in:call(emqx_gateway_metrics, lookup, [lwm2m]), length(atom_to_list(Name)) > 30]),
    stop(),
    ?assertEqual(0, Metric(registrations)),
    ?assertEqual(Counted + 1, Metric(registered)).

%% A hook or a route that crashes costs the message.
broker_fails() ->
    start(),
    stand_in:set({emqx_broker, publish}, fun(_) -> error(hook) end),
    {Location, Device} = registered(<<"ep16">>),
    Pid = stand_in:client(<<"ep16">>),
    wait(fun() -> [] =/= [ok || {metrics_inc, [_, 'delivery.dropped']} <- stand_in:calls(emqx_gateway_ctx)] end),
    ?assertEqual({2, 4}, device:update(Device, Location)),
    ?assertEqual(Pid, stand_in:client(<<"ep16">>)),
    device:close(Device),
    stop().

%% Results.

results_are_bounded() ->
    stand_in:reset(),
    Answer = fun(N) ->
        iolist_to_binary(io_lib:format("{\"msgType\":\"read\",\"data\":{\"reqPath\":\"/3/0/~b\",\"code\":\"2.05\",\"codeMsg\":\"content\"}}", [N]))
    end,
    Path = fun(N) -> iolist_to_binary(["/3/0/", integer_to_binary(N)]) end,
    Results = lists:foldl(
        fun(N, To) -> lwm2m_gateway_emqx_results:answered(Answer(N), To) end,
        lwm2m_gateway_emqx_results:new(),
        lists:seq(1, 101)
    ),
    ?assertEqual(undefined, lwm2m_gateway_emqx_results:find(Path(1), <<"read">>, Results)),
    ?assertMatch({<<"2.05">>, <<"content">>, undefined}, lwm2m_gateway_emqx_results:find(Path(2), <<"read">>, Results)),
    Asked = lwm2m_gateway_emqx_results:requested(
        #{<<"msgType">> => <<"read">>, <<"data">> => #{<<"path">> => <<"/3/0/2?x=1">>}}, Results
    ),
    ?assertEqual(undefined, lwm2m_gateway_emqx_results:find(Path(2), <<"read">>, Asked)),
    Notified = lwm2m_gateway_emqx_results:notified(
        <<"{\"msgType\":\"notify\",\"data\":{\"reqPath\":\"/3/0/5\",\"code\":\"2.05\",\"codeMsg\":\"content\",\"content\":[]}}">>,
        Results
    ),
    ?assertMatch({<<"2.05">>, _, []}, lwm2m_gateway_emqx_results:find(Path(5), <<"observe">>, Notified)).

%% EMQX's API takes the first item for the object and splits the second at its commas.
discover_for_the_api() ->
    stand_in:reset(),
    Answer = <<
        "{\"msgType\":\"discover\",\"data\":{\"reqPath\":\"/3/0\",\"code\":\"2.05\",\"codeMsg\":\"content\","
        "\"content\":[\"</3/0>;pmin=1\",\"</3/0/1>\",\"</3/0/7>;dim=2\",\"</a>\"]}}"
    >>,
    Results = lwm2m_gateway_emqx_results:answered(Answer, lwm2m_gateway_emqx_results:new()),
    Find = fun() -> lwm2m_gateway_emqx_results:find(<<"/3/0">>, <<"discover">>, Results) end,
    ?assertEqual({<<"2.05">>, <<"content">>, [<<"</3/0>">>, <<"</3/0/1>,</3/0/7>">>]}, Find()),
    %% Resources that the definition lacks would make the API fail.
    stand_in:set({emqx_lwm2m_xml_object, get_obj_def}, definition),
    stand_in:set({emqx_lwm2m_xml_object, get_resource_name}, fun(7, definition) -> "Voltage" end),
    stand_in:set({emqx_lwm2m_xml_object, get_resource_operations}, "R"),
    stand_in:set({emqx_lwm2m_xml_object, get_resource_type}, "Integer"),
    ?assertEqual({<<"2.05">>, <<"content">>, [<<"</3/0>">>, <<"</3/0/7>">>]}, Find()).
