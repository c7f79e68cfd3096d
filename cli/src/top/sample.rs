//! What one pod says at one moment.

use std::time::Instant;

use wsgateway_crds::report::Report;

/// A pod at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Its name.
    pub(super) pod: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub(super) phase: String,
    /// Whether Kubernetes sends it clients.
    pub(super) is_ready: bool,
    /// What its gateway said. Absent where it was not asked, or did not answer.
    pub(super) reading: Option<Reading>,
    /// Why it did not answer.
    pub(super) problem: Option<String>,
}

/// What a gateway said.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// When.
    pub(super) at: Instant,
    /// Of `/status`.
    pub(super) report: Report,
    /// Of `/metrics`.
    pub(super) counters: Counters,
}

/// What a gateway has counted since its start, over all its routes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters {
    /// Messages from clients.
    pub(super) received: f64,
    /// Their payloads' bytes.
    pub(super) received_bytes: f64,
    /// Messages to clients.
    pub(super) sent: f64,
    /// Their frames' bytes.
    pub(super) sent_bytes: f64,
    /// Connections closed because the client did not keep up: its outbox was full, or a frame waited too long.
    pub(super) slow_closes: f64,
}

impl Counters {
    /// Of a `/metrics` page. What is not on it is 0, as a counter is that nothing has moved yet.
    pub(super) fn parse(page: &str) -> Self {
        let mut counters = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels, value)) = parts(line) else {
                continue;
            };
            let counter = match name {
                "wsgateway_messages_received_total" => &mut counters.received,
                "wsgateway_received_bytes_total" => &mut counters.received_bytes,
                "wsgateway_messages_sent_total" => &mut counters.sent,
                "wsgateway_sent_bytes_total" => &mut counters.sent_bytes,
                "wsgateway_connections_closed_total" if is_slow(labels) => {
                    &mut counters.slow_closes
                }
                _ => continue,
            };
            *counter += value;
        }
        counters
    }
}

fn is_slow(labels: &str) -> bool {
    ["reason=\"SlowConsumer\"", "reason=\"WriteTimeout\""]
        .iter()
        .any(|reason| labels.contains(reason))
}

/// The name, the labels and the value of a sample's line.
fn parts(line: &str) -> Option<(&str, &str, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, value) = rest.rsplit_once('}').unwrap_or(("", rest));
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_sums_over_routes_and_over_both_ways_to_be_slow() {
        let page = "# HELP wsgateway_messages_sent Messages written to clients.\n\
            # TYPE wsgateway_messages_sent counter\n\
            wsgateway_messages_sent_total{route=\"a\"} 5\n\
            wsgateway_messages_sent_total{route=\"b\"} 6\n\
            wsgateway_sent_bytes_total{route=\"b\"} 600\n\
            wsgateway_received_bytes_total{route=\"b\"} 1\n\
            wsgateway_connections_closed_total{reason=\"SlowConsumer\",code=\"1008\"} 2\n\
            wsgateway_connections_closed_total{reason=\"WriteTimeout\",code=\"1006\"} 1\n\
            wsgateway_connections_closed_total{reason=\"ClosedByPeer\",code=\"1000\"} 9\n\
            wsgateway_draining 0\n# EOF\n";
        let expected = Counters {
            received: 0.0,
            received_bytes: 1.0,
            sent: 11.0,
            sent_bytes: 600.0,
            slow_closes: 3.0,
        };
        assert_eq!(Counters::parse(page), expected);
    }
}
