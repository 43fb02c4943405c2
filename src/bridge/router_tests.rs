//! Topics to devices.

use super::*;
use crate::bridge::topic::{Vars, topic};
use crate::config::{DtlsListener, UdpListener};
use proptest::prelude::*;

fn config(mountpoint: &str) -> Config {
    let mut config = Config {
        mountpoint: mountpoint.to_owned(),
        ..Config::default()
    };
    config.translators.legacy.enable = true;
    config
}

fn endpoint<'t>(router: &CommandRouter, topic: &'t str) -> Option<(Cow<'t, str>, Dialect)> {
    match router.route(topic)? {
        Route {
            key: RouteKey::Endpoint(name),
            dialect,
            ..
        } => Some((name, dialect)),
        route => panic!("{route:?}"),
    }
}

#[test]
fn default_topics() {
    let router = CommandRouter::new(&config("lwm2m/${endpoint_name}/")).unwrap();
    assert_eq!(
        router.filters(),
        [
            ("lwm2m/+/dn/#".to_owned(), 0),
            ("lwm2m/+/command".to_owned(), 0)
        ]
    );
    for (topic, expected) in [
        ("lwm2m/ep1/dn", Some(("ep1", Dialect::Current))),
        ("lwm2m/ep1/dn/dm", Some(("ep1", Dialect::Current))),
        ("lwm2m/ep1/dn/a/b/c", Some(("ep1", Dialect::Current))),
        ("lwm2m/ep1/command", Some(("ep1", Dialect::Legacy))),
        ("lwm2m/a%2Fb/dn", Some(("a%2Fb", Dialect::Current))),
        ("lwm2m/ep1/command/x", None),
        ("lwm2m/ep1/up/resp", None),
        ("lwm2m//dn", None),
        ("lwm2m/ep1", None),
        ("lwm2m", None),
        ("", None),
        ("x/lwm2m/ep1/dn", None),
    ] {
        let found = endpoint(&router, topic);
        let found = found
            .as_ref()
            .map(|(name, dialect)| (name.as_ref(), *dialect));
        assert_eq!(found, expected, "{topic}");
    }
    assert_eq!(router.route("lwm2m/ep1/dn/dm").unwrap().mount, "lwm2m/ep1/");
}

#[test]
fn placeholder_inside_a_level() {
    let router = CommandRouter::new(&config("x-${endpoint_name}-y/")).unwrap();
    assert_eq!(router.filters()[0].0, "+/dn/#");
    assert_eq!(endpoint(&router, "x-ep-1-y/dn").unwrap().0, "ep-1");
    assert_eq!(router.route("x--y/dn"), None);
    assert_eq!(router.route("x-y/dn"), None);
    assert_eq!(router.route("x-ep/dn"), None);
}

#[test]
fn mountpoints_without_the_endpoint_name() {
    for (mountpoint, command, filter, topic, mount) in [
        ("lwm2m/", "dn/#", "lwm2m/dn/#", "lwm2m/dn/x", "lwm2m/"),
        (
            "lwm2m/${username}",
            "/dn/#",
            "lwm2m/+/dn/#",
            "lwm2m/86/dn/dm",
            "lwm2m/86",
        ),
        (
            "lwm2m/${username}",
            "dn/#",
            "lwm2m/+/#",
            "lwm2m/86dn/dm",
            "lwm2m/86",
        ),
        ("", "dn/#", "dn/#", "dn", ""),
        ("a/${clientid}/", "#", "a/+/#", "a/1/x/y", "a/1/"),
        (
            "a/${peerhost}.${clientid}/",
            "dn",
            "a/+/dn",
            "a/::1.c/dn",
            "a/::1.c/",
        ),
    ] {
        let mut config = config(mountpoint);
        config.translators.command = Translator::new(command);
        let router = CommandRouter::new(&config).unwrap();
        assert_eq!(router.filters()[0].0, filter);
        let route = router.route(topic).unwrap();
        assert_eq!(route.mount, mount);
        assert_eq!(route.key, RouteKey::Mountpoint(mount));
    }
}

#[test]
fn below_mountpoints_of_a_host() {
    let router = CommandRouter::new(&config("lwm2m/${endpoint_name}/")).unwrap();
    let mounts = |topic| {
        let routes = router.below_any_mountpoint(topic);
        routes
            .map(|route| (route.mount.to_owned(), route.dialect))
            .collect::<Vec<_>>()
    };
    assert_eq!(mounts("a/b/dn/x"), [("a/b/".to_owned(), Dialect::Current)]);
    assert_eq!(mounts("édn"), [("é".to_owned(), Dialect::Current)]);
    assert_eq!(mounts("a/command"), [("a/".to_owned(), Dialect::Legacy)]);
    assert_eq!(
        mounts("dn/dn").len(),
        2,
        "any of the two may be a mountpoint"
    );
    assert!(mounts("a/up/resp").is_empty() && mounts("").is_empty());
}

#[test]
fn listeners_have_mountpoints_of_their_own() {
    let mut config = config("lwm2m/${endpoint_name}/");
    config.translators.command.qos = 1;
    let second = UdpListener {
        mountpoint: Some("site2/${endpoint_name}/".to_owned()),
        ..UdpListener::default()
    };
    config.listeners.udp.insert("second".to_owned(), second);
    let mut third = DtlsListener::default();
    third.common.mountpoint = Some("site3/${endpoint_name}/".to_owned());
    config.listeners.dtls.insert("third".to_owned(), third);
    let router = CommandRouter::new(&config).unwrap();
    assert_eq!(router.filters().len(), 6);
    assert_eq!(router.filters()[2], ("site2/+/dn/#".to_owned(), 1));
    assert_eq!(router.filters()[4], ("site3/+/dn/#".to_owned(), 1));
    assert_eq!(endpoint(&router, "site2/ep/dn").unwrap().0, "ep");
    assert_eq!(endpoint(&router, "site3/ep/dn").unwrap().0, "ep");
}

#[test]
fn bad_filters_are_named() {
    for (mountpoint, command) in [
        ("lwm2m/#/", "dn"),
        ("lwm2m/+/", "dn"),
        ("lwm2m/x", "#"),
        ("lwm2m/${endpoint_name}", "+/dn"),
        ("lwm2m/", "dn/#/x"),
        ("lwm2m/", "d+n"),
    ] {
        let mut config = config(mountpoint);
        config.translators.command = Translator::new(command);
        assert!(
            matches!(CommandRouter::new(&config), Err(TopicError::BadFilter(_))),
            "{mountpoint} {command}"
        );
    }
}

#[test]
fn c4_a_mountpoint_that_names_its_endpoint() {
    let named = |text: &str| NamedMountpoint::new(&TopicTemplate::parse(text));
    for text in [
        "lwm2m/",
        "",
        "${username}/",
        "a/${clientid}${endpoint_name}/",
        "${endpoint_name}-${zone}",
    ] {
        assert_eq!(named(text), None, "{text}");
    }
    let refuse = HostileEndpoint::Refuse;
    for (text, mount, endpoint) in [
        ("lwm2m/${endpoint_name}/", "lwm2m/ep/", Some("ep")),
        ("lwm2m/${endpoint_name}/", "lwm2m//", None),
        ("lwm2m/${endpoint_name}/", "lwm2m/ep", None),
        ("lwm2m/${endpoint_name}/", "lwm2m/ep/x/", None),
        ("lwm2m/${endpoint_name}", "lwm2m/ep", Some("ep")),
        ("x-${endpoint_name}-y/", "x-1-y/", Some("1")),
        ("${username}/${endpoint_name}/", "u/ep/", Some("ep")),
        ("${zone}${username}/${endpoint_name}", "du/ep", Some("ep")),
    ] {
        let found = named(text).and_then(|it| it.endpoint_at(mount, refuse).map(Cow::into_owned));
        assert_eq!(found.as_deref(), endpoint, "{text} {mount}");
    }
    let escaped = named("a/${endpoint_name}/").unwrap();
    assert_eq!(
        escaped
            .endpoint_at("a/b%2Fc/", HostileEndpoint::Escape)
            .unwrap(),
        "b/c"
    );
}

proptest! {
    #[test]
    fn a_device_is_found_by_its_own_topics(name in "\\PC{1,12}", below in "[a-z/]{0,6}") {
        let mut config = config("a/${zone}-${endpoint_name}/b/${endpoint_name}/");
        config.hostile_endpoint = HostileEndpoint::Escape;
        let vars = Vars {
            endpoint_name: &name, clientid: "c", username: "u", peerhost: "p", zone: "z",
        };
        let mount = TopicTemplate::parse(&config.mountpoint)
            .render(&vars, config.hostile_endpoint).unwrap();
        let router = CommandRouter::new(&config).unwrap();
        let topic = topic(&mount, &Translator::new(&format!("dn/{below}")));
        let route = router.route(&topic).unwrap();
        prop_assert_eq!(route.key, RouteKey::Endpoint(Cow::Borrowed(name.as_str())));
        prop_assert_eq!(route.mount, mount.as_str());
    }

    #[test]
    fn any_topic_routes_without_panic(topic in "[a-z/+#$%é]{0,30}") {
        let router = CommandRouter::new(&config("lwm2m/${endpoint_name}/")).unwrap();
        router.route(&topic);
    }
}
