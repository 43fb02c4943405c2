//! What an answer repeats of its command.

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::ids::Ids;
use super::json::{Members, put, put_string, string};
use super::kind::Kind;
use crate::lwm2m::Path;
use crate::memory::{Heap, block};
use crate::mqtt::ReplyTo;

/// `msgType` of the answer to a command that has none.
const NO_MSG_TYPE: &str = r#""error""#;

/// Members of an observation that the gateway asks for by itself.
const AUTOMATIC_MEMBERS: &str = r#""is_auto_observe":true"#;

/// Longest members that need no memory of their own: `"reqID":` with a time in milliseconds.
const SHORT: usize = 21;

/// Instead of a length: the members are [`AUTOMATIC_MEMBERS`].
const AUTOMATIC: u8 = 0xfe;

/// Instead of a length: the members are long.
const LONG: u8 = 0xff;

/// The members of a command that come back with each of its answers, as ready JSON text: every
/// top-level member but `data`, values exactly as they were written. One is kept for each
/// command under way and each observation, so what nearly all have in common is not written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// `"name":value` pairs with commas between them, without braces, unless they are long; often empty.
    short: [u8; SHORT],
    /// How long that is, or what there is instead.
    length: u8,
    kind: Option<Kind>,
    /// Some of [`flag`].
    flags: u8,
    more: Option<Box<More>>,
}

/// What is true of a command.
mod flag {
    /// It was written in the legacy dialect.
    pub(super) const LEGACY: u8 = 1;
    /// It came by the topic pair of the legacy dialect.
    pub(super) const LEGACY_PAIR: u8 = 1 << 1;
    /// It has a member `imei`.
    pub(super) const IMEI: u8 = 1 << 2;
    /// It has a member `imsi`.
    pub(super) const IMSI: u8 = 1 << 3;
    /// It may have been answered before.
    pub(super) const REPEATED: u8 = 1 << 4;
    /// It was accepted while the store could not be written.
    pub(super) const VOLATILE: u8 = 1 << 5;
    /// Its `data` is that of its path; see [`data_of`](super::data_of).
    pub(super) const DATA_OF_PATH: u8 = 1 << 6;
    /// There is a space in it.
    pub(super) const DATA_IS_SPACED: u8 = 1 << 7;
}

/// What few echoes have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct More {
    /// Those that are long.
    members: Option<Box<str>>,
    /// JSON text of `msgType`, or of `Command` in the legacy dialect, unless the kind says it.
    name: Option<Box<str>>,
    /// JSON text of `data`, for the answers that repeat it.
    data: Option<Box<str>>,
    /// Where the answers go as well.
    reply: Option<Box<ReplyTo>>,
}

impl Heap for More {
    fn heap(&self) -> usize {
        self.members.heap() + self.name.heap() + self.data.heap() + ReplyTo::bytes_of(&self.reply)
    }
}

/// JSON text of the `data` of a command that says nothing but its path, as programs write it with a space
/// or without.
fn data_of(path: &str, is_spaced: bool) -> Box<str> {
    let mut data = br#"{"path":"#.to_vec();
    if is_spaced {
        data.push(b' ');
    }
    put_string(&mut data, path);
    data.push(b'}');
    String::from_utf8(data).unwrap_or_default().into()
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
        let more = self.more.as_ref();
        more.map_or(0, |more| block(size_of::<More>()) + more.heap())
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
        echo.set_data(command.get("data").map(|raw| raw.get().into()));
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
        let mut echo = Self::empty();
        echo.kind = Some(Kind::Observe);
        echo.set_members(AUTOMATIC_MEMBERS);
        echo.set_data(Some(data_of(&path.to_string(), false)));
        echo
    }

    const fn empty() -> Self {
        Self {
            short: [0; SHORT],
            length: 0,
            kind: None,
            flags: 0,
            more: None,
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
        let mut echo = Self::empty();
        echo.set_members(std::str::from_utf8(&members).unwrap_or_default());
        echo.set_name(name.map_or(NO_MSG_TYPE, |raw| raw.get()));
        echo.set_flag(flag::LEGACY, dialect == Dialect::Legacy);
        echo.set_flag(flag::LEGACY_PAIR, dialect == Dialect::Legacy);
        echo.set_flag(flag::IMEI, imei);
        echo.set_flag(flag::IMSI, imsi);
        echo
    }

    fn set_members(&mut self, members: &str) {
        self.length = LONG;
        if members == AUTOMATIC_MEMBERS {
            self.length = AUTOMATIC;
        } else if let Some(short) = self.short.get_mut(..members.len())
            && let Ok(length) = u8::try_from(members.len())
        {
            short.copy_from_slice(members.as_bytes());
            self.length = length;
        }
        let long = (self.length == LONG).then(|| members.into());
        self.put(long, |more| &mut more.members);
    }

    fn set_name(&mut self, name: &str) {
        let name = (name != implied_name(self.kind)).then(|| name.into());
        self.put(name, |more| &mut more.name);
    }

    fn set_data(&mut self, data: Option<Box<str>>) {
        self.put(data, |more| &mut more.data);
    }

    /// Sets what is rare. Where nothing is, there is no [`More`].
    fn put<T>(&mut self, value: Option<T>, place: impl FnOnce(&mut More) -> &mut Option<T>) {
        if value.is_none() && self.more.is_none() {
            return;
        }
        let more = self.more.get_or_insert_default();
        *place(more) = value;
        self.more.take_if(|more| **more == More::default());
    }

    const fn set_flag(&mut self, flag: u8, is_set: bool) {
        if is_set {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    const fn has_flag(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    const fn dialect_of(&self, flag: u8) -> Dialect {
        if self.has_flag(flag) {
            Dialect::Legacy
        } else {
            Dialect::Current
        }
    }

    /// The members, which are UTF-8.
    fn members(&self) -> &[u8] {
        match self.length {
            AUTOMATIC => AUTOMATIC_MEMBERS.as_bytes(),
            LONG => {
                let more = self.more.as_ref();
                let long = more.and_then(|more| more.members.as_deref());
                long.unwrap_or_default().as_bytes()
            }
            length => self.short.get(..length.into()).unwrap_or_default(),
        }
    }

    fn members_text(&self) -> &str {
        std::str::from_utf8(self.members()).unwrap_or_default()
    }

    /// Forgets a `data` that says nothing but this path; [`Echo::whole`] knows it again.
    pub fn shorten(&mut self, path: &str) {
        for is_spaced in [false, true] {
            if self.data() == Some(&data_of(path, is_spaced)) {
                self.set_data(None);
                self.set_flag(flag::DATA_OF_PATH, true);
                self.set_flag(flag::DATA_IS_SPACED, is_spaced);
            }
        }
    }

    /// The same with what [`Echo::shorten`] forgot.
    #[must_use]
    pub fn whole(&self, path: &str) -> Self {
        let mut echo = self.clone();
        if self.has_flag(flag::DATA_OF_PATH) {
            echo.set_data(Some(data_of(path, self.has_flag(flag::DATA_IS_SPACED))));
            echo.set_flag(flag::DATA_OF_PATH | flag::DATA_IS_SPACED, false);
        }
        echo
    }

    /// The answers go there as well.
    pub fn set_reply(&mut self, reply: Option<Box<ReplyTo>>) {
        self.put(reply, |more| &mut more.reply);
    }

    /// Where the answers go as well.
    pub fn reply(&self) -> Option<&ReplyTo> {
        self.more.as_ref()?.reply.as_deref()
    }

    pub(super) fn with_kind(mut self, kind: Kind) -> Self {
        let before = implied_name(self.kind);
        self.kind = Some(kind);
        let after = implied_name(self.kind);
        let said = self.more.as_ref().and_then(|more| more.name.as_deref());
        match said {
            Some(said) if said == after => self.put(None, |more| &mut more.name),
            None if before != after => self.set_name(before),
            _ => {}
        }
        self
    }

    /// The operation, when the command named a known one.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// How the command was written.
    pub fn dialect(&self) -> Dialect {
        self.dialect_of(flag::LEGACY)
    }

    /// The topic pair the command came by, and its answers go by.
    pub fn pair(&self) -> Dialect {
        self.dialect_of(flag::LEGACY_PAIR)
    }

    pub(super) fn set_pair(&mut self, pair: Dialect) {
        self.set_flag(flag::LEGACY_PAIR, pair == Dialect::Legacy);
    }

    /// The command as JSON, if all of it was kept: that of an operation in today's dialect.
    pub fn command(&self) -> Option<String> {
        let data = self.data()?;
        let (name, members) = (self.name(), self.members_text());
        let comma = if members.is_empty() { "" } else { "," };
        Some(format!(
            r#"{{"msgType":{name},"data":{data}{comma}{members}}}"#
        ))
    }

    /// JSON text of `reqID`.
    pub fn request_id(&self) -> Option<String> {
        let members = format!("{{{}}}", self.members_text());
        let members = Members::parse(&members).ok()?;
        members.value("reqID").map(|id| id.get().to_owned())
    }

    /// Whether the gateway asks for this by itself. A command in which an application says so beside its
    /// `reqID` is the application's.
    pub const fn is_auto_observe(&self) -> bool {
        self.length == AUTOMATIC
    }

    /// Answers say from now on that there may have been one before (`"repeated":true`).
    pub fn mark_repeated(&mut self) {
        self.set_flag(flag::REPEATED, true);
    }

    /// Answers say that the command would not have survived a restart (`"durable":false`).
    pub fn mark_volatile(&mut self) {
        self.set_flag(flag::VOLATILE, true);
    }

    /// The echo of what the command began, whose messages come once each.
    #[must_use]
    pub fn of_observation(&self) -> Self {
        let mut echo = self.clone();
        echo.set_flag(flag::REPEATED | flag::VOLATILE, false);
        echo
    }

    /// For the store.
    pub fn to_stored(&self) -> StoredEcho {
        StoredEcho {
            members: self.members_text().into(),
            name: self.name().into(),
            data: self.data().map(Into::into),
            kind: self.kind.map(|kind| kind.name().into()),
            legacy: self.has_flag(flag::LEGACY),
            legacy_pair: self.has_flag(flag::LEGACY_PAIR),
            imei: self.has_flag(flag::IMEI),
            imsi: self.has_flag(flag::IMSI),
            reply: self.reply().map(StoredReply::new),
        }
    }

    /// From the store.
    pub fn of_stored(stored: StoredEcho) -> Self {
        let mut echo = Self::empty();
        echo.kind = stored.kind.and_then(|name| Kind::from_name(&name));
        echo.set_members(&stored.members);
        echo.set_name(&stored.name);
        echo.set_data(stored.data);
        echo.set_flag(flag::LEGACY, stored.legacy);
        echo.set_flag(flag::LEGACY_PAIR, stored.legacy_pair);
        echo.set_flag(flag::IMEI, stored.imei);
        echo.set_flag(flag::IMSI, stored.imsi);
        echo.set_reply(stored.reply.as_ref().map(StoredReply::to_reply));
        echo
    }

    /// Bytes of what each answer repeats.
    pub(super) fn members_len(&self) -> usize {
        self.members().len() + self.name().len()
    }

    /// JSON text of `data` as it was sent, unless it was shortened.
    pub(super) fn data(&self) -> Option<&str> {
        self.more.as_ref()?.data.as_deref()
    }

    /// JSON text of `msgType` or `Command`, quotes included.
    pub(super) fn name(&self) -> &str {
        let said = self.more.as_ref().and_then(|more| more.name.as_deref());
        said.unwrap_or_else(|| implied_name(self.kind))
    }

    /// Appends the members, each followed by a comma, and the identities of the device where
    /// the command did not carry them itself.
    pub(super) fn put_members(&self, out: &mut Vec<u8>, ids: &Ids<'_>) {
        let members = self.members();
        if !members.is_empty() {
            out.extend_from_slice(members);
            out.push(b',');
        }
        if self.has_flag(flag::REPEATED) {
            put(out, r#""repeated":true,"#);
        }
        if self.has_flag(flag::VOLATILE) {
            put(out, r#""durable":false,"#);
        }
        ids.put(out, self.has_flag(flag::IMEI), self.has_flag(flag::IMSI));
    }
}

/// JSON text of `msgType` unless something else is said.
const fn implied_name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(kind) => kind.json(),
        None => NO_MSG_TYPE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(command: &str) -> Echo {
        Echo::current(&Members::parse(command).unwrap())
    }

    #[test]
    fn the_usual_one_is_small() {
        assert_eq!(size_of::<Echo>(), 32);
        for command in [
            r#"{"reqID":1234567890123,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#,
            r#"{"reqID": 1234567890123, "msgType": "observe", "data": {"path": "/3303/0/5700"}}"#,
        ] {
            let whole = echo(command).with_kind(Kind::Observe);
            let mut small = whole.clone();
            small.shorten("/3303/0/5700");
            assert_eq!(small.heap(), 0, "{command}");
            assert_eq!(small.whole("/3303/0/5700"), whole);
            assert_eq!(small.request_id().as_deref(), Some("1234567890123"));
            let stored = whole.to_stored();
            assert_eq!(Echo::of_stored(stored.clone()).to_stored(), stored);
            assert_eq!(Echo::of_stored(stored), whole);
        }
        let mut automatic = Echo::auto_observe(&"/3/0".parse().unwrap());
        assert!(automatic.is_auto_observe());
        automatic.shorten("/3/0");
        assert_eq!(automatic.heap(), 0);
        assert!(automatic.is_auto_observe());
    }

    #[test]
    fn the_unusual_ones_are_as_they_were() {
        let long = "x".repeat(300);
        for members in [
            String::new(),
            r#""reqID":12345678901234,"#.to_owned(),
            r#""reqID":"0b7ac3d2-9c1e-4b5c-8f4e-0d0c1f6f4a11","#.to_owned(),
            r#""is_auto_observe":true,"#.to_owned(),
            r#""is_auto_observe":true,"a":1,"#.to_owned(),
            format!(r#""ä":"{long}","imei":"1","#),
        ] {
            for data in [
                r#"{"path":"/3/0"}"#,
                r#"{"path":"/3/0","format":"text"}"#,
                r#"{"path":  "/3/0"}"#,
                r#"{"path":"\/3\/0"}"#,
                r#"{"path":"3/0"}"#,
                "null",
            ] {
                for (name, kind) in [
                    (r#""observe""#, Some(Kind::Observe)),
                    (r#""obs\u0065rve""#, Some(Kind::Observe)),
                    (r#""observe""#, None),
                    (r#""error""#, Some(Kind::Observe)),
                    (r#""error""#, None),
                    (r#""whatever""#, None),
                ] {
                    let command = format!(r#"{{{members}"msgType":{name},"data":{data}}}"#);
                    let mut echo = echo(&command);
                    if let Some(kind) = kind {
                        echo = echo.with_kind(kind);
                    }
                    assert_eq!(echo.data(), Some(data));
                    assert_eq!(echo.name(), name);
                    assert_eq!(echo.members_text(), members.trim_end_matches(','));
                    let imei = members.contains("imei");
                    assert_eq!(echo.has_flag(flag::IMEI), imei);
                    let alone = members == r#""is_auto_observe":true,"#;
                    assert_eq!(echo.is_auto_observe(), alone);
                    let stored = echo.to_stored();
                    assert_eq!(Echo::of_stored(stored.clone()), echo);
                    let mut small = echo.clone();
                    small.shorten("/3/0");
                    assert_eq!(small.data().is_none(), data == r#"{"path":"/3/0"}"#);
                    assert_eq!(small.whole("/3/0"), echo);
                    assert_eq!(small.whole("/3/0").to_stored(), stored);
                    let reply = StoredReply {
                        topic: "t".into(),
                        correlation: None,
                    };
                    echo.set_reply(Some(reply.to_reply()));
                    assert_eq!(echo.data(), Some(data));
                    assert_eq!(echo.to_stored().reply, Some(reply));
                    echo.set_reply(None);
                    assert_eq!(echo.to_stored(), stored);
                }
            }
        }
    }
}
