//! What a connection is held to by its token beside its end: whether it may publish, and being told ahead.

#![allow(clippy::unwrap_used)] // A test's own functions.

use std::time::{Duration, Instant};

use serde_json::json;
use wsgateway_e2e::{
    frame::{CLOSE, Frame, TEXT},
    gateway::Gateway,
    issuer::{Issuer, now},
    nats::NatsServer,
    needs,
    socket::{Endpoint, RawSocket, Received, bearer},
    wait::SOON,
};

fn live(issuer: &Issuer, auth: &str, publishing: &str) -> String {
    format!(
        "
auth:
  tokenSources: [{{type: Header}}]
  expiryJitter: 0s
  providers: [{{name: test, issuer: \"{}\", audiences: [wsgateway], leeway: 2s, keys: {{type: Discovery}}}}]{auth}
routes:
  - name: ws
    path: /ws
    fromClient: {{type: Publish, subject: \"in.{{claims.team}}\", authorization: {{{publishing}}}}}
    toClient: [{{name: live, type: Core, subjects: [out]}}]
",
        issuer.url()
    )
}

fn open(gateway: &Gateway, token: &str) -> RawSocket {
    RawSocket::open_with(
        Endpoint::default(),
        gateway.address(),
        "/ws",
        &bearer(token),
    )
}

#[test]
fn who_may_not_publish_gets_messages_until_it_sends_one() {
    needs!(NatsServer);
    let (nats, issuer) = (NatsServer::start(), Issuer::start());
    let mut gateway = Gateway::start(&nats.url(), &live(&issuer, "", "scopes: [send]"));
    let writer = json!({"scope": "openid send", "team": "a"});
    let mut writer = open(&gateway, &issuer.token(&writer));
    // It lacks the claim of what it may not publish to as well.
    let reader = issuer.token(&json!({"scope": "openid"}));
    let mut reader = open(&gateway, &reader);

    let client = nats.client();
    let mut published = client.subscribe("in.>");
    client.publish("out", "for both");
    assert_eq!(reader.message(SOON), "for both");
    assert_eq!(writer.message(SOON), "for both");
    reader.send_frame(&Frame::text("no"));
    assert_eq!(reader.closed(SOON), Some(4403));
    let labels = [("reason", "PublishDenied"), ("code", "4403")];
    gateway.await_metric("wsgateway_connections_closed_total", &labels, 1.0);
    writer.send_frame(&Frame::text("yes"));
    assert_eq!(published.next(SOON).unwrap(), b"yes");
    assert_eq!(published.next(Duration::from_millis(100)), None);

    // Who may publish is settled when a client comes, so those who were let in by other terms come again.
    gateway.reload(&live(&issuer, "", "scopes: [send, more]"));
    assert_eq!(writer.closed(SOON), Some(1012));
}

#[test]
fn a_client_is_told_once_ahead_of_the_end_unless_it_came_too_late_for_that() {
    needs!(NatsServer);
    let (nats, issuer) = (NatsServer::start(), Issuer::start());
    let warning = "\n  expiryWarning: {before: 4s, message: '{\"type\":\"soon\"}'}";
    let gateway = Gateway::start(&nats.url(), &live(&issuer, warning, ""));
    let until = |seconds: u64| issuer.token(&json!({"exp": now() + seconds, "team": "a"}));
    let opened = Instant::now();
    let mut warned = open(&gateway, &until(10));
    let mut late = open(&gateway, &until(3));
    let mut long = open(&gateway, &until(300));
    assert_eq!(late.closed(SOON), Some(4401));
    let frame = warned.frame(SOON);
    assert_eq!(
        (frame.opcode, &*frame.payload),
        (TEXT, &b"{\"type\":\"soon\"}"[..])
    );
    // `exp` is in whole seconds, of which one has begun.
    let after = opened.elapsed();
    assert!(after >= Duration::from_secs(4), "{after:?}");
    // The next is the end, some four seconds later.
    let end = warned.frame(SOON);
    assert_eq!((end.opcode, end.close_code()), (CLOSE, Some(4401)));
    let rest = opened.elapsed().checked_sub(after).unwrap();
    assert!(rest >= Duration::from_secs(2), "{rest:?}");
    assert_eq!(long.receive(Duration::from_millis(50)), Received::Nothing);
}
