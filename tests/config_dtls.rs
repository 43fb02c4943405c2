//! DTLS listeners in the configuration.

use std::time::Duration;

use lwm2m_gateway::config::read::{Source, from_toml};
use lwm2m_gateway::config::{
    CipherSuite, Config, DtlsListener, EndpointRule, Group, IdleTimeout, KeyEncoding,
    PlainRegisters, Takeover, UdpListener,
};

fn read(text: &str) -> Config {
    match Source::parse(text).read() {
        Ok((config, _)) => config,
        Err(errors) => panic!("{text}: {errors:?}"),
    }
}

fn warnings(text: &str) -> Vec<String> {
    match Source::parse(text).read() {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect(),
        Err(errors) => panic!("{text}: {errors:?}"),
    }
}

#[test]
fn every_field_is_read() {
    let config = read(
        r##"
        [listeners.dtls.default]
        bind = "127.0.0.1:7684"
        max_connections = 5
        mountpoint = "x/${clientid}/"
        format = "tlv"
        udp_options = { recbuf = "8KB", sndbuf = "16KB" }
        psk_file = "/etc/lwm2m/psk"
        psk_file_keys = "text"
        identity_separator = "#/"
        endpoint_rule = "listed"
        takeover = "end"
        max_sessions_per_credential = 3
        max_sessions_per_source = 4
        [listeners.dtls.default.psk]
        "urn:imei:1" = "000102030405060708090a0b0c0d0e0f"
        sn2 = { key = "text:0123456789abcdef", endpoints = ["a", "b*"] }
        [listeners.dtls.default.dtls_options]
        ciphers = "PSK-AES128-CBC-SHA256,TLS_PSK_WITH_AES_128_CCM_8"
        groups = "P-384,x25519"
        versions = ["dtlsv1.2"]
        handshake_timeout = "20s"
        retransmit_timeout = "2s"
        max_handshakes = 7
        max_failures = 0
        reuse_sessions = false
        session_cache = 8
        session_timeout = "1h"
        idle_timeout = "1d"
        mtu = 1400
        [listeners.dtls.second]
        bind = 7685
        [listeners.udp.plain]
        bind = 7683
        "##,
    );
    let listener = &config.listeners.dtls["default"];
    let common = &listener.common;
    assert_eq!(common.bind.to_string(), "127.0.0.1:7684");
    assert_eq!(common.max_connections, 5);
    assert_eq!(common.mountpoint.as_deref(), Some("x/${clientid}/"));
    assert!(common.enable && common.format.is_some());
    assert_eq!((common.recbuf, common.sndbuf), (8 << 10, 16 << 10));
    let file = listener.psk_file.as_deref().and_then(|file| file.to_str());
    assert_eq!(file, Some("/etc/lwm2m/psk"));
    assert_eq!(listener.psk_file_keys, KeyEncoding::Text);
    assert_eq!(listener.identity_separator, "#/");
    assert_eq!(listener.endpoint_rule, EndpointRule::Listed);
    assert_eq!(listener.takeover, Takeover::End);
    let identities: Vec<_> = listener.psk.iter().map(|it| &*it.identity).collect();
    assert_eq!(identities, [&b"sn2"[..], b"urn:imei:1"]);
    assert_eq!(listener.psk[0].key.as_bytes(), b"0123456789abcdef");
    assert_eq!(listener.psk[0].endpoints.len(), 2);
    let options = &listener.options;
    assert_eq!(
        options.ciphers,
        [CipherSuite::PskAes128CbcSha256, CipherSuite::PskAes128Ccm8]
    );
    assert_eq!(options.groups, [Group::Secp384r1, Group::X25519]);
    assert_eq!(listener.max_sessions_per_credential, 3);
    assert_eq!(
        (listener.max_sessions_per_source, options.max_failures),
        (4, 0)
    );
    assert_eq!(options.handshake_timeout, Duration::from_secs(20));
    assert_eq!(options.retransmit_timeout, Duration::from_secs(2));
    assert!(!options.reuse_sessions);
    assert_eq!((options.max_handshakes, options.session_cache), (7, 8));
    assert_eq!(options.session_timeout, Duration::from_secs(3600));
    assert_eq!(
        options.idle_timeout,
        IdleTimeout::After(Duration::from_secs(86_400))
    );
    assert_eq!(options.mtu, 1400);

    let second = DtlsListener {
        common: UdpListener {
            bind: ([0, 0, 0, 0], 7685).into(),
            ..DtlsListener::default().common
        },
        ..DtlsListener::default()
    };
    assert_eq!(config.listeners.dtls["second"], second);
    assert_eq!(second.options.ciphers[0], CipherSuite::PskAes128Ccm8);
    // LwM2M 1.1 requires it of servers.
    assert!(
        second
            .options
            .ciphers
            .contains(&CipherSuite::PskAes128CbcSha256)
    );
    assert!(config.listeners.udp.contains_key("plain"));
}

#[test]
fn json_says_the_same() {
    let toml = "[listeners.dtls.a]\nbind = 5684\npsk = { sn1 = \"00112233445566778899aabbccddeeff\" }\n\
                dtls_options.ciphers = [\"PSK-AES128-CCM8\"]\n";
    let json = r#"{"gateway": {"lwm2m": {"listeners": {"dtls": {"a": {
        "bind": 5684,
        "psk": [{"identity": "sn1", "key": "00112233445566778899AABBCCDDEEFF"}],
        "dtls_options": {"ciphers": ["PSK-AES128-CCM8"]}
    }}}}}}"#;
    assert_eq!(read(toml), read(json));
}

/// Who asks for DTLS only gets no open port beside it.
#[test]
fn plain_udp_beside_dtls_is_opened_only_when_asked_for() {
    let dtls = "[listeners.dtls.default]\npsk_file = \"psk\"\n";
    let names = |text: &str| {
        let listeners = read(text).listeners;
        let enabled = |listener: &&UdpListener| listener.enable;
        (
            listeners.udp.values().filter(enabled).count(),
            listeners.dtls.len(),
        )
    };
    assert_eq!(names(""), (1, 0));
    assert_eq!(names("[listeners.udp]"), (1, 0));
    assert_eq!(names("[listeners.dtls]"), (1, 0));
    assert_eq!(names(dtls), (0, 1));
    assert_eq!(names(&format!("{dtls}[listeners.udp]")), (0, 1));
    assert_eq!(names(&format!("{dtls}[listeners.udp.a]")), (1, 1));
    let disabled = format!("{dtls}[listeners.udp.default]\nenable = false");
    assert_eq!(names(&disabled), (0, 1));
    assert_eq!(names("[listeners.dtls.default]\nenable = false"), (1, 1));
}

#[test]
fn settings_reach_a_dtls_listener() {
    let mut source = Source::default();
    for (key, value) in [
        ("listeners.dtls.default.bind", ":5999"),
        ("listeners.dtls.default.psk_file", "007"),
        (
            "listeners.dtls.default.psk.sn1",
            "11223344556677889900112233445566",
        ),
        ("listeners.dtls.default.identity_separator", "#"),
        ("listeners.dtls.default.endpoint_rule", "equal"),
        (
            "listeners.dtls.default.dtls_options.ciphers",
            "PSK-AES128-CCM8",
        ),
        (
            "listeners.dtls.default.dtls_options.idle_timeout",
            "infinity",
        ),
    ] {
        source.set(key, value);
    }
    let listeners = source.read().unwrap().0.listeners;
    let listener = &listeners.dtls["default"];
    assert_eq!(listener.common.bind.to_string(), "0.0.0.0:5999");
    let file = listener.psk_file.as_deref().and_then(|file| file.to_str());
    assert_eq!(file, Some("007"));
    assert_eq!(&*listener.psk[0].identity, b"sn1");
    assert_eq!(listener.identity_separator, "#");
    assert_eq!(listener.endpoint_rule, EndpointRule::Equal);
    assert_eq!(listener.options.ciphers, [CipherSuite::PskAes128Ccm8]);
    assert_eq!(listener.options.idle_timeout, IdleTimeout::Never);
}

#[test]
fn a_listener_of_emqx_is_taken_over() {
    let warned = warnings(
        r#"
        [gateway.lwm2m.listeners.dtls.default]
        bind = "0.0.0.0:5684"
        acceptors = 16
        max_connections = 1024000
        enable_authn = true
        psk_file = "psk"
        [gateway.lwm2m.listeners.dtls.default.dtls_options]
        cacertfile = "etc/certs/cacert.pem"
        certfile = "etc/certs/cert.pem"
        keyfile = "etc/certs/key.pem"
        password = "x"
        verify = "verify_none"
        fail_if_no_peer_cert = false
        depth = 10
        versions = ["dtlsv1.2", "dtlsv1"]
        ciphers = ["PSK-AES128-GCM-SHA256"]
        reuse_sessions = true
        secure_renegotiate = true
        client_renegotiation = true
        honor_cipher_order = true
        hibernate_after = "5s"
        handshake_timeout = "15s"
        log_level = "notice"
        dhfile = "dh.pem"
        gc_after_handshake = false
        partial_chain = "x"
        verify_peer_ext_key_usage = "x"
        user_lookup_fun = "x"
        "#,
    );
    let mut keys: Vec<_> = warned
        .iter()
        .filter_map(|warning| warning.strip_prefix("listeners.dtls.default."))
        .map(|warning| warning.split(':').next().unwrap_or_default())
        .map(|key| key.strip_prefix("dtls_options.").unwrap_or(key))
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys.join(" "),
        "acceptors client_renegotiation dhfile enable_authn gc_after_handshake hibernate_after \
         honor_cipher_order log_level partial_chain secure_renegotiate user_lookup_fun verify \
         verify_peer_ext_key_usage versions"
    );
    assert_eq!(keys.len(), warned.len());
}

#[test]
fn doubtful_listeners_are_warned_about() {
    for (listener, warning) in [
        ("", "listeners.dtls.a: has no psk_file, psk or certificates"),
        (
            "psk.sn1 = \"0011\"",
            "listeners.dtls.a.psk: the key of \"sn1\" is shorter than 16 bytes",
        ),
        (
            "endpoint_rule = \"listed\"\npsk.sn1 = \"00112233445566778899aabbccddeeff\"",
            "listeners.dtls.a.psk: \"sn1\" lists no endpoints, so it may not register any",
        ),
        (
            "endpoint_rule = \"any\"\n\
             psk.sn1 = { key = \"00112233445566778899aabbccddeeff\", endpoints = \"x\" }",
            "listeners.dtls.a.psk: the endpoints of \"sn1\" are used only with",
        ),
        (
            "endpoint_rule = \"equal\"\nidentity_separator = \"#/\"\npsk_file = \"x\"",
            "listeners.dtls.a.identity_separator: an endpoint name with \"#/\" is refused",
        ),
        (
            "psk_file = \"x\"\n[listeners.udp.b]\nplain_registers = \"any\"",
            "listeners.udp.b: plain_registers = \"any\": anyone who can send",
        ),
        (
            "psk_file = \"x\"\ndtls_options.mtu = 1200",
            "listeners.dtls.a.dtls_options.mtu: blocks of 1024 bytes do not fit",
        ),
        (
            "psk_file = \"x\"\nmountpoint = \"all/\"",
            "listeners.dtls.a.mountpoint: has no ${endpoint_name}",
        ),
    ] {
        let warned = warnings(&format!("[listeners.dtls.a]\n{listener}"));
        assert_eq!(warned.len(), 1, "{listener}: {warned:?}");
        assert!(warned[0].starts_with(warning), "{warned:?}");
    }
    for fine in [
        "psk_file = \"x\"",
        "enable = false",
        "psk.sn1 = { key = \"00112233445566778899aabbccddeeff\", endpoints = \"x\" }",
        "endpoint_rule = \"equal\"\nidentity_separator = \"@\"\npsk_file = \"x\"",
        "psk_file = \"x\"\n[listeners.udp.b]\nbind = 1",
        "psk_file = \"x\"\ndtls_options.mtu = 1200\n[blockwise]\nmax_block_size = 512",
    ] {
        let warned = warnings(&format!("[listeners.dtls.a]\n{fine}"));
        assert!(warned.is_empty(), "{fine}: {warned:?}");
    }
}

#[test]
fn c4_c5_c6_the_safe_choice_is_the_default() {
    let config = Config::default();
    assert_eq!(config.plain_registers, PlainRegisters::Uncovered);
    assert!(!config.shared_mountpoint);
    assert_eq!(DtlsListener::default().endpoint_rule, EndpointRule::Owned);
    let text = "plain_registers = \"any\"\nshared_mountpoint = true\n\
                [listeners.udp.a]\nplain_registers = \"uncovered\"\n\
                [listeners.dtls.b]\nshared_mountpoint = false\nendpoint_rule = \"owned\"";
    let (config, _) = from_toml(text).unwrap();
    assert_eq!(config.plain_registers, PlainRegisters::Any);
    let udp = &config.listeners.udp["a"];
    assert_eq!(udp.plain_registers, Some(PlainRegisters::Uncovered));
    assert_eq!(udp.shared_mountpoint, None);
    let dtls = &config.listeners.dtls["b"];
    assert_eq!(dtls.common.shared_mountpoint, Some(false));
    assert!(config.shared_mountpoint);
    // There is no registration without DTLS at a DTLS listener.
    let errors = from_toml("[listeners.dtls.b]\nplain_registers = \"any\"").unwrap_err();
    assert_eq!(errors[0].key, "listeners.dtls.b.plain_registers");
}

#[test]
fn no_key_is_ever_shown() {
    const SECRET: &str = "c0ffee0123456789c0ffee0123456789";
    let text = format!("[listeners.dtls.a]\npsk.sn1 = \"{SECRET}\"\n");
    let source = Source::parse(&text);
    assert!(!format!("{source:?}").contains(SECRET));
    let (config, warnings) = source.read().unwrap();
    let bytes = format!("{:?}", config.listeners.dtls["a"].psk[0].key.as_bytes());
    let shown = format!("{config:?} {warnings:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(bytes.trim_matches(['[', ']'])));
    for wrong in [
        format!("[listeners.dtls.a]\npsk.sn1 = \"{SECRET}!\""),
        format!("[listeners.dtls.a]\npsk = \"{SECRET}\""),
        format!("[listeners.dtls.a]\npsk = [\"{SECRET}\"]"),
        format!("[listeners.dtls.a]\npsk.sn1.kye = \"{SECRET}\""),
        format!("[listeners.dtls.a]\npsk.sn1 = \"{SECRET}"),
        format!("{{\"listeners\": {{\"dtls\": {{\"a\": {{\"psk\": \"{SECRET}\"}}}}}}"),
    ] {
        let errors = format!("{:?}", Source::parse(&wrong).read().unwrap_err());
        assert!(!errors.to_lowercase().contains(SECRET), "{wrong}: {errors}");
    }
    assert!(from_toml(&text).is_ok());
}
