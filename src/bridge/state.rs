//! Messages that say whether a device can be reached.

use crate::bridge::json::{put, put_integer, put_string};

/// Whether a device can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is registered and listens.
    Online,
    /// It is registered in queue mode and does not listen now (LwM2M Core 1.2 §6.5).
    Asleep,
    /// It is not registered.
    Offline,
}

/// The message: the state and since when, in milliseconds since 1970, with the lifetime of the
/// registration in seconds.
pub fn state(endpoint: &str, state: State, since: u64, lifetime: u64) -> Vec<u8> {
    let mut out = br#"{"msgType":"state","data":{"ep":"#.to_vec();
    put_string(&mut out, endpoint);
    put(&mut out, r#","state":""#);
    put(
        &mut out,
        match state {
            State::Online => "online",
            State::Asleep => "asleep",
            State::Offline => "offline",
        },
    );
    put(&mut out, r#"","since":"#);
    put_integer(&mut out, since.try_into().unwrap_or(i64::MAX));
    put(&mut out, r#","lt":"#);
    put_integer(&mut out, lifetime.try_into().unwrap_or(i64::MAX));
    put(&mut out, "}}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_a_state_as_json() {
        let text = String::from_utf8(state("a\"b", State::Asleep, 1_700_000_000_000, 300)).unwrap();
        assert_eq!(
            text,
            r#"{"msgType":"state","data":{"ep":"a\"b","state":"asleep","since":1700000000000,"lt":300}}"#
        );
    }
}
