//! Codecs alone: CoAP messages, TLV, the JSON of notifications and commands.

#![allow(clippy::unwrap_used, missing_docs)] // what is measured must not fail quietly

#[path = "support/cpu_time.rs"]
mod cpu_time;
mod support;

use std::hint::black_box;
use std::time::Duration;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use lwm2m_gateway::bridge::content::{self, Context};
use lwm2m_gateway::bridge::uplink::{self, Answer, Ids};
use lwm2m_gateway::bridge::{Dialect, ReqPath, command};
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::Compat;
use lwm2m_gateway::lwm2m::Path;
use lwm2m_gateway::lwm2m::codec::{ContentFormat, DecodeOptions, decode};
use lwm2m_gateway::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use support::{DEVICE_TLV, Fleet};

const OBSERVE: &[u8] = br#"{"reqID":1,"msgType":"observe","data":{"path":"/3/0/9"}}"#;
const OPTIONS: command::Options = command::Options {
    max_size: 1 << 16,
    check_arguments: true,
};

fn notification() -> Vec<u8> {
    Builder::new(MessageType::NonConfirmable, Code::CONTENT, 1, &[7; 8])
        .uint(option::OBSERVE, 0x01_0000)
        .uint(option::CONTENT_FORMAT, 11542)
        .payload([0xc1, 0x09, 0x64])
        .build()
}

fn coap(c: &mut Criterion<CpuTime>) {
    let mut fleet = Fleet::new();
    fleet.add(0);
    let register = fleet.register_datagram(0);
    let notification = notification();
    c.bench_function("coap/parse/register", |b| {
        b.iter(|| Message::parse(black_box(&register)).unwrap().code());
    });
    c.bench_function("coap/parse/notification", |b| {
        b.iter(|| Message::parse(black_box(&notification)).unwrap().code());
    });
    c.bench_function("coap/build/read", |b| {
        b.iter(|| {
            Builder::new(MessageType::Confirmable, Code::GET, 1, black_box(&[7; 8]))
                .option(option::URI_PATH, *b"3")
                .option(option::URI_PATH, *b"0")
                .option(option::URI_PATH, *b"9")
                .build()
        });
    });
}

fn tlv(c: &mut Criterion<CpuTime>) {
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_1);
    let options = DecodeOptions::default();
    let path: Path = "/3/0".parse().unwrap();
    let mut records = Vec::new();
    c.bench_function("tlv/decode/3-0", |b| {
        b.iter(|| {
            records.clear();
            let format = Some(ContentFormat::TLV);
            decode(
                format,
                &path,
                black_box(DEVICE_TLV),
                &schema,
                &options,
                &mut records,
            )
            .unwrap();
            records.len()
        });
    });
}

fn json(c: &mut Criterion<CpuTime>) {
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_1);
    let compat = Compat::default();
    let command = command::parse(OBSERVE, Dialect::Current, &OPTIONS).unwrap();
    for (name, path, payload) in [
        ("json/notify/resource", "/3/0/9", &[0xc1, 0x09, 0x64][..]),
        ("json/notify/instance", "/3/0", DEVICE_TLV),
    ] {
        let numeric: Path = path.parse().unwrap();
        let context = Context {
            path: Some(&numeric),
            schema: &schema,
            alternate_path: "/",
            compat: &compat,
            now: Some(1.7e9),
        };
        let answer = Answer {
            code: Code::CONTENT.0,
            observe: Some(5),
            content_format: Some(11542),
            payload,
        };
        let req_path = ReqPath::One(path.to_owned());
        c.bench_function(name, |b| {
            b.iter(|| {
                let ids = Ids::default();
                let answer = black_box(&answer);
                let body = content::read(command.echo.kind(), answer, &context);
                uplink::notify(
                    &command.echo,
                    &ids,
                    Some(&req_path),
                    Some(5),
                    answer,
                    &body,
                    &context,
                )
            });
        });
    }
    c.bench_function("json/parse/command", |b| {
        b.iter(|| command::parse(black_box(OBSERVE), Dialect::Current, &OPTIONS).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = coap, tlv, json
}
criterion_main!(benches);
