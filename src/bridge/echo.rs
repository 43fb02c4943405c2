//! What an answer repeats of its command.

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::ids::Ids;
use super::json::{Members, put, put_string, string};
use super::kind::Kind;
use crate::lwm2m::Path;
use crate::memory::Heap;
use crate::mqtt::ReplyTo;

/// `msgType` of the answer to a command that has none.
const NO_MSG_TYPE: &str = r#""error""#;

/// The members of a command that come back with each of its answers, as ready JSON text: every
/// top-level member but `data`, values exactly as they were written. One is kept for each
/// command under way and each observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// `"name":value` pairs with commas between them, without braces; often empty.
    members: Box<str>,
    /// JSON text of `msgType`, or of `Command` in the legacy dialect.
    name: Box<str>,
    /// JSON text of `data`, for the answers that repeat it.
    data: Option<Box<str>>,
    kind: Option<Kind>,
    dialect: Dialect,
    /// The topic pair the command came by.
    pair: Dialect,
    imei: bool,
    imsi: bool,
    /// Where the answers go as well.
    reply: Option<Box<ReplyTo>>,
    /// The command may have been answered before.
    repeated: bool,
    /// The command was accepted while the store could not be written.
    volatile: bool,
}

/// An [`Echo`] as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEcho {
    members: Box<str>,
    name: Box<str>,
    data: Option<Box<str>>,
    /// The `msgType` of the operation.
    kind: Option<Box<str>>,
    legacy: bool,
    legacy_pair: bool,
    imei: bool,
    imsi: bool,
    reply: Option<StoredReply>,
}

/// Where answers go as well, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReply {
    topic: Box<str>,
    correlation: Option<Box<[u8]>>,
}

impl StoredReply {
    /// For the store.
    pub fn new(reply: &ReplyTo) -> Self {
        Self {
            topic: reply.topic().into(),
            correlation: reply.correlation().map(Into::into),
        }
    }

    /// From the store.
    pub fn to_reply(&self) -> Box<ReplyTo> {
        Box::new(ReplyTo::new(&self.topic, self.correlation.as_deref()))
    }
}

impl Heap for Echo {
    fn heap(&self) -> usize {
        self.members.heap() + self.name.heap() + self.data.heap() + ReplyTo::bytes_of(&self.reply)
    }
}

impl Echo {
    /// The echo of a command that could not be read at all: nothing.
    pub(super) fn nothing() -> Self {
        Self::new(&Members::default(), "msgType", &["data"], Dialect::Current)
    }

    /// The echo of a command in today's dialect.
    pub(super) fn current(command: &Members<'_>) -> Self {
        let mut echo = Self::without_data(command);
        echo.data = command.get("data").map(|raw| raw.get().into());
        echo
    }

    /// The same for a command that is refused at once: no answer repeats its `data`.
    pub(super) fn without_data(command: &Members<'_>) -> Self {
        Self::new(command, "msgType", &["data"], Dialect::Current)
    }

    /// The echo of a command in the legacy dialect.
    pub(super) fn legacy(command: &Members<'_>) -> Self {
        let replaced = [
            "BaseName",
            "Value",
            "Arguments",
            "Result",
            "Error",
            "Reason",
        ];
        Self::new(command, "Command", &replaced, Dialect::Legacy)
    }

    /// The echo of an observation the gateway asks for by itself. Its answers carry
    /// `"is_auto_observe":true` and no request id.
    pub(super) fn auto_observe(path: &Path) -> Self {
        let mut data = br#"{"path":"#.to_vec();
        put_string(&mut data, &path.to_string());
        data.push(b'}');
        Self {
            members: r#""is_auto_observe":true"#.into(),
            name: r#""observe""#.into(),
            data: String::from_utf8(data).ok().map(Into::into),
            kind: Some(Kind::Observe),
            dialect: Dialect::Current,
            pair: Dialect::Current,
            imei: false,
            imsi: false,
            reply: None,
            repeated: false,
            volatile: false,
        }
    }

    fn new(command: &Members<'_>, name: &str, replaced: &[&str], dialect: Dialect) -> Self {
        let mut members = Vec::new();
        let (mut imei, mut imsi) = (false, false);
        for (key, value) in command.iter() {
            if key == name || key == "seqNum" || replaced.contains(&key) {
                continue;
            }
            imei |= key == "imei";
            imsi |= key == "imsi";
            if !members.is_empty() {
                members.push(b',');
            }
            put_string(&mut members, key);
            members.push(b':');
            put(&mut members, value.get());
        }
        let raw_name = command.get(name);
        let name = raw_name.filter(|raw| string(raw).is_some());
        Self {
            members: String::from_utf8(members).unwrap_or_default().into(),
            name: name.map_or(NO_MSG_TYPE, |raw| raw.get()).into(),
            data: None,
            kind: None,
            dialect,
            pair: dialect,
            imei,
            imsi,
            reply: None,
            repeated: false,
            volatile: false,
        }
    }

    /// The answers go there as well.
    pub fn set_reply(&mut self, reply: Option<Box<ReplyTo>>) {
        self.reply = reply;
    }

    /// Where the answers go as well.
    pub fn reply(&self) -> Option<&ReplyTo> {
        self.reply.as_deref()
    }

    pub(super) fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The operation, when the command named a known one.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// How the command was written.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The topic pair the command came by, and its answers go by.
    pub fn pair(&self) -> Dialect {
        self.pair
    }

    pub(super) fn set_pair(&mut self, pair: Dialect) {
        self.pair = pair;
    }

    /// The command as JSON, if all of it was kept: that of an operation in today's dialect.
    pub fn command(&self) -> Option<String> {
        let data = self.data.as_deref()?;
        let (name, members) = (&self.name, &self.members);
        let comma = if members.is_empty() { "" } else { "," };
        Some(format!(
            r#"{{"msgType":{name},"data":{data}{comma}{members}}}"#
        ))
    }

    /// JSON text of `reqID`.
    pub fn request_id(&self) -> Option<String> {
        let members = format!("{{{}}}", self.members);
        let members = Members::parse(&members).ok()?;
        members.value("reqID").map(|id| id.get().to_owned())
    }

    /// Whether the gateway asks for this by itself.
    pub fn is_auto_observe(&self) -> bool {
        self.members.contains(r#""is_auto_observe":true"#)
    }

    /// Answers say from now on that there may have been one before (`"repeated":true`).
    pub fn mark_repeated(&mut self) {
        self.repeated = true;
    }

    /// Answers say that the command would not have survived a restart (`"durable":false`).
    pub fn mark_volatile(&mut self) {
        self.volatile = true;
    }

    /// The echo of what the command began, whose messages come once each.
    #[must_use]
    pub fn of_observation(&self) -> Self {
        Self {
            repeated: false,
            volatile: false,
            ..self.clone()
        }
    }

    /// For the store.
    pub fn to_stored(&self) -> StoredEcho {
        StoredEcho {
            members: self.members.clone(),
            name: self.name.clone(),
            data: self.data.clone(),
            kind: self.kind.map(|kind| kind.name().into()),
            legacy: self.dialect == Dialect::Legacy,
            legacy_pair: self.pair == Dialect::Legacy,
            imei: self.imei,
            imsi: self.imsi,
            reply: self.reply.as_deref().map(StoredReply::new),
        }
    }

    /// From the store.
    pub fn of_stored(stored: StoredEcho) -> Self {
        let dialect = |legacy| {
            if legacy {
                Dialect::Legacy
            } else {
                Dialect::Current
            }
        };
        Self {
            members: stored.members,
            name: stored.name,
            data: stored.data,
            kind: stored.kind.and_then(|name| Kind::from_name(&name)),
            dialect: dialect(stored.legacy),
            pair: dialect(stored.legacy_pair),
            imei: stored.imei,
            imsi: stored.imsi,
            reply: stored.reply.as_ref().map(StoredReply::to_reply),
            repeated: false,
            volatile: false,
        }
    }

    /// Bytes of what each answer repeats.
    pub(super) fn members_len(&self) -> usize {
        self.members.len() + self.name.len()
    }

    /// JSON text of `data` as it was sent.
    pub(super) fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// JSON text of `msgType` or `Command`, quotes included.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Appends the members, each followed by a comma, and the identities of the device where
    /// the command did not carry them itself.
    pub(super) fn put_members(&self, out: &mut Vec<u8>, ids: &Ids<'_>) {
        if !self.members.is_empty() {
            put(out, &self.members);
            out.push(b',');
        }
        if self.repeated {
            put(out, r#""repeated":true,"#);
        }
        if self.volatile {
            put(out, r#""durable":false,"#);
        }
        ids.put(out, self.imei, self.imsi);
    }
}
