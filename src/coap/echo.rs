//! Values for the Echo option (RFC 9175 §2), without state: whoever sends one back receives at the
//! address it was sent to, and did so a short time ago.

use std::net::SocketAddr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Token;
use crate::mac::{self, RotatingSecret};
use crate::time::Instant;

/// Bytes of a value: the low byte of the generation of its secret, then 8 bytes of HMAC, as many as
/// a token of ours has.
pub const LENGTH: usize = 9;

/// Makes and recognises the values of one engine.
pub struct Challenges(RotatingSecret);

impl std::fmt::Debug for Challenges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

impl Challenges {
    /// Values with secrets derived from `seed`, which must be unguessable.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(RotatingSecret::new(seed, b"echo"))
    }

    /// The value for whoever sends from `address` to `listener`.
    pub fn make(&mut self, now: Instant, listener: u16, address: SocketAddr) -> [u8; LENGTH] {
        value(self.0.current(now), listener, address)
    }

    /// Whether `echo` was made for this address, within the last two minutes.
    pub fn verify(
        &mut self,
        now: Instant,
        listener: u16,
        address: SocketAddr,
        echo: &[u8],
    ) -> bool {
        let secret = echo.first().and_then(|tag| self.0.of_tag(now, *tag));
        secret.is_some_and(|secret| value(secret, listener, address).ct_eq(echo).into())
    }

    /// A token for a request to this address whose answer shows that somebody receives there.
    pub fn token(&mut self, now: Instant, listener: u16, address: SocketAddr) -> Token {
        token(self.make(now, listener, address))
    }

    /// Whether [`Challenges::token`] gave `given` for this address, within the last two minutes.
    pub fn gave(&mut self, now: Instant, listener: u16, address: SocketAddr, given: Token) -> bool {
        [self.0.current(now), self.0.previous(now)]
            .into_iter()
            .any(|secret| token(value(secret, listener, address)) == given)
    }
}

/// The part of a value that is as long as a token.
const fn token([_, a, b, c, d, e, f, g, h]: [u8; LENGTH]) -> Token {
    Token(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

fn value(
    (generation, mut mac): (u64, Hmac<Sha256>),
    listener: u16,
    address: SocketAddr,
) -> [u8; LENGTH] {
    mac.update(&listener.to_be_bytes());
    mac::update_address(&mut mac, address);
    mac::tagged(generation, mac)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// Computed with Python's hmac from the definition above.
    #[test]
    fn vectors() {
        let key = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let mut challenges = Challenges::new(&key);
        for (seconds, listener, address, expected) in VECTORS {
            let address = address.parse().unwrap();
            let value = challenges.make(at(*seconds), *listener, address);
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, *expected);
            assert!(challenges.verify(at(*seconds), *listener, address, &value));
        }
    }

    const VECTORS: &[(u64, u16, &str, &str)] = &[
        (0, 0, "192.0.2.1:5683", "0030c9e1daa118823a"),
        (61, 0, "192.0.2.1:5683", "01bbdf59c0208b0770"),
        (61, 1, "192.0.2.1:5683", "012eef3178f850b46a"),
        (15400, 7, "[2001:db8::7]:49152", "0040d099f34a04a931"),
    ];

    #[test]
    fn bound_to_address_listener_and_time() {
        let peer: SocketAddr = "192.0.2.1:5683".parse().unwrap();
        let others = ["192.0.2.1:5684", "192.0.2.2:5683", "[::1]:5683"];
        for start in [0, 59, 60, 256 * 60, 7 * 86_400] {
            let mut challenges = Challenges::new(&[1; 32]);
            let value = challenges.make(at(start), 3, peer);
            assert!(challenges.verify(at(start), 3, peer, &value));
            assert!(challenges.verify(at(start + 60), 3, peer, &value));
            assert!(!challenges.verify(at(start + 120), 3, peer, &value));
            assert!(!challenges.verify(at(start), 4, peer, &value));
            let token = challenges.token(at(start), 3, peer);
            let other = others[0].parse().unwrap();
            assert!(!challenges.gave(at(start), 3, other, token));
            assert!(!challenges.gave(at(start), 3, peer, Token(token.0 ^ 1)));
            assert!(challenges.gave(at(start + 60), 3, peer, token));
            assert!(!challenges.gave(at(start + 120), 3, peer, token));
            for other in others {
                assert!(!challenges.verify(at(start), 3, other.parse().unwrap(), &value));
            }
            assert!(!Challenges::new(&[2; 32]).verify(at(start), 3, peer, &value));
            for cut in 0..value.len() {
                assert!(!challenges.verify(at(start), 3, peer, &value[..cut]));
                let mut changed = value;
                changed[cut] ^= 1;
                assert!(!challenges.verify(at(start), 3, peer, &changed));
            }
            assert!(!challenges.verify(at(start), 3, peer, &[value.as_slice(), &[0]].concat()));
        }
    }
}
