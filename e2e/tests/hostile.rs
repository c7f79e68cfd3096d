//! Hostile clients beside a thousand honest ones: these lose nothing, are served in time, and the gateway's memory stays
//! within its limit.
//!
//! The latency of honest clients is compared with that of the same run's quiet phase. `bench/hostile` runs this with a
//! release build and `WSGATEWAY_HOSTILE_STRICT=1`, where p99 may at most double; without it the bound is a generous one,
//! since tests must pass on machines that are busy with something else.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

#[path = "hostile/attacks.rs"]
mod attacks;

use std::{env, fmt::Write, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use wsgateway_e2e::{
    gateway::Gateway,
    http::Metrics,
    issuer::{Issuer, now},
    nats::NatsServer,
    needs,
    resources::{forget_peak, peak_resident_bytes},
    row::row,
    swarm::{Latency, Swarm},
};

use self::attacks::Target;

/// Honest clients.
const HONEST: u64 = 1_000;

/// Publications of a phase without an attack: five seconds, 100,000 deliveries.
const QUIET: u64 = 100;

/// What p99 may always be: a fan-out to a thousand clients and their reading take some milliseconds of two cores that the
/// clients, NATS and the gateway share, so that one turn of the scheduler at the wrong time is a doubling.
const STRICT_FLOOR: Duration = Duration::from_millis(50);

/// The same where something else may be running.
const GENEROUS_FLOOR: Duration = Duration::from_secs(2);

/// The gateway's memory, in bytes: what it takes for its clients, 32 MiB for what waits (below), and what the allocator
/// has not given back yet.
const MEMORY_MAX: u64 = 160 << 20;

fn live(issuer: &Issuer) -> String {
    format!(
        r#"
auth:
  tokenSources: [{{type: Header}}]
  providers: [{{name: test, issuer: "{}", audiences: [wsgateway], keys: {{type: Discovery}}}}]
websocket: {{handshakeTimeout: 3s, pingPeriod: 4s, pongWait: 12s, writeWait: 6s, compression: {{mode: Shared}}}}
limits: {{connections: 6000, outboxBytes: 256Ki, totalBytes: 32Mi}}
routes:
  - {{name: ws, path: /ws, fromClient: {{type: Discard}}, toClient: [{{name: live, type: Core, subjects: [news]}}]}}
  - {{name: idle, path: /idle, fromClient: {{type: Discard}}}}
  - {{name: big, path: /big, fromClient: {{type: Discard}}, toClient: [{{name: live, type: Core, subjects: [big]}}]}}
  - name: rooms
    path: /rooms/{{room}}
    fromClient: {{type: Discard}}
    toClient: [{{name: live, type: Core, subjects: ["rooms.{{path.room}}"]}}]
"#,
        issuer.url()
    )
}

#[test]
fn honest_clients_do_not_notice_hostile_ones() {
    needs!(NatsServer);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let (nats, issuer) = (NatsServer::start(), Issuer::start());
    let mut gateway = Gateway::start(&nats.url(), &live(&issuer));
    let bearer = format!(
        "Authorization: Bearer {}\r\n",
        issuer.token(&json!({"exp": now() + 3_600}))
    );
    let swarm = Swarm::start(&nats, "news", gateway.address(), "/ws", &bearer, HONEST);
    // The first rounds of a process are slower than all others.
    swarm.during(|| swarm.await_publications(QUIET / 4));
    let quiet = swarm.during(|| swarm.await_publications(QUIET));

    let floor = match env::var_os("WSGATEWAY_HOSTILE_STRICT") {
        Some(_) => STRICT_FLOOR,
        None => GENEROUS_FLOOR,
    };
    let p99_max = floor.max(2 * quiet.p99);
    let mut table = Table::new(&gateway, quiet);
    let target = Target {
        gateway: &gateway,
        nats: &nats,
        bearer,
    };
    let mut failed = Vec::new();
    for (what, attack, expected) in ATTACKS {
        row(what, || {
            forget_peak(gateway.pid());
            let before = gateway.metrics();
            let latency = swarm.during(|| {
                attack(&target);
                // So few messages may be published during a short attack that one of them would be all that is measured.
                swarm.await_publications(QUIET / 5);
            });
            let (got, memory) = (
                got(&before, &gateway.metrics()),
                peak_resident_bytes(gateway.pid()),
            );
            table.add(what, latency, memory, &got);
            for (reason, count) in *expected {
                let found = got
                    .iter()
                    .find(|(name, _)| name == reason)
                    .map_or(0, |(_, count)| *count);
                assert_eq!(found, *count, "{reason}: {got:?}");
            }
            if latency.p99 > p99_max || memory > MEMORY_MAX {
                failed.push(*what);
            }
        });
    }
    let after = swarm.during(|| swarm.await_publications(QUIET / 5));
    table.add(
        "after all of them",
        after,
        peak_resident_bytes(gateway.pid()),
        &[],
    );
    println!("{}", table.text);
    assert!(
        failed.is_empty(),
        "p99 over {p99_max:?} or memory over {} MiB: {failed:?}",
        MEMORY_MAX >> 20
    );
    drop(swarm);
    assert!(gateway.process.is_running());
}

type Attack = fn(&Target<'_>);

/// Reasons, and how often each must have been counted.
type Counts = [(&'static str, u64)];

/// Each attack, and what of it the gateway must have counted, exactly.
const ATTACKS: &[(&str, Attack, &Counts)] = &[
    (
        "2,000 heads a byte at a time",
        attacks::slow_heads,
        &[("HandshakeTimeout", 2_000)],
    ),
    (
        "2,000 connections and 500 WebSockets that say nothing",
        attacks::half_open,
        &[("HandshakeTimeout", 2_000), ("PongTimeout", 500)],
    ),
    (
        "20,000 handshakes without a token",
        attacks::without_a_token,
        &[("NoToken", 20_000)],
    ),
    (
        "4,000,000 pings on 20 WebSockets",
        attacks::pings,
        &[("ClosedByPeer", 20)],
    ),
    (
        "5,000,000 tiny fragments on 20 WebSockets",
        attacks::tiny_fragments,
        &[],
    ),
    (
        "compression bombs on 10 WebSockets",
        attacks::compression_bombs,
        &[
            ("MessageTooBig", 200),
            ("InvalidCompression", 100),
            ("ClosedByPeer", 10),
        ],
    ),
    (
        "200 readers that do not read 10 MB",
        attacks::slow_readers,
        &[],
    ),
    ("6,000 subjects", attacks::subscriptions, &[]),
    ("2,000 times random bytes", attacks::noise, &[]),
];

/// What was refused and closed between two looks at the metrics, by reason.
fn got(before: &Metrics, after: &Metrics) -> Vec<(String, u64)> {
    let names = [
        "wsgateway_handshakes_refused_total",
        "wsgateway_connections_closed_total",
    ];
    let mut got: Vec<(String, u64)> = Vec::new();
    for name in names {
        for (labels, count) in after.series(name) {
            let reason = &labels["reason"];
            let labels: Vec<_> = labels
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            let count = (count - before.sum(name, &labels)) as u64;
            match got.iter_mut().find(|(name, _)| name == reason) {
                Some((_, sum)) => *sum += count,
                None if count > 0 => got.push((reason.clone(), count)),
                None => {}
            }
        }
    }
    got
}

/// The table that is printed at the end.
struct Table {
    text: String,
}

impl Table {
    fn new(gateway: &Gateway, quiet: Latency) -> Self {
        let mut table = Self {
            text: "\n| attack | p50 ms | p99 ms | deliveries | peak RSS MiB | what the attackers got |\n|---|---|---|---|---|---|".to_owned(),
        };
        table.add("none", quiet, peak_resident_bytes(gateway.pid()), &[]);
        table
    }

    fn add(&mut self, what: &str, latency: Latency, memory: u64, got: &[(String, u64)]) {
        let got: Vec<_> = got
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        write!(
            self.text,
            "\n| {what} | {:.1} | {:.1} | {} | {} | {} |",
            millis(latency.p50),
            millis(latency.p99),
            latency.count,
            memory >> 20,
            got.join(", ")
        )
        .unwrap();
        // Seen also where a later attack fails.
        println!("{}", self.text.lines().last().unwrap());
    }
}
