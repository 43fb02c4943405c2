//! Why a command cannot be sent.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::echo::Echo;
use super::req_path::ReqPath;

/// Why a command is refused; applications see [`Reason::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No JSON.
    MalformedJson,
    /// More bytes than `limits.max_command_size`, `blockwise.max_body_size` or `queue.max_bytes`.
    TooLarge,
    /// Arrays or objects nested too deeply.
    TooDeep,
    /// JSON, but no object.
    NotAnObject,
    /// No `msgType` that is a string.
    MissingMsgType,
    /// A `msgType` that names no operation.
    UnknownMsgType,
    /// No `data` that is an object.
    MissingData,
    /// Neither `path` nor `basePath` as a string.
    MissingPath,
    /// A path that cannot be sent, or not with this operation.
    BadPath,
    /// A batch write without `content`.
    MissingContent,
    /// `content` is no array of objects.
    BadContent,
    /// Nothing to write.
    MissingValue,
    /// A value that is none of its type.
    BadValue,
    /// A `type` nobody knows.
    BadType,
    /// An `encoding` other than `plain` or `hex`.
    BadEncoding,
    /// No attribute, or one that is neither string nor number.
    BadAttribute,
    /// Arguments of execute that are no string, or break the rules of LwM2M.
    BadArguments,
    /// A `mode` other than `replace` or `update`.
    BadMode,
    /// A `format` that nobody knows, or that cannot do what is asked.
    BadFormat,
    /// No command at all: a message of the gateway's own that somebody sent back. It is never
    /// answered, since the answer would come back as well.
    OwnMessage,
}

impl Reason {
    /// The stable code in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::MissingMsgType => "missing_msgType",
            Self::UnknownMsgType => "unknown_msgType",
            Self::MissingData => "missing_data",
            Self::MissingPath => "missing_path",
            Self::BadPath => "bad_path",
            Self::MissingContent => "missing_content",
            Self::BadContent => "bad_content",
            Self::MissingValue => "missing_value",
            Self::BadValue => "bad_value",
            Self::BadType => "bad_type",
            Self::BadEncoding => "bad_encoding",
            Self::BadAttribute => "bad_attribute",
            Self::BadArguments => "bad_arguments",
            Self::BadMode => "bad_mode",
            Self::BadFormat => "bad_format",
            Self::OwnMessage => "own_message",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command that cannot be sent, with what is needed to say so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {detail}")]
pub struct CommandError {
    /// What the answer repeats; without members when the command was no JSON object.
    pub echo: Box<Echo>,
    /// `reqPath` or `reqPaths` of the answer, where the command had any.
    pub req_path: Option<ReqPath>,
    /// The stable code.
    pub reason: Reason,
    /// For people.
    pub detail: String,
}

/// A reason on its way to a [`CommandError`].
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    pub(super) fn into_error(self, echo: Echo, req_path: Option<ReqPath>) -> CommandError {
        CommandError {
            echo: Box::new(echo),
            req_path,
            reason: self.reason,
            detail: self.detail.into_owned(),
        }
    }
}
