//! What two samples of each pod say together: a line a pod, their sum, and what is wrong.

use std::fmt;

use super::sample::{Counters, Reading, Sample};

const COLUMNS: usize = 11;

const HEADINGS: [&str; COLUMNS] = [
    "POD",
    "READY",
    "CONNECTIONS",
    "IN/S",
    "OUT/S",
    "IN B/S",
    "OUT B/S",
    "SLOW/S",
    "NATS",
    "LIVE",
    "VERSION",
];

/// These columns hold figures, whose ends stand below each other.
const FIGURES: std::ops::Range<usize> = 2..8;

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// Figures from here on are shown in thousands, and so on.
const THOUSAND: f64 = 1_000.0;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<[String; COLUMNS]>,
    problems: Vec<String>,
}

impl Table {
    /// Of what each pod said at two moments.
    pub(super) fn new(before: &[Sample], after: &[Sample]) -> Self {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        let mut total = Total::default();
        for sample in after {
            let earlier = before.iter().find(|earlier| earlier.pod == sample.pod);
            let earlier = earlier.and_then(|earlier| earlier.reading.as_ref());
            let rates = sample
                .reading
                .as_ref()
                .zip(earlier)
                .and_then(|(now, then)| rates(then, now));
            total.add(sample, rates);
            rows.push(row(sample, rates));
        }
        if after.len() > 1 {
            rows.push(total.row());
        }
        Self {
            rows,
            problems: after.iter().flat_map(problems).collect(),
        }
    }
}

/// The sums over all pods that said something.
#[derive(Debug, Default)]
struct Total {
    pods: usize,
    ready: usize,
    connections: u64,
    rates: Option<Counters>,
}

impl Total {
    fn add(&mut self, sample: &Sample, rates: Option<Counters>) {
        self.pods += 1;
        self.ready += usize::from(sample.is_ready);
        self.connections += sample
            .reading
            .as_ref()
            .map_or(0, |reading| reading.report.connections);
        if let Some(rates) = rates {
            let sum = self.rates.unwrap_or_default();
            self.rates = Some(each(sum, rates, |sum, rate| sum + rate));
        }
    }

    fn row(&self) -> [String; COLUMNS] {
        let [received, sent, received_bytes, sent_bytes, slow] = figures(self.rates);
        [
            "total".to_owned(),
            format!("{}/{}", self.ready, self.pods),
            self.connections.to_string(),
            received,
            sent,
            received_bytes,
            sent_bytes,
            slow,
            String::new(),
            String::new(),
            String::new(),
        ]
    }
}

fn row(sample: &Sample, rates: Option<Counters>) -> [String; COLUMNS] {
    let report = sample.reading.as_ref().map(|reading| &reading.report);
    let ready = match report {
        Some(report) if report.draining => "draining",
        _ if sample.is_ready => "yes",
        _ if sample.phase == "Running" || sample.phase.is_empty() => "no",
        _ => &sample.phase,
    };
    let unknown = || UNKNOWN.to_owned();
    let [received, sent, received_bytes, sent_bytes, slow] = figures(rates);
    [
        sample.pod.clone(),
        ready.to_owned(),
        report.map_or_else(unknown, |report| report.connections.to_string()),
        received,
        sent,
        received_bytes,
        sent_bytes,
        slow,
        report.map_or_else(unknown, |report| {
            if report.nats.connected {
                "ok".to_owned()
            } else {
                report.nats.reason.clone()
            }
        }),
        report.map_or_else(unknown, |report| match &report.rejected {
            Some(rejected) => format!("{} ({})", report.live_hash, rejected.reason),
            None => report.live_hash.clone(),
        }),
        report.map_or_else(unknown, |report| report.version.clone()),
    ]
}

/// What is wrong with a pod, in sentences.
fn problems(sample: &Sample) -> Vec<String> {
    let pod = &sample.pod;
    let mut lines: Vec<_> = sample.problem.iter().cloned().collect();
    let Some(Reading { report, .. }) = &sample.reading else {
        return lines;
    };
    if !report.nats.connected {
        lines.push(format!("{pod}: {}", report.nats.message));
    }
    if let Some(rejected) = &report.rejected {
        let message = &rejected.message;
        lines.push(format!(
            "{pod}: the newest configuration is refused: {message}"
        ));
    }
    lines
}

/// What was counted in a second between two readings. `None` where the gateway was started anew between them.
fn rates(then: &Reading, now: &Reading) -> Option<Counters> {
    let seconds = now.at.saturating_duration_since(then.at).as_secs_f64();
    let rates = each(then.counters, now.counters, |then, now| {
        (now - then) / seconds
    });
    let Counters {
        received,
        received_bytes,
        sent,
        sent_bytes,
        slow_closes,
    } = rates;
    [received, received_bytes, sent, sent_bytes, slow_closes]
        .iter()
        .all(|rate| rate.is_finite() && *rate >= 0.0)
        .then_some(rates)
}

fn each(a: Counters, b: Counters, of: impl Fn(f64, f64) -> f64) -> Counters {
    Counters {
        received: of(a.received, b.received),
        received_bytes: of(a.received_bytes, b.received_bytes),
        sent: of(a.sent, b.sent),
        sent_bytes: of(a.sent_bytes, b.sent_bytes),
        slow_closes: of(a.slow_closes, b.slow_closes),
    }
}

/// Messages in and out, bytes in and out, slow consumers.
fn figures(rates: Option<Counters>) -> [String; 5] {
    let Some(rates) = rates else {
        return [(); 5].map(|()| UNKNOWN.to_owned());
    };
    [
        rates.received,
        rates.sent,
        rates.received_bytes,
        rates.sent_bytes,
        rates.slow_closes,
    ]
    .map(figure)
}

/// Three digits or so: `0`, `0.4`, `12`, `3.1k`, `250M`.
fn figure(value: f64) -> String {
    let (mut value, mut unit) = (value, "");
    for larger in ["k", "M", "G", "T"] {
        // What would be rounded up to a thousand is one.
        if value < THOUSAND - 0.5 {
            break;
        }
        (value, unit) = (value / THOUSAND, larger);
    }
    // The same for 9.96, which is 10 and not 10.0.
    let digits = usize::from(value > 0.0 && value < 9.95);
    format!("{value:.digits$}{unit}")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..COLUMNS).map(width).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, &width))| {
                if FIGURES.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        let all: Vec<_> = lines.chain(self.problems.iter().cloned()).collect();
        f.write_str(&all.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use expect_test::expect;
    use wsgateway_crds::report::{NatsReport, Rejected, Report};

    use super::*;

    fn reading(at: Instant, connections: u64, counters: Counters) -> Reading {
        let nats = NatsReport {
            connected: true,
            reason: String::new(),
            message: String::new(),
        };
        let report = Report {
            version: "0.1.0".to_owned(),
            boot_hash: "b007".to_owned(),
            live_hash: "6f1c9d00aabbccdd".to_owned(),
            rejected: None,
            connections,
            draining: false,
            nats,
            tls: None,
            auth: Vec::new(),
        };
        Reading {
            at,
            report,
            counters,
        }
    }

    fn sample(pod: &str, reading: Option<Reading>) -> Sample {
        Sample {
            pod: pod.to_owned(),
            phase: "Running".to_owned(),
            is_ready: true,
            reading,
            problem: None,
        }
    }

    #[test]
    fn rates_are_taken_over_the_time_between_two_readings() {
        let start = Instant::now();
        let end = start + Duration::from_secs(2);
        let counted = |by: f64| Counters {
            received: by,
            received_bytes: 40.0 * by,
            sent: 24_000.0 * by,
            sent_bytes: 3_100_000.0 * by,
            slow_closes: by / 10.0,
        };
        let before = [
            sample("news-1", Some(reading(start, 9, counted(1.0)))),
            sample("news-2", Some(reading(start, 9, counted(7.0)))),
        ];
        let mut lost = reading(end, 3, counted(2.0));
        lost.report.nats = NatsReport {
            connected: false,
            reason: "Unreachable".to_owned(),
            message: "no NATS server can be reached".to_owned(),
        };
        lost.report.rejected = Some(Rejected {
            hash: String::new(),
            reason: "Malformed".to_owned(),
            message: "line 5: no path".to_owned(),
        });
        let mut draining = reading(end, 1, counted(1.0));
        draining.report.draining = true;
        let pending = Sample {
            phase: "Pending".to_owned(),
            is_ready: false,
            ..sample("news-4", None)
        };
        let silent = Sample {
            problem: Some("cannot get /status of pod news-5: no route to host".to_owned()),
            is_ready: false,
            ..sample("news-5", None)
        };
        let after = [
            sample("news-1", Some(reading(end, 12_000, counted(2.0)))),
            sample("news-2", Some(lost)),
            sample("news-3", Some(draining)),
            pending,
            silent,
        ];
        expect![[r"
            POD     READY     CONNECTIONS  IN/S  OUT/S  IN B/S  OUT B/S  SLOW/S  NATS         LIVE                          VERSION
            news-1  yes             12000   0.5    12k      20     1.6M     0.1  ok           6f1c9d00aabbccdd              0.1.0
            news-2  yes                 3     -      -       -        -       -  Unreachable  6f1c9d00aabbccdd (Malformed)  0.1.0
            news-3  draining            1     -      -       -        -       -  ok           6f1c9d00aabbccdd              0.1.0
            news-4  Pending             -     -      -       -        -       -  -            -                             -
            news-5  no                  -     -      -       -        -       -  -            -                             -
            total   3/5             12004   0.5    12k      20     1.6M     0.1
            news-2: no NATS server can be reached
            news-2: the newest configuration is refused: line 5: no path
            cannot get /status of pod news-5: no route to host
        "]]
        .assert_eq(&format!("{}\n", Table::new(&before, &after)));
    }

    #[test]
    fn figures_have_three_digits_or_so() {
        let shown = [
            0.0, 0.04, 0.4, 9.96, 12.3, 999.4, 999.6, 3_100.0, 250e6, 8e15,
        ]
        .map(figure);
        assert_eq!(
            shown,
            [
                "0", "0.0", "0.4", "10", "12", "999", "1.0k", "3.1k", "250M", "8000T"
            ]
        );
    }
}
