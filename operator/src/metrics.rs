//! What the operator counts. What is an age is computed when it is asked for, by collectors of [`crate::watch`]
//! and [`process`].

mod process;

use std::{fmt::Write, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{kinds::Kind, status::Holds};

/// The seconds by which reconciles are counted: from a pass that sends nothing to one that waits for a
/// slow API server.
const RECONCILE_SECONDS: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What an apply came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyResult {
    /// The object was made.
    Created,
    /// The object was changed.
    Configured,
    /// The object was as it should be, and nothing was sent.
    Unchanged,
    /// An object of that name belongs to somebody else.
    Conflict,
    /// The API server refused, or did not answer.
    Failed,
}

impl ApplyResult {
    const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplyLabel {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    kind: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DialectLabel {
    dialect: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadyLabel {
    ready: &'static str,
}

/// What the operator counts. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: Family<ResultLabel, Counter>,
    reconcile_duration: Histogram,
    applies: Family<ApplyLabel, Counter>,
    deletes: Family<KindLabel, Counter>,
    watch_errors: Family<ErrorLabel, Counter>,
    watch_restarts: Family<KindLabel, Counter>,
    ingress_writes: Family<DialectLabel, Counter>,
    probes: Family<ResultLabel, Counter>,
    kinds_served: Family<KindLabel, Gauge>,
    gateways: Family<ReadyLabel, Gauge>,
    /// 1 while this operator is the one that works.
    pub leader: Gauge,
    /// How often this operator began or ceased to be the leader.
    pub lease_transitions: Counter,
    /// `WsGateways` that wait for their turn; those that wait for a time are not counted.
    pub queue_depth: Gauge,
    /// `WsGateways` that are being reconciled.
    pub queue_running: Gauge,
    /// `WsGateways` whose last reconcile failed and that wait for the next.
    pub queue_backoff: Gauge,
}

impl Metrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            reconcile_duration: Histogram::new(RECONCILE_SECONDS),
            applies: Family::default(),
            deletes: Family::default(),
            watch_errors: Family::default(),
            watch_restarts: Family::default(),
            ingress_writes: Family::default(),
            probes: Family::default(),
            kinds_served: Family::default(),
            gateways: Family::default(),
            leader: Gauge::default(),
            lease_transitions: Counter::default(),
            queue_depth: Gauge::default(),
            queue_running: Gauge::default(),
            queue_backoff: Gauge::default(),
        };
        let own = registry.sub_registry_with_prefix("wsgateway_operator");
        metrics.register_work(own);
        metrics.register_state(own);
        registry.register_collector(Box::new(process::ProcessCollector));
        metrics
    }

    fn register_work(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("reconciles", "Reconciles ended, by result", m.reconciles);
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of a reconcile",
            Unit::Seconds,
            m.reconcile_duration,
        );
        registry.register(
            "applies",
            "Objects compared with what they should be, by what came of it",
            m.applies,
        );
        registry.register("deletes", "Objects deleted, by kind", m.deletes);
        registry.register(
            "ingress_writes",
            "Ingresses and routes written: each may make a proxy reload",
            m.ingress_writes,
        );
        registry.register(
            "probes",
            "Handshakes tried to prove that clients can come in, by what came of it",
            m.probes,
        );
        registry.register(
            "watch_errors",
            "Failed attempts to list or watch, by HTTP status or cause",
            m.watch_errors,
        );
        registry.register(
            "watch_restarts",
            "Lists that a watch had to begin anew with",
            m.watch_restarts,
        );
    }

    fn register_state(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register(
            "kind_served",
            "1 while the API server serves an optional kind",
            m.kinds_served,
        );
        registry.register("gateways", "WsGateways, by readiness", m.gateways);
        registry.register("leader", "1 while this operator holds the lease", m.leader);
        registry.register(
            "lease_transitions",
            "Times that this operator became or ceased to be the leader",
            m.lease_transitions,
        );
        registry.register(
            "queue_depth",
            "WsGateways that wait for their turn",
            m.queue_depth,
        );
        registry.register(
            "queue_running",
            "WsGateways that are being reconciled",
            m.queue_running,
        );
        registry.register(
            "queue_backoff",
            "WsGateways whose last reconcile failed and that wait for the next",
            m.queue_backoff,
        );
    }

    /// A reconcile ended. `result` is `success`, or the stable reason of its error.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// A way in was tried.
    pub fn probed(&self, holds: Holds) {
        let result = match holds {
            Holds::True => "answered",
            Holds::False => "wrong",
            Holds::Unknown => "silent",
        };
        self.probes.get_or_create(&ResultLabel { result }).inc();
    }

    /// An object was compared with what it should be.
    pub fn applied(&self, kind: Kind, result: ApplyResult) {
        let label = ApplyLabel {
            kind: kind.name(),
            result: result.name(),
        };
        self.applies.get_or_create(&label).inc();
    }

    /// An object was deleted.
    pub fn deleted(&self, kind: Kind) {
        let label = KindLabel { kind: kind.name() };
        self.deletes.get_or_create(&label).inc();
    }

    /// An Ingress or a route was written.
    pub fn ingress_written(&self, dialect: &'static str) {
        self.ingress_writes
            .get_or_create(&DialectLabel { dialect })
            .inc();
    }

    /// An attempt to list or watch failed.
    pub fn watch_failed(&self, kind: Kind, code: String) {
        let kind = kind.name();
        self.watch_errors
            .get_or_create(&ErrorLabel { kind, code })
            .inc();
    }

    /// A watch begins with a list.
    pub fn watch_restarted(&self, kind: Kind) {
        let label = KindLabel { kind: kind.name() };
        self.watch_restarts.get_or_create(&label).inc();
    }

    /// Whether the API server serves an optional kind.
    pub fn kind_served(&self, kind: Kind, is_served: bool) {
        let label = KindLabel { kind: kind.name() };
        self.kinds_served
            .get_or_create(&label)
            .set(i64::from(is_served));
    }

    /// How many `WsGateways` are ready, and how many are not.
    pub fn gateways(&self, ready: usize, not_ready: usize) {
        for (label, count) in [("true", ready), ("false", not_ready)] {
            self.gateways
                .get_or_create(&ReadyLabel { ready: label })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_named_with_its_unit() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.reconciled("success", Duration::from_millis(30));
        metrics.applied(Kind::HttpRoute, ApplyResult::Created);
        metrics.watch_failed(Kind::PodMonitor, "403".to_owned());
        metrics.gateways(2, 1);
        let text = render(&registry);
        for line in [
            "wsgateway_operator_reconciles_total{result=\"success\"} 1",
            "wsgateway_operator_reconcile_duration_seconds_count 1",
            "wsgateway_operator_applies_total{kind=\"HTTPRoute\",result=\"created\"} 1",
            "wsgateway_operator_watch_errors_total{kind=\"PodMonitor\",code=\"403\"} 1",
            "wsgateway_operator_gateways{ready=\"false\"} 1",
            "wsgateway_operator_leader 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
