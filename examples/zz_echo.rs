use lwm2m_gateway::{credentials::Key, dtls::*, telemetry::Counters, time::Instant};
use std::{
    net::UdpSocket,
    sync::Arc,
    time::{Duration, Instant as Clock},
};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let socket = UdpSocket::bind(&args[1]).unwrap();
    let key: Vec<u8> = (0..args[2].len() / 2)
        .map(|i| u8::from_str_radix(&args[2][2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let mut o = Options::default();
    if let Some(s) = args.get(3) {
        o.suites = s.split(':').map(|s| s.parse().unwrap()).collect();
    }
    let counters = Arc::new(Counters::default());
    let mut server = Server::new(
        Arc::new(Context::new(&o).unwrap()),
        [3; 32],
        Arc::clone(&counters),
    );
    let start = Clock::now();
    let now = || Instant::ZERO + start.elapsed();
    let mut buf = vec![0; 65536];
    let mut wait = None::<Instant>;
    loop {
        let d = wait
            .map_or(Duration::from_secs(1), |w| w - now())
            .max(Duration::from_millis(1))
            .min(Duration::from_secs(1));
        socket.set_read_timeout(Some(d)).unwrap();
        match socket.recv_from(&mut buf) {
            Ok((n, from)) => server.handle_datagram(now(), from, &buf[..n]),
            Err(_) => server.handle_timeout(now()),
        }
        loop {
            match server.poll_output() {
                Output::Transmit { to, datagram } => {
                    let _ = socket.send_to(&datagram, to);
                }
                Output::CredentialWanted {
                    ticket, identity, ..
                } => {
                    let k = identity
                        .as_bytes()
                        .starts_with(b"device")
                        .then(|| Key::new(key.clone()));
                    server.handle_credential(now(), ticket, k);
                }
                Output::Received { from, payload } => {
                    println!("received {} bytes", payload.len());
                    // CoAP: answer any request with 2.05 "hello".
                    if payload.len() >= 4
                        && payload[0] >> 6 == 1
                        && payload[1] != 0
                        && payload[1] < 8
                    {
                        let tkl = (payload[0] & 15) as usize;
                        let ty = if payload[0] & 0x30 == 0 { 0x60 } else { 0x50 };
                        let mut a = vec![ty | tkl as u8, 0x45, payload[2], payload[3]];
                        a.extend(&payload[4..4 + tkl]);
                        a.extend(b"\xffhello");
                        let _ = server.send(now(), from, &a);
                    } else {
                        let _ = server.send(now(), from, &payload);
                    }
                }
                Output::Idle(w) => {
                    wait = w;
                    break;
                }
                other => println!("{other:?}"),
            }
        }
    }
}
