//! The seed's table, row by row: real clients through a real nginx and TLS to three workers.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::{Duration, Instant},
};

use wsgateway_e2e::{
    frame::Frame,
    http,
    local::{Local, UP},
    needs,
    process::{Process, command},
    program::Program,
    resources::descriptors,
    row::row,
    socket::{Endpoint, RawSocket},
    wait::{SOON, pause, until, until_true},
    websocat::{self, Websocat},
    wscat::Wscat,
};

const PATH: &str = "/ws-notifications";

/// The seed's route.
const ROUTES: &str = "
routes:
  - name: notifications
    path: /ws-notifications
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, core: {subjects: [notifications.>]}}]
";

/// Deadlines of seconds in place of the seed's minutes, in the same order.
const QUICK: &str = "
websocket: {pingPeriod: 1s, pongWait: 2s, writeWait: 1s}
exposure: {proxyReadTimeout: 3s, proxySendTimeout: 3s}
";

/// A client from another network than its neighbours', since `ip_hash` keys the first three octets.
fn from_network(number: u8) -> Endpoint {
    Endpoint {
        address: Some(IpAddr::V4(Ipv4Addr::new(127, 0, number, 1))),
        receive_bytes: None,
    }
}

/// Opens a connection and tells which of the processes took it: the one with a descriptor more. So
/// nobody else may come or go meanwhile.
fn open_and_find(local: &Local, workers: &[u32], from: Endpoint) -> (RawSocket, u32) {
    let counts = || {
        workers
            .iter()
            .map(|&pid| descriptors(pid))
            .collect::<Vec<_>>()
    };
    // A worker that has just started still opens its files, and closed sockets take a moment.
    let before = until("the counts stay", SOON, || {
        let first = counts();
        pause(Duration::from_millis(20));
        (counts() == first).then_some(first)
    });
    let mut socket = RawSocket::open_from(from, local.http(), PATH);
    socket.send_frame(&Frame::text("who"));
    assert_eq!(socket.message(SOON), "who");
    let after = counts();
    let taken: Vec<_> = (0..workers.len())
        .filter(|&i| after[i] > before[i])
        .collect();
    assert_eq!(taken.len(), 1, "one worker took it: {before:?} {after:?}");
    (socket, workers[taken[0]])
}

#[test]
fn what_make_run_starts_delivers_to_wscat_and_echoes() {
    needs!(NatsServer, Nginx, Wscat);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let local = Local::start_file(&root.join("manifests/samples/notifications.yaml"));
    let nats = local.nats();
    let mut wscat = Wscat::connect(&local.wss(PATH), &[]);
    wscat.say("hello");
    wscat.hears("hello", SOON);
    let mut latencies: Vec<_> = (0..50)
        .map(|number| {
            let payload = format!("{{\"number\":{number}}}");
            let published = Instant::now();
            nats.publish("notifications.orders.1", &payload);
            wscat.hears(&payload, SOON).duration_since(published)
        })
        .collect();
    latencies.sort();
    println!(
        "publish to wscat: median {:?}, slowest {:?}",
        latencies[25], latencies[49]
    );

    // Every worker has its own subscription, and every client hears.
    let workers = local.running("wsgateway");
    assert_eq!(workers.len(), 3);
    let mut clients = Vec::new();
    let mut reached = Vec::new();
    for network in 1..=50 {
        let (client, worker) = open_and_find(&local, &workers, from_network(network));
        clients.push(client);
        reached.push(worker);
    }
    reached.sort_unstable();
    reached.dedup();
    assert_eq!(reached, workers, "all three serve");
    nats.publish("notifications.all", "to everybody");
    for client in &mut clients {
        assert_eq!(client.message(SOON), "to everybody");
    }
    wscat.hears("to everybody", SOON);
}

#[test]
fn pings_show_in_wscat_and_the_proxy_outlives_an_idle_client() {
    needs!(NatsServer, Nginx, Wscat);
    let local = Local::start(&format!("{QUICK}{ROUTES}"));
    let mut wscat = Wscat::connect(&local.wss(PATH), &["-P", "--slash"]);
    let began = Instant::now();
    let pings: Vec<_> = (0..6)
        .map(|_| {
            wscat
                .process
                .line("Received ping", Duration::from_secs(5))
                .at
        })
        .collect();
    for pair in pings.windows(2) {
        let period = pair[1] - pair[0];
        assert!(
            (0.9..2.5).contains(&period.as_secs_f64()),
            "a ping after {period:?}"
        );
    }
    wscat.say("/ping now");
    wscat.process.line("Received pong (data: \"now\")", SOON);
    // By now it has been idle for longer than proxyReadTimeout, but for its pongs.
    assert!(began.elapsed() > Duration::from_secs(4));
    wscat.say("still here");
    wscat.hears("still here", SOON);
}

#[test]
fn a_client_that_never_pongs_is_closed_by_the_gateway_and_not_by_the_proxy() {
    needs!(NatsServer, Nginx);
    let local = Local::start(&format!("{QUICK}{ROUTES}"));
    let mut socket = RawSocket::open(local.http(), PATH);
    let began = Instant::now();
    assert_eq!(
        socket.closed(SOON),
        Some(1008),
        "with a reason, where the proxy has none"
    );
    let took = began.elapsed().as_secs_f64();
    assert!(
        (1.9..5.0).contains(&took),
        "pongWait is 2 s, it took {took} s"
    );
}

#[test]
fn sizes_are_held_to_the_limit_and_pass_whole_below_it() {
    needs!(NatsServer, Nginx, Websocat);
    let local = Local::start(ROUTES);
    let text: String = ('a'..='z').cycle().take(102_400).collect();
    let file = local.directory().write("big_message.txt", &text);
    row("the seed's file with the seed's limit", || {
        let (echoed, said) = websocat::send_file(&local.wss(PATH), &file);
        assert!(echoed.is_empty(), "{} bytes came back", echoed.len());
        assert!(said.contains("Received WebSocket close message"), "{said}");
        // websocat does not show the code, but the gateway counts it.
        let closed = local
            .metrics()
            .sum("wsgateway_connections_closed_total", &[("code", "1009")]);
        assert!((closed - 1.0).abs() < 0.5, "{closed} were closed with 1009");
    });
    local.rewrite(&format!("websocket: {{maxMessageSize: 256Ki}}\n{ROUTES}"));
    row("the seed's file with a higher limit", || {
        let echoed = until("it is echoed", SOON, || {
            let (echoed, _) = websocat::send_file(&local.wss(PATH), &file);
            (!echoed.is_empty()).then_some(echoed)
        });
        assert_eq!(String::from_utf8(echoed).unwrap().trim_end(), text);
    });
    local.rewrite(&format!("websocket: {{maxMessageSize: 16Mi}}\n{ROUTES}"));
    row("10 MiB of binary", || {
        let sent = Frame::binary((0..=255).cycle().take(10 << 20).collect::<Vec<u8>>());
        until("it comes back", SOON, || {
            let mut socket = RawSocket::open(local.http(), PATH);
            // Under the old limit the gateway closes before it has all been sent.
            socket.try_send(sent.encode()).ok()?;
            let frame = socket.frame(SOON);
            (frame.close_code().is_none()).then(|| assert!(frame == sent.clone().unmasked()))
        });
    });
}

#[test]
fn the_status_page_counts_open_sockets_for_this_machine() {
    needs!(NatsServer, Nginx, Curl);
    let local = Local::start(ROUTES);
    let url = format!("https://localhost:{}/status", local.https().port());
    let active = || {
        let page = http::curl(&["-k", &url]);
        let text = String::from_utf8(page.stdout).unwrap();
        let count = text
            .strip_prefix("Active connections: ")
            .and_then(|rest| rest.split(' ').next());
        count
            .and_then(|count| count.trim().parse::<usize>().ok())
            .unwrap_or_else(|| panic!("{text}"))
    };
    let before = active();
    let clients: Vec<_> = (0..20)
        .map(|_| RawSocket::open(local.http(), PATH))
        .collect();
    assert_eq!(active(), before + 20);
    drop(clients);
    until_true("they are gone", SOON, || active() == before);
}

#[test]
fn an_address_stays_on_its_worker() {
    needs!(NatsServer, Nginx);
    let local = Local::start(ROUTES);
    let workers = local.await_running("wsgateway", 3);
    for network in 1..=5 {
        let mut reached: Vec<_> = (0..4)
            .map(|_| open_and_find(&local, &workers, from_network(network)).1)
            .collect();
        reached.dedup();
        assert_eq!(reached.len(), 1, "network {network} reached {reached:?}");
    }
}

#[test]
fn scaling_keeps_the_sockets_of_workers_that_stay() {
    needs!(NatsServer, Nginx);
    // A drain of the seed's length would be waited for.
    let spec = |replicas: u32| {
        format!(
            "replicas: {replicas}\nrollout: {{propagation: 1s, drain: {{period: 1s}}}}\n{ROUTES}"
        )
    };
    let local = Local::start(&spec(3));
    let nats = local.nats();
    let first = local.await_running("wsgateway", 3);
    let mut clients: Vec<_> = (1..=30)
        .map(|network| open_and_find(&local, &first, from_network(network)))
        .collect();

    local.rewrite(&spec(5));
    let five = local.await_running("wsgateway", 5);
    assert!(
        first.iter().all(|pid| five.contains(pid)),
        "none was restarted: {first:?} {five:?}"
    );
    let mut reached = Vec::new();
    let mut late = Vec::new();
    until("new clients reach all five", SOON, || {
        let number = late.len() as u8 + 100;
        let (client, worker) = open_and_find(&local, &five, from_network(number));
        late.push(client);
        reached.push(worker);
        five.iter().all(|pid| reached.contains(pid)).then_some(())
    });
    nats.publish("notifications.x", "to five");
    for client in clients
        .iter_mut()
        .map(|(client, _)| client)
        .chain(&mut late)
    {
        assert_eq!(client.message(SOON), "to five");
    }

    local.rewrite(&spec(2));
    let two = local.await_running("wsgateway", 2);
    assert!(
        two.iter().all(|pid| first.contains(pid)),
        "the first two stay: {first:?} {two:?}"
    );
    for (client, worker) in &mut clients {
        if two.contains(worker) {
            client.send_frame(&Frame::text("kept"));
            assert_eq!(client.message(SOON), "kept");
        } else {
            assert_eq!(client.closed(SOON), Some(1012));
        }
    }
}

#[test]
fn tls_is_trusted_by_who_trusts_the_local_authority() {
    needs!(NatsServer, Nginx, Curl, Wscat);
    let spec = format!("exposure: {{hosts: [ws.example.test]}}\n{ROUTES}");
    let local = Local::start(&spec);
    let authority = find(&local.directory().path().join("state"), "ca.crt");
    let authority = authority.to_str().unwrap();
    let port = local.https().port();
    for name in ["localhost", "127.0.0.1", "[::1]", "ws.example.test"] {
        row(name, || {
            let output = http::curl(&[
                "--cacert",
                authority,
                "--resolve",
                &format!("ws.example.test:{port}:127.0.0.1"),
                &format!("https://{name}:{port}/status"),
            ]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if !(name == "[::1]" && said.contains("connect")) {
                assert!(output.status.success(), "{said}");
            }
        });
    }
    let mut wscat = command(Program::Wscat.expect());
    wscat.args([
        "--no-color",
        "--ca",
        authority,
        "--connect",
        &local.wss(PATH),
    ]);
    Process::start_in_terminal("wscat", &mut wscat).line("Connected", SOON);
    let untrusted = http::curl(&[&format!("https://localhost:{port}/status")]);
    assert!(
        !untrusted.status.success(),
        "a stranger to the authority does not trust it"
    );
}

/// The file of that name somewhere below a folder.
fn find(folder: &Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                return entry.path();
            }
        }
    }
    panic!("there is no {name} below {}", folder.display())
}

#[test]
fn a_queue_behind_the_proxy_gives_each_message_to_a_client_that_lives() {
    needs!(NatsServer, Nginx, Websocat);
    let spec = "
rollout: {propagation: 1s, drain: {period: 1s}}
routes:
  - name: jobs
    path: /jobs
    fromClient: {type: Discard}
    toClient:
      - name: jobs
        type: Queue
        queue:
          {stream: JOBS, durable: workers, ackWait: 60s, maxDeliver: 100, maxInFlightPerClient: 16}
";
    let local = Local::start(spec);
    let nats = local.nats();
    let stream = async_nats::jetstream::stream::Config {
        name: "JOBS".to_owned(),
        subjects: vec!["jobs.>".to_owned()],
        ..Default::default()
    };
    nats.run(nats.jetstream().create_stream(stream)).unwrap();
    let url = local.wss("/jobs");
    // The stream came after the gateway: the route heals by itself.
    until_true("the route is served", SOON, || {
        RawSocket::connect(local.http()).upgrade("/jobs", "").status == 101
    });
    let (rounds, clients, jobs) = (10, 10, 100);
    let mut done = vec![false; rounds * jobs];
    let note = |done: &mut Vec<bool>, clients: &[Websocat]| {
        for line in clients.iter().flat_map(|client| client.process.lines()) {
            // Only a line that came whole is a message that did.
            let number = line
                .strip_prefix("job ")
                .and_then(|rest| rest.strip_suffix(" end"));
            if let Some((number, _)) = number.and_then(|rest| rest.split_once(' ')) {
                done[number.parse::<usize>().unwrap()] = true;
            }
        }
    };
    let start = || {
        let mut client = Websocat::start(&url, &["--no-close"]);
        client.hears("Connected to ws", SOON);
        client
    };
    let began = Instant::now();
    for round in 0..rounds {
        let mut clients: Vec<_> = (0..clients).map(|_| start()).collect();
        nats.run(async {
            let jetstream = nats.jetstream();
            for number in round * jobs..(round + 1) * jobs {
                let payload = format!("job {number} {} end", "x".repeat(1_000));
                jetstream.publish("jobs.a", payload.into()).await.unwrap();
            }
        });
        // These are in the middle of it; what they had not read or answered for goes to others.
        for client in clients.iter_mut().take(round) {
            client.process.kill();
        }
        pause(Duration::from_millis(100));
        // What they have printed counts to the last line: they have answered for it.
        for client in &mut clients {
            client.process.kill();
            client.process.exit(SOON);
        }
        note(&mut done, &clients);
    }
    let last = [start()];
    until_true("each job was printed by a client", UP, || {
        note(&mut done, &last);
        done.iter().all(|done| *done)
    });
    println!("{} jobs were done after {:?}", done.len(), began.elapsed());
}
