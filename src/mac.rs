//! Keyed hashes by which the gateway recognises what it once gave to an address, without keeping
//! anything of it: cookies of DTLS (RFC 6347 §4.2.1) and values of Echo (RFC 9175 §2).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::time::Instant;

/// How long a secret is in use; what was made with it is recognised for as long again. A client
/// sends it back at once, but may have to retransmit.
const ROTATION: Duration = Duration::from_secs(60);

/// An HMAC with this key, whose part of the work is done once.
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // Keys shorter than a block are filled up with zeros (RFC 2104 §2).
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new(&block.into())
}

/// Adds an address and a port.
pub(crate) fn update_address(mac: &mut Hmac<Sha256>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(address) => mac.update(&address.octets()),
        IpAddr::V6(address) => mac.update(&address.octets()),
    }
    mac.update(&address.port().to_be_bytes());
}

/// `N` bytes: the low byte of the generation of the secret, then as much of the HMAC as fits.
pub(crate) fn tagged<const N: usize>(generation: u64, mac: Hmac<Sha256>) -> [u8; N] {
    let mut tagged = [0; N];
    let bytes = std::iter::once(low_byte(generation)).chain(mac.finalize().into_bytes());
    for (to, from) in tagged.iter_mut().zip(bytes) {
        *to = from;
    }
    tagged
}

/// A secret for each minute, all derived from one seed.
pub(crate) struct RotatingSecret {
    seed: Hmac<Sha256>,
    generation: u64,
    current: Hmac<Sha256>,
    previous: Hmac<Sha256>,
}

impl RotatingSecret {
    /// Secrets from `seed`, which must be unguessable, for the one use that `label` names.
    pub(crate) fn new(seed: &[u8; 32], label: &[u8]) -> Self {
        let mut mac = keyed(seed);
        mac.update(label);
        let seed = keyed(&mac.finalize().into_bytes().into());
        Self {
            generation: 0,
            current: secret(&seed, 0),
            previous: secret(&seed, 0),
            seed,
        }
    }

    /// The secret to make something with at `now`, and its generation.
    pub(crate) fn current(&mut self, now: Instant) -> (u64, Hmac<Sha256>) {
        self.rotate(now);
        (self.generation, self.current.clone())
    }

    /// The one before, which is still recognised.
    pub(crate) fn previous(&mut self, now: Instant) -> (u64, Hmac<Sha256>) {
        self.rotate(now);
        (self.generation.saturating_sub(1), self.previous.clone())
    }

    /// The secret of which [`tagged`] has made something that begins with `tag`, if it is still
    /// recognised at `now`.
    pub(crate) fn of_tag(&mut self, now: Instant, tag: u8) -> Option<(u64, Hmac<Sha256>)> {
        [self.current(now), self.previous(now)]
            .into_iter()
            .find(|(generation, _)| low_byte(*generation) == tag)
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

const fn low_byte(generation: u64) -> u8 {
    generation.to_le_bytes()[0]
}

fn secret(seed: &Hmac<Sha256>, generation: u64) -> Hmac<Sha256> {
    let mut mac = seed.clone();
    mac.update(&generation.to_be_bytes());
    keyed(&mac.finalize().into_bytes().into())
}
