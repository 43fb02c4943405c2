//! Settings that are one of a few words.

use std::time::Duration;

use crate::lwm2m::Path;
use crate::lwm2m::codec::ContentFormat;

/// See [`Config::format`](super::Config::format).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatDefault {
    /// `auto`: the best that the device has declared.
    Auto,
    /// This one, wherever it can carry what is asked for.
    Fixed(ContentFormat),
}

/// See [`Config::lifetime_policy`](super::Config::lifetime_policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimePolicy {
    /// `clamp`: use the nearest allowed lifetime.
    Clamp,
    /// `reject`: answer 4.00.
    Reject,
    /// `ignore`: grant what is asked for, as EMQX's own gateway does.
    Ignore,
}

/// See [`Config::auto_observe`](super::Config::auto_observe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoObserve {
    /// `false` or `"off"`.
    Off,
    /// `true` or `"on"`: every entry of the object list, except objects 0, 1, 2, 4, 5, 6, 7, 9
    /// and 15 and objects without a definition.
    All,
    /// A list or comma-separated string: those of these paths that the object list holds.
    Paths(Vec<Path>),
}

/// See [`Config::update_msg_publish_condition`](super::Config::update_msg_publish_condition).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateCondition {
    /// `always`
    Always,
    /// `contains_object_list`: the Update carries an object list, changed or not.
    ContainsObjectList,
    /// `object_list_changed`: the object list is another than before.
    ObjectListChanged,
}

/// See [`Config::hostile_endpoint`](super::Config::hostile_endpoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostileEndpoint {
    /// `refuse`: such a Register is answered 4.00.
    Refuse,
    /// `escape`: `/`, `+`, `#`, `%` and control characters become `%XX` in topics.
    Escape,
}

/// See [`Config::address_change`](super::Config::address_change).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChange {
    /// `accept`: whoever knows the unguessable location may move the registration.
    Accept,
    /// `reject`: answered 4.04, the device has to register again.
    Reject,
}

/// See [`Series::boolean`](super::Series::boolean).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BooleanSeries {
    /// `number`: 1 or 0.
    Number,
    /// `text`: `true` or `false`.
    Text,
}

/// See [`Coap::echo`](super::Coap::echo): who is answered 4.01 with an Echo option (RFC 9175 §2.3) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoMode {
    /// `off`: nobody.
    Off,
    /// `new-address`: a Register from an address that has not shown itself, and an Update from
    /// another one than the device's.
    NewAddress,
    /// `always`: every Register, Update and De-register.
    Always,
}

/// See [`Config::observe_policy`](super::Config::observe_policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservePolicy {
    /// `keep`: they are taken to go on.
    Keep,
    /// `renew`: they are asked for again.
    Renew,
    /// `drop`: they end.
    Drop,
}

/// See [`Store::on_failure`](super::Store::on_failure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// `continue`: they are taken, and answered with `"durable":false`.
    Continue,
    /// `refuse`: they are answered 5.03.
    Refuse,
}

/// See [`Store::on_restart`](super::Store::on_restart).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRestart {
    /// `repeat`: what may be done twice is sent again, the rest is answered 5.04 `restarted`.
    Repeat,
    /// `answer`: everything is answered 5.04 `restarted`.
    Answer,
}

/// See [`Store::sync`](super::Store::sync).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreSync {
    /// `always`: each change as soon as the disk has taken the one before.
    Always,
    /// A duration: so long changes wait to be written together.
    Every(Duration),
    /// `off`: when the system finds the time.
    Off,
}
