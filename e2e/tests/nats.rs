//! What goes between NATS and clients: subjects, payloads, order, and how the gateway gets in.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::time::Duration;

use nix::sys::signal::Signal;
use wsgateway_e2e::{
    certificate::Authority,
    frame::{BINARY, Frame, TEXT},
    gateway::Gateway,
    identity::{Credentials, NKey},
    nats::NatsServer,
    needs,
    port::Port,
    row::row,
    socket::{RawSocket, Received, request},
    wait::{SOON, until, until_true},
};

/// Long enough that what has not come by then does not come.
const SILENCE: Duration = Duration::from_millis(500);

/// One route publishes, another delivers what it published.
const CHAT: &str = "
routes:
  - {name: out, path: /out, fromClient: {type: Publish, subject: chat.all}}
  - name: in
    path: /in
    fromClient: {type: Discard}
    toClient: [{name: live, type: Core, subjects: [chat.>]}]
";

/// Whether a message goes through the gateway's own NATS connection, out and back.
fn check_chat(gateway: &Gateway) {
    let mut reader = RawSocket::open(gateway.address(), "/in");
    let mut writer = RawSocket::open(gateway.address(), "/out");
    writer.send_frame(&Frame::text("hello"));
    assert_eq!(reader.message(SOON), "hello");
}

#[test]
fn every_message_reaches_every_subscriber_once_and_in_order() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let live = "
routes:
  - name: news
    path: /news
    fromClient: {type: Echo}
    toClient:
      - {name: wide, type: Core, subjects: [news.>, news.sport.*]}
      - {name: narrow, type: Core, subjects: [news.sport.chess]}
";
    let gateway = Gateway::start(&server.url(), live);
    let nats = server.client();
    let open = |_| RawSocket::open(gateway.address(), "/news");
    let mut clients: Vec<_> = (0..50).map(open).collect();
    for round in 0..3 {
        // The two sources overlap: a client must not see that.
        let payloads = (0..1_000).map(|number| format!("{round}.{number}"));
        nats.publish_all("news.sport.chess", payloads.clone());
        for client in &mut clients {
            for payload in payloads.clone() {
                assert_eq!(client.message(SOON), payload);
            }
        }
    }
    nats.publish("news.weather", "rain");
    nats.publish("sport.news", "not for these");
    for client in &mut clients {
        assert_eq!(client.message(SOON), "rain");
        client.send_frame(&Frame::text("echo"));
        assert_eq!(client.message(SOON), "echo", "nothing came in between");
    }
}

#[test]
fn a_client_that_is_open_misses_nothing_that_is_published_from_then_on() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let live = "
routes:
  - name: one
    path: /one
    fromClient: {type: Discard}
    toClient: [{name: live, type: Core, subjects: ['news.{query.of}']}]
";
    let gateway = Gateway::start(&server.url(), live);
    let nats = server.client();
    let missed = (0..50).filter(|number| {
        // A subject that nobody has subscribed to, so that nothing is prepared for it.
        let mut client = RawSocket::open(gateway.address(), &format!("/one?of={number}"));
        nats.publish(&format!("news.{number}"), "x");
        client.receive(SILENCE) == Received::Nothing
    });
    assert_eq!(
        missed.count(),
        0,
        "of 50 missed the message that came when they were open"
    );
}

#[test]
fn a_payload_is_framed_as_its_route_says() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let live = "
routes:
  - name: t
    path: /text
    payload: Text
    fromClient: {type: Echo}
    toClient: [{name: a, type: Core, subjects: [a]}]
  - name: b
    path: /binary
    payload: Binary
    fromClient: {type: Echo}
    toClient: [{name: a, type: Core, subjects: [a]}]
  - name: x
    path: /auto
    payload: Auto
    fromClient: {type: Echo}
    toClient: [{name: a, type: Core, subjects: [a]}]
";
    let gateway = Gateway::start(&server.url(), live);
    let nats = server.client();
    // Its subscription serves the others too.
    let _first = RawSocket::open(gateway.address(), "/text");
    until_true("it is subscribed", SOON, || {
        server.subscriptions_to("a") == 1
    });
    let utf8 = "κόσμε".as_bytes();
    // Beside the route the opcodes of a payload that is text, and of one that is not.
    let table = [
        ("/text", Some(TEXT), None),
        ("/binary", Some(BINARY), Some(BINARY)),
        ("/auto", Some(TEXT), Some(BINARY)),
    ];
    for (path, for_text, for_bytes) in table {
        row(path, || {
            let mut client = RawSocket::open(gateway.address(), path);
            nats.publish("a", utf8);
            nats.publish("a", b"\xFF\x00");
            nats.publish("a", "");
            for (opcode, payload) in [(for_text, utf8), (for_bytes, b"\xFF\x00"), (for_text, b"")] {
                if let Some(opcode) = opcode {
                    let frame = client.frame(SOON);
                    assert_eq!((frame.opcode, frame.payload.as_slice()), (opcode, payload));
                }
            }
        });
    }
}

#[test]
fn subjects_are_filled_in_from_path_and_query_or_refused() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let live = "
routes:
  - name: room
    path: /rooms/{room}
    fromClient: {type: Publish, subject: 'rooms.{path.room}.said.{query.as}'}
    toClient: [{name: live, type: Core, subjects: ['rooms.{path.room}.said.*']}]
";
    let gateway = Gateway::start(&server.url(), live);
    let nats = server.client();
    let mut inbox = nats.subscribe("rooms.>");
    let mut ann = RawSocket::open(gateway.address(), "/rooms/blue?as=ann");
    let mut bob = RawSocket::open(gateway.address(), "/rooms/blue?as=bob");
    let mut eve = RawSocket::open(gateway.address(), "/rooms/red?as=eve");
    ann.send_frame(&Frame::text("hi"));
    assert_eq!(bob.message(SOON), "hi");
    assert_eq!(ann.message(SOON), "hi", "who publishes is a subscriber too");
    assert_eq!(inbox.next(SOON).unwrap(), b"hi");
    nats.publish("rooms.red.said.nats", "to red");
    assert_eq!(eve.message(SOON), "to red", "and nothing before it");
    let long = "x".repeat(129);
    let refused = [
        "/rooms/a.b?as=x",
        "/rooms/*?as=x",
        "/rooms/%3E?as=x",
        "/rooms/a%20b?as=x",
        "/rooms/a%2Eb?as=x",
        "/rooms/a%00b?as=x",
        "/rooms/a?as=",
        "/rooms/a",
        "/rooms/a?as=x.y",
        "/rooms/a?as=%2A",
        "/rooms/a?as=x%0D%0APUB",
        &format!("/rooms/{long}?as=x"),
    ];
    for path in refused {
        row(path, || {
            let mut client = RawSocket::connect(gateway.address());
            assert_eq!(client.upgrade(path, "").status, 400);
        });
    }
    let taken = [
        "/rooms/a%2Db?as=x",
        "/rooms/%C3%A9?as=x",
        &format!("/rooms/{}?as=x", &long[1..]),
    ];
    for path in taken {
        row(path, || drop(RawSocket::open(gateway.address(), path)));
    }
}

#[test]
fn each_mode_does_with_a_clients_message_what_it_says() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let live = "
routes:
  - {name: e, path: /echo, fromClient: {type: Echo}}
  - {name: p, path: /publish, fromClient: {type: Publish, subject: from.clients}}
  - {name: d, path: /discard, fromClient: {type: Discard}}
  - {name: r, path: /reject, fromClient: {type: Reject}}
";
    let gateway = Gateway::start(&server.url(), live);
    let nats = server.client();
    let mut inbox = nats.subscribe(">");
    let open = |path| RawSocket::open(gateway.address(), path);

    let mut echo = open("/echo");
    echo.send_frame(&Frame::binary([0, 255]));
    assert_eq!(echo.frame(SOON), Frame::binary([0, 255]).unmasked());

    let mut publish = open("/publish");
    for number in 0..100 {
        publish.send_frame(&Frame::text(number.to_string()));
    }
    publish.send_frame(&Frame::text("in ").unfinished());
    publish.send_frame(&Frame::more("parts"));
    for number in 0..100 {
        assert_eq!(inbox.next(SOON).unwrap(), number.to_string().as_bytes());
    }
    assert_eq!(inbox.next(SOON).unwrap(), b"in parts");
    assert_eq!(publish.receive(SILENCE), Received::Nothing);

    let mut discard = open("/discard");
    discard.send_frame(&Frame::text("for nobody"));
    assert_eq!(discard.receive(SILENCE), Received::Nothing);

    let mut reject = open("/reject");
    reject.send_frame(&Frame::text("x"));
    assert_eq!(reject.closed(SOON), Some(1008));

    assert_eq!(inbox.next(SILENCE), None, "only one route publishes");
}

#[test]
fn the_gateway_gets_into_nats_by_every_kind_of_credential() {
    needs!(NatsServer);
    let authority = Authority::make();
    let (key, jwt) = (NKey::make(), Credentials::make());
    let files = wsgateway_e2e::directory::Directory::make();
    let secret = |name: &str, text: &str| files.write(name, text).display().to_string();
    let leaf = |name: &str| {
        let leaf = authority.sign(&["localhost", "127.0.0.1"]);
        let certificate = secret(&format!("{name}.crt"), &leaf.certificate);
        (certificate, secret(&format!("{name}.key"), &leaf.key))
    };
    let ca = secret("ca.crt", &authority.certificate());
    let (server_crt, server_key) = leaf("server");
    let (client_crt, client_key) = leaf("client");
    let tls = format!("cert_file: {server_crt}, key_file: {server_key}");
    // What the server asks for, and what the gateway has: white space around a secret is dropped.
    let table = [
        (
            "user and password",
            "authorization { user: ann, password: 'p w' }".to_owned(),
            format!(
                "credentials: {{type: UserPassword, userFile: {}, passwordFile: {}}}",
                secret("user", "ann\n"),
                secret("password", "p w\n"),
            ),
        ),
        (
            "token",
            "authorization { token: s3cr3t }".to_owned(),
            format!(
                "credentials: {{type: Token, file: {}}}",
                secret("token", "s3cr3t\n")
            ),
        ),
        (
            "nkey",
            format!("authorization {{ users: [{{nkey: {}}}] }}", key.public),
            format!(
                "credentials: {{type: NKey, file: {}}}",
                secret("nkey", &key.seed)
            ),
        ),
        (
            "creds",
            jwt.server.clone(),
            format!(
                "credentials: {{type: Creds, file: {}}}",
                secret("user.creds", &jwt.user)
            ),
        ),
        (
            "TLS",
            format!("tls {{ {tls} }}"),
            format!("tls: {{caFile: {ca}}}"),
        ),
        (
            "mutual TLS",
            format!("tls {{ {tls}, ca_file: {ca}, verify: true }}"),
            format!(
                "tls: {{caFile: {ca}, clientCertificate: \
                 {{certificateFile: {client_crt}, keyFile: {client_key}}}}}"
            ),
        ),
    ];
    for (what, asked, given) in table {
        row(what, || {
            let server = NatsServer::configured(&asked);
            let boot = |given: &str| format!("nats: {{servers: [\"{}\"], {given}}}", server.url());
            check_chat(&Gateway::configured(&boot(&given), CHAT));
            // Without it the gateway says so, and waits.
            let mut outside = Gateway::launch(&boot(""), CHAT);
            until("the log names NATS", SOON, || {
                let lines = outside.process.lines();
                lines
                    .iter()
                    .any(|line| line.to_lowercase().contains("nats"))
                    .then_some(())
            });
            assert!(outside.process.is_running() && !outside.is_ready());
        });
    }
}

#[test]
fn a_gateway_that_starts_before_nats_becomes_ready_when_it_comes() {
    needs!(NatsServer);
    let mut server = NatsServer::start();
    server.kill();
    let boot = format!("nats: {{servers: [\"{}\"]}}", server.url());
    let gateway = Gateway::launch(&boot, CHAT);
    until("the admin port answers", SOON, || {
        wsgateway_e2e::http::try_get(gateway.admin(), "/livez")
            .ok()
            .map(|r| assert_eq!(r.status, 200))
    });
    assert!(!gateway.is_ready(), "it waits for its first connection");
    server.restart();
    until("it is ready", SOON, || gateway.is_ready().then_some(()));
    check_chat(&gateway);
}

#[test]
fn one_server_of_several_is_enough() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let nobody = Port::lease();
    let boot = format!(
        "nats: {{servers: [\"nats://{}\", \"{}\"]}}",
        nobody.address(),
        server.url()
    );
    check_chat(&Gateway::configured(&boot, CHAT));
}

#[test]
fn a_server_in_lame_duck_mode_is_left_before_it_ends() {
    needs!(NatsServer);
    let (first_route, second_route) = (Port::lease(), Port::lease());
    let cluster = |own: &Port, other: &Port| {
        format!(
            "cluster {{ name: c, listen: \"{}\", routes: [\"nats://{}\"], no_advertise: true }}",
            own.address(),
            other.address()
        )
    };
    let first = NatsServer::configured(&cluster(&first_route, &second_route));
    let second = NatsServer::configured(&cluster(&second_route, &first_route));
    let boot = format!(
        "nats: {{servers: [\"{}\", \"{}\"]}}",
        first.url(),
        second.url()
    );
    let gateway = Gateway::configured(&boot, CHAT);
    let mut client = RawSocket::open(gateway.address(), "/in");
    let (leaving, staying) = if first.connections() > 0 {
        (first, second)
    } else {
        (second, first)
    };
    leaving.process.signal(Signal::SIGUSR2);
    until("the gateway has moved", SOON, || {
        (staying.connections() > 0).then_some(())
    });
    // By the seventh second of the ten that a server waits before it closes connections itself.
    let nats = staying.client();
    until("what is published there arrives", SOON, || {
        nats.publish("chat.all", "moved");
        matches!(client.receive(SILENCE), Received::Frame(_)).then_some(())
    });
}

#[test]
fn a_route_whose_subjects_nobody_hears_any_more_is_unsubscribed() {
    needs!(NatsServer);
    let server = NatsServer::start();
    let gateway = Gateway::start(&server.url(), CHAT);
    let clients: Vec<_> = (0..20)
        .map(|_| RawSocket::open(gateway.address(), "/in"))
        .collect();
    until("one subscription serves all", SOON, || {
        (server.subscriptions_to("chat.>") == 1).then_some(())
    });
    drop(clients);
    until("it is given up", Duration::from_secs(90), || {
        (server.subscriptions_to("chat.>") == 0).then_some(())
    });
    let mut client = RawSocket::connect(gateway.address());
    client.send(request("/in", ""));
    assert_eq!(client.head(SOON).unwrap().status, 101);
}
