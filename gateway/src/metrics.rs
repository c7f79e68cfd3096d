//! What the data plane counts. The NATS side has its own in `nats`.

use std::{
    fmt::Write,
    sync::atomic::{AtomicI64, AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::deflate::{compress::CompressCounts, inflate::InflateCounts};

/// The seconds by which rounds of fan-out are counted: from one bare write to a stall.
const ROUND_SECONDS: [f64; 8] = [0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5];

/// A route's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabel {
    /// The route.
    pub route: String,
}

/// Why something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// A stable name.
    pub reason: &'static str,
}

/// Why and with which code a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    /// A stable name.
    pub reason: &'static str,
    /// The close code that the client was sent; 1006 where it could be sent none.
    pub code: u16,
}

/// What came of something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// Of reading the configuration again `applied`, `unchanged` or `rejected`; of a probe `answered` or `limited`.
    pub result: &'static str,
}

/// What one route counts.
#[derive(Debug, Clone, Default)]
pub struct RouteMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections opened.
    pub opened: Counter,
    /// Messages from clients.
    pub received: Counter,
    /// Their payloads' bytes.
    pub received_bytes: Counter,
    /// Frames to clients, control frames aside.
    pub sent: Counter,
    /// Their bytes, headers included.
    pub sent_bytes: Counter,
}

/// What compression saved on the wire, and what of it could not be read.
#[derive(Debug, Clone, Default)]
pub struct CompressionMetrics {
    deflate_input: Counter,
    deflate_output: Counter,
    inflate_input: Counter,
    inflate_output: Counter,
    inflate_errors: Family<ReasonLabel, Counter>,
}

impl CompressionMetrics {
    fn register(&self, registry: &mut Registry) {
        let Self {
            deflate_input,
            deflate_output,
            inflate_input,
            inflate_output,
            inflate_errors,
        } = self.clone();
        for (name, help, counter) in [
            (
                "deflate_input_bytes",
                "Payload bytes that were compressed for clients, once for all of a window size",
                deflate_input,
            ),
            (
                "deflate_output_bytes",
                "Payload bytes that came of compressing",
                deflate_output,
            ),
            (
                "inflate_input_bytes",
                "Compressed payload bytes from clients",
                inflate_input,
            ),
            (
                "inflate_output_bytes",
                "Payload bytes that came of inflating them",
                inflate_output,
            ),
        ] {
            registry.register(name, help, counter);
        }
        let help = "Compressed messages from clients that could not be inflated";
        registry.register("inflate_errors", help, inflate_errors);
    }

    /// Adds what a shard has done.
    pub fn add(&self, compressed: CompressCounts, inflated: InflateCounts) {
        self.deflate_input.inc_by(compressed.before_bytes);
        self.deflate_output.inc_by(compressed.after_bytes);
        self.inflate_input.inc_by(inflated.before_bytes);
        self.inflate_output.inc_by(inflated.after_bytes);
        for (reason, count) in [("Invalid", inflated.invalid), ("TooBig", inflated.too_big)] {
            if count > 0 {
                let label = ReasonLabel { reason };
                self.inflate_errors.get_or_create(&label).inc_by(count);
            }
        }
    }
}

/// What the data plane counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    connections: Family<RouteLabel, Gauge>,
    opened: Family<RouteLabel, Counter>,
    received: Family<RouteLabel, Counter>,
    received_bytes: Family<RouteLabel, Counter>,
    sent: Family<RouteLabel, Counter>,
    sent_bytes: Family<RouteLabel, Counter>,
    /// Handshakes that were answered with something else than 101.
    pub refused: Family<ReasonLabel, Counter>,
    /// Probes of the operator, which are in no other count.
    pub probes: Family<ResultLabel, Counter>,
    /// Connections that ended.
    pub closes: Family<CloseLabel, Counter>,
    /// Messages that did not reach a client.
    pub dropped: Family<ReasonLabel, Counter>,
    /// What was compressed and inflated.
    pub compression: CompressionMetrics,
    /// The time that a round of fan-out took.
    pub round_seconds: Histogram,
    /// Bytes that wait in outboxes and unfinished messages, by shard.
    pub buffered_bytes: Gauge<i64, AtomicI64>,
    /// Failed accepts.
    pub accept_errors: Counter,
    /// Configurations read again.
    pub reloads: Family<ResultLabel, Counter>,
    /// 1 while the process drains.
    pub draining: Gauge,
    /// The connections that the process admits at most.
    pub connections_max: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Family::default(),
            opened: Family::default(),
            received: Family::default(),
            received_bytes: Family::default(),
            sent: Family::default(),
            sent_bytes: Family::default(),
            refused: Family::default(),
            probes: Family::default(),
            closes: Family::default(),
            dropped: Family::default(),
            compression: CompressionMetrics::default(),
            round_seconds: Histogram::new(ROUND_SECONDS),
            buffered_bytes: Gauge::default(),
            accept_errors: Counter::default(),
            reloads: Family::default(),
            draining: Gauge::default(),
            connections_max: Gauge::default(),
        };
        let m = metrics.clone();
        let registry = registry.sub_registry_with_prefix("wsgateway");
        registry.register("connections", "Open WebSocket connections", m.connections);
        registry.register(
            "connections_opened",
            "WebSocket connections opened",
            m.opened,
        );
        registry.register(
            "connections_closed",
            "WebSocket connections ended, by cause",
            m.closes,
        );
        registry.register(
            "connections_max",
            "Connections admitted at most",
            m.connections_max,
        );
        registry.register(
            "handshakes_refused",
            "Handshakes not answered with 101",
            m.refused,
        );
        registry.register(
            "probes",
            "Probes of the way in, which are in no other count",
            m.probes,
        );
        registry.register("messages_received", "Messages from clients", m.received);
        registry.register(
            "received_bytes",
            "Payload bytes from clients",
            m.received_bytes,
        );
        registry.register("messages_sent", "Messages written to clients", m.sent);
        registry.register(
            "sent_bytes",
            "Frame bytes of messages written to clients",
            m.sent_bytes,
        );
        registry.register(
            "messages_dropped",
            "Messages that did not reach a client",
            m.dropped,
        );
        m.compression.register(registry);
        registry.register(
            "round_seconds",
            "Duration of a round of fan-out",
            m.round_seconds,
        );
        registry.register("buffered_bytes", "Bytes held for clients", m.buffered_bytes);
        registry.register(
            "accept_errors",
            "Connections that could not be accepted",
            m.accept_errors,
        );
        registry.register("config_reloads", "Configurations read again", m.reloads);
        registry.register("draining", "1 while the process drains", m.draining);
        registry.register_collector(Box::new(process::ProcessCollector));
        metrics
    }

    /// What a route counts.
    pub fn route(&self, name: &str) -> RouteMetrics {
        let label = RouteLabel {
            route: name.to_owned(),
        };
        RouteMetrics {
            connections: self.connections.get_or_create_owned(&label),
            opened: self.opened.get_or_create_owned(&label),
            received: self.received.get_or_create_owned(&label),
            received_bytes: self.received_bytes.get_or_create_owned(&label),
            sent: self.sent.get_or_create_owned(&label),
            sent_bytes: self.sent_bytes.get_or_create_owned(&label),
        }
    }
}

/// The text that Prometheus scrapes.
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        // Writing to a string does not fail; a collector that does is said, not hidden.
        let _ = writeln!(text, "# a metric could not be encoded");
    }
    text
}

/// What the kernel says of this process, under the names that Prometheus clients use.
mod process {
    use std::fs;

    use prometheus_client::{
        collector::Collector,
        encoding::{DescriptorEncoder, EncodeMetric},
        metrics::gauge::ConstGauge,
    };

    #[derive(Debug)]
    pub(super) struct ProcessCollector;

    impl Collector for ProcessCollector {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            let fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            let fds = i64::try_from(fds).unwrap_or(i64::MAX);
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let rss = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok())
                .unwrap_or(0);
            for (name, help, value) in [
                ("process_open_fds", "Open file descriptors", fds),
                (
                    "process_resident_memory_bytes",
                    "Resident memory",
                    rss * 1_024,
                ),
            ] {
                let gauge = ConstGauge::new(value);
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
            Ok(())
        }
    }
}
