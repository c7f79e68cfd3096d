//! The operator's probe as a gateway sees it: answered whatever keeps clients out, in no count, and no way to hurt it.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use wsgateway_e2e::{
    frame::{CLOSE, Frame, PING, PONG},
    gateway::Gateway,
    http::{self, Response},
    nats::NatsServer,
    needs,
    port::Port,
    socket::{ACCEPT, RawSocket, Received},
    wait::{SOON, until, until_true},
};

const PROBE: &str = "Sec-WebSocket-Protocol: wsgateway.probe.v1\r\n";

/// As its documentation has it.
const LIFETIME: Duration = Duration::from_secs(5);

/// One place, and a route that needs NATS.
const LIVE: &str = r#"
websocket: {allowedOrigins: ["https://only.example.com"]}
limits: {connections: 1}
routes:
  - {name: ws, path: /ws, fromClient: {type: Echo}}
  - {name: room, path: "/rooms/{room}/{query}", fromClient: {type: Echo}, toClient: [{name: live, type: Core, subjects: ["rooms.{path.room}.{query.x}"]}]}
"#;

fn ask(gateway: &Gateway, path: &str, headers: &str) -> (RawSocket, Response) {
    let mut socket = RawSocket::connect(gateway.address());
    let answer = socket.upgrade(path, &format!("{PROBE}{headers}"));
    (socket, answer)
}

fn probe(gateway: &Gateway) -> RawSocket {
    let (socket, answer) = ask(gateway, "/ws", "");
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    let protocol = answer.header("sec-websocket-protocol");
    assert_eq!(protocol, Some("wsgateway.probe.v1"));
    socket
}

/// What counts clients. None of it may know of a probe.
fn clients(gateway: &Gateway) -> [u64; 3] {
    let metrics = gateway.metrics();
    [
        "wsgateway_connections",
        "wsgateway_connections_opened_total",
        "wsgateway_handshakes_refused_total",
    ]
    .map(|name| metrics.sum(name, &[]) as u64)
}

#[test]
fn a_probe_is_answered_whatever_keeps_clients_out_and_is_in_no_count() {
    needs!(NatsServer);
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    let _client = {
        let mut socket = RawSocket::connect(gateway.address());
        let origin = "Origin: https://only.example.com\r\n";
        assert_eq!(socket.upgrade("/ws", origin).status, 101);
        socket
    };
    // It has its answer before it is counted.
    gateway.await_metric("wsgateway_connections", &[], 1.0);
    let before = clients(&gateway);
    let mut probes = vec![probe(&gateway)];
    // The only place is taken, the origin is foreign, and the route's subject lacks a parameter.
    for (path, headers) in [
        ("/ws", "Origin: https://evil.test\r\n"),
        ("/rooms/7/x", ""),
        ("/ws", "Sec-WebSocket-Protocol: wsgateway.plain\r\n"),
    ] {
        let (socket, answer) = ask(&gateway, path, headers);
        assert_eq!(answer.status, 101, "{path} {headers} {answer:?}");
        probes.push(socket);
    }
    assert_eq!(clients(&gateway), before);
    let status = http::get(gateway.admin(), "/status").text();
    assert!(status.contains(r#""connections":1"#), "{status}");
    let answered = [("result", "answered")];
    gateway.await_metric("wsgateway_probes_total", &answered, 4.0);
    // What is no handshake or no route is none for a probe either.
    let (_, answer) = ask(&gateway, "/nothing", "");
    assert_eq!(answer.header("wsgateway-reason"), Some("UnknownPath"));
}

#[test]
fn a_probe_needs_no_nats() {
    let nobody = Port::lease();
    let gateway = Gateway::launch(
        &format!("nats: {{servers: [\"nats://{}\"]}}", nobody.address()),
        LIVE,
    );
    until_true("the gateway listens", SOON, || {
        http::try_get(gateway.admin(), "/livez").is_ok_and(|answer| answer.status == 200)
    });
    let mut socket = probe(&gateway);
    socket.send_frame(&Frame::new(PING, "x"));
    assert_eq!(socket.receive(SOON), Received::Frame(pong("x")));
}

fn pong(payload: &str) -> Frame {
    let mut bytes = Frame::new(PONG, payload).unmasked().encode();
    Frame::decode(&mut bytes).unwrap()
}

#[test]
fn a_probe_answers_pings_and_close_and_carries_nothing() {
    needs!(NatsServer);
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    let mut socket = probe(&gateway);
    for payload in ["", "one", "two"] {
        socket.send_frame(&Frame::new(PING, payload));
        assert_eq!(socket.receive(SOON), Received::Frame(pong(payload)));
    }
    socket.send_frame(&Frame::close(1000, ""));
    assert_eq!(socket.closed(SOON), Some(1000));

    for (frame, code) in [
        (Frame::text("data"), 1003),
        (Frame::binary(""), 1003),
        (Frame::binary(vec![0; 1 << 20]), 1003),
        (Frame::text("unmasked").unmasked(), 1002),
        (Frame::new(PING, "reserved").reserved(4), 1002),
    ] {
        let mut socket = probe(&gateway);
        // The gateway may have closed before it has all been sent.
        let _ = socket.try_send(frame.encode());
        let closed = until("a close frame comes", SOON, || match socket.receive(SOON) {
            Received::Frame(frame) if frame.opcode == CLOSE => Some(frame.close_code()),
            Received::Frame(_) => None,
            other => panic!("{other:?} for {:?}", frame.opcode),
        });
        assert_eq!(closed, Some(code), "{:?}", frame.opcode);
    }
}

#[test]
fn a_probe_that_does_nothing_ends_by_itself() {
    needs!(NatsServer);
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    let mut socket = probe(&gateway);
    let begin = Instant::now();
    assert_eq!(socket.closed(LIFETIME + SOON), Some(1000));
    let lived = begin.elapsed();
    assert!(lived + Duration::from_secs(1) > LIFETIME, "{lived:?}");
}

#[test]
fn probes_beyond_the_limit_are_refused_and_no_client_is() {
    needs!(NatsServer);
    let nats = NatsServer::start();
    let gateway = Gateway::start(
        &nats.url(),
        "routes: [{name: ws, path: /ws, fromClient: {type: Echo}}]",
    );
    let begin = Instant::now();
    let mut held = Vec::new();
    let refused = until("a probe is refused", SOON, || {
        let (socket, answer) = ask(&gateway, "/ws", "");
        held.push(socket);
        (answer.status != 101).then_some(answer)
    });
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("wsgateway-reason"), Some("TooManyProbes"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // A burst of 20, and five a second.
    let most = 21.0 + begin.elapsed().as_secs_f64() * 5.0;
    assert!(
        held.len() >= 21 && held.len() as f64 <= most + 1.0,
        "{}",
        held.len()
    );
    let _client = RawSocket::open(gateway.address(), "/ws");
    // It has its answer a moment before it is counted.
    until_true("the client is counted, and nobody else", SOON, || {
        clients(&gateway) == [1, 1, 0]
    });
    assert!(
        gateway
            .metrics()
            .sum("wsgateway_probes_total", &[("result", "limited")])
            >= 1.0
    );
    until_true("there is room again", SOON, || {
        ask(&gateway, "/ws", "").1.status == 101
    });
}

#[test]
fn a_probe_takes_no_message_of_a_queue() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let nats = server.client();
    let stream = jetstream::stream::Config {
        name: "JOBS".to_owned(),
        subjects: vec!["jobs.>".to_owned()],
        ..Default::default()
    };
    nats.run(nats.jetstream().create_stream(stream)).unwrap();
    let gateway = Gateway::start(
        &server.url(),
        "routes: [{name: ws, path: /ws, fromClient: {type: Discard}, toClient: [{name: jobs, type: Queue, \
         stream: JOBS, durable: workers, filterSubjects: [jobs.>], ackWait: 60s, maxDeliver: 3, maxInFlightPerClient: 8}]}]",
    );
    let consumer = || {
        let info = async {
            let stream = nats.jetstream().get_stream("JOBS").await.ok()?;
            stream.consumer_info("workers").await.ok()
        };
        nats.run(info)
    };
    until_true("there is a consumer", SOON, || consumer().is_some());
    nats.publish("jobs.one", "work");
    until_true("the message waits", SOON, || {
        consumer().unwrap().num_pending == 1
    });
    let mut socket = probe(&gateway);
    socket.send_frame(&Frame::new(PING, "x"));
    assert_eq!(socket.receive(SOON), Received::Frame(pong("x")));
    assert_eq!(socket.closed(LIFETIME + SOON), Some(1000));
    let info = consumer().unwrap();
    assert_eq!((info.num_pending, info.num_ack_pending), (1, 0));
    assert_eq!((info.delivered.consumer_sequence, info.num_waiting), (0, 0));
}
