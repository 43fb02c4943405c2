//! What stands in the files of certificates, and what a device shows as its own.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::config::CipherSuite;
use lwm2m_gateway::credentials::{CertificateOptions, CertificateTexts};
use lwm2m_gateway::dtls::{Certificates, Context, Options, Server};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::Instant;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509NameBuilder};

use super::dtls::{cookie_exchange, drain};
use super::engine::next_event;
use super::work::{PARSER, Work, bounded};

const PEERS: u8 = 4;
const MAX_HANDSHAKES: usize = 3;

/// Bytes of a message in one record.
const FRAGMENT: usize = 8000;

/// What an event may do on our side of OpenSSL, and for each byte of it.
const EVENT: (Work, Work) = (
    Work {
        allocations: 5000,
        bytes: 1 << 20,
    },
    Work {
        allocations: 16,
        bytes: 1024,
    },
);

/// The gateway's certificate, which is its own CA, and the private key.
struct Own {
    certificate: Vec<u8>,
    key: Vec<u8>,
    context: Arc<Context>,
}

thread_local! {
    static OWN: OnceCell<Arc<Own>> = const { OnceCell::new() };
}

/// An input that begins with 0 is a file, which is read as each of those that there are; after any other
/// byte it is a list of events as for the target `dtls`: datagrams, whole cookie exchanges, the one
/// certificate or the chain of a device, and time. Nobody has a key, so nobody gets a session.
pub fn certificate(data: &[u8]) {
    let own = OWN.with(|own| Arc::clone(own.get_or_init(|| Arc::new(Own::new()))));
    match data.split_first() {
        Some((0, file)) => files(&own, file),
        Some((_, events)) => device(&own, events),
        None => {}
    }
}

fn files(own: &Own, file: &[u8]) {
    let texts = |certificates: &[u8], key: &[u8]| CertificateTexts {
        certificates: certificates.to_vec(),
        key: key.to_vec().into(),
        authorities: None,
        revocations: None,
    };
    let good = || texts(&own.certificate, &own.key);
    let all = [
        texts(file, file),
        texts(&own.certificate, file),
        CertificateTexts {
            authorities: Some(file.to_vec()),
            ..good()
        },
        CertificateTexts {
            authorities: Some(own.certificate.clone()),
            revocations: Some(file.to_vec()),
            ..good()
        },
    ];
    for texts in all {
        let found = bounded("a file", PARSER.0.of_bytes(PARSER.1, file.len()), || {
            Certificates::new(&texts, &CertificateOptions::default())
        });
        if let Ok((certificates, _)) = found {
            let context = Context::with_certificates(&options(), Some(&certificates));
            assert!(context.is_ok(), "what was taken can be used");
        }
    }
}

fn device(own: &Own, mut data: &[u8]) {
    let mut server = Server::new(own.context.clone(), [1; 32], Arc::new(Counters::default()));
    let mut now = Instant::ZERO;
    let mut number = 2;
    while let Some((event, length, bytes)) = next_event(&mut data) {
        let work = EVENT.0.of_bytes(EVENT.1, bytes.len());
        let peer = SocketAddr::from(([127, 0, 0, 1], 5000 + u16::from(event % PEERS)));
        bounded("an event", work, || match event / PEERS % 8 {
            0..3 => server.handle_datagram(now, peer, bytes),
            3 | 4 => cookie_exchange(&mut server, now, peer, &HELLO, bytes),
            5 => show(&mut server, now, peer, bytes, &mut number),
            6 => {
                let one = [&size(bytes.len()), bytes].concat();
                show(&mut server, now, peer, &one, &mut number);
            }
            _ => {
                now += Duration::from_millis(length as u64 * 100);
                server.handle_timeout(now);
            }
        });
        drain(&mut server, &mut Vec::new());
        assert!(server.handshakes() <= MAX_HANDSHAKES && server.sessions() == 0);
    }
    server.handle_timeout(now + Duration::from_secs(60));
    assert_eq!(drain(&mut server, &mut Vec::new()), None);
    assert_eq!(server.handshakes(), 0);
}

/// What a hello has behind its cookie: the suite ECDHE-ECDSA-AES128-CCM8, the curve P-256 and ECDSA with
/// SHA-256.
const HELLO: [u8; 30] = [
    0, 2, 0xc0, 0xae, 1, 0, 0, 22, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2,
    4, 3,
];

/// A Certificate with these certificates, in fragments.
fn show(
    server: &mut Server,
    now: Instant,
    peer: SocketAddr,
    certificates: &[u8],
    number: &mut u16,
) {
    let body = [&size(certificates.len()), certificates].concat();
    for (n, part) in body.chunks(FRAGMENT).enumerate() {
        let mut message = vec![11];
        message.extend(size(body.len()));
        message.extend([0, 2]);
        message.extend(size(n * FRAGMENT));
        message.extend(size(part.len()));
        message.extend(part);
        let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0];
        datagram.extend(number.to_be_bytes());
        datagram.extend((message.len() as u16).to_be_bytes());
        datagram.extend(message);
        *number = number.wrapping_add(1);
        server.handle_datagram(now, peer, &datagram);
    }
}

fn size(bytes: usize) -> [u8; 3] {
    let [.., a, b, c] = bytes.to_be_bytes();
    [a, b, c]
}

fn options() -> Options {
    Options {
        suites: vec![CipherSuite::EcdheEcdsaAes128Ccm8],
        max_handshakes: MAX_HANDSHAKES,
        ..Options::default()
    }
}

impl Own {
    fn new() -> Self {
        Self::try_new().expect("OpenSSL makes a certificate")
    }

    fn try_new() -> Result<Self, Box<dyn std::error::Error>> {
        let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_text("CN", "gateway.example")?;
        let name = name.build();
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*BigNum::from_u32(1)?.to_asn1_integer()?)?;
        builder.set_subject_name(&name)?;
        builder.set_issuer_name(&name)?;
        builder.set_pubkey(&key)?;
        builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        builder.set_not_after(&*Asn1Time::days_from_now(365)?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = builder.build().to_pem()?;
        let key = key.private_key_to_pem_pkcs8()?;
        let texts = CertificateTexts {
            certificates: certificate.clone(),
            key: key.clone().into(),
            authorities: Some(certificate.clone()),
            revocations: None,
        };
        let (certificates, _) = Certificates::new(&texts, &CertificateOptions::default())?;
        let context = Context::with_certificates(&options(), Some(&certificates))?;
        Ok(Self {
            certificate,
            key,
            context: Arc::new(context),
        })
    }
}
