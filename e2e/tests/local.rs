//! `wsgw local` as a keeper of processes: what it refuses, what it brings back, and that it leaves
//! nothing behind.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use wsgateway_e2e::{
    certificate::Authority,
    directory::Directory,
    frame::{CLOSE, Frame, PING},
    http,
    local::{Local, UP, manifest},
    needs,
    port::Port,
    resources::{descendants, is_alive},
    row::row,
    socket::{Endpoint, RawSocket, Received, request},
    wait::{SOON, until, until_true},
};

const SPEC: &str = "
replicas: 2
rollout: {propagation: 500ms, drain: {period: 1s}}
routes:
  - name: news
    path: /news
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, core: {subjects: [news]}}]
";

/// How long a message may take before it counts as lost.
const A_WHILE: Duration = Duration::from_secs(2);

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Whether a new client is served, from NATS on.
fn serves(local: &Local) -> bool {
    let Ok(mut socket) = RawSocket::try_connect(Endpoint::default(), local.http()) else {
        return false;
    };
    if socket.try_send(request("/news", "")).is_err()
        || socket.head(SOON).is_none_or(|answer| answer.status != 101)
    {
        return false;
    }
    local.nats().publish("news", "x");
    matches!(socket.receive(A_WHILE), Received::Frame(frame) if frame.opcode != CLOSE)
}

#[test]
fn whatever_is_killed_comes_back() {
    needs!(NatsServer, Nginx);
    let local = Local::start(SPEC);
    until_true("clients are served", UP, || serves(&local));
    for program in ["wsgateway", "nats-server", "nginx"] {
        row(program, || {
            let before = local.running(program);
            let victim = before[0];
            signal(victim, Signal::SIGKILL);
            let began = Instant::now();
            until_true("another runs", UP, || {
                let now = local.running(program);
                now.len() == before.len() && !now.contains(&victim)
            });
            until_true("clients are served again", UP, || serves(&local));
            println!("{program} was back after {:?}", began.elapsed());
        });
    }
}

#[test]
fn a_worker_that_is_told_to_end_lets_its_clients_go_and_comes_back() {
    needs!(NatsServer, Nginx);
    let local = Local::start(&SPEC.replace("replicas: 2", "replicas: 1"));
    let mut client = RawSocket::open(local.http(), "/news");
    let worker = local.await_running("wsgateway", 1)[0];
    signal(worker, Signal::SIGTERM);
    assert_eq!(client.closed(SOON), Some(1012));
    until_true(
        "another runs",
        UP,
        || matches!(local.running("wsgateway")[..], [pid] if pid != worker),
    );
    until_true("clients are served again", UP, || serves(&local));
}

#[test]
fn sockets_stay_when_a_limit_changes_or_the_file_is_wrong_for_a_while() {
    needs!(NatsServer, Nginx);
    let mut local = Local::start(SPEC);
    let mut client = RawSocket::open(local.http(), "/news");
    let echoes = |client: &mut RawSocket, text: &str| {
        client.send_frame(&Frame::text(text));
        assert_eq!(client.message(SOON), text);
    };
    echoes(&mut client, "one");
    local.rewrite(&format!(
        "websocket: {{pingPeriod: 1s, pongWait: 3s, writeWait: 2s}}\n{SPEC}"
    ));
    // The old deadlines were of half a minute and a minute: the new ones start with the new file.
    match client.receive(SOON) {
        Received::Frame(frame) if frame.opcode == PING => {}
        other => panic!("no ping came, but {other:?}"),
    }
    echoes(&mut client, "two");
    local.rewrite("routes: [{name: news, path: news}]");
    local.process.line("path", SOON);
    echoes(&mut client, "three");
    local.rewrite(&format!("limits: {{connectionsPerPod: 1}}\n{SPEC}"));
    until_true("the new limit holds", SOON, || {
        // All stay open until the last has been answered: the places of two workers are then taken.
        let mut sockets: Vec<_> = (0..4).map(|_| RawSocket::connect(local.http())).collect();
        let answers = sockets
            .iter_mut()
            .map(|socket| socket.upgrade("/news", "").status);
        answers.collect::<Vec<_>>().contains(&503)
    });
}

#[test]
fn ctrl_c_ends_everything_in_order() {
    needs!(NatsServer, Nginx);
    let mut local = Local::start(SPEC);
    let mut client = RawSocket::open(local.http(), "/news");
    let all = descendants(local.process.pid());
    assert!(
        all.len() >= 5,
        "two workers, nats-server, nginx and its worker: {all:?}"
    );
    let began = Instant::now();
    assert_eq!(local.stop(), Some(0));
    println!("it took {:?}", began.elapsed());
    assert_eq!(client.closed(SOON), Some(1012));
    let left: Vec<_> = all.into_iter().filter(|&pid| is_alive(pid)).collect();
    assert!(left.is_empty(), "{left:?} still run");
}

#[test]
fn nothing_outlives_a_wsgw_that_is_killed_and_the_next_one_starts() {
    needs!(NatsServer, Nginx);
    let mut local = Local::start(SPEC);
    let all = descendants(local.process.pid());
    // It alone, not its group: as the kernel does when memory ends.
    local.process.signal(Signal::SIGKILL);
    local.process.exit(SOON);
    until("nothing is left", SOON, || {
        let left: Vec<_> = all.iter().filter(|&&pid| is_alive(pid)).collect();
        left.is_empty().then_some(())
    });
    let state = local.directory().path().join("state");
    let again = Local::start_with(SPEC, &["--state-dir", state.to_str().unwrap()]);
    until_true("clients are served", UP, || serves(&again));
}

#[test]
fn what_it_cannot_start_it_says_in_a_line_and_leaves_nothing_running() {
    needs!(NatsServer, Nginx);
    let files = Directory::make();
    let authority = Authority::make();
    let (one, other) = (
        authority.sign(&["localhost"]),
        authority.sign(&["localhost"]),
    );
    let file = |name: &str, text: &str| files.write(name, text).display().to_string();
    let (crt, key) = (file("one.crt", &one.certificate), file("one.key", &one.key));
    let (other_key, garbage) = (file("other.key", &other.key), file("garbage", "garbage"));
    let closed = file("closed.key", &one.key);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let check = |what: &str, options: &[&str], named: &str| {
        row(what, || {
            let mut local = Local::launch(&manifest(SPEC), options);
            let status = local.process.exit(UP);
            assert!(status.code().is_some_and(|code| code != 0), "{status}");
            local.process.line(named, SOON);
            let all = descendants(local.process.pid());
            assert!(all.is_empty(), "{all:?} still run");
        });
    };
    let port = Port::lease();
    let _taken = TcpListener::bind(port.address()).unwrap();
    let taken = port.number().to_string();
    check("a busy port for TLS", &["--https-port", &taken], &taken);
    check("a busy port", &["--http-port", &taken], &taken);
    check("no nginx", &["--nginx", "/nowhere/nginx"], "/nowhere/nginx");
    check(
        "no nats-server",
        &["--nats-server", "/nowhere/nats"],
        "/nowhere/nats",
    );
    check(
        "no gateway",
        &["--gateway", "/nowhere/gateway"],
        "/nowhere/gateway",
    );
    check("a program that is none", &["--nginx", &garbage], &garbage);
    check(
        "no certificate",
        &["--tls-cert", "/nowhere.crt", "--tls-key", &key],
        "/nowhere.crt",
    );
    check(
        "no key",
        &["--tls-cert", &crt, "--tls-key", "/nowhere.key"],
        "/nowhere.key",
    );
    check(
        "a certificate that is none",
        &["--tls-cert", &garbage, "--tls-key", &key],
        &garbage,
    );
    check(
        "a key that is none",
        &["--tls-cert", &crt, "--tls-key", &garbage],
        &garbage,
    );
    check(
        "another's key",
        &["--tls-cert", &crt, "--tls-key", &other_key],
        &other_key,
    );
    if fs::read(&closed).is_err() {
        check(
            "a key that it may not read",
            &["--tls-cert", &crt, "--tls-key", &closed],
            &closed,
        );
    }
    row("no manifest", || {
        let mut local = Local::launch(&manifest(SPEC), &["-f", "/nowhere.yaml"]);
        assert_ne!(local.process.exit(UP).code(), Some(0));
    });
}

#[test]
fn a_certificate_that_the_user_brings_is_the_one_that_is_served() {
    needs!(NatsServer, Nginx, Curl);
    let files = Directory::make();
    let authority = Authority::make();
    let leaf = authority.sign(&["localhost", "127.0.0.1"]);
    let file = |name: &str, text: &str| files.write(name, text).display().to_string();
    let (crt, key) = (
        file("localhost.pem", &leaf.certificate),
        file("key.pem", &leaf.key),
    );
    let ca = file("ca.pem", &authority.certificate());
    let local = Local::start_with(SPEC, &["--tls-cert", &crt, "--tls-key", &key]);
    let url = format!("https://localhost:{}/status", local.https().port());
    let output = http::curl(&["--cacert", &ca, &url]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn keys_are_readable_by_their_owner_alone() {
    needs!(NatsServer, Nginx);
    let local = Local::start(SPEC);
    let mut folders = vec![local.directory().path().join("state")];
    let mut keys = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).is_ok_and(|b| b.windows(11).any(|w| w == b"PRIVATE KEY")) {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
                keys += 1;
            }
        }
    }
    assert!(keys >= 2, "the authority's and the server's");
}

#[test]
fn nginx_and_the_workers_are_counted_in_prometheus_form() {
    needs!(NatsServer, Nginx);
    let mut local = Local::start(SPEC);
    let _clients: Vec<_> = (0..5)
        .map(|_| RawSocket::open(local.http(), "/news"))
        .collect();
    until_true("nginx counts them", SOON, || {
        local.metrics().sum("nginx_connections_active", &[]) >= 5.0
    });
    until_true("the workers count them", SOON, || {
        (local.metrics().sum("wsgateway_connections", &[]) - 5.0).abs() < 0.5
    });
    assert_eq!(local.stop(), Some(0));
}

#[test]
fn a_wrong_manifest_is_refused_with_a_sentence_that_names_its_fields() {
    needs!(NatsServer, Nginx);
    let refused = |what: &str, text: &str, named: &[&str]| {
        row(what, || {
            let mut local = Local::launch(text, &[]);
            assert_ne!(local.process.exit(UP).code(), Some(0));
            let said = local.process.lines();
            let line = said
                .iter()
                .find(|line| named.iter().all(|name| line.contains(name)));
            assert!(line.is_some(), "no line names {named:?}: {said:#?}");
            assert!(said.len() <= 3, "it says it in few words: {said:#?}");
        });
    };
    let documents = include_str!("fixtures/wrong-manifests.yaml")
        .split("---\n")
        .skip(1);
    let mut count = 0;
    for document in documents {
        let (head, spec) = document.split_once('\n').unwrap();
        let (what, named) = head.trim_start_matches("# ").split_once(" => ").unwrap();
        refused(
            what,
            &manifest(spec),
            &named.split(", ").collect::<Vec<_>>(),
        );
        count += 1;
    }
    assert!(count > 20, "the fixture has {count} documents");
    let good = manifest("routes: [{name: a, path: /a}]");
    refused(
        "another kind",
        &good.replace("kind: WsGateway", "kind: Gateway"),
        &["WsGateway"],
    );
    refused(
        "another version",
        &good.replace("v1alpha1", "v9"),
        &["v1alpha1"],
    );
    refused(
        "two of them",
        &format!("{good}---\n{}", good.replace("e2e", "other")),
        &["2 WsGateways"],
    );
    refused("no YAML", "{", &["gateway.yaml"]);
    refused("nothing", "", &["gateway.yaml"]);
    refused("no file of text", "\u{0}\u{1}", &["gateway.yaml"]);
}
