//! Transfers in blocks that never end, in both roles.

use std::thread;
use std::time::Duration;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};

use crate::Run;
use crate::datagrams::socket;
use crate::notifications::registered;

/// More blocks follow, of 1,024 bytes.
const MORE: u32 = 0x0e;

/// A device that answers every request by a first block of which more follow, whatever was asked
/// for (zephyr#66607).
pub(crate) fn answers((options, pace, counts): Run<'_>) {
    let socket = registered(options, &options.name);
    println!("registered");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a socket");
    let mut buffer = [0; 2048];
    while !pace.is_over() {
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        counts.received(length);
        let Ok(request) = Message::parse(&buffer[..length]) else {
            continue;
        };
        if !request.code().is_request() {
            continue;
        }
        if pace.next(1).is_none() {
            break;
        }
        let kind = MessageType::Acknowledgement;
        let answer = Builder::new(kind, Code::CONTENT, request.mid(), request.token())
            .uint(option::CONTENT_FORMAT, 0)
            .uint(option::BLOCK2, MORE)
            .payload(vec![b'x'; 1024])
            .build();
        match socket.send(&answer) {
            Ok(length) => counts.sent(1, length),
            Err(_) => counts.failed(),
        }
    }
}

/// Registers whose blocks go on and on, one transfer a thread.
pub(crate) fn bodies((options, pace, counts): Run<'_>) {
    thread::scope(|scope| {
        for transfer in 0..options.sockets {
            scope.spawn(move || {
                let socket = socket(options);
                socket
                    .set_read_timeout(Some(Duration::from_millis(100)))
                    .expect("a socket");
                let mut buffer = [0; 2048];
                let mut number = 0;
                while let Some((index, _)) = pace.next(1) {
                    let block = Builder::new(
                        MessageType::Confirmable,
                        Code::POST,
                        index as u16,
                        &index.to_be_bytes(),
                    )
                    .option(option::URI_PATH, *b"rd")
                    .uint(option::CONTENT_FORMAT, 40)
                    .option(option::URI_QUERY, format!("ep={}-{transfer}", options.name))
                    .option(option::URI_QUERY, *b"lt=30")
                    .uint(option::BLOCK1, number << 4 | MORE)
                    .payload(b"</1>;a=1,".repeat(114)[..1024].to_vec())
                    .build();
                    match socket.send(&block) {
                        Ok(length) => counts.sent(1, length),
                        Err(_) => counts.failed(),
                    }
                    // The next one in any case: what was refused begins anew.
                    number = match socket.recv(&mut buffer) {
                        Ok(length) => {
                            counts.received(length);
                            if buffer[1] == Code::CONTINUE.0 {
                                number + 1
                            } else {
                                0
                            }
                        }
                        Err(_) => number,
                    };
                }
            });
        }
    });
}
