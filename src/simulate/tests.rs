//! A device against a scripted server, in virtual time.

mod modern;

use std::time::Instant;

use super::context::Counters;
use super::wire::{Block, Kind, Message, code, format, option};
use super::*;

struct Bench {
    profile: Profile,
    device: Device,
    counters: Counters,
    clock: context::Clock,
    out: Vec<Vec<u8>>,
    said: Vec<String>,
    wanted: Option<String>,
    mid: u16,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Profile)) -> Self {
        let mut profile = Profile {
            prefix: "sim-".to_owned(),
            version: "1.1".to_owned(),
            objects: objects::KNOWN.to_vec(),
            lifetime: 100,
            notify_every: Duration::from_secs(5),
            confirmable: false,
            queue_mode: false,
            awake: Duration::from_secs(20),
            send_every: Duration::ZERO,
            rebind_every: Duration::ZERO,
            sleep: Duration::ZERO,
            firmware_sha256: None,
        };
        change(&mut profile);
        Self {
            device: Device::new(0, 1, &profile),
            profile,
            counters: Counters::default(),
            clock: context::Clock {
                mono: Instant::now(),
                unix: 1000.0,
            },
            out: Vec::new(),
            said: Vec::new(),
            wanted: None,
            mid: 0,
        }
    }

    fn with(
        &mut self,
        action: impl FnOnce(&mut Device, &mut context::Context<'_>),
    ) -> Vec<Message> {
        let mut ctx = context::Context {
            clock: self.clock,
            profile: &self.profile,
            out: &mut self.out,
            counters: &mut self.counters,
            said: &mut self.said,
            wanted: &mut self.wanted,
        };
        action(&mut self.device, &mut ctx);
        self.out
            .drain(..)
            .map(|bytes| Message::read(&bytes).unwrap())
            .collect()
    }

    /// Steps through the device's deadlines until `seconds` have gone by.
    fn pass(&mut self, seconds: f64) -> Vec<Message> {
        let end = self.clock.mono + Duration::from_secs_f64(seconds);
        let mut sent = Vec::new();
        while let Some(at) = self.device.deadline().filter(|at| *at <= end) {
            self.advance(at);
            sent.extend(self.with(Device::on_timeout));
        }
        self.advance(end);
        sent
    }

    fn advance(&mut self, to: Instant) {
        self.clock.unix += to.saturating_duration_since(self.clock.mono).as_secs_f64();
        self.clock.mono = to.max(self.clock.mono);
    }

    fn receive(&mut self, message: &Message) -> Vec<Message> {
        let bytes = message.clone().write();
        self.with(|device, ctx| device.on_datagram(ctx, &bytes))
    }

    fn register(&mut self) -> Message {
        let request = self.with(Device::start).remove(0);
        let mut reply = Message::new(
            Kind::Acknowledgement,
            code::CREATED,
            request.mid,
            request.token.clone(),
        );
        reply.add(option::LOCATION_PATH, *b"rd");
        reply.add(option::LOCATION_PATH, *b"x7");
        assert_eq!(self.receive(&reply), []);
        request
    }

    fn request(&mut self, method: u8, path: &str, change: impl FnOnce(&mut Message)) -> Message {
        self.mid += 1;
        let mut request = Message::new(Kind::Confirmable, method, self.mid, vec![7, 7]);
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            request.add(option::URI_PATH, segment);
        }
        change(&mut request);
        let mut sent = self.receive(&request);
        assert_eq!(sent.len(), 1, "one answer to one request");
        let reply = sent.remove(0);
        assert_eq!(
            (reply.kind, reply.mid, reply.token.as_slice()),
            (Kind::Acknowledgement, self.mid, &[7, 7][..])
        );
        reply
    }
}

fn texts(message: &Message, number: u16) -> Vec<String> {
    message
        .all(number)
        .map(|value| String::from_utf8(value.to_vec()).unwrap())
        .collect()
}

#[test]
fn registers_updates_and_deregisters() {
    let mut bench = Bench::new(|_| {});
    let register = bench.register();
    assert_eq!(texts(&register, option::URI_PATH), ["rd"]);
    assert_eq!(
        texts(&register, option::URI_QUERY),
        ["ep=sim-0", "lt=100", "lwm2m=1.1", "b=U"]
    );
    assert!(register.payload.starts_with(b"</>;rt=\"oma.lwm2m\""));
    assert_eq!(bench.pass(69.0), []);
    let update = bench.pass(12.0).remove(0);
    assert_eq!(texts(&update, option::URI_PATH), ["rd", "x7"]);
    assert!(update.payload.is_empty());
    let mut reply = Message::new(
        Kind::Acknowledgement,
        code::NOT_FOUND,
        update.mid,
        update.token,
    );
    bench.receive(&reply);
    let again = bench.pass(0.1).remove(0);
    assert_eq!(texts(&again, option::URI_PATH), ["rd"]);
    (reply.code, reply.mid, reply.token) = (code::CREATED, again.mid, again.token);
    bench.receive(&reply);
    let farewell = bench.with(Device::leave).remove(0);
    assert_eq!(farewell.code, code::DELETE);
    assert_eq!(bench.counters.registered, 1);
}

#[test]
fn repeats_a_lost_registration_with_the_same_message_id() {
    let mut bench = Bench::new(|_| {});
    let first = bench.with(Device::start).remove(0);
    let repeated = bench.pass(61.0);
    assert_eq!(repeated, vec![first; 4]);
    assert_eq!(bench.counters.errors, 0);
    let mut next = bench.pass(7.0);
    assert_eq!((next.len(), bench.counters.errors), (1, 1));
    assert_eq!(texts(&next.remove(0), option::URI_PATH), ["rd"]);
    assert!(bench.device.take_unheard(), "the connection may be gone");
    assert!(!bench.device.take_unheard());
}

#[test]
fn queue_mode_is_announced_and_kept() {
    let mut bench = Bench::new(|profile| profile.queue_mode = true);
    let register = bench.register();
    assert!(texts(&register, option::URI_QUERY).contains(&"Q".to_owned()));
    bench.request(code::GET, "3/0/9", |_| {});
    bench.pass(21.0);
    let request = Message::new(Kind::Confirmable, code::GET, 99, vec![1]);
    assert_eq!(bench.receive(&request), [], "asleep");

    let mut bench = Bench::new(|profile| {
        profile.queue_mode = true;
        profile.version = "1.0".to_owned();
    });
    assert!(texts(&bench.register(), option::URI_QUERY).contains(&"b=UQ".to_owned()));
}

#[test]
fn reads_writes_and_refuses() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let reply = bench.request(code::GET, "3/0/16", |_| {});
    assert_eq!(
        (reply.code, reply.payload.as_slice()),
        (code::CONTENT, &b"U"[..])
    );
    assert_eq!(
        bench.request(code::GET, "3/0/77", |_| {}).code,
        code::NOT_FOUND
    );
    assert_eq!(bench.request(code::GET, "9", |_| {}).code, code::NOT_FOUND);
    assert_eq!(
        bench.request(code::GET, "3/0/4", |_| {}).code,
        code::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        bench
            .request(code::GET, "3/0", |m| m.add_uint(option::ACCEPT, 11544))
            .code,
        code::NOT_ACCEPTABLE
    );
    let tlv = |payload: &'static [u8]| {
        move |m: &mut Message| {
            m.add_uint(option::CONTENT_FORMAT, u32::from(format::TLV));
            m.payload = payload.to_vec();
        }
    };
    let write = bench.request(code::PUT, "3/0/14", tlv(b"\xc6\x0e+02:00"));
    assert_eq!(write.code, code::CHANGED);
    assert_eq!(
        bench.request(code::GET, "3/0/14", |_| {}).payload,
        b"+02:00"
    );
    // The second value is read-only: nothing of the batch is taken.
    let write = bench.request(code::POST, "3/0", tlv(b"\xc6\x0e+03:00\xc1\x09\x01"));
    assert_eq!(write.code, code::METHOD_NOT_ALLOWED);
    assert_eq!(
        bench.request(code::GET, "3/0/14", |_| {}).payload,
        b"+02:00"
    );
    let unknown = bench.request(code::GET, "3/0/9", |m| m.add(2001, *b"?"));
    assert_eq!(unknown.code, code::BAD_OPTION);
}

#[test]
fn answers_a_repeated_request_once() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let mut request = Message::new(Kind::Confirmable, code::POST, 77, vec![1]);
    request.add(option::URI_PATH, *b"3303");
    let first = bench.receive(&request);
    assert_eq!(first[0].code, code::CREATED);
    assert_eq!(bench.receive(&request), first, "not created twice");
}

#[test]
fn observations_follow_attributes_and_end() {
    let mut bench = Bench::new(|profile| profile.lifetime = 100_000);
    bench.register();
    let reply = bench.request(code::GET, "3303/0/5700", |m| m.add_uint(option::OBSERVE, 0));
    assert_eq!(reply.uint(option::OBSERVE), Some(0));
    let sent = bench.pass(20.5);
    let sequence: Vec<_> = sent.iter().map(|m| m.uint(option::OBSERVE)).collect();
    assert_eq!(sequence, [Some(1), Some(2), Some(3), Some(4)]);
    assert!(
        sent.iter()
            .all(|m| m.kind == Kind::NonConfirmable && m.token == [7, 7])
    );
    assert_ne!(sent[0].payload, sent[3].payload);
    let attributes = bench.request(code::PUT, "3303/0", |m| {
        m.add(option::URI_QUERY, *b"pmin=10")
    });
    assert_eq!(attributes.code, code::CHANGED);
    assert_eq!(bench.pass(30.0).len(), 3);
    let cancel = bench.request(code::GET, "3303/0/5700", |m| m.add_uint(option::OBSERVE, 1));
    assert_eq!(
        (cancel.code, cancel.uint(option::OBSERVE)),
        (code::CONTENT, None)
    );
    assert_eq!(bench.pass(60.0), []);
}

#[test]
fn reset_ends_an_observation() {
    let mut bench = Bench::new(|profile| profile.lifetime = 100_000);
    bench.register();
    bench.request(code::GET, "3303/0/5700", |m| m.add_uint(option::OBSERVE, 0));
    let sent = bench.pass(5.5);
    bench.receive(&Message::empty(Kind::Reset, sent[0].mid));
    assert_eq!(bench.pass(60.0), []);
}

#[test]
fn confirmable_notifications_are_repeated_until_acknowledged() {
    let mut bench = Bench::new(|profile| {
        profile.lifetime = 100_000;
        profile.confirmable = true;
    });
    bench.register();
    bench.request(code::GET, "3303/0/5700", |m| m.add_uint(option::OBSERVE, 0));
    let sent = bench.pass(8.0);
    assert_eq!((sent.len(), sent[0] == sent[1]), (2, true));
    bench.receive(&Message::empty(Kind::Acknowledgement, sent[0].mid));
    let sent = bench.pass(2.5);
    assert_eq!(sent[0].uint(option::OBSERVE), Some(2));
    assert_eq!(bench.pass(100.0).len(), 4, "then the server is gone");
    assert_eq!(bench.counters.errors, 1);
}

#[test]
fn large_bodies_go_block_by_block() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let body = vec![b'z'; 2500];
    let exponent = 6;
    for (number, block) in (0_u32..).zip(body.chunks(1024)) {
        let option = Block {
            number,
            more: number < 2,
            exponent,
        };
        let reply = bench.request(code::PUT, "3/0/15", |m| {
            m.add_uint(option::BLOCK1, option.to_uint());
            m.payload = block.to_vec();
        });
        let expected = if number < 2 {
            code::CONTINUE
        } else {
            code::CHANGED
        };
        assert_eq!(
            (reply.code, reply.uint(option::BLOCK1)),
            (expected, Some(option.to_uint()))
        );
    }
    let mut read = Vec::new();
    for number in 0..3 {
        let reply = bench.request(code::GET, "3/0/15", |m| {
            m.add_uint(option::BLOCK2, (number << 4) | exponent);
        });
        read.extend(reply.payload);
    }
    assert_eq!(read, body);
    let late = bench.request(code::PUT, "3/0/15", |m| m.add_uint(option::BLOCK1, 0x16));
    assert_eq!(late.code, code::INCOMPLETE);
}

#[test]
fn reboot_registers_again() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    assert_eq!(
        bench.request(code::POST, "3/0/4", |_| {}).code,
        code::CHANGED
    );
    let sent = bench.pass(1.5);
    assert_eq!(texts(&sent[0], option::URI_PATH), ["rd"]);
}

#[test]
fn create_and_delete_send_the_new_list() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let reply = bench.request(code::POST, "3303", |_| {});
    assert_eq!(texts(&reply, option::LOCATION_PATH), ["3303", "1"]);
    let update = bench.pass(0.1).remove(0);
    assert!(
        String::from_utf8(update.payload)
            .unwrap()
            .contains("</3303/1>")
    );
    assert_eq!(
        bench.request(code::DELETE, "3303/1", |_| {}).code,
        code::DELETED
    );
    assert_eq!(
        bench.request(code::DELETE, "3/0", |_| {}).code,
        code::METHOD_NOT_ALLOWED
    );
}

#[test]
fn instances_are_created_in_the_formats_of_the_device() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let mut create = |form: u16, payload: &'static [u8]| {
        let reply = bench.request(code::POST, "3303", |m| {
            m.add_uint(option::CONTENT_FORMAT, u32::from(form));
            m.payload = payload.to_vec();
        });
        bench.pass(0.1);
        (reply.code, texts(&reply, option::LOCATION_PATH))
    };
    let created = |id: &str| (code::CREATED, vec!["3303".to_owned(), id.to_owned()]);
    let json = br#"[{"bn":"/3303/7/","n":"5750","vs":"attic"}]"#;
    assert_eq!(create(format::SENML_JSON, json), created("7"));
    let tlv = b"\x08\x08\x09\xe6\x16\x76cellar";
    assert_eq!(create(format::TLV, tlv), created("8"));
    assert_eq!(create(format::TLV, b"\x00\x09"), created("9"));
    assert_eq!(create(format::TLV, b"\x08").0, code::BAD_REQUEST);
    // Of two instances, a value that is no text, one that is there already.
    for (bad, refused) in [
        (
            &br#"[{"n":"/3303/5/5750","vs":"a"},{"n":"/3303/6/5750","vs":"b"}]"#[..],
            code::BAD_REQUEST,
        ),
        (br#"[{"n":"/3303/5/5750","v":1}]"#, code::BAD_REQUEST),
        (
            br#"[{"n":"/3303/7/5750","vs":"a"}]"#,
            code::METHOD_NOT_ALLOWED,
        ),
    ] {
        assert_eq!(create(format::SENML_JSON, bad).0, refused);
    }
    assert_eq!(create(format::TEXT, b"x").0, code::UNSUPPORTED_FORMAT);
}

#[test]
fn a_new_lifetime_is_told() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    bench.request(code::PUT, "1/0/1", |m| m.payload = b"500".to_vec());
    let update = bench.pass(0.1).remove(0);
    assert_eq!(texts(&update, option::URI_QUERY), ["lt=500"]);
}

fn parse(args: &[&str]) -> Result<Options, clap::Error> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }
    <Line as clap::Parser>::try_parse_from(["x"].iter().chain(args)).map(|line| line.options)
}

#[test]
fn servers_are_resolved() {
    let options = parse(&["--server", "coap://localhost:5", "--objects", "3,3303"]).unwrap();
    assert_eq!(
        (options.address().unwrap().0.port(), options.objects),
        (5, vec![3, 3303])
    );
    let address = |server| {
        let (address, secure) = parse(&["--server", server]).unwrap().address().unwrap();
        (address.port(), secure)
    };
    assert_eq!(address("127.0.0.1"), (5683, false));
    assert_eq!(address("coap://127.0.0.1"), (5683, false));
    assert_eq!(address("coap://[::1]:7"), (7, false));
    assert_eq!(address("coap://[::1]"), (5683, false));
    assert_eq!(address("coaps://127.0.0.1"), (5684, true));
    assert_eq!(address("coaps://[::1]:7/"), (7, true));
    let http = parse(&["--server", "http://127.0.0.1"]).unwrap();
    assert!(matches!(http.address(), Err(Error::Server(_))));
    assert!(parse(&["--objects", "3,99"]).is_err());
    assert!(parse(&["--devices", "0"]).is_err());
}

#[test]
fn devices_have_their_credentials() {
    let endpoints = ["sim-0".to_owned(), "sim-1".to_owned()];
    let identities = |args: &[&str]| {
        let options = parse(args).unwrap();
        let (_, secure) = options.address().unwrap();
        options.security(secure, &endpoints).map(|security| {
            let all = security.map(|security| security.credentials);
            all.map(|all| all.into_iter().map(|own| own.identity).collect::<Vec<_>>())
        })
    };
    let secure = ["--server", "coaps://[::1]", "--psk-key", "00ff"];
    let with = |more: &[&'static str]| [&secure[..], more].concat();
    assert_eq!(identities(&secure).unwrap().unwrap(), endpoints);
    let numbered = identities(&with(&["--psk-identity", "truck#{}"]));
    assert_eq!(numbered.unwrap().unwrap(), ["truck#0", "truck#1"]);
    assert_eq!(identities(&[]).unwrap(), None);
    assert!(matches!(
        identities(&["--psk-key", "00"]),
        Err(Error::NotSecure)
    ));
    assert!(matches!(identities(&secure[..2]), Err(Error::NoKey)));
    assert!(matches!(
        identities(&with(&["--ciphers", "none-such"])),
        Err(Error::Dtls { .. })
    ));
    parse(&with(&["--psk-file", "x"])).unwrap_err();
    parse(&with(&["--cert", "x", "--key", "y"])).unwrap_err();
    parse(&["--cert", "x"]).unwrap_err();
    let certified = [
        "--server",
        "coaps://[::1]",
        "--cert",
        "/none",
        "--key",
        "/none",
    ];
    assert!(matches!(
        identities(&certified),
        Err(Error::Certificate { .. })
    ));
    assert!(matches!(identities(&certified[2..]), Err(Error::NotSecure)));
    parse(&["--psk-key", "0g"]).unwrap_err();
}
