//! ClientHello and HelloVerifyRequest (RFC 6347 §4.2.1), read and written without any state.

use super::record::{
    CLIENT_HELLO, Fragment, HANDSHAKE, HANDSHAKE_HEADER, HEADER, HELLO_VERIFY_REQUEST, Record,
};

/// Longest ClientHello in bytes. Those of PSK clients have 60 to 300, with all that post-quantum
/// TLS stacks put in 1500.
const MAX_HELLO: usize = 4096;

/// What the cookie exchange needs of a ClientHello.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientHello<'a> {
    /// Number of the message: 0 without cookie, 1 with one.
    pub message_sequence: u16,
    /// Version, random and session id as they are on the wire.
    pub parameters: &'a [u8],
    pub random: &'a [u8; 32],
    /// Empty: none.
    pub cookie: &'a [u8],
}

/// Reads the first fragment of a ClientHello, at least up to the end of its cookie; the rest is
/// looked at if it is there. `None`: it breaks RFC 6347, or it is cut before the end of the cookie,
/// which cannot be put together without state (RFC 6347 §4.2.1 and OpenSSL have the same limit).
pub(super) fn parse<'a>(record: &Record<'a>) -> Option<ClientHello<'a>> {
    let (message, after) = Fragment::split(record.fragment)?;
    if message.kind != CLIENT_HELLO
        || message.offset != 0
        || message.length > MAX_HELLO
        || !after.is_empty()
    {
        return None;
    }
    let body = message.body;
    let (version, rest) = body.split_first_chunk::<2>()?;
    // 0xfeff is DTLS 1.0, all later versions count down. DTLS 1.0 is refused later, by an alert.
    if version[0] != 0xfe {
        return None;
    }
    let (random, rest) = rest.split_first_chunk::<32>()?;
    let (session_id, rest) = vector8(rest)?;
    if session_id.len() > 32 {
        return None;
    }
    let parameters = body.get(..body.len().checked_sub(rest.len())?)?;
    let (cookie, rest) = vector8(rest)?;
    if message.is_whole() {
        check_rest(rest)?;
    }
    Some(ClientHello {
        message_sequence: message.sequence,
        parameters,
        random,
        cookie,
    })
}

/// Cipher suites, compression methods and extensions.
fn check_rest(rest: &[u8]) -> Option<()> {
    let (suites, rest) = vector16(rest)?;
    let (compression, rest) = vector8(rest)?;
    if suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    if rest.is_empty() {
        return Some(());
    }
    let (_extensions, rest) = vector16(rest)?;
    rest.is_empty().then_some(())
}

fn vector8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

fn vector16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Bytes of a HelloVerifyRequest with a cookie of `cookie` bytes.
pub(super) const fn verify_request_len(cookie: usize) -> usize {
    HEADER + HANDSHAKE_HEADER + 3 + cookie
}

/// The HelloVerifyRequest for a ClientHello in `record`. Record and message number are those of the
/// ClientHello, the version is that of DTLS 1.0 whatever will be agreed on (RFC 6347 §4.2.1).
pub(super) fn verify_request<const N: usize>(
    record: &Record<'_>,
    hello: &ClientHello<'_>,
    cookie: &[u8; N],
) -> Vec<u8> {
    const { assert!(N < 200, "lengths below are a single byte") }
    let length = |extra: usize| u8::try_from(N.saturating_add(extra)).unwrap_or(u8::MAX);
    let mut datagram = Vec::with_capacity(verify_request_len(N));
    datagram.extend([HANDSHAKE, 0xfe, 0xff, 0, 0]);
    datagram.extend(record.sequence.to_be_bytes().iter().skip(2));
    datagram.extend([0, length(HANDSHAKE_HEADER.saturating_add(3))]);
    datagram.extend([HELLO_VERIFY_REQUEST, 0, 0, length(3)]);
    datagram.extend(hello.message_sequence.to_be_bytes());
    datagram.extend([0, 0, 0, 0, 0, length(3)]);
    datagram.extend([0xfe, 0xff, length(0)]);
    datagram.extend(cookie);
    datagram
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello in one record, with the suite PSK-AES128-CCM8.
    pub(in crate::dtls) fn client_hello(message_sequence: u16, cookie: &[u8]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([0x5a; 32]);
        body.push(0);
        body.push(u8::try_from(cookie.len()).unwrap());
        body.extend(cookie);
        body.extend([0, 2, 0xc0, 0xa8, 1, 0]);
        let length = u8::try_from(body.len()).unwrap();
        let mut datagram = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 9, 0, length + 12];
        datagram.extend([1, 0, 0, length]);
        datagram.extend(message_sequence.to_be_bytes());
        datagram.extend([0, 0, 0, 0, 0, length]);
        datagram.extend(body);
        datagram
    }

    fn parse_datagram(datagram: &[u8]) -> Option<ClientHello<'_>> {
        parse(&Record::split(datagram)?.0)
    }

    #[test]
    fn hello_and_its_answer() {
        let datagram = client_hello(1, b"abc");
        let hello = parse_datagram(&datagram).unwrap();
        assert_eq!(hello.cookie, b"abc");
        assert_eq!(hello.message_sequence, 1);
        assert_eq!(hello.random, &[0x5a; 32]);
        assert_eq!(hello.parameters.len(), 35);
        let first = client_hello(0, b"");
        let (record, _) = Record::split(&first).unwrap();
        let answer = verify_request(&record, &parse(&record).unwrap(), &[7; 17]);
        assert_eq!(answer.len(), verify_request_len(17));
        assert!(answer.len() <= first.len());
        let (record, rest) = Record::split(&answer).unwrap();
        assert!(rest.is_empty());
        assert_eq!(record.sequence, 9);
        let (message, rest) = Fragment::split(record.fragment).unwrap();
        assert!(rest.is_empty() && message.is_whole());
        assert_eq!((message.kind, message.sequence), (HELLO_VERIFY_REQUEST, 0));
        assert_eq!(message.body[..3], [0xfe, 0xff, 17]);
    }

    #[test]
    fn first_fragments_suffice_when_they_hold_the_cookie() {
        let whole = client_hello(1, b"cookie");
        for cut in 1..whole.len() - 25 {
            // The first fragment of the hello, without its last `cut` bytes.
            let mut part = whole[..whole.len() - cut].to_vec();
            let body = u8::try_from(part.len() - 25).unwrap();
            part[12] = body + 12;
            part[24] = body;
            assert_eq!(parse_datagram(&part).is_some(), body >= 35 + 7, "{body}");
        }
    }

    #[test]
    fn broken_hellos() {
        let whole = client_hello(0, b"");
        let broken = |index: usize, value: u8| {
            let mut datagram = whole.clone();
            datagram[index] = value;
            parse_datagram(&datagram).is_none()
        };
        assert!(broken(13, 2), "another message");
        assert!(broken(25, 3), "SSL 3");
        assert!(broken(59, 33), "session id beyond its limit");
        assert!(broken(60, 200), "cookie beyond the end");
        assert!(broken(62, 1), "half a suite");
        assert!(broken(62, 0), "no suites");
        assert!(broken(65, 0), "no compression methods");
    }

    proptest! {
        #[test]
        fn any_datagram(datagram: Vec<u8>) {
            let _ = parse_datagram(&datagram);
        }

        #[test]
        fn any_change_to_a_hello(index in 0usize..67, value: u8) {
            let mut datagram = client_hello(0, b"");
            datagram[index] = value;
            if let Some(hello) = parse_datagram(&datagram) {
                let (record, _) = Record::split(&datagram).unwrap();
                assert!(verify_request(&record, &hello, &[0; 17]).len() <= datagram.len());
            }
        }
    }
}
