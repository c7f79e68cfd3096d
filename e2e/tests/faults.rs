//! What the gateway does when things around it fail, are taken away, or are wrong from the start.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use wsgateway_e2e::{
    directory::Directory,
    frame::{CLOSE, Frame},
    gateway::Gateway,
    http,
    nats::NatsServer,
    needs,
    port::Port,
    process::{Process, command},
    program::Program,
    row::row,
    socket::{Endpoint, RawSocket, Received},
    wait::{SOON, until, until_true},
};

const SILENCE: Duration = Duration::from_millis(300);

const LIVE: &str = "
drain: {propagation: 500ms, period: 1s, retryAfterMin: 2s, retryAfterMax: 9s}
routes:
  - {name: echo, path: /echo, fromClient: {type: Echo}}
  - {name: publish, path: /publish, fromClient: {type: Publish, subject: news}}
  - name: news
    path: /news
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, subjects: [news]}]
";

fn start() -> (NatsServer, Gateway) {
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    (nats, gateway)
}

fn open(gateway: &Gateway, path: &str) -> RawSocket {
    RawSocket::open(gateway.address(), path)
}

fn status(gateway: &Gateway, path: &str) -> u16 {
    RawSocket::connect(gateway.address())
        .upgrade(path, "")
        .status
}

fn echoes(socket: &mut RawSocket, text: &str) {
    socket.send_frame(&Frame::text(text));
    assert_eq!(socket.message(SOON), text);
}

#[test]
fn clients_outlive_a_nats_server_that_is_killed_and_comes_back() {
    needs!(NatsServer);
    let (mut server, mut gateway) = start();
    let (mut news, mut echo) = (open(&gateway, "/news"), open(&gateway, "/echo"));
    let mut publish = open(&gateway, "/publish");
    server.client().publish("news", "before");
    assert_eq!(news.message(SOON), "before");

    gateway.await_metric("wsgateway_nats_connected", &[], 1.0);

    server.kill();
    gateway.await_metric("wsgateway_nats_connected", &[], 0.0);
    until_true("a route that needs NATS is refused", SOON, || {
        status(&gateway, "/news") == 503
    });
    assert_eq!(status(&gateway, "/publish"), 503);
    let mut new_echo = open(&gateway, "/echo");
    for socket in [&mut news, &mut echo, &mut new_echo] {
        echoes(socket, "still here");
    }
    assert!(
        gateway.is_ready(),
        "all pods at once would leave the Service"
    );
    publish.send_frame(&Frame::text("for nobody"));
    assert_eq!(
        publish.closed(SOON),
        Some(1013),
        "a message is refused, never buffered"
    );
    until_true("the log says so", SOON, || {
        let said = gateway.process.lines().join("\n").to_lowercase();
        said.contains("nats") && said.contains("disconnect")
    });

    server.restart();
    let nats = server.client();
    until("delivery resumes", SOON, || {
        nats.publish("news", "after");
        matches!(news.receive(SILENCE), Received::Frame(_)).then_some(())
    });
    assert_eq!(status(&gateway, "/news"), 101);
    gateway.await_metric("wsgateway_nats_connected", &[], 1.0);
    gateway.process.signal(Signal::SIGTERM);
    assert_eq!(gateway.process.exit(SOON).code(), Some(0));
}

#[test]
fn sigterm_closes_every_client_with_1012_and_a_hint_and_ends_with_0() {
    needs!(NatsServer);
    let (_nats, mut gateway) = start();
    let mut clients: Vec<_> = (0..100).map(|_| open(&gateway, "/echo")).collect();
    let mut stubborn = open(&gateway, "/echo");
    let began = Instant::now();
    gateway.process.signal(Signal::SIGTERM);
    until_true("it leaves readiness at once", SOON, || !gateway.is_ready());
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(
        http::get(gateway.admin(), "/livez").status,
        200,
        "it is well all the same"
    );
    // Proxies still send clients here until they have heard.
    if began.elapsed() < Duration::from_millis(400) {
        echoes(&mut open(&gateway, "/echo"), "late");
    }
    let mut hints = Vec::new();
    for client in &mut clients {
        let close = client.frame(SOON);
        assert_eq!(close.close_code(), Some(1012), "{close:?}");
        hints.push(String::from_utf8(close.payload[2..].to_vec()).unwrap());
        client.send_frame(&Frame::close(1012, ""));
    }
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "not before propagation"
    );
    hints.sort();
    hints.dedup();
    assert!(
        hints.len() > 10,
        "they do not all come back at one moment: {hints:?}"
    );
    assert!(
        RawSocket::try_connect(Endpoint::default(), gateway.address()).is_err(),
        "it listens no more"
    );
    // One that does not answer its close frame does not hold the process.
    assert_eq!(stubborn.frame(SOON).opcode, CLOSE);
    let status = gateway.process.exit(SOON);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn descriptors_that_run_out_keep_new_clients_out_and_nobody_else() {
    const DESCRIPTORS: usize = 600;
    // 256 are for other things, and of the rest clients get 95 %.
    const CLIENTS: usize = (DESCRIPTORS - 256) * 95 / 100;
    needs!(NatsServer);
    let nats = NatsServer::start();
    let mut gateway = Gateway::with_descriptors(&nats.url(), LIVE, DESCRIPTORS);
    gateway
        .process
        .line("the descriptor limit allows fewer connections", SOON);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| open(&gateway, "/echo")).collect();
    assert_eq!(status(&gateway, "/echo"), 503);
    until_true("it sends new clients elsewhere", SOON, || {
        !gateway.is_ready()
    });
    // Who says nothing takes the rest.
    let silent: Vec<_> = (0..DESCRIPTORS - CLIENTS)
        .map(|_| RawSocket::connect(gateway.address()))
        .collect();
    until_true("an accept fails", SOON, || {
        let lines = gateway.process.lines();
        lines
            .iter()
            .any(|line| line.contains("cannot accept a connection"))
    });
    for client in &mut clients {
        echoes(client, "open");
    }
    drop(silent);
    drop(clients.split_off(CLIENTS / 2));
    until_true("it takes clients again", SOON, || gateway.is_ready());
    echoes(&mut open(&gateway, "/echo"), "new");
    for client in &mut clients {
        echoes(client, "open");
    }
}

#[test]
fn a_changed_file_takes_effect_and_closes_only_what_it_forbids() {
    needs!(NatsServer);
    let (nats, mut gateway) = start();
    let nats = nats.client();
    let (mut echo, mut news) = (open(&gateway, "/echo"), open(&gateway, "/news"));
    let mut publish = open(&gateway, "/publish");
    row("another limit", || {
        gateway.reload(&format!("websocket: {{maxMessageSize: 100}}\n{LIVE}"));
        until_true("a new client is held to the new limit", SOON, || {
            let mut socket = open(&gateway, "/echo");
            socket.send_frame(&Frame::text("x".repeat(101)));
            socket.frame(SOON).close_code() == Some(1009)
        });
        echoes(&mut echo, &"x".repeat(100));
    });
    row("a file that is wrong", || {
        let lines = gateway.process.lines().len();
        gateway.reload(&LIVE.replace("Echo", "Ecco"));
        until_true("the log says what is wrong", SOON, || {
            gateway.process.lines()[lines..]
                .iter()
                .any(|line| line.contains("Ecco"))
        });
        echoes(&mut open(&gateway, "/echo"), "the old one goes on");
        echoes(&mut echo, "also here");
        assert!(gateway.is_ready());
    });
    row("a route that is gone", || {
        gateway.reload(&LIVE.replace("/publish", "/publish-it"));
        assert_eq!(status(&gateway, "/echo"), 101);
        let code = publish.closed(SOON);
        assert!([Some(1008), Some(1012)].contains(&code), "{code:?}");
        // One thread of the gateway may be a moment behind the other.
        until_true("nobody finds the old path", SOON, || {
            (0..8).all(|_| status(&gateway, "/publish") == 404)
        });
        assert_eq!(status(&gateway, "/publish-it"), 101);
    });
    row("another subject", || {
        gateway.reload(&LIVE.replace("[news]", "[olds]"));
        until_true("a new client hears it", SOON, || {
            let mut socket = open(&gateway, "/news");
            nats.publish("olds", "x");
            matches!(socket.receive(SILENCE), Received::Frame(f) if f.opcode != CLOSE)
        });
        let code = news.closed(SOON);
        assert!([Some(1008), Some(1012)].contains(&code), "{code:?}");
    });
    echoes(&mut echo, "this one never noticed");
}

#[test]
fn a_gateway_that_cannot_start_says_why_in_few_words() {
    let directory = Directory::make();
    let (clients, admin) = (Port::lease(), Port::lease());
    let good = lonely(&clients, &admin);
    let instead = |old: &str, new: &str| {
        assert!(good.contains(old), "{old} is not in the good one");
        good.replace(old, new)
    };
    let one = "{name: a, path: /a, fromClient: {type: Echo}}";
    let twice = &format!("{one}, {{name: b, path: /a, fromClient: {{type: Echo}}}}");
    let token = "credentials: {type: Token, file: /nowhere}, servers:";
    let slow_ping = "websocket: {pingPeriod: 60s, pongWait: 60s}";
    let slow_write = "websocket: {writeWait: 60s, pongWait: 60s}";
    #[rustfmt::skip] // A row a line.
    let table = [
        ("no YAML", "{".to_owned(), ""),
        ("no part boot", instead("boot:", "boots:"), "missing field `boot`"),
        ("no routes", instead(one, ""), "routes"),
        ("a path twice", instead(one, twice), "paths"),
        ("an unknown mode", instead("Echo", "Ecco"), "Ecco"),
        ("a path without a slash", instead("/a", "a"), "path"),
        ("no NATS server", instead("[\"nats://127.0.0.1:1\"]", "[]"), "servers"),
        ("a server that is no URL", instead("nats://127.0.0.1:1", "::::"), "::::"),
        ("no address", instead(&clients.address().to_string(), "nowhere"), "nowhere"),
        ("a secret that is not there", instead("servers:", token), "/nowhere"),
        ("pings too rare", instead("websocket: {}", slow_ping), "pingPeriod"),
        ("writes too slow", instead("websocket: {}", slow_write), "writeWait"),
    ];
    for (what, text, named) in table {
        row(what, || {
            let file = directory.write("gateway.yaml", text);
            check_refused(&file.display().to_string(), named);
        });
    }
    row("no file", || {
        check_refused("/nowhere.yaml", "/nowhere.yaml");
    });
    for port in [&clients, &admin] {
        row("a port that is taken", || {
            let file = directory.write("gateway.yaml", &good);
            let _taken = TcpListener::bind(port.address()).unwrap();
            check_refused(&file.display().to_string(), &port.number().to_string());
        });
    }
}

#[test]
fn the_configuration_for_measurements_is_valid() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/gateway.yaml");
    let mut command = command(Program::Gateway.expect());
    let mut process = Process::start("wsgateway", command.args(["--check", "--config", file]));
    assert!(process.exit(SOON).success());
}

/// A good configuration whose NATS server is not there.
fn lonely(clients: &Port, admin: &Port) -> String {
    format!(
        "boot:\n  listen: {{clients: \"{}\", admin: \"{}\"}}\n  \
         nats: {{servers: [\"nats://127.0.0.1:1\"]}}\n\
         live:\n  websocket: {{}}\n  limits: {{}}\n  drain: {{}}\n  \
         routes: [{{name: a, path: /a, fromClient: {{type: Echo}}}}]\n",
        clients.address(),
        admin.address()
    )
}

/// The gateway must end with an error, and a line that holds `named`, in a short time.
fn check_refused(file: &str, named: &str) {
    let mut command = command(Program::Gateway.expect());
    let mut process = Process::start("wsgateway", command.args(["--config", file]));
    let status = process.exit(SOON);
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    process.line(named, SOON);
    let said = process.lines();
    // Beside the sentence, the lines of the file that it is about may be shown.
    assert!(
        (1..=12).contains(&said.len()),
        "it says it in few words: {said:#?}"
    );
    assert!(!said.join("\n").contains("panicked"), "{said:#?}");
}

#[test]
fn a_gateway_that_still_waits_for_nats_ends_in_order() {
    let directory = Directory::make();
    let (clients, admin) = (Port::lease(), Port::lease());
    let text = lonely(&clients, &admin).replace("drain: {}", "drain: {propagation: 100ms}");
    let file = directory.write("gateway.yaml", text);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        row(signal.as_str(), || {
            let mut command = command(Program::Gateway.expect());
            let mut process = Process::start("wsgateway", command.arg("--config").arg(&file));
            until_true("it answers", SOON, || {
                http::try_get(admin.address(), "/livez").is_ok()
            });
            process.signal(signal);
            assert_eq!(process.exit(SOON).code(), Some(0));
        });
    }
}
