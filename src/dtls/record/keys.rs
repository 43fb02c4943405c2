//! The keys of a session, from the master secret on (RFC 5246 §6.3, RFC 6655 §3).

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use openssl::ssl::SslRef;
use sha2::Sha256;
use zeroize::Zeroize as _;

/// Bytes of a key of AES-128 and of the part of a nonce that is not sent.
const KEY: usize = 16;
const SALT: usize = 4;

/// Bytes of the master secret, and of the random of either side.
const MASTER: usize = 48;
const RANDOM: usize = 32;

/// What protects the records of one direction.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::dtls) struct Direction {
    pub key: [u8; KEY],
    pub salt: [u8; SALT],
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

/// The keys of both directions. Debug output has none of them.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::dtls) struct Keys {
    /// From the client to the server.
    pub client: Direction,
    /// From the server to the client.
    pub server: Direction,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Of a handshake that has come to its master secret. `None` before that.
    pub(in crate::dtls) fn export(ssl: &SslRef) -> Option<Self> {
        let (mut client, mut server) = ([0; RANDOM], [0; RANDOM]);
        let mut master = [0; MASTER];
        let is_whole = ssl.session()?.master_key(&mut master) == MASTER
            && ssl.client_random(&mut client) == RANDOM
            && ssl.server_random(&mut server) == RANDOM;
        let keys = is_whole.then(|| Self::expand(&master, &client, &server));
        master.zeroize();
        keys.flatten()
    }

    /// Client key, server key, client salt, server salt: what an AEAD suite of AES-128 takes of the key
    /// block. All of these suites have SHA-256 for their PRF.
    fn expand(master: &[u8], client: &[u8; RANDOM], server: &[u8; RANDOM]) -> Option<Self> {
        let mut block = [0; 2 * (KEY + SALT)];
        prf(
            master,
            &[b"key expansion", &server[..], &client[..]],
            &mut block,
        )?;
        let keys = Self::from_bytes(&block);
        block.zeroize();
        keys
    }

    /// As they stand in the key block.
    pub(in crate::dtls) fn to_bytes(&self) -> [u8; 40] {
        let mut block = [0; 40];
        let parts: [&[u8]; 4] = [
            &self.client.key,
            &self.server.key,
            &self.client.salt,
            &self.server.salt,
        ];
        let bytes = parts.into_iter().flatten();
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = *from;
        }
        block
    }

    /// From the key block.
    pub(in crate::dtls) fn from_bytes(block: &[u8; 40]) -> Option<Self> {
        let (client_key, rest) = block.split_first_chunk()?;
        let (server_key, rest) = rest.split_first_chunk()?;
        let (client_salt, rest) = rest.split_first_chunk()?;
        let server_salt = rest.first_chunk()?;
        Some(Self {
            client: Direction {
                key: *client_key,
                salt: *client_salt,
            },
            server: Direction {
                key: *server_key,
                salt: *server_salt,
            },
        })
    }
}

/// P_SHA256 (RFC 5246 §5).
fn prf(secret: &[u8], label_and_seed: &[&[u8]], out: &mut [u8]) -> Option<()> {
    let keyed = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    let mac = |parts: &[&[u8]]| {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes()
    };
    let mut a = mac(label_and_seed);
    for chunk in out.chunks_mut(32) {
        let mut parts = vec![a.as_slice()];
        parts.extend(label_and_seed);
        let block = mac(&parts);
        let length = chunk.len();
        chunk.copy_from_slice(block.get(..length)?);
        a = mac(&[&a]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the IETF's TLS list for P_SHA256 (mailing list, 23 March 2009).
    #[test]
    fn prf_of_sha256() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
                .collect()
        };
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
        let mut out = [0; 100];
        prf(&secret, &[b"test label", &seed], &mut out).unwrap();
        assert_eq!(out[..16], hex("e3f229ba727be17b8d122620557cd453"));
        assert_eq!(out[96..], hex("87347b66"));
    }
}
