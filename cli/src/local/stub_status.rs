//! What nginx says of itself at its status path, and the same in Prometheus form.

use std::{fmt, sync::Mutex, sync::PoisonError};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// The page of `ngx_http_stub_status_module`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StubStatus {
    /// Open connections, also those of sockets.
    pub active: u64,
    /// Connections accepted since nginx started.
    pub accepted: u64,
    /// Those of them that found room.
    pub handled: u64,
    /// Requests since nginx started.
    pub requests: u64,
    /// Connections whose request is being read.
    pub reading: u64,
    /// Connections whose response is being written: every open socket is one.
    pub writing: u64,
    /// Idle connections that wait for a request.
    pub waiting: u64,
}

impl StubStatus {
    /// Reads the page. `None` where it is another page.
    pub fn parse(page: &str) -> Option<Self> {
        let mut lines = page.lines();
        let active = lines
            .next()?
            .strip_prefix("Active connections: ")?
            .trim()
            .parse()
            .ok()?;
        lines
            .next()
            .filter(|line| line.starts_with("server accepts handled requests"))?;
        let [accepted, handled, requests] = numbers(lines.next()?)?;
        let [reading, writing, idle] = numbers(lines.next()?)?;
        Some(Self {
            active,
            accepted,
            handled,
            requests,
            reading,
            writing,
            waiting: idle,
        })
    }
}

/// The three numbers of a line, whatever words stand between them.
fn numbers(line: &str) -> Option<[u64; 3]> {
    let words = line.split_ascii_whitespace();
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().ok()
}

/// The last page, as metrics with the names of nginx-prometheus-exporter (with `OpenMetrics`' `_total` on each
/// counter).
#[derive(Debug, Default)]
pub struct NginxMetrics {
    last: Mutex<Option<StubStatus>>,
}

impl NginxMetrics {
    /// Takes the page of this scrape, or that there was none.
    pub fn set(&self, status: Option<StubStatus>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Collector for NginxMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gauge = |name, help, value: u64| {
            let gauge = ConstGauge::new(value.cast_signed());
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "nginx_up",
            "1 where the last scrape of nginx succeeded",
            last.is_some().into(),
        )?;
        let Some(status) = last else { return Ok(()) };
        gauge(
            "nginx_connections_active",
            "Open client connections",
            status.active,
        )?;
        gauge(
            "nginx_connections_reading",
            "Connections being read",
            status.reading,
        )?;
        gauge(
            "nginx_connections_writing",
            "Connections being written",
            status.writing,
        )?;
        gauge(
            "nginx_connections_waiting",
            "Idle client connections",
            status.waiting,
        )?;
        let mut counter = |name, help, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter(
            "nginx_connections_accepted",
            "Accepted client connections",
            status.accepted,
        )?;
        counter(
            "nginx_connections_handled",
            "Handled client connections",
            status.handled,
        )?;
        counter("nginx_http_requests", "HTTP requests", status.requests)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    const PAGE: &str = "Active connections: 291 \nserver accepts handled requests\n \
        16630948 16630947 31070465 \nReading: 6 Writing: 179 Waiting: 106 \n";

    #[test]
    fn the_page_is_read() {
        let status = StubStatus::parse(PAGE).unwrap();
        let expected = StubStatus {
            active: 291,
            accepted: 16_630_948,
            handled: 16_630_947,
            requests: 31_070_465,
            reading: 6,
            writing: 179,
            waiting: 106,
        };
        assert_eq!(status, expected);
        for page in [
            "",
            "404",
            "Active connections: x\n",
            &PAGE.replace("6 W", "W"),
        ] {
            assert_eq!(StubStatus::parse(page), None, "{page:?}");
        }
    }

    #[test]
    fn metrics_bear_the_exporters_names_and_vanish_with_nginx() {
        let metrics = std::sync::Arc::new(NginxMetrics::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(std::sync::Arc::clone(&metrics)));
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert!(
            text().contains("\nnginx_up 0\n") && !text().contains("active"),
            "{}",
            text()
        );
        metrics.set(StubStatus::parse(PAGE));
        for line in [
            "nginx_up 1",
            "nginx_connections_active 291",
            "nginx_connections_accepted_total 16630948",
            "nginx_connections_handled_total 16630947",
            "nginx_http_requests_total 31070465",
            "nginx_connections_reading 6",
            "nginx_connections_writing 179",
            "nginx_connections_waiting 106",
        ] {
            assert!(text().lines().any(|got| got == line), "{line}: {}", text());
        }
    }
}
