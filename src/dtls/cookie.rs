//! Stateless cookies (RFC 6347 §4.2.1): a peer shows that it receives at its address before
//! anything is allocated for it.

use std::net::SocketAddr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::hello::ClientHello;
use crate::mac::{self, RotatingSecret};
use crate::time::Instant;

/// Bytes of a cookie: the low byte of the generation of its secret, then 16 bytes of HMAC.
pub(super) const COOKIE: usize = 17;

/// Makes and recognises the cookies of one server.
///
/// A cookie is an HMAC-SHA256 of the peer's address and the hello's version, random and session
/// id. RFC 6347 would have the cipher suites and compression methods in it too. They follow the
/// cookie in the hello, though, and may be in another fragment; a change to them is found by the
/// Finished messages, which cover both hellos' successor.
pub(super) struct Cookies(RotatingSecret);

impl Cookies {
    /// Cookies with secrets derived from `seed`.
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self(RotatingSecret::new(seed, b"cookie"))
    }

    /// The cookie for `hello` from `peer`.
    pub(super) fn make(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> [u8; COOKIE] {
        cookie(self.0.current(now), peer, hello)
    }

    /// Whether `hello` from `peer` has a cookie of ours that is not too old.
    pub(super) fn verify(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> bool {
        let tag = hello.cookie.first();
        let secret = tag.and_then(|tag| self.0.of_tag(now, *tag));
        secret.is_some_and(|secret| cookie(secret, peer, hello).ct_eq(hello.cookie).into())
    }
}

fn cookie(
    (generation, mut mac): (u64, Hmac<Sha256>),
    peer: SocketAddr,
    hello: &ClientHello<'_>,
) -> [u8; COOKIE] {
    mac::update_address(&mut mac, peer);
    mac.update(hello.parameters);
    mac::tagged(generation, mac)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::hello::{self, tests::client_hello};
    use super::super::record::Record;
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn cookies_are_bound_to_address_hello_and_time() {
        let peer: SocketAddr = "192.0.2.1:5684".parse().unwrap();
        let other: SocketAddr = "192.0.2.1:5685".parse().unwrap();
        let first = client_hello(0, b"");
        let (record, _) = Record::split(&first).unwrap();
        let hello = hello::parse(&record).unwrap();
        for start in [0, 59, 60, 7 * 86_400] {
            let mut cookies = Cookies::new(&[1; 32]);
            let cookie = cookies.make(at(start), peer, &hello);
            let second = client_hello(1, &cookie);
            let (record, _) = Record::split(&second).unwrap();
            let hello = hello::parse(&record).unwrap();
            assert!(cookies.verify(at(start), peer, &hello));
            assert!(cookies.verify(at(start + 60), peer, &hello));
            assert!(!cookies.verify(at(start + 120), peer, &hello));
            assert!(!cookies.verify(at(start), other, &hello));
            assert!(!Cookies::new(&[2; 32]).verify(at(start), peer, &hello));
            let mut changed = second.clone();
            changed[30] ^= 1;
            let (record, _) = Record::split(&changed).unwrap();
            assert!(!cookies.verify(at(start), peer, &hello::parse(&record).unwrap()));
            for cut in 0..cookie.len() {
                let short = client_hello(1, &cookie[..cut]);
                let (record, _) = Record::split(&short).unwrap();
                assert!(!cookies.verify(at(start), peer, &hello::parse(&record).unwrap()));
            }
        }
    }
}
