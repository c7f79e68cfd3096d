//! What the project holds itself to: memory, fan-out, set-up, compression.

use serde::Serialize;

use crate::runs::Runs;

/// Resident memory of a fresh process, and what each connection may add: decimal megabytes and
/// kilobytes. A subject with a subscriber of its own may add as much as a connection.
const RSS_BYTES: f64 = 12e6;
const RSS_BYTES_PER_CONNECTION: f64 = 1.2e3;
const RSS_BYTES_PER_SUBJECT: f64 = 1.2e3;

/// What one more subscription to a subject may add that the process has already.
const RSS_BYTES_PER_SUBSCRIPTION: f64 = 100.0;

/// What may be left in memory of ten storms, in bytes: pages that the allocator cuts up otherwise.
const RSS_KEPT_BYTES: f64 = 3e6;

/// The fan-outs, as connections and window.
const FANOUTS: [(u32, u32); 9] = [
    (1000, 1),
    (1000, 4),
    (1000, 16),
    (5000, 1),
    (5000, 4),
    (5000, 16),
    (18_000, 1),
    (18_000, 4),
    (18_000, 16),
];

/// CPU time per delivery in units of the floor's, by window.
const DELIVERY_TO_FLOOR: [(u32, f64); 2] = [(1, 1.1), (16, 0.15)];

/// Latency at window 1, and in the open loop, in units of the floor's.
const LATENCY_TO_FLOOR: f64 = 1.1;
const OPEN_LATENCY_TO_FLOOR: f64 = 1.05;

/// CPU time per delivery in the open loop in units of the best peer's.
const OPEN_DELIVERY_TO_PEERS: f64 = 0.65;

/// CPU time to set a connection up in units of gorilla's.
const SET_UP_TO_GORILLA: f64 = 0.5;

/// CPU time per delivery with two shards in units of that with one.
const DELIVERY_TO_ONE_SHARD: f64 = 1.1;

/// Compressed fan-out in units of the plain one: CPU time per delivery, and memory per connection,
/// with a twentieth for what a thread compresses with.
const DELIVERY_TO_PLAIN: f64 = 1.15;
const MEMORY_TO_PLAIN: f64 = 1.05;

/// How much longer others wait while messages go out, in milliseconds.
const MEANWHILE_MS: f64 = 5.0;

/// The others' p99 with one client that does not read, in units of that without: what it varies by.
const STALLED_LATENCY: f64 = 1.1;

/// CPU time per message to one of 100,000 subjects in units of that to the only one: the processor's
/// caches hold less of what is needed, and that is all.
const MANY_SUBJECTS: f64 = 2.0;

/// The servers that the gateway is to be ahead of.
const PEERS: [&str; 2] = ["gorilla", "nats-server"];

/// A goal, and how far it is reached.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    /// What it is about.
    pub(crate) what: String,
    /// What it must not exceed.
    pub(crate) limit: f64,
    /// What was measured, if it was.
    pub(crate) reached: Option<f64>,
    /// The unit of both.
    pub(crate) unit: &'static str,
}

impl Goal {
    /// Whether it is met, if that was measured.
    pub(crate) fn met(&self) -> Option<bool> {
        self.reached.map(|reached| reached <= self.limit)
    }
}

/// All goals.
pub(crate) fn goals(runs: &Runs) -> Vec<Goal> {
    let mut goals = Goals {
        runs,
        all: Vec::new(),
    };
    goals.memory();
    goals.subjects();
    goals.set_up();
    goals.fanout();
    goals.open_loop();
    goals.others();
    goals.compressed();
    goals.all
}

struct Goals<'a> {
    runs: &'a Runs,
    all: Vec<Goal>,
}

impl Goals<'_> {
    fn add(
        &mut self,
        what: impl Into<String>,
        limit: f64,
        unit: &'static str,
        reached: Option<f64>,
    ) {
        self.all.push(Goal {
            what: what.into(),
            limit,
            reached,
            unit,
        });
    }

    fn median(&self, scenario: &str, server: &str, figure: &str) -> Option<f64> {
        self.runs
            .spread(scenario, server, figure)
            .map(|it| it.median)
    }

    fn ratio(&self, scenario: &str, figure: &str, server: &str, to: &str) -> Option<f64> {
        self.runs
            .ratio(scenario, figure, server, to)
            .map(|it| it.median)
    }

    fn memory(&mut self) {
        let connections = self.median("memory", "gateway", "open");
        let connections = connections.unwrap_or(18_000.0);
        self.add(
            format!(
                "RSS of a fresh process, {connections} connections, two ping periods and 16 messages each"
            ),
            (RSS_BYTES + RSS_BYTES_PER_CONNECTION * connections) / 1e6,
            "MB",
            self.median("memory", "gateway", "rss_bytes")
                .map(|it| it / 1e6),
        );
        self.add(
            "RSS that ten storms leave behind",
            RSS_KEPT_BYTES / 1e6,
            "MB",
            self.median("storm", "gateway", "rss_kept_bytes")
                .map(|it| it / 1e6),
        );
    }

    fn subjects(&mut self) {
        // What 50 subjects on each connection add to one on each.
        let added = |server| {
            let value = |server, figure| self.median("subjects-50", server, figure);
            let bytes = value(server, "rss_bytes")? - value("1 subject", "rss_bytes")?;
            let count = value(server, "subscriptions")? - value("1 subject", "subscriptions")?;
            Some(bytes / count)
        };
        let (same, own) = (added("the same 50"), added("50 of its own"));
        self.add(
            "RSS for one more subscription, 50 on each of 2,000 connections",
            RSS_BYTES_PER_SUBSCRIPTION,
            "bytes",
            same,
        );
        self.add(
            "RSS for one more subject, 50 of its own on each of 2,000 connections",
            RSS_BYTES_PER_SUBJECT,
            "bytes",
            own,
        );
        self.add(
            "CPU per message to one of 100,000 subjects with a subscriber each",
            MANY_SUBJECTS,
            "× one subject",
            self.ratio(
                "subjects-many",
                "cpu_us_per_message",
                "100,000 subjects",
                "1 subject",
            ),
        );
    }

    fn set_up(&mut self) {
        self.add(
            "CPU to set up and subscribe a connection",
            SET_UP_TO_GORILLA,
            "× gorilla",
            self.ratio("idle", "cpu_us_per_connection", "gateway", "gorilla"),
        );
        let failed = self.runs.of("storm", "gateway").next().map(|it| {
            let failed = it.figures.get("connections_lost").copied();
            failed.unwrap_or(f64::INFINITY)
        });
        self.add(
            "18,000 connect at the same moment, ten times: how many fail",
            0.0,
            "",
            failed,
        );
    }

    fn fanout(&mut self) {
        let name = |(connections, window)| format!("fanout-{connections}-{window}");
        for (window, limit) in DELIVERY_TO_FLOOR {
            for fanout in FANOUTS.into_iter().filter(|it| it.1 == window) {
                self.add(
                    format!(
                        "CPU per delivery, {} connections, window {window}",
                        fanout.0
                    ),
                    limit,
                    "× floor",
                    self.ratio(&name(fanout), "cpu_us_per_delivery", "gateway", "floor"),
                );
            }
        }
        for (quantile, figure) in [("p50", "delivery_p50_us"), ("p99", "delivery_p99_us")] {
            for fanout in FANOUTS.into_iter().filter(|it| it.1 == 1) {
                self.add(
                    format!("{quantile}, {} connections, window 1", fanout.0),
                    LATENCY_TO_FLOOR,
                    "× floor",
                    self.ratio(&name(fanout), figure, "gateway", "floor"),
                );
            }
        }
        for fanout in FANOUTS {
            let theirs = |peer: &&str| self.ratio(&name(fanout), "rate_per_s", peer, "gateway");
            let best = PEERS.iter().filter_map(theirs).reduce(f64::max);
            self.add(
                format!(
                    "Deliveries/s of gorilla or nats-server, {} connections, window {}",
                    fanout.0, fanout.1
                ),
                1.0,
                "× gateway",
                best,
            );
        }
        let worst = |figure: &str, of: fn(f64) -> f64| {
            let rows = self
                .runs
                .all()
                .iter()
                .filter(|it| it.scenario.starts_with("fanout-") && it.server == "gateway");
            let values = rows.filter_map(|it| it.figures.get(figure).copied());
            values.map(of).reduce(f64::max)
        };
        let (shared, lost) = (
            worst("frames_per_delivery", |frames| (1.0 - frames).abs()),
            worst("lost", |lost| lost),
        );
        self.add(
            "Messages that share a frame, or take several",
            0.0,
            "",
            shared,
        );
        self.add(
            "Deliveries that are lost, in the worst fan-out",
            0.0,
            "",
            lost,
        );
    }

    fn open_loop(&mut self) {
        let (scenario, figure) = ("open-loop-8", "cpu_us_per_delivery");
        let to_peer = |peer: &&str| self.ratio(scenario, figure, "gateway", peer);
        // The best peer is the one that the gateway compares worst with.
        let best = PEERS.iter().filter_map(to_peer).reduce(f64::max);
        self.add(
            "CPU per delivery, open loop, 5,000 connections, 8 messages/s",
            OPEN_DELIVERY_TO_PEERS,
            "× best peer",
            best,
        );
        self.add(
            "p99, open loop, 5,000 connections, 8 messages/s",
            OPEN_LATENCY_TO_FLOOR,
            "× floor",
            self.ratio(scenario, "delivery_p99_us", "gateway", "floor"),
        );
    }

    fn others(&mut self) {
        for window in [1, 16] {
            self.add(
                format!("CPU per delivery with two shards, 5,000 connections, window {window}"),
                DELIVERY_TO_ONE_SHARD,
                "× one shard",
                self.ratio(
                    &format!("shards-5000-{window}"),
                    "cpu_us_per_delivery",
                    "gateway-2-shards",
                    "gateway-1-shard",
                ),
            );
        }
        for (act, what) in [
            ("accept", "A handshake"),
            ("ping", "A pong"),
            ("livez", "GET /livez"),
        ] {
            for quantile in ["p50", "p99"] {
                let time = |when| {
                    let figure = format!("{when}_{act}_{quantile}_us");
                    self.median("meanwhile", "gateway", &figure)
                };
                let times = time("meanwhile").zip(time("usual"));
                self.add(
                    format!("{what} during fan-out to 18,000 connections: {quantile} later than usual by"),
                    MEANWHILE_MS,
                    "ms",
                    times.map(|(meanwhile, usual)| (meanwhile - usual) / 1e3),
                );
            }
        }
        self.add(
            "p99 of 10,000 clients while one does not read",
            STALLED_LATENCY,
            "× all read",
            self.ratio("stalled", "delivery_p99_us", "one does not", "all read"),
        );
    }

    fn compressed(&mut self) {
        for window in [1, 16] {
            self.add(
                format!("CPU per compressed delivery, 5,000 connections, window {window}"),
                DELIVERY_TO_PLAIN,
                "× plain",
                self.ratio(
                    &format!("compressed-5000-{window}"),
                    "cpu_us_per_delivery",
                    "compressed",
                    "plain",
                ),
            );
        }
        let added = |server| {
            let value = |figure| self.median("compressed-5000-1", server, figure);
            Some(value("rss_bytes")? - value("rss_fresh_bytes")?)
        };
        let ratio = added("compressed").zip(added("plain"));
        self.add(
            "Memory of 5,000 connections with compression",
            MEMORY_TO_PLAIN,
            "× plain",
            ratio.map(|(compressed, plain)| compressed / plain),
        );
    }
}
