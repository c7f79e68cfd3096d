//! TLS that the gateway itself ends: what clients see, what a changed certificate does, and who is refused.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{ClientConfig, ProtocolVersion};
use wsgateway_e2e::{
    certificate::{Authority, Leaf},
    directory::Directory,
    frame::{Frame, PING, PONG},
    gateway::Gateway,
    http,
    nats::NatsServer,
    needs,
    resources::resident_bytes,
    row::row,
    secure::{SecureSocket, trusting},
    socket::{Endpoint, RawSocket, Received},
    volume::Volume,
    wait::{SOON, until, until_true},
    websocat::{Websocat, send_file},
    wscat::Wscat,
};

const LIVE: &str = "
websocket: {handshakeTimeout: 1s, maxMessageSize: 2Mi}
routes:
  - {name: echo, path: /echo, fromClient: {type: Echo}}
  - name: news
    path: /news
    fromClient: {type: Discard}
    toClient: [{name: live, type: Core, subjects: [news]}]
";

/// A gateway with a certificate in a volume, as the kubelet mounts one.
struct Stage {
    authority: Authority,
    volume: Volume,
    gateway: Gateway,
    nats: NatsServer,
}

impl Stage {
    fn start() -> Self {
        Self::with(LIVE)
    }

    fn with(live: &str) -> Self {
        let (authority, nats) = (Authority::make(), NatsServer::start());
        let leaf = authority.sign(&["localhost"]);
        let volume = Volume::of(&files(&leaf));
        let pair = ["tls.crt", "tls.key"].map(|name| volume.path(name));
        let gateway = Gateway::secured(&nats.url(), live, &pair);
        Self {
            authority,
            volume,
            gateway,
            nats,
        }
    }

    fn trust(&self) -> Arc<ClientConfig> {
        trusting(&self.authority.certificate())
    }

    fn open(&self, path: &str) -> SecureSocket {
        SecureSocket::open(&self.trust(), self.gateway.address(), path)
    }

    fn url(&self, path: &str) -> String {
        format!("wss://localhost:{}{path}", self.gateway.address().port())
    }

    fn refused(&self, reason: &str) -> f64 {
        let labels = [("reason", reason)];
        self.gateway
            .metrics()
            .sum("wsgateway_handshakes_refused_total", &labels)
    }
}

fn files(leaf: &Leaf) -> [(&'static str, String); 2] {
    [
        ("tls.crt", leaf.certificate.clone()),
        ("tls.key", leaf.key.clone()),
    ]
}

fn echoes(socket: &mut SecureSocket, message: &[u8]) {
    socket.send_frame(&Frame::text(message));
    assert!(socket.message(SOON) == message);
}

#[test]
fn the_usual_clients_connect_by_wss() {
    needs!(NatsServer, Wscat, Websocat);
    let stage = Stage::start();
    let mut wscat = Wscat::connect(&stage.url("/echo"), &[]);
    wscat.say("by wscat");
    wscat.hears("by wscat", SOON);
    let mut websocat = Websocat::start(&stage.url("/echo"), &[]);
    websocat.say("by websocat");
    websocat.hears("by websocat", SOON);

    let mut own = stage.open("/echo");
    let agreed = (Some(&b"http/1.1"[..]), ProtocolVersion::TLSv1_3);
    assert_eq!(own.agreed(), agreed);
    echoes(&mut own, b"by a client that checks the certificate");
    own.send_frame(&Frame::new(PING, "still there?"));
    let pong = own.receive(SOON).unwrap();
    assert_eq!((pong.opcode, &*pong.payload), (PONG, &b"still there?"[..]));
    own.send_frame(&Frame::close(1000, "done"));
    assert_eq!(own.receive(SOON).unwrap().close_code(), Some(1000));
    own.end().expect("the gateway should end TLS before TCP");

    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let url = stage.url("/echo").replace("wss", "https");
        let version_max = &version[2..].replace("tlsv", "");
        let answer = http::curl(&[
            version,
            "--tls-max",
            version_max,
            "-sk",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ]);
        assert_eq!(answer.stdout, b"426", "{version}: {answer:?}");
    }
    stage
        .gateway
        .await_metric("wsgateway_connections", &[], 2.0);
}

#[test]
fn ten_thousand_messages_and_a_megabyte_go_both_ways() {
    needs!(NatsServer, Websocat);
    let stage = Stage::start();
    let mut echo = stage.open("/echo");
    // Written as fast as they are taken: the gateway reads many in a record, and answers many in one.
    for batch in 0..100 {
        let numbers = batch * 100..(batch + 1) * 100;
        let frames = numbers
            .clone()
            .map(|n| Frame::text(format!("{n}")).encode());
        echo.send(frames.collect::<Vec<_>>().concat());
        for number in numbers {
            assert_eq!(echo.message(SOON), format!("{number}").into_bytes());
        }
    }
    let large: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    echo.send_frame(&Frame::binary(large.clone()));
    assert!(echo.message(SOON) == large);

    let mut news = stage.open("/news");
    let nats = stage.nats.client();
    let all: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    nats.publish_all("news", &all);
    for message in &all {
        assert_eq!(news.message(SOON), message.as_bytes());
    }

    let directory = Directory::make();
    // A message has to fit into the buffer that websocat is given.
    let text = "x".repeat(190_000);
    let file = directory.write("large.txt", &text);
    let (came, said) = send_file(&stage.url("/echo"), &file);
    assert!(
        came.trim_ascii_end() == text.as_bytes(),
        "{} bytes came: {said}",
        came.len()
    );
}

#[test]
fn a_slow_reader_meets_its_policy_and_nobody_else_notices() {
    needs!(NatsServer);
    let live = LIVE.replace(
        "subjects: [news]}",
        "subjects: [news], slowConsumer: Disconnect}",
    );
    let limits = "limits: {outboxBytes: 256Ki}\nwebsocket: {writeWait: 2s, maxMessageSize: 2Mi}\n";
    let live = live.replace(
        "websocket: {handshakeTimeout: 1s, maxMessageSize: 2Mi}\n",
        limits,
    );
    let stage = Stage::with(&live);
    let slow = Endpoint {
        receive_bytes: Some(4 << 10),
        ..Endpoint::default()
    };
    let address = stage.gateway.address();
    let _slow = SecureSocket::open_from(slow, &stage.trust(), address, "/news");
    let mut quick = stage.open("/news");
    let nats = stage.nats.client();
    let message = vec![b'x'; 64 << 10];
    let closed = |reason| {
        let labels = [("reason", reason)];
        let metrics = stage.gateway.metrics();
        metrics.sum("wsgateway_connections_closed_total", &labels)
    };
    // Whether it is closed for its bytes or for its time depends on what the kernel takes.
    until_true("the slow one is closed", SOON, || {
        nats.publish("news", &message);
        assert_eq!(quick.message(SOON).len(), message.len());
        closed("SlowConsumer") + closed("WriteTimeout") > 0.5
    });
    until_true("its memory is free", SOON, || {
        stage.gateway.metrics().sum("wsgateway_buffered_bytes", &[]) == 0.0
    });
    stage
        .gateway
        .await_metric("wsgateway_connections", &[], 1.0);
}

/// What waits as a record, and no longer as a frame, must not live for ever either.
#[test]
fn a_client_that_stops_reading_is_closed_after_write_wait() {
    needs!(NatsServer);
    let live = LIVE.replace(
        "handshakeTimeout: 1s",
        "handshakeTimeout: 1s, writeWait: 1s",
    );
    let stage = Stage::with(&live);
    let slow = Endpoint {
        receive_bytes: Some(4 << 10),
        ..Endpoint::default()
    };
    let address = stage.gateway.address();
    let _slow = SecureSocket::open_from(slow, &stage.trust(), address, "/news");
    let nats = stage.nats.client();
    until_true("it is closed", SOON, || {
        nats.publish("news", vec![b'x'; 10 << 10]);
        let labels = [("reason", "WriteTimeout")];
        let metrics = stage.gateway.metrics();
        metrics.sum("wsgateway_connections_closed_total", &labels) > 0.5
    });
}

#[test]
fn a_changed_certificate_is_shown_to_new_clients_and_closes_nobody() {
    needs!(NatsServer);
    let mut stage = Stage::start();
    let mut before = stage.open("/echo");
    let not_after = "wsgateway_tls_certificate_not_after_timestamp_seconds";

    let day = Duration::from_secs(86_400);
    let now = SystemTime::now();
    let second = stage
        .authority
        .sign_for(&["localhost"], now - day, now + 10 * day);
    stage.volume.update_all(&files(&second));
    let first = before.certificate();
    until_true("new clients see the new certificate", SOON, || {
        stage.open("/echo").certificate() != first
    });
    let ends = (now + 10 * day)
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let said = stage.gateway.metrics().sum(not_after, &[]);
    assert!((said - ends.as_secs_f64()).abs() < 2.0, "{said}");
    echoes(&mut before, b"still here");

    let shown = stage.open("/echo").certificate();
    let foreign = stage.authority.sign(&["localhost"]);
    let third = stage.authority.sign(&["localhost"]);
    let mismatched = Leaf {
        key: foreign.key.clone(),
        ..third.clone()
    };
    let broken = Leaf {
        certificate: "no certificate".to_owned(),
        ..third.clone()
    };
    for (leaf, reason) in [(&mismatched, "KeyMismatch"), (&broken, "NoCertificate")] {
        row(reason, || {
            stage.volume.update_all(&files(leaf));
            let report = until("the report says so", SOON, || {
                let report = http::get(stage.gateway.admin(), "/status").text();
                report
                    .contains(&format!("\"reason\":\"{reason}\""))
                    .then_some(report)
            });
            assert!(!report.contains("PRIVATE"), "{report}");
            assert_eq!(stage.open("/echo").certificate(), shown);
        });
    }
    let rejected = stage.gateway.metrics();
    let labels = [("result", "rejected")];
    assert!(rejected.sum("wsgateway_tls_certificate_reloads_total", &labels) >= 2.0);
    let log = stage.gateway.process.lines().join("\n");
    assert!(
        log.contains("KeyMismatch") && !log.contains("PRIVATE"),
        "{log}"
    );

    stage.volume.update_all(&files(&third));
    until_true("a good one heals it", SOON, || {
        let report = http::get(stage.gateway.admin(), "/status").text();
        !report.contains("rejected") && stage.open("/echo").certificate() != shown
    });
    echoes(&mut before, b"and here");
}

#[test]
fn who_speaks_no_tls_is_refused_and_counted() {
    needs!(NatsServer);
    let stage = Stage::start();
    let address = stage.gateway.address();
    let answer = RawSocket::connect(address).upgrade("/echo", "");
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.header("wsgateway-reason"), Some("PlainHttp"));

    let stranger = trusting(&Authority::make().certificate());
    let refused = SecureSocket::try_connect(Endpoint::default(), &stranger, address);
    assert!(refused.is_err(), "nobody trusts this certificate");
    let mut garbage = RawSocket::connect(address);
    garbage.send([0xFF; 64]);
    assert!(matches!(
        garbage.receive(SOON),
        Received::End | Received::Reset | Received::Frame(_)
    ));
    // Half a ClientHello, and then nothing.
    let mut silent = RawSocket::connect(address);
    silent.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    let mut mute = RawSocket::connect(address);
    for socket in [&mut silent, &mut mute] {
        assert_eq!(socket.receive(SOON), Received::End);
    }
    // A load balancer that looks whether the port is open is nobody's fault.
    drop(RawSocket::connect(address));
    until_true("they are counted", SOON, || {
        let counts = ["PlainHttp", "TlsFailed", "HandshakeTimeout"].map(|it| stage.refused(it));
        counts[0] >= 1.0 && counts[1] >= 2.0 && counts[2] >= 2.0
    });
    assert!(stage.refused("BrokenHead") < 0.5);
    echoes(&mut stage.open("/echo"), b"and others are served");
}

#[test]
fn a_gateway_without_a_usable_certificate_does_not_start() {
    needs!(NatsServer);
    let (directory, nats) = (Directory::make(), NatsServer::start());
    let leaf = Authority::make().sign(&["localhost"]);
    let other = Authority::make().sign(&["localhost"]);
    let pair: [PathBuf; 2] = [
        directory.write("tls.crt", leaf.certificate),
        directory.write("tls.key", &other.key),
    ];
    let mut gateway = Gateway::launch_secured(&nats.url(), LIVE, &pair);
    assert_eq!(gateway.process.exit(SOON).code(), Some(1));
    let log = gateway.process.lines().join("\n");
    assert!(log.contains("is not the key of the certificate"), "{log}");
    assert!(!log.contains("PRIVATE"), "{log}");
}

/// rustls' own buffers would be 4 KiB for each, and what tokio-rustls and hyper keep would be more.
#[test]
fn an_idle_connection_has_no_buffer() {
    needs!(NatsServer);
    let stage = Stage::start();
    let trust = stage.trust();
    let secure = bytes_each(&stage.gateway, || {
        SecureSocket::open(&trust, stage.gateway.address(), "/echo")
    });
    let plain = Gateway::start(&stage.nats.url(), LIVE);
    let plain = bytes_each(&plain, || RawSocket::open(plain.address(), "/echo"));
    let figures = format!("{secure} bytes for each idle connection with TLS, {plain} without");
    let _ = writeln!(std::io::stderr(), "{figures}");
    assert!(secure < plain + 4_096, "{figures}");
}

/// What each of a thousand connections adds to the gateway's memory.
fn bytes_each<C>(gateway: &Gateway, open: impl Fn() -> C) -> u64 {
    const COUNT: u64 = 1_000;
    // Of what is made once.
    let first: Vec<_> = (0..100).map(|_| open()).collect();
    let before = resident_bytes(gateway.pid());
    let more: Vec<_> = (0..COUNT).map(|_| open()).collect();
    let each = resident_bytes(gateway.pid()).saturating_sub(before) / COUNT;
    drop((first, more));
    each
}
