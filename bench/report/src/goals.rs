//! What the project holds itself to (issue 3, "Figures to write down").

use serde::Serialize;

use crate::runs::Runs;

/// Resident memory of a fresh process, and what each connection may add: decimal megabytes and
/// kilobytes.
const RSS_BYTES: f64 = 12e6;
const RSS_BYTES_PER_CONNECTION: f64 = 1.2e3;

/// CPU time per delivery in units of the floor's, by connections and window.
const DELIVERY_TO_FLOOR: [(u32, u32, f64); 4] = [
    (1000, 1, 1.1),
    (5000, 1, 1.1),
    (1000, 16, 0.15),
    (5000, 16, 0.15),
];

/// CPU time to set a connection up in units of gorilla's.
const SET_UP_TO_GORILLA: f64 = 0.5;

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
    let median = |figure| runs.spread("memory", "gateway", figure).map(|it| it.median);
    let connections = median("open").unwrap_or(18_000.0);
    let mut goals = vec![Goal {
        what: format!(
            "RSS of a fresh process, {connections} connections, two ping periods and 16 messages each"
        ),
        limit: (RSS_BYTES + RSS_BYTES_PER_CONNECTION * connections) / 1e6,
        reached: median("rss_bytes").map(|bytes| bytes / 1e6),
        unit: "MB",
    }];
    for (connections, window, limit) in DELIVERY_TO_FLOOR {
        let scenario = format!("fanout-{connections}-{window}");
        let ratio = runs.ratio(&scenario, "cpu_us_per_delivery", "gateway", "floor");
        goals.push(Goal {
            what: format!("CPU per delivery, {connections} connections, window {window}"),
            limit,
            reached: ratio.map(|it| it.median),
            unit: "× floor",
        });
    }
    let ratio = runs.ratio("idle", "cpu_us_per_connection", "gateway", "gorilla");
    goals.push(Goal {
        what: "CPU to set up and subscribe a connection".to_owned(),
        limit: SET_UP_TO_GORILLA,
        reached: ratio.map(|it| it.median),
        unit: "× gorilla",
    });
    goals
}
