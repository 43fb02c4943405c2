//! Stateless cookies (RFC 6347 §4.2.1): a peer shows that it receives at its address before
//! anything is allocated for it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::hello::ClientHello;
use crate::time::Instant;

/// Bytes of a cookie: the low byte of the generation of its secret, then 16 bytes of HMAC.
pub(super) const COOKIE: usize = 17;

/// How long a secret makes cookies; it recognises them for as long again.
const ROTATION: Duration = Duration::from_secs(60);

/// Makes and recognises the cookies of one server.
///
/// A cookie is an HMAC-SHA256 of the peer's address and the hello's version, random and session
/// id. RFC 6347 would have the cipher suites and compression methods in it too. They follow the
/// cookie in the hello, though, and may be in another fragment; a change to them is found by the
/// Finished messages, which cover both hellos' successor.
pub(super) struct Cookies {
    seed: Hmac<Sha256>,
    generation: u64,
    current: Hmac<Sha256>,
    previous: Hmac<Sha256>,
}

impl Cookies {
    /// Cookies with secrets derived from `seed`.
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let seed = keyed(seed);
        Self {
            generation: 0,
            current: secret(&seed, 0),
            previous: secret(&seed, 0),
            seed,
        }
    }

    /// The cookie for `hello` from `peer`.
    pub(super) fn make(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> [u8; COOKIE] {
        self.rotate(now);
        cookie(&self.current, self.generation, peer, hello)
    }

    /// Whether `hello` from `peer` has a cookie of ours that is not too old.
    pub(super) fn verify(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> bool {
        self.rotate(now);
        let before = self.generation.saturating_sub(1);
        let expected = match hello.cookie.first() {
            Some(low) if *low == self.generation.to_le_bytes()[0] => {
                cookie(&self.current, self.generation, peer, hello)
            }
            Some(low) if *low == before.to_le_bytes()[0] => {
                cookie(&self.previous, before, peer, hello)
            }
            _ => return false,
        };
        expected.ct_eq(hello.cookie).into()
    }

    fn rotate(&mut self, now: Instant) {
        let generation = now.as_micros() / u64::try_from(ROTATION.as_micros()).unwrap_or(u64::MAX);
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        self.current = secret(&self.seed, generation);
        self.previous = secret(&self.seed, generation.saturating_sub(1));
    }
}

/// An HMAC with this key, whose part of the work is done once.
pub(super) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // Keys shorter than a block are filled up with zeros (RFC 2104 §2).
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new(&block.into())
}

fn secret(seed: &Hmac<Sha256>, generation: u64) -> Hmac<Sha256> {
    let mut mac = seed.clone();
    mac.update(b"cookie");
    mac.update(&generation.to_be_bytes());
    keyed(&mac.finalize().into_bytes().into())
}

fn cookie(
    secret: &Hmac<Sha256>,
    generation: u64,
    peer: SocketAddr,
    hello: &ClientHello<'_>,
) -> [u8; COOKIE] {
    let mut mac = secret.clone();
    match peer.ip() {
        IpAddr::V4(address) => mac.update(&address.octets()),
        IpAddr::V6(address) => mac.update(&address.octets()),
    }
    mac.update(&peer.port().to_be_bytes());
    mac.update(hello.parameters);
    let mut cookie = [0; COOKIE];
    let (low, code) = cookie.split_at_mut(1);
    low.copy_from_slice(&generation.to_le_bytes()[..1]);
    for (to, from) in code.iter_mut().zip(mac.finalize().into_bytes()) {
        *to = from;
    }
    cookie
}

#[cfg(test)]
mod tests {
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
