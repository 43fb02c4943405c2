//! Commands that the gateway answers by itself, and that do not wait behind others: about what waits
//! for a device, `list-queue` and `cancel`, and `cancel-observe` with `"mode": "passive"`.

use super::composite::read_composite;
use crate::bridge::json::{Members, string};
use crate::bridge::kind::Kind;
use crate::bridge::target::Target;

/// What is asked about the queue of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueRequest {
    /// `list-queue`: what waits.
    List,
    /// `cancel`: one that waits, by the JSON text of its `reqID`, or all.
    Cancel(Option<String>),
    /// `cancel-observe` and `cancel-observe-composite` in the mode `passive`: the observation is
    /// forgotten, and the device learns it by the Reset to its next notification (RFC 7641 §3.6).
    Forget(Box<Target>),
}

/// Reads what [`parse`](super::parse) has taken for no operation; `None` when it is none of these
/// either, and a text for people when something is missing.
pub fn queue_request(payload: &[u8]) -> Option<Result<QueueRequest, &'static str>> {
    let text = str::from_utf8(payload).ok()?;
    let command = Members::parse(text).ok()?;
    let name = command.get("msgType").and_then(string)?;
    match &*name {
        "list-queue" => Some(Ok(QueueRequest::List)),
        "cancel" => Some(cancel(&command)),
        "cancel-observe" => forget(&command, Kind::CancelObserve),
        "cancel-observe-composite" => forget(&command, Kind::CancelObserveComposite),
        _ => None,
    }
}

/// Whether the device is not to be asked.
pub(super) fn is_passive(data: &Members<'_>) -> bool {
    data.value("mode").and_then(string).as_deref() == Some("passive")
}

fn forget(command: &Members<'_>, kind: Kind) -> Option<Result<QueueRequest, &'static str>> {
    let data = Members::parse(command.value("data")?.get()).ok()?;
    if !is_passive(&data) {
        return None;
    }
    let target = if kind.is_composite() {
        read_composite(kind, &data)
            .ok()
            .map(|(target, _, _)| target)
    } else {
        let path = data.value("path").and_then(string);
        path.and_then(|path| Target::parse(&path).ok())
    };
    let target = target.ok_or("data must hold the path of an observation, or its paths");
    Some(target.map(|target| QueueRequest::Forget(Box::new(target))))
}

fn cancel(command: &Members<'_>) -> Result<QueueRequest, &'static str> {
    let missing = "data must hold the reqID of a command, or \"all\": true";
    let data = command.value("data").ok_or(missing)?;
    let data = Members::parse(data.get()).map_err(|_| missing)?;
    match (data.value("reqID"), data.value("all")) {
        (Some(id), None) => Ok(QueueRequest::Cancel(Some(id.get().to_owned()))),
        (None, Some(all)) if all.get() == "true" => Ok(QueueRequest::Cancel(None)),
        _ => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_asked() {
        let read = |text: &str| queue_request(text.as_bytes());
        let cancel = |id: Option<&str>| Some(Ok(QueueRequest::Cancel(id.map(str::to_owned))));
        assert_eq!(
            read(r#"{"msgType":"list-queue"}"#),
            Some(Ok(QueueRequest::List))
        );
        for (data, expected) in [
            (r#"{"reqID":7}"#, cancel(Some("7"))),
            (r#"{"reqID":"7"}"#, cancel(Some(r#""7""#))),
            (r#"{"all":true}"#, cancel(None)),
        ] {
            let text = format!(r#"{{"msgType":"cancel","data":{data}}}"#);
            assert_eq!(read(&text), expected, "{data}");
        }
        for data in [
            r#"{"all":false}"#,
            r#"{"all":true,"reqID":1}"#,
            "{}",
            "[]",
            "7",
        ] {
            let text = format!(r#"{{"msgType":"cancel","data":{data}}}"#);
            assert!(matches!(read(&text), Some(Err(_))), "{data}");
        }
        assert!(matches!(read(r#"{"msgType":"cancel"}"#), Some(Err(_))));
        for (text, taken) in [
            (
                r#"{"msgType":"cancel-observe","data":{"path":"/3/0","mode":"passive"}}"#,
                true,
            ),
            (
                r#"{"msgType":"cancel-observe","data":{"mode":"passive"}}"#,
                false,
            ),
            (
                r#"{"msgType":"cancel-observe-composite","data":{"paths":["/3"],"mode":"passive"}}"#,
                true,
            ),
            (
                r#"{"msgType":"cancel-observe-composite","data":{"paths":[],"mode":"passive"}}"#,
                false,
            ),
        ] {
            let found = read(text).map(|it| matches!(it, Ok(QueueRequest::Forget(_))));
            assert_eq!(found, Some(taken), "{text}");
        }
        assert_eq!(
            read(r#"{"msgType":"cancel-observe","data":{"path":"/3/0"}}"#),
            None
        );
        for other in ["", "7", "{}", r#"{"msgType":7}"#, r#"{"msgType":"reboot"}"#] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(queue_request(&bytes), None);
        }
    }
}
