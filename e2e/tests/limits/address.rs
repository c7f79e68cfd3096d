//! Whose address is believed.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use wsgateway_e2e::{
    frame::Frame,
    gateway::Gateway,
    http::Response,
    local::Local,
    nats::NatsServer,
    needs,
    row::row,
    socket::{Endpoint, RawSocket, Received, request},
    wait::{SOON, pause, until_true},
};

use crate::{client, echoes, open, refusals, refused, shake, start};

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

/// A header of version 2 for TCP over IPv4.
fn v2(source: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let addresses = [&source[..], &[10, 0, 0, 1, 0x30, 0x39, 0, 80], rest].concat();
    let length = (addresses.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses].concat()
}

fn behind_proxy() -> (NatsServer, Gateway) {
    start(
        "websocket: {handshakeTimeout: 5s}
limits: {perAddress: {connections: 1}}
clientAddress: {type: ProxyProtocol, trustedProxies: [127.0.1.1]}",
    )
}

/// A connection that begins with this header and a request, in pieces of so many bytes, and the answer.
fn introduce(
    to: SocketAddr,
    from: Endpoint,
    header: &[u8],
    piece: usize,
) -> (RawSocket, Option<Response>) {
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
}

fn status(answer: Option<&Response>) -> Option<u16> {
    answer.map(|answer| answer.status)
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n";

#[test]
fn the_proxy_protocol_names_the_client() {
    needs!(NatsServer);
    let (_nats, gateway) = behind_proxy();
    let shake = |from, header: &[u8], piece| introduce(gateway.address(), from, header, piece);
    let proxy = client(1);
    let long = [&[4, 2, 0][..], &[b'x'; 512]].concat();
    row("version 1", || {
        let (mut socket, answer) = shake(proxy, V1, usize::MAX);
        assert_eq!(status(answer.as_ref()), Some(101));
        echoes(&mut socket);
        let (_, answer) = shake(proxy, V1, usize::MAX);
        let reason = answer.as_ref().and_then(|a| a.header("wsgateway-reason"));
        assert_eq!(
            (status(answer.as_ref()), reason),
            (Some(429), Some("TooManyFromAddress"))
        );
        // The same client, in the words of version 2.
        let (_, answer) = shake(proxy, &v2([192, 0, 2, 1], &[]), usize::MAX);
        assert_eq!(status(answer.as_ref()), Some(429));
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
            assert_eq!(status(answer.as_ref()), Some(101), "{answer:?}");
            echoes(&mut socket);
            let (_, answer) = shake(proxy, header, piece);
            assert_eq!(status(answer.as_ref()), Some(429), "{answer:?}");
        });
    }
}

#[test]
fn a_header_of_the_proxy_protocol_is_taken_from_proxies_alone() {
    needs!(NatsServer);
    let (_nats, gateway) = behind_proxy();
    let to = gateway.address();
    let shake = |from, header: &[u8], piece| introduce(to, from, header, piece);
    let proxy = client(1);
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
        assert_eq!(status(answer.as_ref()), Some(101));
        echoes(&mut socket);
    });
    row("a header that does not end", || {
        let mut socket = RawSocket::connect_from(proxy, to);
        socket.send(&V1[..20]);
        let started = Instant::now();
        let ended = socket.receive(SOON);
        assert!(
            matches!(ended, Received::End | Received::Reset),
            "{ended:?}"
        );
        assert!(started.elapsed() >= Duration::from_millis(4_500));
    });
    row("connections that say nothing and go", || {
        for _ in 0..20 {
            drop(RawSocket::connect_from(proxy, to));
        }
        let (_, answer) = shake(proxy, &v2([192, 0, 2, 6], &[]), usize::MAX);
        assert_eq!(status(answer.as_ref()), Some(101));
        assert!(refusals(&gateway, "BrokenHead") < 0.5);
    });
}
