//! What one client may send.

use std::time::{Duration, Instant};

use wsgateway_e2e::{
    frame::{Frame, PING, PONG},
    needs,
    row::row,
    socket::{RawSocket, request},
    wait::{SOON, pause, until_true},
};

use crate::{closed, echoes, start};

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
