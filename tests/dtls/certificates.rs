//! The DTLS server with certificates: handshakes in any order and over bad networks, devices that are
//! refused, and sessions when other certificates are trusted.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::sync::Arc;

use crate::support::{
    Client, ClientOptions, Network, OpensslClient, World, address, assert_talks, connect, exchange,
    options, run_until,
};
use lwm2m_gateway::config::CipherSuite;
use lwm2m_gateway::credentials::{CertificateIdentity, CertificateOptions, CertificateTexts};
use lwm2m_gateway::dtls::{Certificates, Certified, Context, Options, Output};
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509Extension;
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, SubjectAlternativeName};
use openssl::x509::{
    X509, X509Builder, X509Crl, X509CrlBuilder, X509NameBuilder, X509RevokedBuilder,
};

type Pair = (X509, PKey<Private>);

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate with this common name, of `issuer` or of itself; `change` has the last word.
fn certificate(cn: &str, issuer: Option<&Pair>, change: impl FnOnce(&mut X509Builder)) -> Pair {
    let key = key();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, cn).unwrap();
    let name = name.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = serial_of(cn).to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let day = |days| Asn1Time::days_from_now(days).unwrap();
    builder.set_not_before(&day(0)).unwrap();
    builder.set_not_after(&day(30)).unwrap();
    let basic = match issuer {
        Some(_) => BasicConstraints::new().build(),
        None => BasicConstraints::new().critical().ca().build(),
    };
    builder.append_extension(basic.unwrap()).unwrap();
    change(&mut builder);
    let (by, signer) = issuer.map_or((&*name, &key), |(issuer, key)| (issuer.subject_name(), key));
    builder.set_issuer_name(by).unwrap();
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

fn serial_of(cn: &str) -> BigNum {
    BigNum::from_slice(&openssl::sha::sha256(cn.as_bytes())[..8]).unwrap()
}

fn revocations(authority: &Pair, names: &[&str]) -> X509Crl {
    let mut list = X509CrlBuilder::new().unwrap();
    list.set_issuer_name(authority.0.subject_name()).unwrap();
    let day = |days| Asn1Time::days_from_now(days).unwrap();
    list.set_last_update(&day(0)).unwrap();
    list.set_next_update(&day(7)).unwrap();
    for name in names {
        let mut revoked = X509RevokedBuilder::new().unwrap();
        let serial = serial_of(name).to_asn1_integer().unwrap();
        revoked.set_serial_number(&serial).unwrap();
        revoked.set_revocation_date(&day(0)).unwrap();
        list.add_revoked(revoked.build()).unwrap();
    }
    // What OpenSSL's builder insists on.
    let builder = X509Builder::new().unwrap();
    let around = builder.x509v3_context(Some(&authority.0), None);
    let issuer = AuthorityKeyIdentifier::new().issuer(true).build(&around);
    list.append_extension(issuer.unwrap()).unwrap();
    let number = Asn1OctetString::new_from_bytes(&[2, 1, 1]).unwrap();
    let identifier = Asn1Object::from_str("2.5.29.20").unwrap();
    let number = X509Extension::new_from_der(&identifier, false, &number).unwrap();
    list.append_extension(number).unwrap();
    list.sign(&authority.1, MessageDigest::sha256()).unwrap();
    list.build().unwrap()
}

/// A CA, and the gateway's certificate by it.
struct Pki {
    authority: Pair,
    gateway: Pair,
    options: CertificateOptions,
}

impl Pki {
    fn new() -> Self {
        let authority = certificate("authority", None, |_| ());
        Self {
            gateway: certificate("gateway", Some(&authority), |_| ()),
            authority,
            options: CertificateOptions::default(),
        }
    }

    fn certificates(&self, authority: Option<&Pair>, revoked: Option<&X509Crl>) -> Certificates {
        let texts = CertificateTexts {
            certificates: self.gateway.0.to_pem().unwrap(),
            key: self.gateway.1.private_key_to_pem_pkcs8().unwrap().into(),
            authorities: authority.map(|(it, _)| it.to_pem().unwrap()),
            revocations: revoked.map(|it| it.to_pem().unwrap()),
        };
        let (certificates, warnings) = Certificates::new(&texts, &self.options).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        certificates
    }

    fn world(&self, options: &Options) -> World {
        let certificates = self.certificates(Some(&self.authority), None);
        let context = Context::with_certificates(options, Some(&certificates));
        World::with_context(Arc::new(context.unwrap()))
    }

    fn device(&self, cn: &str) -> Pair {
        certificate(cn, Some(&self.authority), |_| ())
    }
}

fn client(pair: &Pair, suite: &'static str, mtu: u32) -> OpensslClient {
    OpensslClient::new(ClientOptions {
        suites: suite,
        mtu,
        certificate: Some(pair.clone()),
        ..ClientOptions::default()
    })
}

const CCM8: &str = "ECDHE-ECDSA-AES128-CCM8";

fn certified(world: &mut World) -> (String, Arc<Certified>) {
    match world.events.pop_front() {
        Some(Output::Established {
            identity,
            certified: Some(certified),
            key: None,
            ..
        }) => (identity.to_string(), certified),
        other => panic!("not established: {other:?}"),
    }
}

/// The records of a datagram.
fn split(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut rest = datagram;
    while rest.len() > 13 {
        let length = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        let (record, after) = rest.split_at(13 + length);
        records.push(record.to_vec());
        rest = after;
    }
    records
}

/// All orders of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = orders(last).into_iter();
    let insert = |order: Vec<usize>| {
        (0..=last).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    shorter.flat_map(insert).collect()
}

/// The flight of a client from its Certificate on, as records.
fn flight(world: &mut World, client: &mut OpensslClient) -> Vec<Vec<u8>> {
    let at = address(1);
    exchange(world, client, at);
    // The server's flight may be several datagrams, of which the client has to see each.
    exchange(world, client, at);
    let sent = client.take_sent();
    let records: Vec<_> = sent.iter().flat_map(|datagram| split(datagram)).collect();
    let is_hello = |record: &Vec<u8>| record[0] == 22 && record[13] == 1;
    let flight = records.into_iter().skip_while(is_hello);
    let mut seen = std::collections::BTreeSet::new();
    // On a slow machine the client repeats itself.
    flight.filter(|it| seen.insert(it[13..].to_vec())).collect()
}

#[test]
fn a_flight_in_any_order_needs_no_repetition() {
    let pki = Pki::new();
    let device = pki.device("device");
    for order in orders(5) {
        let mut world = pki.world(&options());
        let mut client = client(&device, CCM8, 1200);
        let flight = flight(&mut world, &mut client);
        let kinds: Vec<_> = flight.iter().map(|it| (it[0], it[13])).collect();
        assert_eq!(kinds[..3], [(22, 11), (22, 16), (22, 15)], "{kinds:?}");
        for n in &order {
            world.datagram(address(1), &flight[*n]);
        }
        let (identity, _) = certified(&mut world);
        assert_eq!(identity, "device", "{order:?}");
        exchange(&mut world, &mut client, address(1));
        world.events.clear();
        assert_talks(&mut world, &mut client, address(1));
    }
}

#[test]
fn small_fragments_over_a_bad_network() {
    let pki = Pki::new();
    let device = certificate("device", Some(&pki.authority), |builder| {
        let mut names = SubjectAlternativeName::new();
        for n in 0..60 {
            names.dns(&format!("name-{n}.example"));
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    });
    for seed in 0..4 {
        let mut world = pki.world(&Options {
            mtu: 300,
            ..options()
        });
        let mut client = client(&device, "ECDHE-ECDSA-AES128-GCM-SHA256", 256);
        let network = Network {
            flip: 0,
            ..Network::bad(8, seed)
        };
        let at = address(1);
        let is_done = run_until(&mut world, &mut client, at, network, |world, client| {
            client.is_connected() && world.server.identity(at).is_some()
        });
        assert!(is_done, "seed {seed}");
        assert_eq!(certified(&mut world).0, "device");
    }
}

/// What the gateway sends fits the MTU, and before the cookie it is no more than what came.
#[test]
fn no_datagram_is_larger_than_the_mtu() {
    let pki = Pki::new();
    let mut world = pki.world(&Options {
        mtu: 256,
        ..options()
    });
    let mut client = client(&pki.device("device"), CCM8, 1200);
    let hello = client.take_sent().remove(0);
    world.datagram(address(1), &hello);
    let answer = world.take_sent(address(1));
    assert!(answer.len() == 1 && answer[0].len() <= hello.len());
    client.handle_datagram(&answer[0]);
    for datagram in client.take_sent() {
        world.datagram(address(1), &datagram);
    }
    let flight = world.take_sent(address(1));
    assert!(flight.len() > 2);
    assert!(flight.iter().all(|datagram| datagram.len() <= 256));
}

/// Nobody who does not have the keys may end a session, whatever is sent to it.
#[test]
fn forged_records_change_nothing() {
    let pki = Pki::new();
    let device = pki.device("device");
    let at = address(1);
    for suite in [
        CipherSuite::EcdheEcdsaAes128Ccm8,
        CipherSuite::EcdheEcdsaAes128GcmSha256,
    ] {
        let mut world = pki.world(&options());
        let mut client = client(&device, suite.openssl_name(), 1200);
        connect(&mut world, &mut client, at);
        assert_eq!(world.established().unwrap().3, suite);
        client.send(b"genuine");
        let record = client.take_sent().remove(0);
        for bit in 0..record.len() * 8 {
            let mut forged = record.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            world.datagram(at, &forged);
        }
        for content_type in 19..27 {
            for length in 0..60u8 {
                let mut forged = vec![content_type, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, length];
                forged.extend((0..length).map(|n| n.wrapping_mul(37) ^ content_type));
                world.datagram(at, &forged);
            }
        }
        assert!(world.events.is_empty(), "{suite:?}: {:?}", world.events);
        world.datagram(at, &record);
        assert_eq!(world.received(), Some((at, b"genuine".to_vec())));
        assert_talks(&mut world, &mut client, at);
    }
}

/// Handshake messages that no device sends are dropped before OpenSSL keeps anything of them.
#[test]
fn messages_out_of_place_are_dropped() {
    let pki = Pki::new();
    let mut world = pki.world(&options());
    let mut client = client(&pki.device("device"), CCM8, 1200);
    let flight = flight(&mut world, &mut client);
    let message = |kind: u8, length: u32, sequence: u8, number: u8| {
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, number, 0, 22];
        record.push(kind);
        record.extend(&length.to_be_bytes()[1..]);
        record.extend([0, sequence, 0, 0, 0, 0, 0, 10]);
        record.extend([0x30; 10]);
        record
    };
    let mut number = 0;
    let before = world.counters.dtls_records_dropped.get();
    let mut wrong = 0;
    for (kind, length, sequence) in [
        // Too long, also as announced by a fragment.
        (11, 16_385, 2),
        (11, 0x00ff_ffff, 2),
        (16, 4097, 3),
        (15, 4097, 4),
        // At another place.
        (11, 100, 3),
        (11, 100, 1),
        (16, 100, 2),
        (15, 100, 5),
        // Of a server, or of nobody.
        (2, 100, 2),
        (12, 100, 2),
        (20, 100, 5),
        (99, 100, 2),
    ] {
        number += 1;
        wrong += 1;
        world.datagram(address(1), &message(kind, length, sequence, number));
    }
    let dropped = world.counters.dtls_records_dropped.get() - before;
    assert_eq!(dropped, wrong);
    // And the handshake goes on.
    for record in flight {
        world.datagram(address(1), &record);
    }
    assert_eq!(certified(&mut world).0, "device");
}

/// Runs until the client has failed; what became of it.
fn is_refused(world: &mut World, pair: &Pair) {
    let mut client = client(pair, CCM8, 1200);
    let at = address(1);
    let failed = run_until(world, &mut client, at, Network::default(), |_, client| {
        client.has_failed()
    });
    assert!(failed, "no alert");
    assert!(world.events.is_empty(), "{:?}", world.events);
    assert_eq!(world.server.handshakes(), 0);
    world.take_sent(at);
}

#[test]
fn names_that_are_no_identity() {
    let pki = Pki::new();
    let mut world = pki.world(&options());
    let refused = ["device\0.evil", "a\nb", "*", "*.example", "\u{9b}x"];
    for (n, cn) in (1..).zip(refused) {
        is_refused(&mut world, &pki.device(cn));
        assert_eq!(world.counters.dtls_handshakes_failed.get(), n, "{cn:?}");
        assert_eq!(world.counters.dtls_keys_failed.get(), n, "{cn:?}");
    }
    for cn in ["urn:imei:1", "gerät", "a+b#c/d"] {
        let mut client = client(&pki.device(cn), CCM8, 1200);
        connect(&mut world, &mut client, address(2));
        let (identity, _) = loop {
            match world.events.front() {
                Some(Output::Established { .. }) => break certified(&mut world),
                _ => drop(world.events.pop_front()),
            }
        };
        assert_eq!(identity, cn);
    }
}

#[test]
fn fingerprints() {
    let mut pki = Pki::new();
    pki.options.identity = CertificateIdentity::Fingerprint;
    let mut world = pki.world(&options());
    let device = pki.device("device\0with any name");
    let mut client = client(&device, CCM8, 1200);
    connect(&mut world, &mut client, address(1));
    let (identity, facts) = certified(&mut world);
    let digest = device.0.digest(MessageDigest::sha256()).unwrap();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(identity, hex);
    assert_eq!(facts.fingerprint, *digest);
}

/// Which sessions may go on when other certificates are trusted.
#[test]
fn sessions_and_other_certificates() {
    let mut pki = Pki::new();
    let mut world = pki.world(&options());
    let device = pki.device("device");
    let mut first = client(&device, CCM8, 1200);
    connect(&mut world, &mut first, address(1));
    let (_, facts) = certified(&mut world);
    let take_up = |pki: &Pki, authority, list, world: &World| {
        let certificates = pki.certificates(authority, list);
        world.context.set_certificates(Some(&certificates)).unwrap();
        world.context.trusts(&facts)
    };
    let authority = pki.authority.clone();
    assert!(take_up(&pki, Some(&authority), None, &world));
    // A new key of the same name is another CA.
    let other = certificate("authority", None, |_| ());
    assert!(!take_up(&pki, Some(&other), None, &world));
    let others = revocations(&authority, &["another device"]);
    assert!(take_up(&pki, Some(&authority), Some(&others), &world));
    let list = revocations(&authority, &["device"]);
    assert!(!take_up(&pki, Some(&authority), Some(&list), &world));
    is_refused(&mut world, &device);
    // A pin holds whoever issued it, and a list all the same.
    pki.options.pinned = vec![facts.fingerprint];
    assert!(take_up(&pki, Some(&other), None, &world));
    assert!(!take_up(&pki, Some(&authority), Some(&list), &world));
    // The session itself has gone on.
    assert_talks(&mut world, &mut first, address(1));
    // Without certificates nobody is trusted.
    world.context.set_certificates(None).unwrap();
    assert!(!world.context.trusts(&facts));
}

#[test]
fn resumed_sessions_are_those_of_the_same_certificate() {
    let pki = Pki::new();
    let mut world = pki.world(&options());
    let device = pki.device("device");
    let mut first = client(&device, CCM8, 1200);
    connect(&mut world, &mut first, address(1));
    let (identity, facts) = certified(&mut world);
    let session = first.session();
    let resume = |session| {
        OpensslClient::new(ClientOptions {
            suites: CCM8,
            certificate: Some(device.clone()),
            session: Some(session),
            ..ClientOptions::default()
        })
    };
    let mut second = resume(session.clone());
    connect(&mut world, &mut second, address(2));
    let again = certified(&mut world);
    assert_eq!(world.counters.dtls_handshakes_resumed.get(), 1);
    assert_eq!(again, (identity, facts));
    // Not after others are trusted.
    let certificates = pki.certificates(Some(&pki.authority), None);
    world.context.set_certificates(Some(&certificates)).unwrap();
    let mut third = resume(session);
    connect(&mut world, &mut third, address(3));
    certified(&mut world);
    assert_eq!(world.counters.dtls_handshakes_resumed.get(), 1);
}

/// A device that offers both comes in by its key.
#[test]
fn keys_come_first() {
    let pki = Pki::new();
    let mut world = pki.world(&options());
    let mut client = OpensslClient::new(ClientOptions {
        suites: "ECDHE-ECDSA-AES128-CCM8:PSK-AES128-CCM8",
        ..ClientOptions::default()
    });
    connect(&mut world, &mut client, address(1));
    let (_, identity, _, suite) = world.established().unwrap();
    assert_eq!(suite, CipherSuite::PskAes128Ccm8);
    assert_eq!(identity.as_bytes(), b"device");
}
