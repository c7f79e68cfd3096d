//! How many come in: of one address, of one user, and in all.

use serde_json::json;
use wsgateway_e2e::{
    frame::Frame,
    gateway::Gateway,
    issuer::Issuer,
    nats::NatsServer,
    needs,
    row::row,
    socket::{RawSocket, bearer, request},
    wait::{SOON, until, until_true},
};

use crate::{client, echoes, live, open, refusals, refused, retry_after, shake, start};

/// A way in which a connection ends.
type End = fn(RawSocket);

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
    let ends: [(&str, End); 6] = [
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
    // Past the proxy, whose requests would say whose they are.
    let (_nats, gateway) = start(
        "websocket: {handshakeTimeout: 1m}
limits: {perAddress: {connections: 20}}
clientAddress: {type: XForwardedFor, trustedProxies: [127.0.9.9]}",
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
        let is_full = shake(to, client(1), "").1.status == 429;
        if !is_full {
            // It may have had the place of one that the other shard came to later: then that has none any more.
            first.push(say_nothing(1));
        }
        is_full
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
    let rest = &request[request.find("alhost").unwrap()..];
    let late = (0..20).step_by(2).find(|&at| {
        first[at].send(rest);
        first[at].head(SOON).unwrap().status == 101
    });
    first.swap(0, late.expect("one of those who have a place"));
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

fn auth(issuer: &Issuer) -> String {
    format!(
        "auth:
  tokenSources: [{{type: Header}}]
  expiryJitter: 0s
  providers: [{{name: test, issuer: \"{}\", audiences: [wsgateway], leeway: 2s, keys: {{type: Discovery}}}}]",
        issuer.url()
    )
}
