//! Limits that change under open connections.

use std::time::Duration;

use wsgateway_e2e::{
    frame::{BINARY, CLOSE, Frame, PING},
    gateway::Gateway,
    needs,
    socket::{RawSocket, Received},
    wait::{SOON, until, until_true},
};

use crate::{client, closed, echoes, live, open, refused, shake, start};

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
