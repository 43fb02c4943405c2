use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslVersion};
use proptest::prelude::*;

use super::super::openssl::keep_sessions_in;
use super::*;

impl Resumption {
    /// How many sessions there are, and how many of them in few bytes.
    fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        let entries = inner.pieces.iter().flatten().flatten();
        let packed = |entry: &&Entry| matches!(entry.session, Resumable::Packed { .. });
        (inner.length, entries.filter(packed).count())
    }
}

/// A session of PSK as OpenSSL writes it.
fn session(n: u32) -> SslSession {
    let mut der = vec![0x30, 0x81, 0x91];
    der.extend([0x02, 1, 1, 0x02, 3, 0, 0xfe, 0xfd, 0x04, 2, 0xc0, 0xa8]);
    der.extend([0x04, 32]);
    der.extend(id(n));
    der.extend([0x04, 48]);
    der.extend([0x5a; 44]);
    der.extend(n.to_be_bytes());
    der.extend([0xa1, 6, 0x02, 4, 0x65, 0x43, 0x21, 0]);
    der.extend([0xa2, 4, 0x02, 2, 0x0e, 0x10]);
    der.extend([0xa4, 4, 0x04, 2, b'g', b'w']);
    der.extend([0xa8, 10, 0x04, 8]);
    der.extend(identity(n).as_bytes());
    der.extend([0xad, 3, 0x02, 1, 1]);
    der[2] = u8::try_from(der.len() - 3).unwrap();
    SslSession::from_der(&der).unwrap()
}

fn identity(n: u32) -> Identity {
    Identity::new(format!("dev{n:05}").as_bytes())
}

fn id(n: u32) -> [u8; 32] {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    id
}

fn found(cache: &Resumption, n: u32) -> Option<Vec<u8>> {
    cache.find(&id(n)).map(|(it, _)| it.to_der().unwrap())
}

#[test]
fn what_comes_back_is_what_was_kept() {
    let cache = Resumption::new(1000);
    for n in 0..300 {
        cache.keep(session(n), None, false);
    }
    assert_eq!(cache.counts(), (300, 300));
    for n in 0..300 {
        assert_eq!(found(&cache, n), Some(session(n).to_der().unwrap()));
    }
    assert!(cache.find(&id(300)).is_none() && cache.find(&[]).is_none());
    // An identity that somebody else keeps is not kept again; another one is nobody's.
    let identity = identity(300);
    cache.keep(session(300), Some(identity.clone()), false);
    let (_, shared) = cache.find(&id(300)).unwrap();
    assert!(Arc::ptr_eq(&shared.unwrap().shared(), &identity.shared()));
    cache.keep(session(301), Some(identity), false);
    assert_eq!(found(&cache, 301), Some(session(301).to_der().unwrap()));
    cache.clear();
    assert_eq!((cache.counts(), found(&cache, 1)), ((0, 0), None));
    // As a whole it is kept with certificates.
    cache.keep(session(1), None, true);
    assert_eq!(cache.counts(), (1, 0));
    assert_eq!(found(&cache, 1), Some(session(1).to_der().unwrap()));
}

#[test]
fn an_entry_takes_few_bytes() {
    assert_eq!(size_of::<Option<Entry>>(), 80);
}

proptest! {
    /// The oldest ones give way, and places of those that have gone are bounded.
    #[test]
    fn as_a_list(steps in proptest::collection::vec((0u32..12, any::<bool>()), 0..400)) {
        let cache = Resumption::new(8);
        let mut model: Vec<u32> = Vec::new();
        for (n, is_new) in steps {
            model.retain(|it| *it != n);
            if is_new {
                cache.keep(session(n), None, false);
                model.push(n);
            } else {
                cache.forget(&session(n));
            }
            // Of places twice as many as of sessions, then the oldest go early.
            let (length, packed) = cache.counts();
            prop_assert!(length <= model.len() && length == packed);
            let gone = model.len() - length;
            model.drain(..gone);
            for n in 0..12 {
                prop_assert_eq!(found(&cache, n).is_some(), model.contains(&n));
            }
            let inner = cache.inner.lock();
            prop_assert!(length <= 8 && inner.places() <= 16);
            prop_assert!(inner.pieces.len() <= 2 && inner.numbers.len() == length);
        }
    }
}

/// What OpenSSL makes of its own handshakes is packed, whatever the identity and its version.
#[test]
#[allow(clippy::disallowed_methods)] // the client and the server wait for each other
fn sessions_of_openssl_are_packed() {
    let cache = Arc::new(Resumption::new(100));
    let mut server = SslContext::builder(SslMethod::tls_server()).unwrap();
    server
        .set_max_proto_version(Some(SslVersion::TLS1_2))
        .unwrap();
    server.set_cipher_list("PSK-AES128-CCM8").unwrap();
    server.set_security_level(0);
    server.set_options(SslOptions::NO_TICKET);
    server.set_session_id_context(b"test").unwrap();
    server.set_psk_server_callback(|_, _, key| {
        key[..16].fill(1);
        Ok(16)
    });
    keep_sessions_in(&mut server, &cache);
    let server = server.build();
    for length in [1, 24, 128] {
        let mut client = SslContext::builder(SslMethod::tls_client()).unwrap();
        client
            .set_max_proto_version(Some(SslVersion::TLS1_2))
            .unwrap();
        client.set_cipher_list("PSK-AES128-CCM8").unwrap();
        client.set_security_level(0);
        client.set_psk_client_callback(move |_, _, identity, key| {
            identity[..length].fill(b'x');
            identity[length] = 0;
            key[..16].fill(1);
            Ok(16)
        });
        let client = client.build();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ssl = Ssl::new(&server).unwrap();
        let accepting = std::thread::spawn(move || {
            let mut stream = ssl.accept(ours).unwrap();
            stream.write_all(b"x").unwrap();
            let _ = stream.read(&mut [0; 8]);
        });
        let mut stream = Ssl::new(&client).unwrap().connect(theirs).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        // While it is open: whoever ends it without a word cannot resume it.
        assert_eq!(cache.counts(), (1, 1));
        let session = stream.ssl().session().unwrap();
        let (kept, _) = cache.find(session.id()).unwrap();
        assert_eq!(kept.id(), session.id());
        stream.shutdown().unwrap();
        accepting.join().unwrap();
        cache.clear();
    }
}
