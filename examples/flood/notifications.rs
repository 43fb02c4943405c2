//! A registered device that notifies as fast as it can.

use std::net::UdpSocket;
use std::time::Duration;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};

use crate::datagrams::{receive, socket};
use crate::{Options, Run};

/// Registers a device; its socket.
pub(crate) fn registered(options: &Options, endpoint: &str) -> UdpSocket {
    let socket = socket(options);
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a socket");
    let register = Builder::new(MessageType::Confirmable, Code::POST, 1, &[1])
        .option(option::URI_PATH, *b"rd")
        .uint(option::CONTENT_FORMAT, 40)
        .option(option::URI_QUERY, format!("ep={endpoint}"))
        .option(option::URI_QUERY, *b"lt=300")
        .option(option::URI_QUERY, *b"lwm2m=1.1")
        .payload(*b"</3/0>,</5/0>,</3303/0>")
        .build();
    let mut buffer = [0; 2048];
    for _ in 0..5 {
        socket.send(&register).expect("the gateway is there");
        if let Ok(length) = socket.recv(&mut buffer) {
            assert_eq!(buffer[1], Code::CREATED.0, "{:?}", &buffer[..length]);
            return socket;
        }
    }
    panic!("no answer to the Register of {endpoint}");
}

/// Registers, waits to be observed, and notifies.
pub(crate) fn run((options, pace, counts): Run<'_>) {
    let socket = registered(options, &options.name);
    println!("registered");
    let mut buffer = [0; 2048];
    let token = loop {
        assert!(!pace.is_over(), "nobody observes {}", options.name);
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let Ok(message) = Message::parse(&buffer[..length]) else {
            continue;
        };
        if message.observe() == Some(0) {
            let token = message.token().to_vec();
            let answer = content(MessageType::Acknowledgement, message.mid(), &token, 1);
            socket.send(&answer).expect("the gateway is there");
            break token;
        }
    };
    while let Some((first, number)) = pace.next(64) {
        for index in first..first + number {
            let mid = index as u16;
            let notification = content(MessageType::NonConfirmable, mid, &token, 2 + index as u32);
            match socket.send(&notification) {
                Ok(length) => counts.sent(1, length),
                Err(_) => counts.failed(),
            }
        }
        receive(&socket, counts);
    }
}

fn content(kind: MessageType, mid: u16, token: &[u8], sequence: u32) -> Vec<u8> {
    Builder::new(kind, Code::CONTENT, mid, token)
        .uint(option::OBSERVE, sequence & 0xff_ffff)
        .uint(option::CONTENT_FORMAT, 0)
        .payload(format!("{}.5", sequence % 100))
        .build()
}
