//! Commands about the commands that wait for a device: `list-queue` and `cancel`. The gateway
//! answers them by itself, and they do not wait behind others.

use crate::bridge::json::{Members, string};

/// What is asked about the queue of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueRequest {
    /// `list-queue`: what waits.
    List,
    /// `cancel`: one that waits, by the JSON text of its `reqID`, or all.
    Cancel(Option<String>),
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
        _ => None,
    }
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
