//! What holds for the gateway as a whole.

use super::key::{Key, LONGEST, SECOND, key};
use crate::config::choices::{
    AddressChange, AutoObserve, HostileEndpoint, LifetimePolicy, ObservePolicy, UpdateCondition,
};
use crate::config::listener::PlainRegisters;
use crate::config::schema::Config;
use crate::config::{value, window};
use crate::credentials::WorldReadable;
use crate::lwm2m::codec::names::NAMES;

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "mountpoint",
        mountpoint,
        text,
        "Prefix of all topics of a device. Placeholders: `${endpoint_name}`, `${clientid}`, `${username}`, `${peerhost}`, `${zone}`. See [below](#mountpoints)."
    ),
    key!(
        "shared_mountpoint",
        shared_mountpoint,
        flag,
        "Whether several endpoints may share one mountpoint (with its placeholders filled in). Each command there then goes to all of them. If not, the second endpoint is answered 4.03."
    ),
    key!(
        "plain_registers",
        plain_registers,
        choice(
            "uncovered" = PlainRegisters::Uncovered,
            "any" = PlainRegisters::Any
        ),
        "Which endpoints a device without DTLS may register. `uncovered`: only those that no credential of a DTLS listener covers, by its identity or its list; others are answered 4.03. `any`: all."
    ),
    key!(
        "oma_registry",
        oma_registry,
        flag,
        "Whether to use the built-in definitions (names, types, units) of the objects in OMA's registry. If not, only the objects 0 to 7 are built in."
    ),
    key!(
        "xml_dir",
        xml_dir,
        optional_text,
        "Directory of additional object definitions (`*.xml`). They replace the built-in definitions of the same object; of the objects 0 to 7, only those of the same version."
    ),
    key!(
        "lifetime_min",
        lifetime_min,
        duration(SECOND, LONGEST),
        "Shortest lifetime of a registration, see `lifetime_policy`."
    ),
    key!(
        "lifetime_max",
        lifetime_max,
        duration(SECOND, LONGEST),
        "Longest lifetime of a registration, see `lifetime_policy`; also used for `lt=0`."
    ),
    key!(
        "lifetime_policy",
        lifetime_policy,
        choice(
            "clamp" = LifetimePolicy::Clamp,
            "reject" = LifetimePolicy::Reject,
            "ignore" = LifetimePolicy::Ignore
        ),
        "What happens to a lifetime outside these bounds. `clamp`: the nearest bound is used. `reject`: the Register is answered 4.00. `ignore`: the device gets the lifetime it asks for."
    ),
    key!(
        "qmode_time_window",
        qmode_time_window,
        text_by(
            || format!(
                "`\"lwm2m\"` or a duration, 1s to {}",
                value::show_duration(LONGEST)
            ),
            |from| window::window(from, LONGEST),
            |it| value::quoted(&value::show_duration(*it))
        ),
        "How long after its last message a queue-mode device is considered awake. `lwm2m` is 93 s, as LwM2M 1.1 recommends."
    ),
    key!(
        "qmode_time_windows",
        qmode_time_windows,
        by(
            || "list of `\"PATTERN=WINDOW\"`".to_owned(),
            |from| window::rules(from, LONGEST),
            |it| {
                let rules = it
                    .iter()
                    .map(|rule| format!("{}={}", rule.pattern, value::show_duration(rule.window)));
                format!("{:?}", rules.collect::<Vec<_>>())
            }
        ),
        "The same for devices whose endpoint name matches a pattern: `*` stands for any characters, and the first matching rule applies, as in `[\"meter-*=lwm2m\", \"valve-7=5s\"]`."
    ),
    key!(
        "auto_observe",
        auto_observe,
        by(
            || "true, false or a list of paths".to_owned(),
            value::auto_observe,
            |it| match it {
                AutoObserve::Off => "false".to_owned(),
                AutoObserve::All => "true".to_owned(),
                AutoObserve::Paths(paths) => {
                    let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
                    format!("{paths:?}")
                }
            }
        ),
        "What to observe as soon as a device registers. `false`: nothing. `true`: all objects that have a definition. A list: those of its paths that the device lists, or of which it lists a path above or below."
    ),
    key!(
        "observe_policy",
        observe_policy,
        choice(
            "keep" = ObservePolicy::Keep,
            "renew" = ObservePolicy::Renew,
            "drop" = ObservePolicy::Drop
        ),
        "What happens to the observations of a device that registers again. `keep`: they are assumed to continue. `renew`: the gateway sends them again with the same tokens. `drop`: they end."
    ),
    key!(
        "update_msg_publish_condition",
        update_msg_publish_condition,
        choice(
            "always" = UpdateCondition::Always,
            "contains_object_list" = UpdateCondition::ContainsObjectList,
            "object_list_changed" = UpdateCondition::ObjectListChanged
        ),
        "Which Updates are published: all, those that carry an object list, or those that change it."
    ),
    key!(
        "hostile_endpoint",
        hostile_endpoint,
        choice(
            "refuse" = HostileEndpoint::Refuse,
            "escape" = HostileEndpoint::Escape
        ),
        "What happens if an endpoint name contains `/`, `+`, `#` or a control character, starts with `$`, or is `.` or `..`. `refuse`: the Register is answered 4.00. `escape`: topics have `%XX` instead."
    ),
    key!(
        "address_change",
        address_change,
        choice(
            "accept" = AddressChange::Accept,
            "reject" = AddressChange::Reject
        ),
        "Whether an Update from a new address moves the registration there. Over plain UDP a notification moves it as well, once its token matches and the new address has answered a ping."
    ),
    key!(
        "publish_deregister",
        publish_deregister,
        flag,
        "Publish `deregister` and `expired` messages on the register topic."
    ),
    key!(
        "received_at",
        received_at,
        flag,
        "Whether answers, notifications, Sends and reports carry `receivedAt`: when the device's message reached the gateway, in milliseconds since 1970. Useful if messages may wait in a broker or a bridge."
    ),
    key!(
        "format",
        format,
        text_by(format_form, value::format, |it| value::quoted(
            &value::show_format(*it)
        )),
        "Content format to request from devices and to write in, wherever it can carry the content; `auto` takes the best format that the device has declared."
    ),
    key!(
        "world_readable_keys",
        world_readable_keys,
        choice(
            "refuse" = WorldReadable::Refuse,
            "allow" = WorldReadable::Allow
        ),
        "Whether to accept a configuration with keys or passwords, a `psk_file` or a `mqtt.password_file` that every user of the machine can read or write. Use `allow` only for volumes whose file modes cannot be changed."
    ),
    key!(
        "shards",
        shards,
        integer(0, 256),
        "Number of threads, each with a socket and a protocol engine. 0 means one for every two cores, which leaves the others to the broker."
    ),
];

fn format_form() -> String {
    let names: Vec<_> = NAMES
        .iter()
        .map(|(name, _)| format!("`\"{name}\"`"))
        .collect();
    format!(
        "`\"auto\"`, {} or a content format number",
        names.join(", ")
    )
}
