//! What holds for the gateway as a whole.

use super::key::{Key, LONGEST, SECOND, key};
use crate::config::choices::{
    AddressChange, AutoObserve, HostileEndpoint, LifetimePolicy, ObservePolicy, UpdateCondition,
};
use crate::config::listener::PlainRegisters;
use crate::config::schema::Config;
use crate::config::value;
use crate::credentials::WorldReadable;
use crate::lwm2m::codec::names::NAMES;

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "mountpoint",
        mountpoint,
        text,
        "Start of every topic of a device. Placeholders: `${endpoint_name}`, `${clientid}`, `${username}`, `${peerhost}`, `${zone}`. See [below](#mountpoints)."
    ),
    key!(
        "shared_mountpoint",
        shared_mountpoint,
        flag,
        "Whether several endpoints may have the same rendered mountpoint, so that each command there goes to all of them. Otherwise the second endpoint is answered 4.03."
    ),
    key!(
        "plain_registers",
        plain_registers,
        choice(
            "uncovered" = PlainRegisters::Uncovered,
            "any" = PlainRegisters::Any
        ),
        "Which endpoints a device without DTLS may register: those that no credential of any DTLS listener covers, by its identity or its list, or any. Another one is answered 4.03."
    ),
    key!(
        "oma_registry",
        oma_registry,
        flag,
        "Whether the objects of OMA's registry are known: their names, types and units are built in. Without it only the objects 0 to 7 are."
    ),
    key!(
        "xml_dir",
        xml_dir,
        optional_text,
        "Directory of further object definitions (`*.xml`). An object in it is taken from there alone, except that the objects 0 to 7 keep the built-in version beside others."
    ),
    key!(
        "lifetime_min",
        lifetime_min,
        duration(SECOND, LONGEST),
        "Shortest lifetime a registration is given."
    ),
    key!(
        "lifetime_max",
        lifetime_max,
        duration(SECOND, LONGEST),
        "Longest lifetime a registration is given; also used for `lt=0`."
    ),
    key!(
        "lifetime_policy",
        lifetime_policy,
        choice(
            "clamp" = LifetimePolicy::Clamp,
            "reject" = LifetimePolicy::Reject,
            "ignore" = LifetimePolicy::Ignore
        ),
        "What happens to a lifetime outside of these bounds: the nearest bound is used, the Register is answered 4.00, or the device gets what it asks for."
    ),
    key!(
        "qmode_time_window",
        qmode_time_window,
        duration(SECOND, LONGEST),
        "How long after its last message a queue-mode device is taken to be awake."
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
        "Objects observed as soon as a device registers: none, all that have a definition, or those of the listed paths of which the device lists one, or one above or below."
    ),
    key!(
        "observe_policy",
        observe_policy,
        choice(
            "keep" = ObservePolicy::Keep,
            "renew" = ObservePolicy::Renew,
            "drop" = ObservePolicy::Drop
        ),
        "What becomes of the observations of a device that registers anew: they are taken to go on, asked for again with their tokens, or they end."
    ),
    key!(
        "update_msg_publish_condition",
        update_msg_publish_condition,
        choice(
            "always" = UpdateCondition::Always,
            "contains_object_list" = UpdateCondition::ContainsObjectList,
            "object_list_changed" = UpdateCondition::ObjectListChanged
        ),
        "Which Updates are published: every one, those that carry an object list, or those that change it."
    ),
    key!(
        "hostile_endpoint",
        hostile_endpoint,
        choice(
            "refuse" = HostileEndpoint::Refuse,
            "escape" = HostileEndpoint::Escape
        ),
        "What happens to an endpoint name that holds `/`, `+` or `#`: answered 4.00, or written as `%XX` in topics."
    ),
    key!(
        "address_change",
        address_change,
        choice(
            "accept" = AddressChange::Accept,
            "reject" = AddressChange::Reject
        ),
        "Whether an Update from a new address moves the registration there, and over plain UDP a notification whose token and whose sender's answer to a ping show that the device is there now."
    ),
    key!(
        "publish_deregister",
        publish_deregister,
        flag,
        "Publish `deregister` and `expired` messages on the register topic."
    ),
    key!(
        "format",
        format,
        text_by(format_form, value::format, |it| value::quoted(
            &value::show_format(*it)
        )),
        "Content format to ask devices for and to write in, wherever it can carry what is asked for; `auto` takes the best that the device has declared."
    ),
    key!(
        "world_readable_keys",
        world_readable_keys,
        choice(
            "refuse" = WorldReadable::Refuse,
            "allow" = WorldReadable::Allow
        ),
        "Whether a configuration with keys or passwords in it, a `psk_file` or a `mqtt.password_file` may be readable or writable for everybody on the machine; `allow` is for volumes whose modes cannot be changed."
    ),
    key!(
        "shards",
        shards,
        integer(0, 256),
        "Threads with a socket and a protocol engine each; 0 takes one per core."
    ),
];

fn format_form() -> String {
    let names: Vec<_> = NAMES
        .iter()
        .map(|(name, _)| format!("`\"{name}\"`"))
        .collect();
    format!("`\"auto\"`, {} or the number of one", names.join(", "))
}
