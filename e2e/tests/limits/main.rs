//! What clients are held to, by the handshake, by their address, by their user, and each by itself; and whose address
//! is believed.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::net::{IpAddr, SocketAddr};

use wsgateway_e2e::{
    frame::{CLOSE, Frame},
    gateway::Gateway,
    http::Response,
    nats::NatsServer,
    socket::{Endpoint, RawSocket, Received},
    wait::SOON,
};

mod address;
mod admission;
mod rate;
mod reload;

const ROUTES: &str = "
routes:
  - {name: ws, path: /ws, fromClient: {type: Echo}}
  - {name: sink, path: /sink, fromClient: {type: Discard}}
";

fn start(limits: &str) -> (NatsServer, Gateway) {
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), &live(limits));
    (nats, gateway)
}

/// The part `live` with these lines.
fn live(lines: &str) -> String {
    format!("{lines}{ROUTES}")
}

/// A client of this machine: 127.0.1.N.
fn client(number: u8) -> Endpoint {
    Endpoint {
        address: Some(IpAddr::from([127, 0, 1, number])),
        ..Endpoint::default()
    }
}

/// A connection of a client, and what its handshake was answered.
fn shake(to: SocketAddr, from: Endpoint, headers: &str) -> (RawSocket, Response) {
    let mut socket = RawSocket::connect_from(from, to);
    let answer = socket.upgrade("/ws", headers);
    (socket, answer)
}

/// A connection that is let in.
fn open(to: SocketAddr, from: Endpoint, headers: &str) -> RawSocket {
    let (socket, answer) = shake(to, from, headers);
    assert_eq!(answer.status, 101, "{answer:?}");
    socket
}

/// The answer to a handshake that is refused with 429 for this reason.
fn refused(to: SocketAddr, from: Endpoint, headers: &str, reason: &str) -> Response {
    let (_, answer) = shake(to, from, headers);
    let said = (answer.status, answer.header("wsgateway-reason"));
    assert_eq!(said, (429, Some(reason)), "{answer:?}");
    assert!(retry_after(&answer) >= 1, "{answer:?}");
    answer
}

fn retry_after(answer: &Response) -> u64 {
    let value = answer.header("retry-after").expect("Retry-After");
    value.parse().expect("seconds")
}

fn refusals(gateway: &Gateway, reason: &str) -> f64 {
    let labels = &[("reason", reason)];
    gateway
        .metrics()
        .sum("wsgateway_handshakes_refused_total", labels)
}

fn echoes(socket: &mut RawSocket) {
    socket.send_frame(&Frame::text("still here"));
    assert_eq!(socket.message(SOON), "still here");
}

/// The code and the reason that a connection is closed with.
fn closed(socket: &mut RawSocket) -> (Option<u16>, String) {
    loop {
        match socket.receive(SOON) {
            Received::Frame(frame) if frame.opcode == CLOSE => {
                let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
                return (frame.close_code(), reason);
            }
            Received::Frame(_) => {}
            other => panic!("no close frame came, but {other:?}"),
        }
    }
}
