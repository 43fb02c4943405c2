//! Behaviour of EMQX where ours is better by default.

use super::key::{Key, key};
use crate::config::schema::Config;
use crate::config::value;

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "compat.location",
        compat.endpoint_location,
        choice("random" = false, "endpoint" = true),
        "Registration location: `/rd/<random>`, or EMQX's `/rd/<endpoint>`."
    ),
    key!(
        "compat.bad_version",
        compat.bad_version_400,
        choice("4.12" = false, "4.00" = true),
        "Answer to an unknown `lwm2m=` version."
    ),
    key!(
        "compat.reregister",
        compat.reregister_204,
        choice("2.01" = false, "2.04" = true),
        "Answer to a Register of a registered device: 2.01 with a new location, or 2.04 from the same peer."
    ),
    key!(
        "compat.strict_register",
        compat.strict_register,
        flag,
        "A Register without `lt` or `lwm2m` is answered 4.00."
    ),
    key!(
        "compat.unknown_object",
        compat.unknown_object_error,
        choice("deliver" = false, "error" = true),
        "Values without an object definition are decoded by best guess and delivered, or answered 4.00."
    ),
    key!(
        "compat.multi_instance_path",
        compat.bare_multi_instance_path,
        choice("slash" = false, "bare" = true),
        "Whether paths of resource instances begin with a slash or not (`6/0/0`)."
    ),
    key!(
        "compat.text_opaque",
        compat.encode_text_opaque,
        choice("decode" = false, "encode" = true),
        "An opaque value in text/plain is taken as base64, or encoded as base64 once more."
    ),
    key!(
        "compat.firmware_topic",
        compat.firmware_topic,
        flag,
        "Notifications of object 5 go to `/v1/up/dm` below the mountpoint."
    ),
    key!(
        "compat.malformed_command",
        compat.drop_malformed,
        choice("reply" = false, "drop" = true),
        "A malformed command is answered 4.00 with a reason, or dropped silently."
    ),
    key!(
        "compat.write_content",
        compat.write_content_mapping,
        flag,
        "Whether a write that the device answers with 2.05 is reported as 2.04 or 4.05, as EMQX does."
    ),
    key!(
        "compat.execute_arguments",
        compat.pass_execute_arguments,
        choice("pass" = true, "check" = false),
        "`pass`: the arguments of execute may be any text, and the device decides, as in EMQX. `check`: they must have the format of LwM2M (`2,0='text'`)."
    ),
];
