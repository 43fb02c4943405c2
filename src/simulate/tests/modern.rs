//! What devices of 1.1 and later do beside those of 1.0, and the update of their firmware.

use sha2::Digest as _;

use super::super::senml;
use super::*;

fn pack(text: &'static str) -> impl FnOnce(&mut Message) {
    move |m| {
        m.add_uint(option::CONTENT_FORMAT, u32::from(format::SENML_JSON));
        m.payload = text.as_bytes().to_vec();
    }
}

fn accept(form: u16) -> impl FnOnce(&mut Message) {
    move |m| m.add_uint(option::ACCEPT, u32::from(form))
}

fn form_of(message: &Message) -> Option<u32> {
    message.uint(option::CONTENT_FORMAT)
}

#[test]
fn the_root_link_of_each_version() {
    for (version, root) in [
        ("1.0", "</>;rt=\"oma.lwm2m\","),
        ("1.1", "</>;rt=\"oma.lwm2m\";ct=112,"),
        ("1.2", "</>;rt=\"oma.lwm2m\";ct=112,"),
    ] {
        let mut bench = Bench::new(|profile| profile.version = version.to_owned());
        let list = bench.register().payload;
        assert!(list.starts_with(root.as_bytes()), "{version}");
    }
}

#[test]
fn reads_and_writes_in_newer_formats() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let read = bench.request(code::GET, "3/0/9", accept(format::SENML_JSON));
    assert_eq!(form_of(&read), Some(110));
    let records = senml::read(format::SENML_JSON, &read.payload).unwrap();
    assert_eq!(records[0].path.to_string(), "/3/0/9");
    let read = bench.request(code::GET, "3/0", accept(format::SENML_CBOR));
    let records = senml::read(format::SENML_CBOR, &read.payload).unwrap();
    assert!(records.len() > 15 && records.iter().all(|record| record.value.is_some()));
    let read = bench.request(code::GET, "3/0/16", accept(format::CBOR));
    assert_eq!(
        (form_of(&read), &read.payload[..]),
        (Some(60), &b"\x61U"[..])
    );
    let read = bench.request(code::GET, "3/0", accept(format::CBOR));
    assert_eq!(read.code, code::NOT_ACCEPTABLE);

    let write = bench.request(code::PUT, "3/0/15", |m| {
        m.add_uint(option::CONTENT_FORMAT, u32::from(format::CBOR));
        m.payload = b"\x63UTC".to_vec();
    });
    assert_eq!(write.code, code::CHANGED);
    assert_eq!(bench.request(code::GET, "3/0/15", |_| {}).payload, b"UTC");
    let write = r#"[{"bn":"/3/0/","n":"14","vs":"+01:00"},{"n":"15","vs":"x"}]"#;
    let write = bench.request(code::POST, "3/0", pack(write));
    assert_eq!(write.code, code::CHANGED);
    assert_eq!(bench.request(code::GET, "3/0/15", |_| {}).payload, b"x");
    // Outside of what is written, of another type, read-only: nothing of it is taken.
    for (wrong, code) in [
        (
            r#"[{"n":"/3/0/14","vs":"y"},{"n":"/1/0/1","v":7}]"#,
            code::BAD_REQUEST,
        ),
        (
            r#"[{"n":"/3/0/14","vs":"y"},{"n":"/3/0/15","v":7}]"#,
            code::BAD_REQUEST,
        ),
        (
            r#"[{"n":"/3/0/14","vs":"y"},{"n":"/3/0/9","v":7}]"#,
            code::METHOD_NOT_ALLOWED,
        ),
    ] {
        assert_eq!(bench.request(code::POST, "3/0", pack(wrong)).code, code);
    }
    assert_eq!(
        bench.request(code::GET, "3/0/14", |_| {}).payload,
        b"+01:00"
    );
}

#[test]
fn a_device_of_1_0_knows_none_of_it() {
    let mut bench = Bench::new(|profile| profile.version = "1.0".to_owned());
    bench.register();
    for form in [format::CBOR, format::SENML_JSON, format::SENML_CBOR] {
        let read = bench.request(code::GET, "3/0/9", accept(form));
        assert_eq!(read.code, code::NOT_ACCEPTABLE);
    }
    let paths = r#"[{"n":"/3/0/9"}]"#;
    let read = bench.request(code::FETCH, "", pack(paths));
    assert_eq!(read.code, code::METHOD_NOT_ALLOWED);
    let write = bench.request(code::POST, "3/0", pack(r#"[{"n":"/3/0/14","vs":"y"}]"#));
    assert_eq!(write.code, code::UNSUPPORTED_FORMAT);
    bench.with(Device::send_soon);
    assert_eq!(bench.counters.sends, 0);
    assert_eq!(
        bench.request(code::GET, "1/0/23", |_| {}).code,
        code::NOT_FOUND
    );
}

#[test]
fn composites() {
    let mut bench = Bench::new(|profile| profile.lifetime = 100_000);
    bench.register();
    let paths = r#"[{"n":"/3/0/15"},{"n":"/3303/0/5700"},{"n":"/99"}]"#;
    let names = |message: &Message| {
        let records = senml::read(format::SENML_JSON, &message.payload).unwrap();
        let names = records.into_iter().map(|record| record.path.to_string());
        names.collect::<Vec<_>>()
    };
    let read = bench.request(code::FETCH, "", pack(paths));
    assert_eq!(names(&read), ["/3/0/15", "/3303/0/5700"]);
    let write = r#"[{"n":"/3/0/15","vs":"UTC"},{"n":"/1/0/3","v":4}]"#;
    let write = bench.request(code::IPATCH, "", pack(write));
    assert_eq!(write.code, code::CHANGED);
    assert_eq!(bench.request(code::GET, "1/0/3", |_| {}).payload, b"4");

    let observe = |mode: u32| {
        move |m: &mut Message| {
            pack(r#"[{"n":"/3/0/15"},{"n":"/3303/0/5700"}]"#)(m);
            m.add_uint(option::OBSERVE, mode);
        }
    };
    let first = bench.request(code::FETCH, "", observe(0));
    assert_eq!(first.uint(option::OBSERVE), Some(0));
    let sent = bench.pass(10.5);
    assert_eq!(sent.len(), 2);
    assert_eq!(names(&sent[0]), ["/3/0/15", "/3303/0/5700"]);
    // A change of one of them is told at once.
    bench.request(code::PUT, "3/0/15", |m| m.payload = b"CET".to_vec());
    let sent = bench.pass(0.1);
    assert!(String::from_utf8_lossy(&sent[0].payload).contains("CET"));
    let last = bench.request(code::FETCH, "", observe(1));
    assert_eq!(last.uint(option::OBSERVE), None);
    assert_eq!(bench.pass(30.0), []);
}

/// The answer of a server to what a device asks.
fn reply(to: &Message, code: u8, payload: &str) -> Message {
    let mut reply = Message::new(Kind::Acknowledgement, code, to.mid, to.token.clone());
    reply.payload = payload.as_bytes().to_vec();
    reply
}

#[test]
fn sends_by_itself() {
    let mut bench = Bench::new(|profile| {
        profile.lifetime = 100_000;
        profile.send_every = Duration::from_secs(10);
    });
    bench.register();
    let sent = bench.pass(10.0);
    assert_eq!(sent.len(), 1);
    assert_eq!(texts(&sent[0], option::URI_PATH), ["dp"]);
    assert_eq!(form_of(&sent[0]), Some(112));
    let records = senml::read(format::SENML_CBOR, &sent[0].payload).unwrap();
    let measured = records
        .iter()
        .any(|it| it.path.to_string() == "/3303/0/5700");
    assert!(measured, "{records:?}");
    bench.receive(&reply(&sent[0], code::CHANGED, ""));
    assert_eq!(bench.counters.sends, 1);
    // At once, when it is wanted.
    let sent = bench.with(Device::send_soon);
    bench.receive(&reply(&sent[0], code::NOT_FOUND, "no such thing"));
    assert_eq!(bench.said, ["sim-0: send failed: 4.04 no such thing"]);
    assert!(
        bench.device.is_registered(),
        "a Send is not worth a registration"
    );
    let mute = bench.request(code::PUT, "1/0/23", |m| m.payload = b"1".to_vec());
    assert_eq!(mute.code, code::CHANGED);
    assert_eq!(bench.with(Device::send_soon), []);
    assert_eq!(bench.pass(60.0), []);
}

#[test]
fn what_fails_is_tried_later_and_later() {
    let mut bench = Bench::new(|_| {});
    let mut request = bench.with(Device::start).remove(0);
    for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
        bench.said.clear();
        bench.receive(&reply(&request, 0x83, "not for you"));
        let line = "sim-0: registration failed: 4.03 not for you";
        assert_eq!(bench.said, [format!("{line}; registers again in {wait} s")]);
        assert_eq!(bench.pass(f64::from(wait) - 0.1), []);
        request = bench.pass(0.2).remove(0);
        assert_eq!(texts(&request, option::URI_PATH), ["rd"]);
    }
    // A server that says when it wants the next try is heeded.
    let mut later = reply(&request, code::SERVICE_UNAVAILABLE, "");
    later.add_uint(option::MAX_AGE, 1000);
    bench.receive(&later);
    assert_eq!(bench.pass(999.0), []);
    request = bench.pass(1.1).remove(0);
    bench.receive(&reply(&request, code::CREATED, ""));
    assert!(bench.device.is_registered());
    bench.said.clear();
    let update = bench.pass(80.0).remove(0);
    bench.receive(&reply(&update, 0x80, ""));
    assert_eq!(
        bench.said,
        ["sim-0: update failed: 4.00; registers again in 5 s"]
    );
}

/// Pushes an image in blocks of 1024 bytes; the last answer.
fn push(bench: &mut Bench, image: &[u8]) -> Message {
    let count = u32::try_from(image.len().div_ceil(1024)).unwrap();
    let mut last = None;
    for (number, part) in (0..count).zip(image.chunks(1024)) {
        let more = number + 1 < count;
        let block = Block {
            number,
            more,
            exponent: 6,
        };
        let answer = bench.request(code::PUT, "5/0/0", |m| {
            m.add_uint(option::CONTENT_FORMAT, u32::from(format::OCTETS));
            m.add_uint(option::BLOCK1, block.to_uint());
            m.payload = part.to_vec();
        });
        assert!(!more || answer.code == code::CONTINUE, "{answer:?}");
        if more && number == 0 {
            assert_eq!(value(bench, "5/0/3"), "1", "it comes");
        }
        last = Some(answer);
    }
    last.unwrap()
}

fn value(bench: &mut Bench, path: &str) -> String {
    String::from_utf8(bench.request(code::GET, path, |_| {}).payload).unwrap()
}

fn sha256(image: &[u8]) -> String {
    let digest = sha2::Sha256::digest(image);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_firmware_is_pushed_and_installed() {
    let mut bench = Bench::new(|profile| profile.lifetime = 100_000);
    bench.register();
    let states = bench.request(code::GET, "5/0/3", |m| m.add_uint(option::OBSERVE, 0));
    assert_eq!(states.payload, b"0");
    let update = bench.request(code::POST, "5/0/2", |_| {});
    assert_eq!(update.code, code::METHOD_NOT_ALLOWED, "nothing to install");
    assert_eq!(
        bench.request(code::GET, "5/0/0", |_| {}).code,
        code::METHOD_NOT_ALLOWED
    );
    let image: Vec<u8> = (0..100_000_u32)
        .map(|n| n.to_be_bytes()[3] ^ 0x5a)
        .collect();
    assert_eq!(push(&mut bench, &image).code, code::CHANGED);
    assert_eq!(value(&mut bench, "5/0/3"), "2");
    assert_eq!(bench.counters.images, 1);
    let digest = sha256(&image);
    let line = format!("sim-0: firmware of 100000 bytes arrived, SHA-256 {digest}");
    assert_eq!(bench.said, [line]);
    assert_eq!(bench.pass(0.1).last().unwrap().payload, b"2", "it is told");

    let update = bench.request(code::POST, "5/0/2", |_| {});
    assert_eq!(update.code, code::CHANGED);
    assert_eq!(value(&mut bench, "5/0/3"), "3");
    assert_eq!(push_refused(&mut bench), code::METHOD_NOT_ALLOWED);
    let sent = bench.pass(2.5);
    let register = sent.last().unwrap();
    assert_eq!(texts(register, option::URI_PATH), ["rd"], "it starts anew");
    bench.receive(&reply(register, code::CREATED, ""));
    let seen = ["5/0/3", "5/0/5", "3/0/3", "5/0/7"].map(|path| value(&mut bench, path));
    assert_eq!(seen, ["0", "1", &digest[..12], &digest[..12]]);
}

fn push_refused(bench: &mut Bench) -> u8 {
    let answer = bench.request(code::PUT, "5/0/0", |m| {
        m.add_uint(option::CONTENT_FORMAT, u32::from(format::OCTETS));
        m.payload = b"x".to_vec();
    });
    answer.code
}

#[test]
fn a_firmware_that_is_not_the_one() {
    let mut bench = Bench::new(|profile| profile.firmware_sha256 = Some("0".repeat(64)));
    bench.register();
    push(&mut bench, b"other");
    assert_eq!(value(&mut bench, "5/0/3"), "0");
    assert_eq!(value(&mut bench, "5/0/5"), "5", "its integrity failed");
    assert!(bench.said[0].contains("refused"), "{:?}", bench.said);
    // An empty one takes back what was there.
    let mut bench = Bench::new(|_| {});
    bench.register();
    push(&mut bench, b"image");
    assert_eq!(value(&mut bench, "5/0/3"), "2");
    bench.request(code::PUT, "5/0/0", |m| {
        m.add_uint(option::CONTENT_FORMAT, u32::from(format::OCTETS));
    });
    assert_eq!(value(&mut bench, "5/0/3"), "0");
    let large = bench.request(code::PUT, "5/0/0", |m| {
        m.add_uint(option::BLOCK1, 0x0e);
        m.add_uint(option::SIZE1, 1 << 30);
        m.payload = vec![0; 1024];
    });
    assert_eq!(large.code, code::TOO_LARGE);
    assert_eq!(value(&mut bench, "5/0/5"), "2", "not enough storage");
}

#[test]
fn a_firmware_is_pulled() {
    let mut bench = Bench::new(|_| {});
    bench.register();
    let uri = |uri: &'static str| move |m: &mut Message| m.payload = uri.as_bytes().to_vec();
    for (wrong, result) in [("https://host/image", "9"), ("image", "7")] {
        bench.request(code::PUT, "5/0/1", uri(wrong));
        assert_eq!(value(&mut bench, "5/0/5"), result, "{wrong}");
        assert_eq!(bench.wanted, None);
    }
    bench.request(code::PUT, "5/0/1", uri("coap://host/image"));
    assert_eq!(bench.wanted.take().as_deref(), Some("coap://host/image"));
    assert_eq!(value(&mut bench, "5/0/3"), "1");
    assert_eq!(push_refused(&mut bench), code::METHOD_NOT_ALLOWED);
    bench.with(|device, ctx| device.on_download(ctx, Err(download::Failure::Silence)));
    assert_eq!(value(&mut bench, "5/0/3"), "0");
    assert_eq!(value(&mut bench, "5/0/5"), "4", "the connection was lost");
    assert_eq!(bench.said, ["sim-0: cannot fetch the firmware: no answer"]);
    bench.request(code::PUT, "5/0/1", uri("coap://host/image"));
    bench.with(|device, ctx| device.on_download(ctx, Ok(b"image".to_vec())));
    assert_eq!(value(&mut bench, "5/0/3"), "2");
    assert!(
        bench.said[1].contains(&sha256(b"image")),
        "{:?}",
        bench.said
    );
}
