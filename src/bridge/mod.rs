//! MQTT on one side, operations and events on the other.
//!
//! The JSON and the topics are those of EMQX's own LwM2M gateway (versions 5 and 6), so that
//! applications written for it work unchanged; `tests/emqx_codec.rs` holds the vectors and names
//! every deviation with its reason. Choices of our own that an application can see:
//!
//! - **Every command is answered.** A malformed one gets `4.00 bad_request` with a `reason`
//!   ([`Reason`]) and a `detail` for people. Of one that is not read, because it is too large or no
//!   JSON, the members come back that stand whole in it. Where no `msgType` could be read, the
//!   answer's is `error`.
//! - **The gateway's own messages** are no commands: one that comes back is counted and dropped, so
//!   that a bridge which copies answers to commands causes no loop.
//! - **What the device says** stands in the answer: `diagnostic` of an error, `location` of a new
//!   instance, `size1` of a 4.13, and the payload of an Execute's answer in `content`.
//! - **Paths in `content`** start with a slash. A value in `text/plain` or of an opaque format
//!   stands under the request path as the application wrote it, unless that ends in a slash.
//! - **Unknown resources** are delivered by best guess with `"inferred":true`; a timestamp of the
//!   device as `"time"`, in seconds since 1970.
//! - **Unknown content formats** are delivered as base64 with `"contentFormat":N`.
//! - **Undecodable payloads** are `4.00 bad_request` with `reason` `undecodable`, and `raw`
//!   (base64) and `contentFormat` beside it.
//! - **Records that cannot be read** among others that can stand in `errors` beside `content`,
//!   each with `path` and `reason`.
//! - **An attribute** that is null is unset, as one that is an empty text: by its name alone.
//! - **Floats that JSON cannot carry** are `"value":null` with `"nonFinite"` `"NaN"`,
//!   `"Infinity"` or `"-Infinity"`, so that the type of `value` never changes.
//! - **`seqNum`** belongs to the gateway: a command's own member of that name is not echoed.

// The small types at the bottom; `command` and `answer` build on them and do not know each other.
pub mod code;
mod dialect;
mod echo;
mod ids;
mod json;
mod kind;
mod refusal;
mod req_path;
pub(crate) mod secret;
pub mod state;
mod target;

mod answer;
pub mod command;

pub mod router;
pub mod topic;

pub use answer::{content, report, series, uplink, waiting};
pub use command::{Command, typed};
pub use dialect::Dialect;
pub use echo::{Echo, StoredEcho, StoredReply};
pub use kind::Kind;
pub use refusal::{CommandError, Reason};
#[cfg_attr(not(feature = "internals"), allow(unused_imports))] // for tests and benchmarks
pub use req_path::ReqPath;
pub use router::{CommandRouter, NamedMountpoint, Route, RouteKey};
pub use target::{SmallTarget, StoredTarget, Target};

#[cfg(test)]
mod tests;
