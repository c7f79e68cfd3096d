//! The raw wire (RFC 6455): what the gateway answers to bytes that no client should send, and to
//! rare ones that every client may.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wsgateway_e2e::{
    frame::{BINARY, CLOSE, CONTINUATION, Frame, Length, PING, PONG, TEXT},
    gateway::Gateway,
    nats::NatsServer,
    needs,
    resources::{descriptors, resident_bytes},
    row::row,
    socket::{ACCEPT, Endpoint, KEY, RawSocket, Received, request},
    wait::{SOON, pause, until_true},
};

/// The limit of `/ws`, as the seed has it.
const LIMIT: usize = 64 << 10;

const LIVE: &str = r#"
websocket: {handshakeTimeout: 1s, allowedOrigins: ["https://*.example.com", SameHost]}
routes:
  - {name: ws, path: /ws, fromClient: {type: Echo}}
  - {name: room, path: "/rooms/{room}", fromClient: {type: Discard}}
"#;

fn start() -> (NatsServer, Gateway) {
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    (nats, gateway)
}

#[test]
fn a_wrong_handshake_is_refused_with_the_status_that_says_why() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let good = request("/ws", "");
    let with = |header: &str| request("/ws", &format!("{header}\r\n"));
    let path = |path: &str| request(path, "");
    let instead = |old: &str, new: &str| good.replace(old, new);
    let without = |header: &str| {
        let lines = good.split_inclusive("\r\n");
        lines
            .filter(|line| !line.starts_with(header))
            .collect::<String>()
    };
    #[rustfmt::skip] // A row a line.
    let table: [(&str, String, &[u16]); 28] = [
        ("POST", instead("GET", "POST"), &[405]),
        ("HEAD", instead("GET", "HEAD"), &[405]),
        ("HTTP/1.0", instead("HTTP/1.1", "HTTP/1.0"), &[400, 426]),
        ("no HTTP", "hello\r\n\r\n".to_owned(), &[400]),
        ("version 8", instead("Version: 13", "Version: 8"), &[426]),
        ("no version", without("Sec-WebSocket-Version"), &[426]),
        ("no key", without("Sec-WebSocket-Key"), &[400]),
        ("two keys", with(&format!("Sec-WebSocket-Key: {KEY}")), &[400]),
        ("a key of 12 bytes", instead(KEY, "AAAAAAAAAAAAAAAA"), &[400]),
        ("a key that is not base64", instead(KEY, "!!!!!!!!!!!!!!!!!!!!!!=="), &[400]),
        ("no Upgrade", without("Upgrade"), &[426]),
        ("another Upgrade", instead("Upgrade: websocket", "Upgrade: h2c"), &[426]),
        ("no Connection", without("Connection"), &[426]),
        ("Connection: close", instead("Connection: Upgrade", "Connection: close"), &[426]),
        ("an unknown path", path("/nothing"), &[404]),
        ("a path below", path("/ws/below"), &[404]),
        ("a path above", path("/rooms"), &[404]),
        ("another case", path("/WS"), &[404]),
        ("an empty parameter", path("/rooms/"), &[400, 404]),
        ("a foreign protocol", with("Sec-WebSocket-Protocol: mqtt"), &[400]),
        ("foreign protocols", with("Sec-WebSocket-Protocol: mqtt, stomp"), &[400]),
        ("a foreign origin", with("Origin: https://evil.test"), &[403]),
        ("an origin alike", with("Origin: https://a.example.com.evil.test"), &[403]),
        ("another one alike", with("Origin: https://aexample.com"), &[403]),
        ("no subdomain", with("Origin: https://example.com"), &[403]),
        ("another scheme", with("Origin: http://a.example.com"), &[403]),
        ("another port", with("Origin: https://a.example.com:8443"), &[403]),
        ("a sandboxed page", with("Origin: null"), &[403]),
    ];
    for (what, sent, statuses) in table {
        row(what, || {
            let mut socket = RawSocket::connect(gateway.address());
            socket.send(sent);
            let answer = socket
                .head(SOON)
                .expect("it should be answered, not dropped");
            assert!(statuses.contains(&answer.status), "{answer:?}");
            match answer.status {
                405 => assert_eq!(answer.header("allow"), Some("GET")),
                426 if what.contains("version") => {
                    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
                }
                426 => assert_eq!(answer.header("upgrade"), Some("websocket")),
                _ => {}
            }
        });
    }
}

#[test]
fn a_request_head_without_end_is_not_kept() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let before = resident_bytes(gateway.pid());
    let mut socket = RawSocket::connect(gateway.address());
    let header = format!("X-Large: {}\r\n", "x".repeat(1 << 20));
    // The gateway may answer and close long before it has all been sent.
    let taken = (0..100)
        .take_while(|_| socket.try_send(request("/ws", &header)).is_ok())
        .count();
    if let Some(answer) = socket.head(SOON) {
        assert!([400, 431].contains(&answer.status), "{answer:?}");
    }
    assert!(taken < 100, "it has read 100 MiB of one request");
    assert!(resident_bytes(gateway.pid()) < before + (4 << 20));
}

#[test]
fn every_right_form_of_the_handshake_is_taken() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let good = request("/ws", "");
    let with = |header: &str| request("/ws", &format!("{header}\r\n"));
    let instead = |old: &str, new: &str| good.replace(old, new);
    let lower = good
        .to_lowercase()
        .replace("get ", "GET ")
        .replace("http/", "HTTP/");
    let lower = lower.replace(&KEY.to_lowercase(), KEY);
    let upper = good
        .replace("websocket", "WEBSOCKET")
        .replace(": Upgrade", ": UPGRADE");
    let firefox = instead("Connection: Upgrade", "Connection: keep-alive, Upgrade");
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let plain = Some("wsgateway.plain");
    #[rustfmt::skip] // A row a line.
    let table = [
        ("as the standard shows it", good.clone(), None),
        ("lower case", lower, None),
        ("upper case", upper, None),
        ("as Firefox says it", firefox, None),
        ("a query", request("/ws?token=1&x=%20", ""), None),
        ("a trailing slash", request("/ws/", ""), None),
        ("an allowed origin", with("Origin: https://a.example.com"), None),
        ("an allowed origin below", with("Origin: https://b.a.example.com"), None),
        ("the same host", with("Origin: http://localhost"), None),
        ("an extension that is not there", with(deflate), None),
        ("the plain protocol", with("Sec-WebSocket-Protocol: wsgateway.plain"), plain),
        ("one of several", with("Sec-WebSocket-Protocol: mqtt, wsgateway.plain"), plain),
    ];
    for (what, sent, protocol) in table {
        row(what, || {
            let mut socket = RawSocket::connect(gateway.address());
            socket.send(sent);
            let answer = socket.head(SOON).expect("it should be answered");
            assert_eq!(answer.status, 101, "{answer:?}");
            assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
            assert_eq!(answer.header("sec-websocket-protocol"), protocol);
            assert_eq!(
                answer.header("sec-websocket-extensions"),
                None,
                "there is none yet"
            );
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            socket.send_frame(&Frame::text("hello"));
            assert_eq!(socket.message(SOON), "hello");
        });
    }
}

#[test]
fn a_frame_sent_together_with_the_handshake_is_not_lost() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let mut socket = RawSocket::connect(gateway.address());
    socket.send(
        [
            request("/ws", "").as_bytes(),
            &Frame::text("eager").encode(),
        ]
        .concat(),
    );
    assert_eq!(socket.head(SOON).unwrap().status, 101);
    assert_eq!(socket.message(SOON), "eager");
}

#[test]
fn a_malformed_frame_closes_with_1002() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let mut table: Vec<(String, Vec<Frame>)> = Vec::new();
    let mut add = |what: &str, frames: &[Frame]| table.push((what.to_owned(), frames.to_vec()));
    for bits in 1..=7 {
        add(
            &format!("reserved bits {bits:03b}"),
            &[Frame::text("x").reserved(bits)],
        );
    }
    add(
        "a reserved bit on a ping",
        &[Frame::new(PING, "").reserved(4)],
    );
    let parts = [Frame::text("x").unfinished(), Frame::more("x").reserved(4)];
    add("a reserved bit on a continuation", &parts);
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        add(&format!("opcode {opcode:#x}"), &[Frame::new(opcode, "")]);
    }
    for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
        add(
            &format!("opcode {opcode:#x} unmasked"),
            &[Frame::new(opcode, "xx").unmasked()],
        );
    }
    for opcode in [PING, PONG] {
        add(
            &format!("opcode {opcode:#x} of 126 bytes"),
            &[Frame::new(opcode, [b'x'; 126])],
        );
        add(
            &format!("opcode {opcode:#x} in parts"),
            &[Frame::new(opcode, "x").unfinished()],
        );
    }
    add(
        "a close of 126 bytes",
        &[Frame::close(1000, &"x".repeat(124))],
    );
    add("a close in parts", &[Frame::close(1000, "").unfinished()]);
    add("a close of one byte", &[Frame::new(CLOSE, [3])]);
    add("a continuation of nothing", &[Frame::more("x")]);
    add(
        "an unfinished continuation of nothing",
        &[Frame::more("x").unfinished()],
    );
    add(
        "a continuation of a whole message",
        &[Frame::text("x"), Frame::more("x")],
    );
    for next in [Frame::text("y"), Frame::binary("y")] {
        let what = format!("opcode {:#x} in the middle of a message", next.opcode);
        add(&what, &[Frame::text("x").unfinished(), next]);
    }
    let lengths = [
        (5, Length::In16Bits),
        (5, Length::In64Bits),
        (126, Length::In64Bits),
    ];
    for (bytes, length) in lengths.into_iter().chain([(65_535, Length::In64Bits)]) {
        let frame = Frame::text(vec![b'x'; bytes]).length(length);
        add(&format!("{bytes} bytes, their length {length:?}"), &[frame]);
    }
    let top_bit = Frame::text("x").length(Length::Claimed(1 << 63));
    add("a length with the top bit set", &[top_bit]);
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        add(&format!("the close code {code}"), &[Frame::close(code, "")]);
    }
    for (what, frames) in &table {
        row(what, || {
            assert_eq!(closed_after(&gateway, frames), Some(1002));
        });
    }
}

#[test]
fn text_that_is_not_utf8_closes_with_1007_as_soon_as_that_is_certain() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let whole = |bytes: &[u8]| vec![Frame::text(bytes)];
    let parts =
        |first: &[u8], last: &[u8]| vec![Frame::text(first).unfinished(), Frame::more(last)];
    // These are never finished: nobody need wait for the end to know.
    let begun = |first: &[u8]| vec![Frame::text(first).unfinished()];
    let begun_in_two = |first: &[u8], second: &[u8]| {
        vec![
            Frame::text(first).unfinished(),
            Frame::more(second).unfinished(),
        ]
    };
    let reason = Frame::new(CLOSE, b"\x03\xE8bad\xFF");
    #[rustfmt::skip] // A row a line.
    let table = [
        ("a byte that never occurs", whole(b"\xFF")),
        ("a continuation byte alone", whole(b"a\x80")),
        ("two bytes for one", whole(b"\xC0\xAF")),
        ("three bytes for two", whole(b"\xE0\x80\xAF")),
        ("a surrogate", whole(b"\xED\xA0\x80")),
        ("above U+10FFFF", whole(b"\xF4\x90\x80\x80")),
        ("a character cut off at the end", whole(b"abc\xE2\x82")),
        ("in the last part", parts(b"good", b"bad\xFF")),
        ("cut off at the end of the last part", parts(b"good", b"\xF0\x9F\x98")),
        ("between two parts", parts(b"\xE2\x82", b"x")),
        ("the reason of a close", vec![reason]),
        ("in the first part", begun(b"bad\xFF")),
        ("a surrogate in two parts", begun_in_two(b"\xED", b"\xA0")),
        ("above U+10FFFF in two parts", begun_in_two(b"\xF4", b"\x90")),
    ];
    for (what, frames) in table {
        row(what, || {
            assert_eq!(closed_after(&gateway, &frames), Some(1007));
        });
    }
}

/// The code that frames on a new connection are answered with.
fn closed_after(gateway: &Gateway, frames: &[Frame]) -> Option<u16> {
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    for frame in frames {
        // The first may already have closed it.
        let _ = socket.try_send(frame.encode());
    }
    socket.closed(SOON)
}

#[test]
fn a_message_comes_back_however_it_was_cut() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let text = "κόσμε — 😀 mir";
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    // Cut into two fragments at each byte, so also inside each character.
    for cut in 0..=text.len() {
        let (first, second) = text.as_bytes().split_at(cut);
        socket.send_frame(&Frame::text(first).unfinished());
        socket.send_frame(&Frame::more(second));
        assert_eq!(socket.message(SOON), text, "cut at {cut}");
    }
    // A fragment for each byte, and empty ones, with a ping between them.
    socket.send_frame(&Frame::text("").unfinished());
    for byte in text.bytes() {
        socket.send_frame(&Frame::more([byte]).unfinished());
    }
    socket.send_frame(&Frame::new(PING, "now"));
    socket.send_frame(&Frame::more(""));
    assert_eq!(
        socket.frame(SOON),
        Frame::new(PONG, "now").unmasked(),
        "the ping does not wait"
    );
    assert_eq!(socket.message(SOON), text);
    // A TCP segment for each byte of the frame.
    for byte in Frame::text(text).encode() {
        socket.send([byte]);
        pause(Duration::from_millis(1));
    }
    assert_eq!(socket.message(SOON), text);
    // Many frames in one segment.
    let frames = (0..100).flat_map(|number| Frame::text(number.to_string()).encode());
    socket.send(frames.collect::<Vec<_>>());
    for number in 0..100 {
        assert_eq!(socket.message(SOON), number.to_string());
    }
}

#[test]
fn messages_of_every_length_form_come_back_up_to_the_limit() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    for length in [0, 1, 125, 126, 127, 128, 255, 256, 65_535, LIMIT] {
        for opcode in [TEXT, BINARY] {
            let sent = Frame::new(opcode, vec![b'a' + (length % 26) as u8; length]);
            socket.send_frame(&sent);
            assert_eq!(socket.frame(SOON), sent.unmasked());
        }
    }
    let any_bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    socket.send_frame(&Frame::binary(any_bytes.clone()));
    assert_eq!(socket.frame(SOON).payload, any_bytes);
}

#[test]
fn a_message_over_the_limit_closes_with_1009_before_it_is_received() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let half = Frame::binary(vec![b'x'; LIMIT / 2]).unfinished();
    let other_half = Frame {
        opcode: CONTINUATION,
        ..half.clone()
    };
    // Of these only the head is ever sent.
    let head = |length| Frame::binary("").length(Length::Claimed(length));
    let mut endless = vec![half.clone()];
    endless.extend(vec![Frame::more(vec![0; 1000]).unfinished(); 100]);
    #[rustfmt::skip] // A row a line.
    let table = [
        ("one byte more", vec![Frame::text(vec![b'x'; LIMIT + 1])]),
        ("the head of one byte more", vec![head(LIMIT as u64 + 1)]),
        ("the head of 2^63 - 1 bytes", vec![head(i64::MAX.cast_unsigned())]),
        ("parts that exceed it together", vec![half, other_half, Frame::more("x")]),
        ("parts without end", endless),
    ];
    for (what, frames) in table {
        row(what, || {
            assert_eq!(closed_after(&gateway, &frames), Some(1009));
        });
    }
}

#[test]
fn a_close_is_answered_with_its_code_and_ends_the_connection() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    for code in [
        1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 3999, 4000, 4999,
    ] {
        row(&format!("the close code {code}"), || {
            let mut socket = RawSocket::open(gateway.address(), "/ws");
            socket.send_frame(&Frame::close(code, "ποιος"));
            // What follows a close is not for anybody.
            let _ = socket.try_send(Frame::text("ignored").encode());
            assert_eq!(socket.frame(SOON).close_code(), Some(code));
            assert!(matches!(
                socket.receive(SOON),
                Received::End | Received::Reset
            ));
        });
    }
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    socket.send_frame(&Frame::new(CLOSE, ""));
    assert!(
        [None, Some(1000)].contains(&socket.closed(SOON)),
        "a close without a code is fine"
    );
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    socket.send_frame(&Frame::close(1000, &"x".repeat(123)));
    assert_eq!(socket.closed(SOON), Some(1000), "125 bytes are allowed");
}

#[test]
fn a_ping_is_answered_with_its_payload_and_a_pong_with_nothing() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    for payload in [vec![], b"hello".to_vec(), vec![0xFF; 125]] {
        socket.send_frame(&Frame::new(PONG, payload.clone()));
        socket.send_frame(&Frame::new(PING, payload.clone()));
        assert_eq!(socket.frame(SOON), Frame::new(PONG, payload).unmasked());
    }
}

#[test]
fn a_request_head_that_comes_a_byte_at_a_time_is_ended_at_its_deadline() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let check = |what: &str, begin: &str| {
        row(what, || {
            let started = Instant::now();
            let mut socket = RawSocket::connect(gateway.address());
            socket.send(begin);
            while started.elapsed() < SOON {
                let refused = socket.try_send("x").is_err();
                let ended = socket.receive(Duration::from_millis(100)) != Received::Nothing;
                if refused || ended {
                    break;
                }
            }
            let took = started.elapsed();
            let expected = Duration::from_millis(900)..Duration::from_secs(5);
            assert!(
                expected.contains(&took),
                "handshakeTimeout is 1 s, it took {took:?}"
            );
        });
    };
    check("within the request line", "GET /ws");
    check(
        "within a header",
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    );
    row("nothing at all", || {
        let mut socket = RawSocket::connect(gateway.address());
        let ended = socket.receive(Duration::from_secs(5));
        assert!(
            matches!(ended, Received::End | Received::Reset),
            "{ended:?}"
        );
    });
    // Who is open already has no such deadline.
    let mut open = RawSocket::open(gateway.address(), "/ws");
    pause(Duration::from_millis(1_500));
    open.send_frame(&Frame::text("still here"));
    assert_eq!(open.message(SOON), "still here");
}

#[test]
fn who_says_nothing_or_half_a_head_keeps_nobody_out_and_costs_what_was_sent() {
    const HALF: usize = 1_500;
    const BYTES_EACH: u64 = 3 << 10;
    needs!(NatsServer);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let nats = NatsServer::start();
    let live = LIVE.replace("handshakeTimeout: 1s", "handshakeTimeout: 1m");
    let gateway = Gateway::start(&nats.url(), &live);
    let before = resident_bytes(gateway.pid());
    let waiting: Vec<_> = (0..2 * HALF)
        .map(|number| {
            let mut socket = RawSocket::connect(gateway.address());
            if number % 2 == 0 {
                socket.send("GET /ws HTTP/1.1\r\nHost: loc");
            }
            socket
        })
        .collect();
    // It has some of its own, too.
    until_true("nearly all are accepted", SOON, || {
        descriptors(gateway.pid()) > waiting.len()
    });
    let mut socket = RawSocket::open(gateway.address(), "/ws");
    socket.send_frame(&Frame::text("let in"));
    assert_eq!(socket.message(SOON), "let in");
    let each = (resident_bytes(gateway.pid()) - before) / waiting.len() as u64;
    println!("{each} bytes for each that waits");
    assert!(each < BYTES_EACH, "{each} bytes for each that waits");
}

#[test]
fn ten_thousand_connections_leave_no_descriptor_and_no_memory_behind() {
    needs!(NatsServer);
    let (_nats, gateway) = start();
    let idle_descriptors = descriptors(gateway.pid());
    // Each way to come and go takes its turn.
    let visit = |number: usize| {
        let mut socket = match number % 5 {
            0 => return RawSocket::connect(gateway.address()).reset(),
            1 => {
                let mut socket = RawSocket::connect(gateway.address());
                socket.send("GET /ws HTTP/1.1\r\nHost: loc");
                return;
            }
            _ => RawSocket::open(gateway.address(), "/ws"),
        };
        match number % 5 {
            2 => socket.send_frame(&Frame::text("x").unfinished()),
            3 => socket.reset(),
            _ => {
                socket.send_frame(&Frame::close(1000, ""));
                assert_eq!(socket.closed(SOON), Some(1000));
            }
        }
    };
    let settle = || {
        until_true("all descriptors are closed", SOON, || {
            descriptors(gateway.pid()) <= idle_descriptors
        });
        resident_bytes(gateway.pid())
    };
    (0..2_000).for_each(visit);
    let before = settle();
    (0..10_000).for_each(visit);
    let after = settle();
    let per_connection = after.saturating_sub(before) / 10_000;
    println!("resident memory: {before} bytes before, {after} after 10,000 connections");
    assert!(
        per_connection < 200,
        "{per_connection} bytes stay of each connection"
    );
    let mut socket = RawSocket::open_from(Endpoint::default(), gateway.address(), "/ws");
    socket.send_frame(&Frame::text("still serving"));
    assert_eq!(socket.message(SOON), "still serving");
}
