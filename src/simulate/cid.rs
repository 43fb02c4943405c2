//! Connection ids (RFC 9146) as a client: OpenSSL does not know them, so records are given the
//! server's id on their way out and lose the client's on their way in. It shares nothing with the
//! gateway, and its encryption is OpenSSL's.

use std::sync::OnceLock;

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{ExtensionContext, Ssl, SslAlert, SslContextBuilder, SslRef};

/// Number of the extension.
const CONNECTION_ID: u16 = 54;
/// Content type of records with an id.
const TLS12_CID: u8 = 25;
/// Bytes of an ordinary record's header, and those of it before the length.
const HEADER: usize = 13;
const HEAD: usize = 11;

/// What the server wants to see in records, when it has said so.
#[derive(Default)]
pub(crate) struct ServerId(OnceLock<Vec<u8>>);

/// How a client's records are framed.
pub(crate) struct Framing {
    index: Index<Ssl, ServerId>,
    own: Vec<u8>,
    keys: Option<Keys>,
    /// Zeros behind each record's content.
    pub(crate) padding: usize,
}

#[derive(Clone)]
struct Keys {
    cipher: &'static CipherRef,
    is_ccm: bool,
    tag: usize,
    client: ([u8; 16], [u8; 4]),
    server: ([u8; 16], [u8; 4]),
}

/// Lets clients of a context offer `own`, which may be empty: they then want none in what they get.
pub(crate) fn offer(
    builder: &mut SslContextBuilder,
    own: Vec<u8>,
) -> Result<Index<Ssl, ServerId>, ErrorStack> {
    let index = Ssl::new_ex_index::<ServerId>()?;
    builder.add_custom_ext(
        CONNECTION_ID,
        ExtensionContext::DTLS_ONLY
            | ExtensionContext::CLIENT_HELLO
            | ExtensionContext::TLS1_2_SERVER_HELLO,
        move |_, _, _| {
            let length = u8::try_from(own.len()).unwrap_or(0);
            Ok(Some([&[length], own.as_slice()].concat()))
        },
        move |ssl, _, bytes, _| match (bytes.split_first(), ssl.ex_data(index)) {
            (Some((length, id)), Some(slot)) if usize::from(*length) == id.len() => {
                slot.0.get_or_init(|| id.to_vec());
                Ok(())
            }
            _ => Err(SslAlert::DECODE_ERROR),
        },
    )?;
    Ok(index)
}

impl Framing {
    /// For a new connection of a context that offers `own`.
    pub(crate) fn new(ssl: &mut SslRef, index: Index<Ssl, ServerId>, own: &[u8]) -> Self {
        ssl.set_ex_data(index, ServerId::default());
        Self {
            index,
            own: own.to_vec(),
            keys: None,
            padding: 0,
        }
    }

    /// What the server wants to see in records, once it has said so.
    pub(crate) fn server_id<'a>(&self, ssl: &'a SslRef) -> Option<&'a [u8]> {
        Some(ssl.ex_data(self.index)?.0.get()?)
    }

    /// What OpenSSL has written, as the server wants it.
    pub(crate) fn outward(&mut self, ssl: &SslRef, datagram: Vec<u8>) -> Vec<u8> {
        let Some(id) = self.server_id(ssl).filter(|id| !id.is_empty()) else {
            return datagram;
        };
        let mut other = Vec::with_capacity(datagram.len() + 32);
        let mut rest = datagram.as_slice();
        while let Some((record, after)) = split(rest, 0) {
            rest = after;
            let translated = match record {
                [content_type, ..] if is_encrypted(record) => {
                    let content_type = *content_type;
                    self.keys(ssl).and_then(|keys| {
                        let mut inner = keys.open(&keys.client, record, &[])?;
                        inner.push(content_type);
                        inner.resize(inner.len() + self.padding, 0);
                        keys.seal(&keys.client, record, TLS12_CID, id, &inner)
                    })
                }
                _ => None,
            };
            match translated {
                Some(bytes) => other.extend(bytes),
                None => other.extend_from_slice(record),
            }
        }
        other
    }

    /// What the server has sent, as OpenSSL knows it.
    pub(crate) fn inward(&mut self, ssl: &SslRef, datagram: &[u8]) -> Vec<u8> {
        let own = self.own.clone();
        let mut other = Vec::with_capacity(datagram.len());
        let mut rest = datagram;
        while let Some((record, after)) = split(rest, own.len()) {
            rest = after;
            if record.first() != Some(&TLS12_CID) {
                other.extend_from_slice(record);
                continue;
            }
            let translated = self.keys(ssl).and_then(|keys| {
                let mut inner = keys.open(&keys.server, record, &own)?;
                while inner.last() == Some(&0) {
                    inner.pop();
                }
                let content_type = inner.pop()?;
                keys.seal(&keys.server, record, content_type, &[], &inner)
            });
            other.extend(translated.unwrap_or_default());
        }
        other
    }

    fn keys(&mut self, ssl: &SslRef) -> Option<Keys> {
        if self.keys.is_none() {
            self.keys = Keys::of(ssl);
        }
        self.keys.clone()
    }
}

/// The first record of a datagram and what follows; those with an id have one of `length` bytes.
fn split(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let id = if bytes.first() == Some(&TLS12_CID) {
        length
    } else {
        0
    };
    let body = bytes.get(HEAD + id..HEADER + id)?;
    let body = usize::from(u16::from_be_bytes(body.try_into().ok()?));
    bytes.split_at_checked(HEADER + id + body)
}

fn is_encrypted(record: &[u8]) -> bool {
    record.get(3..5).is_some_and(|epoch| epoch != [0, 0])
}

impl Keys {
    fn of(ssl: &SslRef) -> Option<Self> {
        let (cipher, is_ccm, tag) = match ssl.current_cipher()?.name() {
            "PSK-AES128-CCM8" | "ECDHE-ECDSA-AES128-CCM8" => (Cipher::aes_128_ccm(), true, 8),
            "PSK-AES128-CCM" => (Cipher::aes_128_ccm(), true, 16),
            "PSK-AES128-GCM-SHA256"
            | "ECDHE-ECDSA-AES128-GCM-SHA256"
            | "ECDHE-RSA-AES128-GCM-SHA256" => (Cipher::aes_128_gcm(), false, 16),
            _ => return None,
        };
        let mut secret = [0; 48];
        let (mut client, mut server) = ([0; 32], [0; 32]);
        if ssl.session()?.master_key(&mut secret) != secret.len() {
            return None;
        }
        ssl.client_random(&mut client);
        ssl.server_random(&mut server);
        let seed = [&b"key expansion"[..], &server, &client].concat();
        let key = PKey::hmac(&secret).ok()?;
        let mac = |data: &[u8]| {
            let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
            signer.sign_oneshot_to_vec(data)
        };
        let first = mac(&seed).ok()?;
        let second = mac(&first).ok()?;
        let mut block = mac(&[first, seed.clone()].concat()).ok()?;
        block.extend(mac(&[second, seed].concat()).ok()?);
        Some(Self {
            cipher,
            is_ccm,
            tag,
            client: (
                block.get(..16)?.try_into().ok()?,
                block.get(32..36)?.try_into().ok()?,
            ),
            server: (
                block.get(16..32)?.try_into().ok()?,
                block.get(36..40)?.try_into().ok()?,
            ),
        })
    }

    /// The content of a record that bears `id`.
    fn open(&self, by: &([u8; 16], [u8; 4]), record: &[u8], id: &[u8]) -> Option<Vec<u8>> {
        let fragment = record.get(HEADER + id.len()..)?;
        let (explicit, rest) = fragment.split_at_checked(8)?;
        let (text, tag) = rest.split_at_checked(rest.len().checked_sub(self.tag)?)?;
        let nonce = [&by.1[..], explicit].concat();
        let covered = covered(*record.first()?, record.get(3..HEAD)?, id, text.len());
        self.decrypt(&by.0, &nonce, &covered, text, tag).ok()
    }

    // CCM wants to know the lengths of nonce and tag before the key, and that of the text before the
    // rest; GCM takes that as well, but for the last.
    fn decrypt(
        &self,
        key: &[u8],
        nonce: &[u8],
        covered: &[u8],
        text: &[u8],
        tag: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.decrypt_init(Some(self.cipher), None, None)?;
        context.set_iv_length(nonce.len())?;
        context.set_tag(tag)?;
        context.decrypt_init(None, Some(key), Some(nonce))?;
        if self.is_ccm {
            context.set_data_len(text.len())?;
        }
        context.cipher_update(covered, None)?;
        let mut plain = vec![0; text.len() + 16];
        let length = context.cipher_update(text, Some(&mut plain))?;
        if !self.is_ccm {
            context.cipher_final(&mut [0; 16])?;
        }
        plain.truncate(length);
        Ok(plain)
    }

    /// The text with its tag.
    fn encrypt(
        &self,
        key: &[u8],
        nonce: &[u8],
        covered: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.encrypt_init(Some(self.cipher), None, None)?;
        context.set_iv_length(nonce.len())?;
        if self.is_ccm {
            context.set_tag_length(self.tag)?;
        }
        context.encrypt_init(None, Some(key), Some(nonce))?;
        if self.is_ccm {
            context.set_data_len(plain.len())?;
        }
        context.cipher_update(covered, None)?;
        let mut text = vec![0; plain.len() + 16];
        let length = context.cipher_update(plain, Some(&mut text))?;
        context.cipher_final(&mut [0; 16])?;
        text.truncate(length);
        let mut tag = vec![0; self.tag];
        context.tag(&mut tag)?;
        text.extend(tag);
        Ok(text)
    }

    /// The same record with another content type, id and content.
    fn seal(
        &self,
        by: &([u8; 16], [u8; 4]),
        record: &[u8],
        content_type: u8,
        id: &[u8],
        content: &[u8],
    ) -> Option<Vec<u8>> {
        let number = record.get(3..HEAD)?;
        let nonce = [&by.1[..], number].concat();
        let covered = covered(content_type, number, id, content.len());
        let text = self.encrypt(&by.0, &nonce, &covered, content).ok()?;
        let length = u16::try_from(8 + text.len()).ok()?;
        let head = [content_type, 0xfe, 0xfd];
        let length = length.to_be_bytes();
        Some([&head[..], number, id, &length, number, &text].concat())
    }
}

/// What a tag covers beside the content: RFC 5246 §6.2.3.3, RFC 9146 §5.3.
fn covered(content_type: u8, number: &[u8], id: &[u8], length: usize) -> Vec<u8> {
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    if content_type != TLS12_CID {
        return [number, &[content_type, 0xfe, 0xfd], &length].concat();
    }
    let id_length = u8::try_from(id.len()).unwrap_or(u8::MAX);
    let head = [TLS12_CID, id_length, TLS12_CID, 0xfe, 0xfd];
    [&[0xff; 8][..], &head, number, id, &length].concat()
}
