//! What clients are held to, by the handshake, by their address, by their user, and each by itself; and whose address
//! is believed.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::json;
use wsgateway_e2e::{
    frame::{BINARY, CLOSE, Frame, PING, PONG},
    gateway::Gateway,
    http::Response,
    issuer::Issuer,
    local::Local,
    nats::NatsServer,
    needs,
    row::row,
    socket::{Endpoint, RawSocket, Received, request},
    wait::{SOON, pause, until, until_true},
};

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

#[test]
fn an_address_has_its_connections_and_each_that_ends_makes_room() {
    needs!(NatsServer);
    let (_nats, gateway) = start("limits: {perAddress: {connections: 2}}");
    let to = gateway.address();
    let (from, other) = (client(1), client(2));
    let mut kept = open(to, from, "");
    let full = || {
        let answer = refused(to, from, "", "TooManyFromAddress");
        assert_eq!(retry_after(&answer), 10);
    };
    let before = refusals(&gateway, "TooManyFromAddress");
    let ends: [(&str, fn(RawSocket)); 6] = [
        ("it says close", |mut socket| {
            socket.send_frame(&Frame::close(1000, ""));
            assert_eq!(socket.closed(SOON), Some(1000));
        }),
        ("it hangs up", drop),
        ("it is reset", RawSocket::reset),
        ("it breaks a rule", |mut socket| {
            socket.send_frame(&Frame::text("x").unmasked());
            assert_eq!(socket.closed(SOON), Some(1002));
        }),
        ("within a message", |mut socket| {
            socket.send_frame(&Frame::text("x").unfinished());
        }),
        ("with an echo on its way", |mut socket| {
            socket.send_frame(&Frame::binary(vec![7; 60_000]));
        }),
    ];
    for (what, end) in ends {
        row(what, || {
            let socket = until("there is room", SOON, || {
                let (socket, answer) = shake(to, from, "");
                (answer.status == 101).then_some(socket)
            });
            full();
            drop(open(to, other, ""));
            end(socket);
        });
    }
    assert!(refusals(&gateway, "TooManyFromAddress") >= before + 6.0);
    // Who is refused for something else gives its place back at once.
    gateway.await_metric("wsgateway_connections", &[], 1.0);
    for _ in 0..10 {
        let (_, answer) = shake(to, from, "Sec-WebSocket-Protocol: mqtt\r\n");
        assert_eq!(answer.status, 400);
    }
    let _second = open(to, from, "");
    full();
    echoes(&mut kept);
}

#[test]
fn who_opens_connections_and_says_nothing_is_held_to_its_address_too() {
    const FLOOD: usize = 1_000;
    needs!(NatsServer);
    let (_nats, gateway) = start(
        "websocket: {handshakeTimeout: 1m}
limits: {perAddress: {connections: 20}}",
    );
    let to = gateway.address();
    let say_nothing = |number: usize| {
        let mut socket = RawSocket::connect_from(client(1), to);
        if number.is_multiple_of(2) {
            // It may have been dropped already.
            let _ = socket.try_send("GET /ws HTTP/1.1\r\nHost: loc");
        }
        socket
    };
    let mut first: Vec<_> = (0..20).map(say_nothing).collect();
    until_true("they have their places", SOON, || {
        shake(to, client(1), "").1.status == 429
    });
    let before = refusals(&gateway, "TooManyFromAddress");
    let more: Vec<_> = (0..FLOOD).map(say_nothing).collect();
    // Each of the two shards hears 256 of them out.
    let dropped = FLOOD as f64 - 2.0 * 256.0;
    until_true("the others are dropped", SOON, || {
        refusals(&gateway, "TooManyFromAddress") >= before + dropped
    });
    let mut honest = open(to, client(2), "");
    echoes(&mut honest);
    // Who has a place gets in with it, late as it is.
    let request = request("/ws", "");
    first[0].send(&request[request.find("alhost").unwrap()..]);
    assert_eq!(first[0].head(SOON).unwrap().status, 101);
    echoes(&mut first[0]);
    first.truncate(1);
    drop(more);
    until_true("there is room again", SOON, || {
        shake(to, client(1), "").1.status == 101
    });
}

#[test]
fn an_address_that_connects_too_often_waits_and_others_do_not() {
    needs!(NatsServer);
    let (_nats, gateway) = start("limits: {perAddress: {handshakesPerSecond: 2}}");
    let to = gateway.address();
    let flood = || {
        (0..1_000).find_map(|_| {
            let (_, answer) = shake(to, client(1), "");
            (answer.status != 101).then_some(answer)
        })
    };
    let answer = flood().expect("it should be refused at some time");
    let said = (answer.status, answer.header("wsgateway-reason"));
    assert_eq!(said, (429, Some("TooManyFromAddress")));
    assert_eq!(retry_after(&answer), 1);
    open(to, client(2), "");
    until_true("it may come again", SOON, || {
        shake(to, client(1), "").1.status == 101
    });
}

#[test]
fn a_flood_of_handshakes_is_refused_before_tokens_are_looked_at() {
    needs!(NatsServer);
    let issuer = Issuer::start();
    let (nats, auth) = (NatsServer::start(), auth(&issuer));
    let limited = format!("limits: {{handshakesPerSecond: 3}}\n{auth}");
    let gateway = Gateway::start(&nats.url(), &live(&limited));
    let to = gateway.address();
    let token = bearer(&issuer.token(&json!({})));
    let mut honest = open(to, client(1), &token);
    // From addresses of their own, as a flood comes.
    let statuses: Vec<_> = (2..=201)
        .map(|number| {
            let (_, answer) = shake(to, client(number), "Authorization: Bearer x.y.z\r\n");
            if answer.status == 429 {
                assert_eq!(answer.header("wsgateway-reason"), Some("TooManyHandshakes"));
                assert!((1..=5).contains(&retry_after(&answer)), "{answer:?}");
            }
            answer.status
        })
        .collect();
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(looked_at + refused, 200, "{statuses:?}");
    assert!(looked_at >= 1 && refused >= 1, "{statuses:?}");
    assert!((refusals(&gateway, "TooManyHandshakes") - refused as f64).abs() < 0.5);
    assert!((refusals(&gateway, "TokenMalformed") - looked_at as f64).abs() < 0.5);
    echoes(&mut honest);
    until_true("an honest one comes in", SOON, || {
        shake(to, client(1), &token).1.status == 101
    });
    // What is refused for less takes nothing of it.
    for _ in 0..50 {
        let (_, answer) = shake(to, client(1), "Sec-WebSocket-Protocol: mqtt\r\n");
        assert_eq!(answer.status, 400);
    }
}

fn auth(issuer: &Issuer) -> String {
    format!(
        "auth:
  tokenSources: [{{type: Header}}]
  expiryJitter: 0s
  providers: [{{name: test, issuer: \"{}\", audiences: [wsgateway], leeway: 2s, keys: {{type: Discovery}}}}]",
        issuer.url()
    )
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn a_user_has_its_connections_wherever_it_comes_from() {
    needs!(NatsServer);
    let issuer = Issuer::start();
    let (nats, auth) = (NatsServer::start(), auth(&issuer));
    let limited = format!("limits: {{perUser: {{connections: 2}}}}\n{auth}");
    let gateway = Gateway::start(&nats.url(), &live(&limited));
    let to = gateway.address();
    // Each token is another one of the same user.
    let token = |claims| bearer(&issuer.token(&claims));
    let ann = |number: u64| token(json!({"sub": "ann", "jti": number}));
    let first = open(to, client(1), &ann(1));
    let _second = open(to, client(2), &ann(2));
    let answer = refused(to, client(3), &ann(3), "TooManyForUser");
    assert_eq!(retry_after(&answer), 10);
    open(to, client(3), &token(json!({"sub": "bob"})));
    // A token that is not believed is nobody's.
    let (_, answer) = shake(to, client(3), &token(json!({"aud": "other"})));
    assert_eq!(answer.status, 401);
    first.reset();
    until_true("there is room", SOON, || {
        shake(to, client(3), &ann(4)).1.status == 101
    });
}

#[test]
fn x_forwarded_for_is_believed_of_trusted_proxies_alone() {
    needs!(NatsServer);
    let (_nats, gateway) = start(
        "limits: {perAddress: {connections: 1}}
clientAddress: {type: XForwardedFor, trustedProxies: [127.0.1.1, 127.0.2.0/24]}",
    );
    let to = gateway.address();
    let header = |value: &str| format!("X-Forwarded-For: {value}\r\n");
    let proxy = client(1);
    let _a = open(to, proxy, &header("192.0.2.1"));
    let _b = open(to, proxy, &header("192.0.2.2"));
    let full = |value: &str| {
        refused(to, proxy, &header(value), "TooManyFromAddress");
    };
    full("192.0.2.1");
    // What a client puts in front of it, and a second proxy behind it.
    full("198.51.100.1, 192.0.2.1");
    full("127.0.1.1, 192.0.2.1");
    full("192.0.2.1, 127.0.2.9");
    // One house.
    let _v6 = open(to, proxy, &header("2001:db8:0:1::1"));
    full("2001:db8:0:1:ffff::1");
    // Who is not trusted has its own address, whatever it says.
    let _liar = open(to, client(9), &header("192.0.2.7"));
    for spoofed in ["192.0.2.8", "192.0.2.9, 127.0.1.1", "127.0.1.1"] {
        refused(to, client(9), &header(spoofed), "TooManyFromAddress");
    }
    let _not_taken = open(to, proxy, &header("192.0.2.7"));
}

/// A header of version 2 for TCP over IPv4.
fn v2(source: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let addresses = [&source[..], &[10, 0, 0, 1, 0x30, 0x39, 0, 80], rest].concat();
    let length = (addresses.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses].concat()
}

#[test]
fn the_proxy_protocol_names_the_client_and_is_taken_from_proxies_alone() {
    needs!(NatsServer);
    let (_nats, gateway) = start(
        "websocket: {handshakeTimeout: 5s}
limits: {perAddress: {connections: 1}}
clientAddress: {type: ProxyProtocol, trustedProxies: [127.0.1.1]}",
    );
    let to = gateway.address();
    // The header and the request, in pieces of so many bytes.
    let shake = |from: Endpoint, header: &[u8], piece: usize| {
        let mut socket = RawSocket::connect_from(from, to);
        let sent = [header, request("/ws", "").as_bytes()].concat();
        for piece in sent.chunks(piece) {
            if socket.try_send(piece).is_err() {
                break;
            }
            if piece.len() < sent.len() {
                pause(Duration::from_micros(200));
            }
        }
        let answer = socket.head(SOON);
        (socket, answer)
    };
    let status = |answer: &Option<Response>| answer.as_ref().map(|answer| answer.status);
    let proxy = client(1);
    let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n";
    let long = [&[4, 2, 0][..], &[b'x'; 512]].concat();
    row("version 1", || {
        let (mut socket, answer) = shake(proxy, v1, usize::MAX);
        assert_eq!(status(&answer), Some(101));
        echoes(&mut socket);
        let (_, answer) = shake(proxy, v1, usize::MAX);
        let reason = answer.as_ref().and_then(|a| a.header("wsgateway-reason"));
        assert_eq!(
            (status(&answer), reason),
            (Some(429), Some("TooManyFromAddress"))
        );
        // The same client, in the words of version 2.
        let (_, answer) = shake(proxy, &v2([192, 0, 2, 1], &[]), usize::MAX);
        assert_eq!(status(&answer), Some(429));
    });
    for (what, header, piece) in [
        (
            "version 1, in pieces",
            &b"PROXY TCP4 192.0.2.2 10.0.0.1 1 2\r\n"[..],
            1,
        ),
        ("version 2", &v2([192, 0, 2, 3], &[]), usize::MAX),
        ("version 2, in pieces", &v2([192, 0, 2, 4], &[]), 1),
        (
            "version 2, with more in it",
            &v2([192, 0, 2, 5], &long),
            100,
        ),
        (
            "the proxy itself",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            usize::MAX,
        ),
    ] {
        row(what, || {
            let (mut socket, answer) = shake(proxy, header, piece);
            assert_eq!(status(&answer), Some(101), "{answer:?}");
            echoes(&mut socket);
            let (_, answer) = shake(proxy, header, piece);
            assert_eq!(status(&answer), Some(429), "{answer:?}");
        });
    }
    let of_v1 = "PROXY TCP4 192.0.2.77 10.0.0.1 1 2\r\n".as_bytes();
    for (what, from, header, reason) in [
        ("no header", proxy, &b""[..], "MissingProxyHeader"),
        (
            "a wrong header",
            proxy,
            b"PROXY TCP4 a b c d\r\n",
            "MalformedProxyHeader",
        ),
        (
            "a header without end",
            proxy,
            &[b"PROXY ", &[b'x'; 200][..]].concat(),
            "MalformedProxyHeader",
        ),
        (
            "somebody else's header",
            client(2),
            of_v1,
            "UntrustedProxyHeader",
        ),
        (
            "somebody else's version 2",
            client(2),
            &v2([192, 0, 2, 78], &[]),
            "UntrustedProxyHeader",
        ),
        (
            "two headers",
            proxy,
            &[of_v1, of_v1].concat(),
            "UntrustedProxyHeader",
        ),
    ] {
        row(what, || {
            let before = refusals(&gateway, reason);
            let (_, answer) = shake(from, header, usize::MAX);
            assert!(answer.is_none(), "{answer:?}");
            gateway.await_metric(
                "wsgateway_handshakes_refused_total",
                &[("reason", reason)],
                before + 1.0,
            );
        });
    }
    row("somebody else without a header", || {
        let (mut socket, answer) = shake(client(2), b"", usize::MAX);
        assert_eq!(status(&answer), Some(101));
        echoes(&mut socket);
    });
    row("a header that does not end", || {
        let mut socket = RawSocket::connect_from(proxy, to);
        socket.send(&v1[..20]);
        let started = Instant::now();
        let ended = socket.receive(SOON);
        assert!(
            matches!(ended, Received::End | Received::Reset),
            "{ended:?}"
        );
        assert!(started.elapsed() >= Duration::from_millis(4_500));
    });
    row("a connection that says nothing and goes", || {
        let broken = refusals(&gateway, "BrokenHead");
        drop(RawSocket::connect_from(proxy, to));
        // Behind it, so that it has been seen.
        let (_, answer) = shake(proxy, &v2([192, 0, 2, 6], &[]), usize::MAX);
        assert_eq!(status(&answer), Some(101));
        assert!((refusals(&gateway, "BrokenHead") - broken).abs() < 0.5);
    });
}

#[test]
fn a_client_that_sends_too_much_is_closed_and_one_that_does_not_is_not() {
    needs!(NatsServer);
    let (_nats, gateway) =
        start("limits: {perConnection: {messagesPerSecond: 20, bytesPerSecond: 20Ki}}");
    let to = gateway.address();
    let flood = |frame: &Frame| {
        let mut socket = RawSocket::open(to, "/ws");
        let frames = frame.encode().repeat(50);
        // A second's worth flows in each second, so it goes on until it is too much.
        for _ in 0..100 {
            if socket.try_send(&frames).is_err() {
                break;
            }
        }
        closed(&mut socket)
    };
    let messages = (Some(1008), "TooManyMessages".to_owned());
    let fragments = [
        Frame::text("").unfinished().encode(),
        Frame::more("").unfinished().encode().repeat(5_000),
    ];
    for (what, frame) in [
        ("texts", Frame::text("x")),
        ("empty messages", Frame::binary("")),
        ("pings", Frame::new(PING, "x")),
        ("pongs that nobody asked for", Frame::new(PONG, "x")),
    ] {
        row(what, || assert_eq!(flood(&frame), messages));
    }
    row("fragments of one message", || {
        let mut socket = RawSocket::open(to, "/ws");
        socket.send(fragments.concat());
        assert_eq!(closed(&mut socket), messages);
    });
    row("bytes", || {
        let said = flood(&Frame::binary(vec![7; 10_000]));
        assert_eq!(said, (Some(1008), "TooManyBytes".to_owned()));
    });
    row("the handshake brings the flood along", || {
        let mut socket = RawSocket::connect(to);
        let flood = Frame::text("x").encode().repeat(100);
        socket.send([request("/ws", "").as_bytes(), &flood].concat());
        assert_eq!(socket.head(SOON).unwrap().status, 101);
        assert_eq!(closed(&mut socket), messages);
    });
    for reason in ["TooManyMessages", "TooManyBytes"] {
        let labels = &[("reason", reason), ("code", "1008")];
        let count = || {
            gateway
                .metrics()
                .sum("wsgateway_connections_closed_total", labels)
        };
        until_true("it is counted", SOON, || count() >= 1.0);
    }
    row("the largest message, and then as much as may be", || {
        let mut socket = RawSocket::open(to, "/ws");
        let large = Frame::binary(vec![7; 64 << 10]);
        socket.send_frame(&large);
        assert_eq!(socket.frame(SOON), large.unmasked());
        for _ in 0..30 {
            pause(Duration::from_millis(100));
            echoes(&mut socket);
        }
    });
}

#[test]
fn who_says_nothing_at_first_is_closed_where_something_is_expected() {
    needs!(NatsServer);
    let (_nats, gateway) = start("limits: {perConnection: {firstMessage: 2s}}");
    let to = gateway.address();
    let mut talker = RawSocket::open(to, "/ws");
    echoes(&mut talker);
    let mut listener = RawSocket::open(to, "/sink");
    let mut silent = RawSocket::open(to, "/ws");
    let mut pinging = RawSocket::open(to, "/ws");
    let started = Instant::now();
    pinging.send_frame(&Frame::new(PING, "x"));
    pinging.send_frame(&Frame::text("never").unfinished());
    let late = (Some(1008), "NoFirstMessage".to_owned());
    assert_eq!(closed(&mut silent), late);
    assert!(started.elapsed() >= Duration::from_millis(1_900));
    assert_eq!(closed(&mut pinging), late);
    pause(Duration::from_secs(2));
    echoes(&mut talker);
    listener.send_frame(&Frame::new(PING, "there?"));
    let pong = Frame::new(PONG, "there?").unmasked();
    assert_eq!(listener.frame(SOON), pong);
}

#[test]
fn a_reload_changes_what_holds_and_closes_nobody() {
    needs!(NatsServer);
    let (_nats, mut gateway) = start("");
    let to = gateway.address();
    let mut reloads = 0.0;
    let mut reload = |gateway: &mut Gateway, lines: &str| {
        reloads += 1.0;
        gateway.reload(&live(lines));
        gateway.await_metric(
            "wsgateway_config_reloads_total",
            &[("result", "applied")],
            reloads,
        );
    };
    let (from, proxy) = (client(1), client(5));
    let mut open_before: Vec<_> = (0..3).map(|_| open(to, from, "")).collect();
    let mut early = RawSocket::open(to, "/ws");

    reload(&mut gateway, "limits: {perAddress: {connections: 1}}");
    // Those that were open before are not counted.
    let counted = until("the shards have it", SOON, || {
        let (socket, answer) = shake(to, from, "");
        let is_held = shake(to, from, "").1.status == 429;
        (answer.status == 101 && is_held).then_some(socket)
    });
    open_before.push(counted);
    refused(to, from, "", "TooManyFromAddress");

    reload(&mut gateway, "limits: {perAddress: {connections: 2}}");
    open_before.push(until("one more comes in", SOON, || {
        let (socket, answer) = shake(to, from, "");
        (answer.status == 101).then_some(socket)
    }));
    until_true("and no other", SOON, || shake(to, from, "").1.status == 429);

    reload(
        &mut gateway,
        "limits: {perAddress: {connections: 1}}
clientAddress: {type: XForwardedFor, trustedProxies: [127.0.1.5]}",
    );
    let header = "X-Forwarded-For: 192.0.2.1\r\n";
    open_before.push(open(to, proxy, header));
    until_true("the header is believed", SOON, || {
        shake(to, proxy, header).1.status == 429
            && shake(to, proxy, "X-Forwarded-For: 192.0.2.2\r\n").1.status == 101
    });

    // Who is open is held to new rates, too, and is not asked for a first message.
    reload(
        &mut gateway,
        "limits: {perConnection: {messagesPerSecond: 30, firstMessage: 200ms}}",
    );
    until_true("the shards have it", SOON, || {
        let mut socket = RawSocket::open(to, "/ws");
        matches!(socket.receive(Duration::from_secs(2)), Received::Frame(frame) if frame.opcode == CLOSE)
    });
    for socket in &mut open_before {
        echoes(socket);
    }
    early.send(Frame::new(BINARY, "x").encode().repeat(1_000));
    assert_eq!(closed(&mut early).1, "TooManyMessages");

    reload(&mut gateway, "limits: {}");
    until_true("nothing is limited", SOON, || {
        let mut socket = RawSocket::open(to, "/ws");
        socket.send(Frame::new(PING, "x").encode().repeat(1_000));
        socket.send_frame(&Frame::text("through"));
        let frames = std::iter::repeat_with(|| socket.receive(SOON));
        let mut frames = frames.take(1_100);
        frames.any(|it| matches!(it, Received::Frame(frame) if frame.payload == b"through"))
    });
    for socket in &mut open_before {
        echoes(socket);
    }
}

#[test]
fn behind_nginx_each_client_has_its_own_address_and_no_other() {
    needs!(NatsServer, Nginx);
    let local = Local::start(
        "replicas: 1
limits: {perAddress: {connections: 1}}
exposure: {tls: {type: None}}
routes: [{name: ws, path: /ws}]",
    );
    let to = local.http();
    let mut first = open(to, client(1), "");
    let mut second = open(to, client(2), "");
    refused(to, client(1), "", "TooManyFromAddress");
    for spoofed in ["192.0.2.1", "192.0.2.1, 192.0.2.2", "127.0.0.1", "x"] {
        let header = format!("X-Forwarded-For: {spoofed}\r\nX-Real-IP: {spoofed}\r\n");
        refused(to, client(1), &header, "TooManyFromAddress");
    }
    echoes(&mut second);
    first.send_frame(&Frame::close(1000, ""));
    assert_eq!(first.closed(SOON), Some(1000));
    until_true("there is room", SOON, || {
        shake(to, client(1), "").1.status == 101
    });
}
