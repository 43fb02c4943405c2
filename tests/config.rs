//! The configuration as a user meets it: every mistake is named by its key.

// The test of the generated reference reads the file it is compared with.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use lwm2m_gateway::admission::{AccessRules, Rate};
use lwm2m_gateway::config::read::{ConfigError, Source, from_toml};
use lwm2m_gateway::config::{
    AddressChange, AutoObserve, BooleanSeries, Config, EchoMode, FormatDefault, HostileEndpoint,
    LifetimePolicy, MqttSubscribe, MqttVersion, UpdateCondition,
};
use lwm2m_gateway::lwm2m::codec::ContentFormat;

fn read(toml: &str) -> Config {
    match from_toml(toml) {
        Ok((config, _)) => config,
        Err(errors) => panic!("{toml}: {errors:?}"),
    }
}

fn errors(toml: &str) -> Vec<ConfigError> {
    match from_toml(toml) {
        Ok(_) => panic!("accepted: {toml}"),
        Err(errors) => errors,
    }
}

fn set(settings: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
    let mut source = Source::default();
    for (key, value) in settings {
        source.set(key, value);
    }
    source.read().map(|(config, _)| config)
}

#[test]
fn nothing_given_means_the_defaults() {
    assert_eq!(read(""), Config::default());
}

#[test]
fn formats_and_series() {
    let config = read(
        "format = \"tlv\"\n[listeners.udp.a]\nformat = 112\n[listeners.udp.b]\nbind = 5693\n\
         [series]\nboolean = \"text\"\npaths = [\"/3303\", \"3/0/9\"]\n\
         [series.mapping]\n\"/3303/0/5700\" = \"temperature\"\n\
         [translators.series]\nenable = true\nqos = 1\n[compat]\nexecute_arguments = \"pass\"\n",
    );
    assert_eq!(config.format, FormatDefault::Fixed(ContentFormat::TLV));
    let listeners = &config.listeners.udp;
    let own = FormatDefault::Fixed(ContentFormat::SENML_CBOR);
    assert_eq!(
        (listeners["a"].format, listeners["b"].format),
        (Some(own), None)
    );
    assert_eq!(config.series.boolean, BooleanSeries::Text);
    let path = |text: &str| text.parse().unwrap();
    assert_eq!(config.series.paths, [path("/3303"), path("/3/0/9")]);
    assert_eq!(config.series.mapping[&path("/3303/0/5700")], "temperature");
    let series = &config.translators.series;
    assert_eq!((series.enable, series.messages.qos), (true, 1));
    assert_eq!(series.messages.topic, "up/series");
    assert!(config.compat.pass_execute_arguments);

    let config = set(&[
        ("format", "senml-json"),
        ("series.paths", "/3303,/6"),
        ("series.mapping./3303/0/5700", "temperature"),
    ]);
    let config = config.unwrap();
    assert_eq!(
        config.format,
        FormatDefault::Fixed(ContentFormat::SENML_JSON)
    );
    assert_eq!(config.series.paths.len(), 2);
    assert_eq!(config.series.mapping[&path("/3303/0/5700")], "temperature");
}

#[test]
fn every_mistake_names_its_key() {
    let table = [
        ("mountpoint = 5", "mountpoint", "expected a string, found 5"),
        ("mountpoint = \"\"", "mountpoint", "must not be empty"),
        (
            "mountpoint = \"lwm2m/+/\"",
            "mountpoint",
            "must not hold + or #",
        ),
        ("mountpoint = \"a\\u0000${clientid}\"", "mountpoint", "NUL"),
        ("xml_dir = []", "xml_dir", "found a list"),
        (
            "http.frame_ancestors = [\"*\"]",
            "http.frame_ancestors",
            "\"*\" is not an origin",
        ),
        (
            "http.frame_ancestors = [\"https://a.example/page\"]",
            "http.frame_ancestors",
            "is not an origin",
        ),
        (
            "http.frame_ancestors = [\"https://a.example; script-src *\"]",
            "http.frame_ancestors",
            "is not an origin",
        ),
        (
            "http.frame_ancestors = [\"https://a.example:0\"]",
            "http.frame_ancestors",
            "is not an origin",
        ),
        (
            "http.frame_ancestors = [\"https://\"]",
            "http.frame_ancestors",
            "is not an origin",
        ),
        (
            "http.frame_ancestors = \"https://a.example\"",
            "http.frame_ancestors",
            "expected a list",
        ),
        (
            "lifetime_min = \"15 seconds\"",
            "lifetime_min",
            "expected a duration",
        ),
        ("lifetime_min = -1", "lifetime_min", "expected a duration"),
        (
            "lifetime_min = \"0s\"",
            "lifetime_min",
            "0s is out of range 1s to",
        ),
        (
            "lifetime_max = \"20000w\"",
            "lifetime_max",
            "is out of range",
        ),
        (
            "lifetime_max = 2025-01-01",
            "lifetime_max",
            "expected a duration",
        ),
        ("lifetime_max = inf", "lifetime_max", "expected a duration"),
        (
            "lifetime_min = \"2h\"\nlifetime_max = \"1h\"",
            "lifetime_min",
            "longer than lifetime_max",
        ),
        (
            "lifetime_policy = \"cut\"",
            "lifetime_policy",
            "expected \"clamp\" or \"reject\" or \"ignore\", found \"cut\"",
        ),
        (
            "qmode_time_window = true",
            "qmode_time_window",
            "expected a duration",
        ),
        (
            "auto_observe = [\"/3/x\"]",
            "auto_observe",
            "\"/3/x\" is not a path",
        ),
        (
            "auto_observe = 3",
            "auto_observe",
            "expected true, false or paths",
        ),
        (
            "update_msg_publish_condition = \"never\"",
            "update_msg_publish_condition",
            "\"always\"",
        ),
        (
            "hostile_endpoint = \"drop\"",
            "hostile_endpoint",
            "\"refuse\" or \"escape\"",
        ),
        (
            "address_change = true",
            "address_change",
            "\"accept\" or \"reject\"",
        ),
        (
            "publish_deregister = \"yes\"",
            "publish_deregister",
            "expected true or false",
        ),
        ("format = \"xml\"", "format", "expected auto, text"),
        (
            "[series]\npaths = [\"/3/x\"]",
            "series.paths",
            "\"/3/x\" is not a path",
        ),
        (
            "[series]\nboolean = 1",
            "series.boolean",
            "\"number\" or \"text\"",
        ),
        (
            "[series.mapping]\n\"/3303\" = \"t\"",
            "series.mapping",
            "\"/3303\" is not the path of a resource",
        ),
        (
            "[translators.send]\ntopic = \"up/#\"",
            "translators.send.topic",
            "must not hold + or #",
        ),
        (
            "[translators.series]\nenable = true\ntopic = \"dn/series\"",
            "translators.command.topic",
            "matches a topic that the gateway publishes to",
        ),
        ("shards = 1000", "shards", "1000 is out of range 0 to 256"),
        ("shards = 1.5", "shards", "expected a whole number"),
        ("translators = 5", "translators", "expected a table"),
        (
            "translators.command = \"dn/#\"",
            "translators.command",
            "expected a table",
        ),
        (
            "translators.command.topic = \"dn/#/x\"",
            "translators.command.topic",
            "not a valid MQTT topic filter",
        ),
        (
            "translators.command.topic = \"d+/x\"",
            "translators.command.topic",
            "not a valid MQTT topic filter",
        ),
        (
            "mountpoint = \"m/${clientid}\"\ntranslators.command.topic = \"+/x\"",
            "translators.command.topic",
            "not a valid MQTT topic filter",
        ),
        (
            "translators.command.topic = \"#\"",
            "translators.command.topic",
            "its own messages",
        ),
        (
            "translators.command.topic = \"up/+\"",
            "translators.command.topic",
            "its own messages",
        ),
        (
            "translators.command.qos = 3",
            "translators.command.qos",
            "3 is out of range 0 to 2",
        ),
        (
            "translators.response.topic = \"up/#\"",
            "translators.response.topic",
            "must not hold",
        ),
        (
            "translators.notify.topic = \"+/up\"",
            "translators.notify.topic",
            "must not hold",
        ),
        (
            "translators.notify.retain = true",
            "translators.notify.retain",
            "unknown key",
        ),
        (
            "translators.legacy.enable = 1",
            "translators.legacy.enable",
            "expected true or false",
        ),
        (
            "translators.legacy.response.topic = \"#\"",
            "translators.legacy.response.topic",
            "must not hold",
        ),
        ("listeners = 5", "listeners", "expected a table"),
        (
            "listeners.udp = 5",
            "listeners.udp",
            "expected a table of named listeners",
        ),
        (
            "listeners.udp.default = 5683",
            "listeners.udp.default",
            "expected a table with bind",
        ),
        (
            "listeners.udp.default.bind = \"localhost:5683\"",
            "listeners.udp.default.bind",
            "not the host name",
        ),
        (
            "listeners.udp.default.bind = 70000",
            "listeners.udp.default.bind",
            "expected \"ip:port\"",
        ),
        (
            "listeners.udp.default.bind = \"1.2.3.4\"",
            "listeners.udp.default.bind",
            "expected \"ip:port\"",
        ),
        (
            "listeners.udp.default.max_connections = 0",
            "listeners.udp.default.max_connections",
            "or \"infinity\"",
        ),
        (
            "listeners.udp.default.udp_options.recbuf = \"lots\"",
            "listeners.udp.default.udp_options.recbuf",
            "expected a size",
        ),
        (
            "listeners.udp.default.udp_options = 5",
            "listeners.udp.default.udp_options",
            "expected a table",
        ),
        (
            "listeners.udp.default.mountpoint = \"#\"",
            "listeners.udp.default.mountpoint",
            "must not hold",
        ),
        (
            "listeners.udp.default.bnd = 5",
            "listeners.udp.default.bnd",
            "did you mean listeners.udp.default.bind?",
        ),
        (
            "listeners.udp.a.enable = true\nlisteners.udp.b.enable = true",
            "listeners.udp.b.bind",
            "listeners.udp.a has the same address",
        ),
        (
            "listeners.udp.\"a b\".bind = 1",
            "listeners.udp.a b",
            "the name of a listener",
        ),
        (
            "listeners.udp.default.enable = false",
            "listeners.udp",
            "no listener is enabled",
        ),
        (
            "listeners.dtls = 5",
            "listeners.dtls",
            "expected a table of named listeners",
        ),
        (
            "listeners.dtls.default.enable = false\nlisteners.udp.default.enable = false",
            "listeners.udp",
            "no listener is enabled",
        ),
        (
            "listeners.dtls.default.bind = 5683\nlisteners.udp.default.bind = 5683",
            "listeners.dtls.default.bind",
            "has the same address, 0.0.0.0:5683",
        ),
        (
            "listeners.dtls.\"a b\".bind = 1",
            "listeners.dtls.a b",
            "the name of a listener",
        ),
        (
            "listeners.dtls.default.psk_fil = \"x\"",
            "listeners.dtls.default.psk_fil",
            "did you mean listeners.dtls.default.psk_file?",
        ),
        (
            "listeners.udp.default.psk_file = \"x\"",
            "listeners.udp.default.psk_file",
            "unknown key",
        ),
        (
            "listeners.dtls.default.psk_file_keys = \"raw\"",
            "listeners.dtls.default.psk_file_keys",
            "\"hex\" or \"text\"",
        ),
        (
            "listeners.dtls.default.psk.sn1 = \"0g\"",
            "listeners.dtls.default.psk",
            "\"sn1\": the key is not hexadecimal",
        ),
        (
            "listeners.dtls.default.identity_separator = \"ab\"",
            "listeners.dtls.default.identity_separator",
            "'a' cannot be a separator",
        ),
        (
            "listeners.dtls.default.endpoint_rule = \"same\"",
            "listeners.dtls.default.endpoint_rule",
            "\"any\" or \"equal\" or \"listed\"",
        ),
        (
            "listeners.dtls.default.takeover = \"keep\"",
            "listeners.dtls.default.takeover",
            "\"move\" or \"end\"",
        ),
        (
            "listeners.dtls.default.dtls_options.ciphers = [\"PSK-AES256-CCM\"]",
            "listeners.dtls.default.dtls_options.ciphers",
            "unknown cipher suite \"PSK-AES256-CCM\", expected PSK-AES128-CCM8,",
        ),
        (
            "listeners.dtls.default.dtls_options.versions = [\"dtlsv1\"]",
            "listeners.dtls.default.dtls_options.versions",
            "only \"dtlsv1.2\" is supported",
        ),
        (
            "listeners.dtls.default.dtls_options.mtu = 100",
            "listeners.dtls.default.dtls_options.mtu",
            "100 is out of range 256 to 65507",
        ),
        (
            "listeners.dtls.default.dtls_options.idle_timeout = \"never\"",
            "listeners.dtls.default.dtls_options.idle_timeout",
            "or \"registration\", \"infinity\"",
        ),
        (
            "listeners.dtls.default.dtls_options.handshake_timeout = \"1ms\"",
            "listeners.dtls.default.dtls_options.handshake_timeout",
            "1ms is out of range 1s to 1h",
        ),
        (
            "listeners.dtls.default.dtls_options.mtuu = 1",
            "listeners.dtls.default.dtls_options.mtuu",
            "unknown key",
        ),
        (
            "listeners.dtls.default.mountpoint = \"#\"",
            "listeners.dtls.default.mountpoint",
            "must not hold",
        ),
        (
            "listeners.upd.default.bind = 5684",
            "listeners.upd",
            "did you mean listeners.udp?",
        ),
        (
            "coap.ack_timeout = \"1ms\"",
            "coap.ack_timeout",
            "1ms is out of range 100ms to 1h",
        ),
        (
            "coap.ack_random_factor = 0.5",
            "coap.ack_random_factor",
            "0.5 is out of range 1 to 10",
        ),
        (
            "coap.ack_random_factor = nan",
            "coap.ack_random_factor",
            "expected a number",
        ),
        (
            "coap.max_retransmit = 21",
            "coap.max_retransmit",
            "21 is out of range 0 to 20",
        ),
        (
            "coap.max_retransmit = \"four\"",
            "coap.max_retransmit",
            "expected a whole number",
        ),
        (
            "coap.nstart = 0",
            "coap.nstart",
            "0 is out of range 1 to 64",
        ),
        (
            "coap.max_retransmits = 4",
            "coap.max_retransmits",
            "did you mean coap.max_retransmit?",
        ),
        (
            "max_retransmit = 4",
            "max_retransmit",
            "did you mean coap.max_retransmit?",
        ),
        (
            "blockwise.max_block_size = 100",
            "blockwise.max_block_size",
            "expected 16, 32, 64, 128, 256, 512 or 1024, found 100",
        ),
        (
            "blockwise.max_block_size = 8",
            "blockwise.max_block_size",
            "out of range",
        ),
        (
            "blockwise.max_body_size = \"4TB\"",
            "blockwise.max_body_size",
            "expected a size",
        ),
        (
            "coap_max_block_size = 17",
            "blockwise.max_block_size",
            "found 17",
        ),
        (
            "coap_max_block_size = \"x\"",
            "coap_max_block_size",
            "expected a whole number",
        ),
        (
            "queue.max_commands = 0",
            "queue.max_commands",
            "out of range",
        ),
        (
            "queue.max_bytes = \"1B\"",
            "queue.max_bytes",
            "1 is out of range 1KB to 1GB",
        ),
        (
            "limits.max_observations = 100000",
            "limits.max_observations",
            "out of range",
        ),
        ("limits.max_regs = 5", "limits.max_regs", "unknown key"),
        (
            "compat.location = \"rd\"",
            "compat.location",
            "expected \"random\" or \"endpoint\", found \"rd\"",
        ),
        (
            "compat.bad_version = 4.04",
            "compat.bad_version",
            "expected \"4.12\" or \"4.00\", found 4.04",
        ),
        (
            "compat.strict_register = \"maybe\"",
            "compat.strict_register",
            "expected true or false",
        ),
        (
            "mqtt.bind = \"0.0.0.0\"",
            "mqtt.bind",
            "expected \"ip:port\"",
        ),
        (
            "mqtt.broker = \"broker:1883\"",
            "mqtt.broker",
            "mqtt://host:port",
        ),
        (
            "mqtt.broker = \"mqtt://h:0\"",
            "mqtt.broker",
            "\"0\" is not a port",
        ),
        (
            "mqtt.password = \"p\"",
            "mqtt.password",
            "needs mqtt.username",
        ),
        (
            "mqtt.keyfile = \"k.pem\"",
            "mqtt.keyfile",
            "needs mqtt.certfile",
        ),
        (
            "mqtt.cacertfile = \"ca.pem\"",
            "mqtt.cacertfile",
            "mqtts://",
        ),
        ("mqtt.keepalive = \"1d\"", "mqtt.keepalive", "out of range"),
        (
            "log.level = \"verbose\"",
            "log.level",
            "expected error, warn",
        ),
        ("log.format = \"xml\"", "log.format", "\"text\" or \"json\""),
        ("gateway.lwm2m = 5", "gateway.lwm2m", "expected a table"),
        (
            "gateway.coap.enable = true",
            "gateway.coap",
            "unknown gateway",
        ),
        (
            "shards = 1\ngateway.lwm2m.shards = 2",
            "gateway.lwm2m.shards",
            "is also given as shards",
        ),
        ("something.else = 1", "something", "unknown key"),
        ("lifetime_min 5", "", "line 1, column"),
        ("\n\nshards = ", "", "line 3, column"),
        ("shards = 1\nshards = 2", "", "line 2, column"),
    ];
    for (toml, key, message) in table {
        let errors = errors(toml);
        assert!(
            errors
                .iter()
                .any(|error| error.key == key && error.message.contains(message)),
            "{toml}: {errors:?}"
        );
        assert_eq!(errors.len(), 1, "{toml}: {errors:?}");
        assert!(!errors[0].to_string().contains('\n'), "{toml}");

        // The same in JSON, where that can say it.
        let table: Option<toml::Table> = toml.parse().ok();
        let Some(json) = table.and_then(|table| serde_json::to_string(&table).ok()) else {
            continue;
        };
        if json.contains("null") || json.contains("datetime") {
            continue;
        }
        assert_eq!(Source::parse(&json).read(), Err(errors), "{json}");
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let errors = errors(
        "shards = \"x\"\ncoap.nstart = 0\nfoo = 1\nlisteners.udp.default.bind = \"y\"\n\
         [translators]\nnotify = { topic = \"a/#\", qos = 7 }\n",
    );
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "coap.nstart",
            "foo",
            "listeners.udp.default.bind",
            "shards",
            "translators.notify.qos",
            "translators.notify.topic",
        ]
    );
    assert_eq!(
        errors[2].to_string(),
        "listeners.udp.default.bind: expected \"ip:port\", \":port\" or a port, found \"y\""
    );
}

#[test]
fn a_section_of_emqx_is_taken_over() {
    let (config, warnings) = from_toml(
        r#"
        [gateway.lwm2m]
        xml_dir = "etc/lwm2m_xml/"
        lifetime_min = "1s"
        lifetime_max = "86400s"
        qmode_time_window = "22s"
        auto_observe = true
        update_msg_publish_condition = "contains_object_list"
        mountpoint = "lwm2m/${endpoint_name}/"
        enable_stats = true
        idle_timeout = "30s"
        enable = true
        coap_max_block_size = 512
        clientinfo_override = { username = "x" }
        translators.command = { topic = "dn/#", qos = 0 }
        translators.response = { topic = "up/resp", qos = 1 }
        translators.notify = { topic = "up/notify", qos = 0 }
        translators.register = { topic = "up/register", qos = 0 }
        translators.update = { topic = "up/update", qos = 2 }
        blockwise = { enable = true, max_body_size = "8MB", exchange_lifetime = "247s" }
        [gateway.lwm2m.listeners.udp.default]
        bind = "0.0.0.0:5783"
        acceptors = 16
        max_connections = 1024000
        max_conn_rate = 1000
        enable_authn = true
        access_rules = ["allow all"]
        health_check = { request = "", reply = "" }
        udp_options = { active_n = 100, recbuf = "2MB", sndbuf = "16KB", buffer = "1KB", reuseaddr = true }
        "#,
    )
    .unwrap();
    assert_eq!(config.auto_observe, AutoObserve::All);
    assert_eq!(
        config.update_msg_publish_condition,
        UpdateCondition::ContainsObjectList
    );
    assert_eq!(config.translators.response.qos, 1);
    assert_eq!(config.translators.update.qos, 2);
    assert_eq!(config.translators.register.topic, "up/register");
    assert_eq!(config.blockwise.max_block_size, 512);
    assert_eq!(config.blockwise.max_body_size, 8 << 20);
    let listener = &config.listeners.udp["default"];
    assert_eq!(listener.bind.to_string(), "0.0.0.0:5783");
    assert_eq!(listener.max_connections, 1_024_000);
    assert_eq!(listener.max_conn_rate.to_string(), "1000/s");
    assert!(listener.access_rules.allow([192, 0, 2, 1].into()));
    assert_eq!((listener.recbuf, listener.sndbuf), (2 << 20, 16 << 10));
    let mut warned: Vec<_> = warnings
        .iter()
        .map(|warning| warning.key.as_str())
        .collect();
    warned.sort_unstable();
    assert_eq!(
        warned,
        [
            "clientinfo_override",
            "coap_max_block_size",
            "enable",
            "enable_stats",
            "idle_timeout",
            "listeners.udp.default.acceptors",
            "listeners.udp.default.enable_authn",
            "listeners.udp.default.health_check",
            "listeners.udp.default.udp_options.active_n",
            "listeners.udp.default.udp_options.buffer",
            "listeners.udp.default.udp_options.reuseaddr",
        ]
    );
}

#[test]
fn every_field_is_read() {
    let config = read(
        r#"
        lifetime_policy = "reject"
        hostile_endpoint = "escape"
        address_change = "reject"
        publish_deregister = "on"
        auto_observe = "/3/0/9,/3303"
        shards = "3"
        coap = { ack_timeout = "3s", ack_random_factor = 2, max_retransmit = 5, nstart = 4, response_timeout = "2m", exchange_lifetime = 300 }
        queue = { max_commands = 5, max_bytes = "2KB", max_age = "1d" }
        limits = { max_registrations = 7, max_observations = 8, max_command_size = "1KB", dedup_bytes = "1MB", blockwise_bytes = "2MB", max_model_file = "3KB" }
        translators.legacy = { enable = true, command = { topic = "c", qos = 1 }, response = { topic = "r", qos = 2 } }
        [listeners.udp.a]
        bind = ":5683"
        max_connections = "infinity"
        mountpoint = "x/${clientid}/"
        [listeners.udp.b]
        bind = "[::1]:5684"
        enable = "off"
        [compat]
        location = "endpoint"
        bad_version = 4.00
        reregister = "2.04"
        strict_register = true
        unknown_object = "error"
        multi_instance_path = "bare"
        text_opaque = "encode"
        firmware_topic = true
        malformed_command = "drop"
        write_content = true
        execute_arguments = "check"
        [mqtt]
        bind = 1884
        broker = "mqtts://h"
        username = "u"
        password = "p"
        client_id = "c"
        keepalive = 10
        max_queued = 9
        max_queued_bytes = "1MB"
        max_connections = 11
        cacertfile = "ca"
        certfile = "cert"
        keyfile = "key"
        [log]
        level = "info,rmqtt=debug"
        format = "json"
        "#,
    );
    assert_eq!(config.lifetime_policy, LifetimePolicy::Reject);
    assert_eq!(config.hostile_endpoint, HostileEndpoint::Escape);
    assert_eq!(config.address_change, AddressChange::Reject);
    assert!(config.publish_deregister);
    assert_eq!(
        config.auto_observe,
        AutoObserve::Paths(vec!["/3/0/9".parse().unwrap(), "/3303".parse().unwrap()])
    );
    assert_eq!(config.shards, 3);
    assert_eq!(config.coap.ack_timeout, Duration::from_secs(3));
    assert_eq!(config.coap.ack_random_factor, 2.0);
    assert_eq!((config.coap.max_retransmit, config.coap.nstart), (5, 4));
    assert_eq!(config.coap.response_timeout, Duration::from_secs(120));
    assert_eq!(config.coap.exchange_lifetime, Duration::from_secs(300));
    assert_eq!(
        (config.queue.max_commands, config.queue.max_bytes),
        (5, 2048)
    );
    assert_eq!(config.queue.max_age, Duration::from_secs(86_400));
    let limits = config.limits;
    assert_eq!((limits.max_registrations, limits.max_observations), (7, 8));
    assert_eq!(
        (limits.max_command_size, limits.dedup_bytes),
        (Some(1024), 1 << 20)
    );
    assert_eq!(
        (limits.blockwise_bytes, limits.max_model_file),
        (2 << 20, 3072)
    );
    let legacy = &config.translators.legacy;
    assert!(legacy.enable);
    assert_eq!(
        (legacy.command.topic.as_str(), legacy.command.qos),
        ("c", 1)
    );
    assert_eq!(
        (legacy.response.topic.as_str(), legacy.response.qos),
        ("r", 2)
    );
    assert!(!config.listeners.udp.contains_key("default"));
    let a = &config.listeners.udp["a"];
    assert_eq!(
        (a.bind.to_string().as_str(), a.max_connections),
        ("0.0.0.0:5683", usize::MAX)
    );
    assert_eq!(a.mountpoint.as_deref(), Some("x/${clientid}/"));
    assert!(!config.listeners.udp["b"].enable);
    let compat = config.compat;
    assert!(compat.endpoint_location && compat.bad_version_400 && compat.reregister_204);
    assert!(compat.strict_register && compat.unknown_object_error);
    assert!(compat.bare_multi_instance_path && compat.encode_text_opaque);
    assert!(compat.firmware_topic && compat.drop_malformed && compat.write_content_mapping);
    assert!(!compat.pass_execute_arguments);
    let mqtt = config.mqtt;
    assert_eq!(mqtt.bind.to_string(), "127.0.0.1:1884");
    assert_eq!(mqtt.broker.as_deref(), Some("mqtts://h"));
    assert_eq!(
        (mqtt.username.as_deref(), mqtt.password.as_deref()),
        (Some("u"), Some("p"))
    );
    assert_eq!((mqtt.client_id.as_str(), mqtt.max_queued), ("c", 9));
    assert_eq!((mqtt.max_queued_bytes, mqtt.max_connections), (1 << 20, 11));
    assert_eq!(mqtt.keepalive, Duration::from_secs(10));
    assert!(mqtt.cacertfile.is_some() && mqtt.certfile.is_some() && mqtt.keyfile.is_some());
    assert_eq!(config.log.level, "info,rmqtt=debug");
    assert!(config.log.json);
}

#[test]
fn b16_b7_the_version_of_mqtt_and_how_commands_are_asked_for() {
    let mqtt = Config::default().mqtt;
    assert_eq!(mqtt.version, MqttVersion::Auto);
    assert_eq!(mqtt.subscribe, MqttSubscribe::Shared);
    for (text, version) in [
        ("auto", MqttVersion::Auto),
        ("5", MqttVersion::V5),
        ("3.1.1", MqttVersion::V311),
    ] {
        let mqtt = set(&[("mqtt.version", text)]).unwrap().mqtt;
        assert_eq!(mqtt.version, version);
    }
    let mqtt = read("[mqtt]\nsubscribe = \"per-device\"").mqtt;
    assert_eq!(mqtt.subscribe, MqttSubscribe::PerDevice);
    for wrong in ["version = \"4\"", "subscribe = \"all\""] {
        let (key, _) = wrong.split_once(' ').unwrap();
        let errors = errors(&format!("[mqtt]\n{wrong}"));
        assert_eq!(errors[0].key, format!("mqtt.{key}"));
    }
}

#[test]
fn b7_ownership_needs_a_broker_and_a_filter_for_each_device() {
    let with = |more: &str| format!("[mqtt]\nownership_topic = \"site/gateways\"\n{more}");
    let shared = "broker = \"mqtt://b\"";
    let good = format!("{shared}\nsubscribe = \"per-device\"");
    let mqtt = read(&with(&good)).mqtt;
    assert_eq!(mqtt.ownership_topic.as_deref(), Some("site/gateways"));
    assert_eq!(Config::default().mqtt.ownership_topic, None);
    for wrong in ["", shared] {
        assert_eq!(errors(&with(wrong))[0].key, "mqtt.ownership_topic");
    }
    for topic in ["a/+", "#", "$SYS/a", "a/", ""] {
        let errors = errors(&format!("[mqtt]\n{good}\nownership_topic = {topic:?}"));
        assert_eq!(errors[0].key, "mqtt.ownership_topic", "{topic:?}");
    }
}

#[test]
fn b14_response_topics_are_filters() {
    assert_eq!(Config::default().response_topics, ["#"]);
    let config = read("response_topics = [\"answers/#\", \"+/x\"]");
    assert_eq!(config.response_topics, ["answers/#", "+/x"]);
    assert!(read("response_topics = []").response_topics.is_empty());
    for wrong in ["\"answers/#\"", "[\"a/#/b\"]", "[\"a+\"]", "[\"\"]", "[1]"] {
        let errors = errors(&format!("response_topics = {wrong}"));
        assert_eq!(errors[0].key, "response_topics", "{wrong}");
    }
}

#[test]
fn settings_win_over_the_file() {
    let mut source = Source::from_toml("shards = 1\nlisteners.udp.default.bind = 5683\n");
    source.set("shards", "2");
    source.set("listeners.udp.default.bind", "127.0.0.1:0");
    source.set("gateway.lwm2m.qmode_time_window", "1m");
    source.set("auto_observe", "[\"/3\"]");
    source.set("translators.notify", "{ topic = \"n\", qos = 1 }");
    let (config, _) = source.read().unwrap();
    assert_eq!(config.shards, 2);
    assert_eq!(
        config.listeners.udp["default"].bind.to_string(),
        "127.0.0.1:0"
    );
    assert_eq!(config.qmode_time_window, Duration::from_secs(60));
    assert_eq!(
        config.auto_observe,
        AutoObserve::Paths(vec!["/3".parse().unwrap()])
    );
    assert_eq!(config.translators.notify.qos, 1);
}

#[test]
fn settings_take_text_as_it_stands() {
    let config = set(&[
        ("mqtt.username", "007"),
        ("mqtt.password", "1e3"),
        ("mountpoint", "m/${endpoint_name}/"),
        ("compat.bad_version", "4.00"),
        ("log.level", "\"debug\""),
    ])
    .unwrap();
    assert_eq!(config.mqtt.username.as_deref(), Some("007"));
    assert_eq!(config.mqtt.password.as_deref(), Some("1e3"));
    assert_eq!(config.mountpoint, "m/${endpoint_name}/");
    assert!(config.compat.bad_version_400);
    assert_eq!(config.log.level, "debug");
}

#[test]
fn wrong_settings_name_their_key() {
    for (key, value, named) in [
        ("coap.nstart", "many", "coap.nstart"),
        ("coap..nstart", "1", "coap..nstart"),
        ("", "1", ""),
        ("coap", "1", "coap"),
        (
            "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r",
            "1",
            "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r",
        ),
        ("shards", "1\nfoo = 2", "shards"),
    ] {
        let errors = set(&[(key, value)]).unwrap_err();
        assert_eq!(errors.len(), 1, "{key}: {errors:?}");
        assert_eq!(errors[0].key, named);
    }
}

#[test]
fn json_is_read_like_toml() {
    let json = Source::from_json(r#"{"coap": {"nstart": 2}, "lifetime_min": "20s"}"#);
    assert_eq!(
        json.read().unwrap().0,
        read("coap.nstart = 2\nlifetime_min = 20")
    );
    for wrong in ["", "[]", "{\"coap\": null}", "{\"a\":1}"] {
        assert!(Source::from_json(wrong).read().is_err(), "{wrong}");
    }
}

#[test]
fn json_is_told_from_toml() {
    let config = read("coap.nstart = 2");
    for text in [
        "coap.nstart = 2",
        "\u{feff}\n coap.nstart = 2",
        "{\"coap\": {\"nstart\": 2}}",
        "\u{feff} \r\n\t{\"coap\": {\"nstart\": 2}}\n",
        "{\"gateway\": {\"lwm2m\": {\"coap\": {\"nstart\": 2}}}}",
    ] {
        assert_eq!(Source::parse(text).read().unwrap().0, config, "{text:?}");
    }
    assert_eq!(Source::parse("").read().unwrap().0, Config::default());
    assert_eq!(Source::parse("{}").read().unwrap().0, Config::default());
    for (text, place) in [
        ("{\"coap\": }", "line 1, column 10: expected value"),
        ("{\n\"coap\": {\n", "line 3, column 0: EOF while parsing"),
        ("{} {}", "line 1, column 4: trailing"),
        ("{shards = 1}", "line 1, column 2: key must be a string"),
    ] {
        let errors = Source::parse(text).read().unwrap_err();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(
            errors[0].to_string().starts_with(place),
            "{text}: {errors:?}"
        );
    }
}

#[test]
fn doubtful_mountpoints_are_warned_about() {
    let (_, warnings) = from_toml("mountpoint = \"lwm2m/\"").unwrap();
    assert!(
        warnings[0]
            .to_string()
            .starts_with("mountpoint: has no ${endpoint_name}")
    );
    let (_, warnings) = from_toml("mountpoint = \"${clientid}/${client_attrs.x}\"").unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0]
            .message
            .contains("${client_attrs.x} is not a known placeholder")
    );
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = format!("auto_observe = {}1{}", "[".repeat(60), "]".repeat(60));
    assert!(!errors(&deep).is_empty());
    let dotted = format!("{} = 1", vec!["a"; 60].join("."));
    assert!(!errors(&dotted).is_empty());
}

/// `UPDATE_DOCS=1 cargo test --test config` rewrites the file.
#[test]
fn the_reference_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let now = lwm2m_gateway::config::reference::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == now,
        "docs/configuration.md is not what the code says: UPDATE_DOCS=1 cargo test --test config"
    );
}

#[test]
fn rates_and_access_rules() {
    let (config, warnings) = from_toml(
        r#"
        coap.echo = "new-address"
        rates = { datagrams = "5000/s", datagrams_per_source = 0, registrations = "infinity" }
        [listeners.udp.a]
        bind = ":5683"
        access_rules = ["allow 10.0.0.0/8", "allow 2001:db8::/32", "deny all"]
        max_conn_rate = "500/1m"
        [listeners.dtls.b]
        bind = ":5684"
        access_rules = "deny 192.0.2.1"
        max_conn_rate = "infinity"
        psk = { a = "text:0123456789abcdef" }
        "#,
    )
    .unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.coap.echo, EchoMode::NewAddress);
    assert_eq!(config.rates.datagrams.to_string(), "5000/s");
    assert_eq!(config.rates.datagrams_per_source, Rate::OFF);
    assert_eq!(config.rates.registrations, Rate::OFF);
    let allows = |rules: &AccessRules, text: &str| rules.allow(text.parse().unwrap());
    let udp = &config.listeners.udp["a"];
    assert!(allows(&udp.access_rules, "10.1.2.3"));
    assert!(allows(&udp.access_rules, "2001:db8::1"));
    assert!(!allows(&udp.access_rules, "192.0.2.1"));
    assert_eq!(udp.max_conn_rate.to_string(), "500/60s");
    let dtls = &config.listeners.dtls["b"].common;
    assert!(!allows(&dtls.access_rules, "192.0.2.1"));
    assert!(allows(&dtls.access_rules, "192.0.2.2"));
    assert_eq!(dtls.max_conn_rate, Rate::OFF);

    let errors = from_toml(
        r#"
        rates.datagrams = "many"
        [listeners.udp.a]
        bind = ":5683"
        access_rules = ["allow 10.0.0.0/8", "deny everybody"]
        max_conn_rate = "1/y"
        "#,
    )
    .unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "listeners.udp.a.access_rules: \"deny everybody\": \"everybody\" is neither an IP address nor a network such as 192.168.0.0/24",
            "listeners.udp.a.max_conn_rate: expected a rate such as \"1000/s\", \"500/1m\", \"infinity\" or a number per second, found \"1/y\"",
            "rates.datagrams: expected a rate such as \"1000/s\", \"500/1m\", \"infinity\" or a number per second, found \"many\"",
        ]
    );
}
