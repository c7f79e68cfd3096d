//! permessage-deflate, RFC 7692, on the wire and with clients that people use.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use wsgateway_e2e::{
    frame::{Frame, PING, TEXT},
    gateway::Gateway,
    nats::NatsServer,
    needs,
    process::{Process, command},
    program::Program,
    row::row,
    socket::RawSocket,
    wait::{SOON, until_true},
    wscat::Wscat,
};

const LIVE: &str = "
websocket: {compression: {mode: Shared}}
routes:
  - {name: echo, path: /echo, fromClient: {type: Echo}}
  - {name: small, path: /small, fromClient: {type: Echo}, maxMessageSize: 4}
  - {name: never, path: /never, fromClient: {type: Echo}, compression: {mode: Disabled}}
  - name: news
    path: /news
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, subjects: [news]}]
";

const EXTENSIONS: &str = "sec-websocket-extensions";
const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// RSV1, as `Frame` counts the reserved bits.
const COMPRESSED: u8 = 4;

/// `Hello` as RFC 7692 section 7.2.3.1 compresses it.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn start() -> (NatsServer, Gateway) {
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    (nats, gateway)
}

/// A client that offers this, and what it is answered.
fn offer(gateway: &Gateway, path: &str, offer: &str) -> (RawSocket, Option<String>) {
    let mut socket = RawSocket::connect(gateway.address());
    let answer = socket.upgrade(path, &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    assert_eq!(answer.status, 101, "{answer:?}");
    let accepted = answer.header(EXTENSIONS).map(str::to_owned);
    (socket, accepted)
}

fn open(gateway: &Gateway, path: &str) -> RawSocket {
    let (socket, accepted) = offer(gateway, path, "permessage-deflate; client_max_window_bits");
    assert_eq!(accepted.as_deref(), Some(ACCEPTED));
    socket
}

fn hello() -> Frame {
    Frame::new(TEXT, HELLO).reserved(COMPRESSED)
}

#[test]
fn a_message_is_compressed_once_for_all_clients_of_a_window_size() {
    needs!(NatsServer);
    let (nats, gateway) = start();
    let small = "permessage-deflate; server_max_window_bits=9";
    let mut plain = RawSocket::open(gateway.address(), "/news");
    let mut large = [(); 6].map(|()| open(&gateway, "/news"));
    let mut small = [(); 6].map(|()| {
        let (socket, accepted) = offer(&gateway, "/news", small);
        assert_eq!(
            accepted,
            Some(format!("{ACCEPTED}; server_max_window_bits=9"))
        );
        socket
    });
    let news = "{\"event\": \"paid\"} ".repeat(100);
    let client = nats.client();
    client.publish("news", &news);
    client.publish("news", "short");
    for sockets in [&mut large, &mut small] {
        let frames = sockets.each_mut().map(|socket| socket.frame(SOON));
        assert_eq!((frames[0].reserved, frames[0].opcode), (COMPRESSED, TEXT));
        assert!(frames[0].payload.len() < news.len() / 2);
        assert!(frames.iter().all(|frame| *frame == frames[0]));
        assert!(
            sockets
                .iter_mut()
                .all(|socket| socket.message(SOON) == "short")
        );
    }
    assert_eq!(plain.message(SOON), news);
    assert_eq!(plain.message(SOON), "short");
    let once_for_each_size = 2.0 * news.len() as f64;
    gateway.await_metric(
        "wsgateway_deflate_input_bytes_total",
        &[],
        once_for_each_size,
    );
}

#[test]
fn rsv1_is_heeded_where_it_was_agreed_on_and_nowhere_else() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let agreed = || open(&gateway, "/echo");
    let broken = || Frame::new(TEXT, [0x06]).reserved(COMPRESSED);
    let wrong_text = || Frame::new(TEXT, [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00]);
    let part = || {
        Frame::new(TEXT, &HELLO[..3])
            .unfinished()
            .reserved(COMPRESSED)
    };
    for (what, mut socket, frames) in [
        ("whole", agreed(), vec![hello()]),
        ("in parts", agreed(), vec![part(), Frame::more(&HELLO[3..])]),
    ] {
        row(what, || {
            for frame in frames {
                socket.send_frame(&frame);
            }
            // It goes back as it came, however short it is.
            assert_eq!(socket.frame(SOON), hello().unmasked());
            socket.send_frame(&Frame::text("plain"));
            assert_eq!(socket.message(SOON), "plain");
        });
    }
    #[rustfmt::skip] // A row a line.
    let wrong = [
        ("never offered", RawSocket::open(gateway.address(), "/echo"), vec![hello()], 1002),
        ("on a continuation", agreed(), vec![Frame::text("a").unfinished(), Frame::more("b").reserved(COMPRESSED)], 1002),
        ("on a ping", agreed(), vec![Frame::new(PING, "").reserved(COMPRESSED)], 1002),
        ("with RSV2", agreed(), vec![hello().reserved(6)], 1002),
        ("not deflate data", agreed(), vec![broken()], 1007),
        ("not UTF-8", agreed(), vec![wrong_text().reserved(COMPRESSED)], 1007),
        ("over the limit once inflated", open(&gateway, "/small"), vec![hello()], 1009),
    ];
    for (what, mut socket, frames, code) in wrong {
        row(what, || {
            for frame in frames {
                socket.send_frame(&frame);
            }
            assert_eq!(socket.closed(SOON), Some(code));
        });
    }
    let errors = "wsgateway_inflate_errors_total";
    gateway.await_metric(errors, &[("reason", "Invalid")], 1.0);
    gateway.await_metric(errors, &[("reason", "TooBig")], 1.0);
}

#[test]
fn offers_are_answered_by_the_route() {
    needs!(NatsServer);
    let (_nats, mut gateway) = start();
    let (_, accepted) = offer(&gateway, "/never", "permessage-deflate");
    assert_eq!(accepted, None);
    let (_, accepted) = offer(&gateway, "/echo", "permessage-deflate; unknown, other");
    assert_eq!(accepted, None);
    let malformed = RawSocket::connect(gateway.address()).upgrade(
        "/echo",
        "Sec-WebSocket-Extensions: permessage-deflate; =\r\n",
    );
    assert_eq!(malformed.status, 400);

    // A reload does not take compression back from who has it, but nothing more is compressed.
    let mut earlier = open(&gateway, "/echo");
    let text = "long ".repeat(100);
    earlier.send_frame(&Frame::text(text.as_str()));
    assert_eq!(earlier.frame(SOON).reserved, COMPRESSED);
    gateway.reload(&LIVE.replace("Shared", "Disabled"));
    until_true("new clients are not offered it", SOON, || {
        offer(&gateway, "/echo", "permessage-deflate").1.is_none()
    });
    earlier.send_frame(&Frame::text(text.as_str()));
    assert_eq!(earlier.message(SOON), text);
    earlier.send_frame(&hello());
    assert_eq!(earlier.message(SOON), "Hello");
}

#[test]
fn wscat_speaks_it() {
    needs!(NatsServer, Wscat);
    let (nats, gateway) = start();
    let mut wscat = Wscat::connect(&format!("ws://{}/news", gateway.address()), &[]);
    let text = "a message of some length ".repeat(60);
    let text = text.trim_end();
    nats.client().publish("news", text);
    wscat.hears(text, SOON);
    let bytes = text.len() as f64;
    gateway.await_metric("wsgateway_deflate_input_bytes_total", &[], bytes);
    // It compresses what is longer than 1024 bytes.
    wscat.say(text);
    wscat.hears(text, SOON);
    gateway.await_metric("wsgateway_inflate_output_bytes_total", &[], bytes);
    gateway.await_metric("wsgateway_deflate_input_bytes_total", &[], 2.0 * bytes);
}

#[test]
fn pythons_websockets_speaks_it() {
    const CLIENT: &str = "
import sys
from websockets.sync.client import connect
with connect(sys.argv[1]) as socket:
    for text in ['short', 'a message of some length ' * 60, 'x' * 60000] * 2:
        socket.send(text)
        assert socket.recv() == text
    print(socket.response.headers['Sec-WebSocket-Extensions'])
";
    needs!(NatsServer, PythonWebsockets);
    let (_nats, gateway) = start();
    let url = format!("ws://{}/echo", gateway.address());
    let mut client = Process::start(
        "python-websockets",
        command(Program::PythonWebsockets.expect()).args(["-c", CLIENT, &url]),
    );
    client.line(ACCEPTED, SOON);
    // It compresses each message, short ones too.
    let bytes = 2.0 * (5.0 + 60.0 * 25.0 + 60_000.0);
    gateway.await_metric("wsgateway_inflate_output_bytes_total", &[], bytes);
    gateway.await_metric("wsgateway_deflate_input_bytes_total", &[], bytes);
}
