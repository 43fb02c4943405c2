//! The key of a handshake, on its way to OpenSSL's callback, or what a callback made of a certificate,
//! and keys for those who have none.

use std::sync::OnceLock;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef};
use parking_lot::Mutex;
use sha2::Sha256;

use super::certified::Certified;
use super::identity::Identity;
use crate::credentials::Key;
use crate::mac::keyed;

/// What the callbacks find at an OpenSSL object.
pub(super) struct Slot {
    retransmit_timeout_us: u32,
    /// The identity this key is for.
    key: Mutex<Option<(Identity, Key)>>,
    /// That of the session that may be resumed.
    resumed: Mutex<Option<Identity>>,
    /// What came of the device's certificate.
    certificate: Mutex<Judgement>,
}

/// What came of a certificate.
#[derive(Default)]
pub(super) enum Judgement {
    /// There was none yet.
    #[default]
    Open,
    /// It is taken, if the device has its key.
    Certified(Identity, Certified),
    /// Why it is refused.
    Refused(String),
}

/// The place of the [`Slot`] in each OpenSSL object. OpenSSL never takes such places back, so there
/// is one for the process.
fn index() -> Result<Index<Ssl, Slot>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Slot>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// Gives `ssl` a slot without a key.
pub(super) fn attach(ssl: &mut SslRef, retransmit_timeout: Duration) -> Result<(), ErrorStack> {
    let slot = Slot {
        retransmit_timeout_us: u32::try_from(retransmit_timeout.as_micros()).unwrap_or(u32::MAX),
        key: Mutex::new(None),
        resumed: Mutex::new(None),
        certificate: Mutex::default(),
    };
    ssl.set_ex_data(index()?, slot);
    Ok(())
}

/// Sets the key for the handshake of `ssl`.
pub(super) fn set_key(ssl: &SslRef, identity: Identity, key: Key) {
    if let Some(slot) = slot(ssl) {
        *slot.key.lock() = Some((identity, key));
    }
}

/// Takes the key, which is not needed any more.
pub(super) fn take_key(ssl: &SslRef) -> Option<Key> {
    let (_, key) = slot(ssl)?.key.lock().take()?;
    Some(key)
}

/// The identity that `ssl` has a key for.
pub(super) fn identity(ssl: &SslRef) -> Option<Identity> {
    let key = slot(ssl)?.key.lock();
    key.as_ref().map(|(identity, _)| identity.clone())
}

/// The session that is to be resumed was kept with this identity.
pub(super) fn set_resumed(ssl: &SslRef, identity: Option<Identity>) {
    if let Some(slot) = slot(ssl) {
        *slot.resumed.lock() = identity;
    }
}

/// The identity of the session that was resumed, which may be kept already.
pub(super) fn resumed(ssl: &SslRef) -> Option<Identity> {
    let presented = ssl.psk_identity()?;
    let kept = slot(ssl).and_then(|slot| slot.resumed.lock().take());
    let kept = kept.filter(|kept| kept.as_bytes() == presented);
    Some(kept.unwrap_or_else(|| Identity::new(presented)))
}

/// The certificate in the handshake of `ssl` is refused.
pub(super) fn set_refusal(ssl: &SslRef, reason: String) {
    if let Some(slot) = slot(ssl) {
        *slot.certificate.lock() = Judgement::Refused(reason);
    }
}

/// The certificate in the handshake of `ssl` is good.
pub(super) fn set_certified(ssl: &SslRef, identity: Identity, facts: Certified) {
    if let Some(slot) = slot(ssl) {
        *slot.certificate.lock() = Judgement::Certified(identity, facts);
    }
}

/// Takes what came of the certificate.
pub(super) fn take_judgement(ssl: &SslRef) -> Judgement {
    slot(ssl).map_or(Judgement::Open, |slot| {
        std::mem::take(&mut *slot.certificate.lock())
    })
}

fn slot(ssl: &SslRef) -> Option<&Slot> {
    ssl.ex_data(index().ok()?)
}

/// The first retransmission timeout in microseconds.
pub(super) fn retransmit_timeout_us(ssl: &SslRef) -> u32 {
    slot(ssl).map_or(1_000_000, |slot| slot.retransmit_timeout_us)
}

/// OpenSSL asks for the key of `identity`: writes it to `to` and returns its length. 0, which ends
/// the handshake, unless it is the identity that was read from the ClientKeyExchange before.
pub(super) fn answer(ssl: &SslRef, identity: Option<&[u8]>, to: &mut [u8]) -> usize {
    let Some(slot) = slot(ssl) else {
        return 0;
    };
    let slot = slot.key.lock();
    let Some((_, key)) = slot
        .as_ref()
        .filter(|(expected, _)| identity == Some(expected.as_bytes()))
    else {
        return 0;
    };
    let key = key.as_bytes();
    let Some(to) = to.get_mut(..key.len()) else {
        return 0;
    };
    to.copy_from_slice(key);
    key.len()
}

/// Keys for identities that nobody knows: random, so that the handshake fails as with a wrong key.
pub(super) struct Decoys {
    seed: Hmac<Sha256>,
    made: u64,
}

impl Decoys {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self {
            seed: keyed(seed),
            made: 0,
        }
    }

    pub(super) fn make(&mut self) -> Key {
        self.made = self.made.wrapping_add(1);
        let mut mac = self.seed.clone();
        mac.update(b"no key");
        mac.update(&self.made.to_be_bytes());
        Key::new(mac.finalize().into_bytes().to_vec())
    }
}
