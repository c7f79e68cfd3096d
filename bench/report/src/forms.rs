//! How each scenario is shown: its title, its columns, and whom its rows are compared with.

/// A column: its heading, its figure, what that is divided by, and the decimals.
pub(crate) type Column = (&'static str, &'static str, f64, usize);

const MEMORY: &[Column] = &[
    ("RSS fresh, MB", "rss_fresh_bytes", 1e6, 1),
    ("settled, MB", "rss_settled_bytes", 1e6, 1),
    ("after the messages, MB", "rss_bytes", 1e6, 1),
    ("pings each", "pings_per_connection", 1.0, 1),
    (
        "idle CPU, µs per connection and second",
        "idle_cpu_us_per_connection_and_s",
        1.0,
        2,
    ),
    ("lost", "lost", 1.0, 0),
];
const IDLE: &[Column] = &[
    ("CPU per connection, µs", "cpu_us_per_connection", 1.0, 1),
    (
        "RSS per connection, bytes",
        "rss_bytes_per_connection",
        1.0,
        0,
    ),
    (
        "machine per connection, bytes",
        "machine_bytes_per_connection",
        1.0,
        0,
    ),
    ("connections/s", "rate_per_s", 1.0, 0),
    ("handshake p50, ms", "handshake_p50_us", 1e3, 1),
    ("p99, ms", "handshake_p99_us", 1e3, 1),
];
const DELIVERY: &[Column] = &[
    ("CPU per delivery, µs", "cpu_us_per_delivery", 1.0, 2),
    ("deliveries/s", "rate_per_s", 1.0, 0),
    ("p50, ms", "delivery_p50_us", 1e3, 2),
    ("p99, ms", "delivery_p99_us", 1e3, 2),
    ("frames per delivery", "frames_per_delivery", 1.0, 2),
    ("lost", "lost", 1.0, 0),
];
const ECHO: &[Column] = &[
    ("CPU per message, µs", "cpu_us_per_message", 1.0, 2),
    ("messages/s", "rate_per_s", 1.0, 0),
];
const CHURN: &[Column] = &[
    ("CPU per connection, µs", "cpu_us_per_connection", 1.0, 1),
    ("connections/s", "rate_per_s", 1.0, 0),
    ("handshake p50, ms", "handshake_p50_us", 1e3, 1),
    ("p99, ms", "handshake_p99_us", 1e3, 1),
];

const COMPRESSED: &[Column] = &[
    ("CPU per delivery, µs", "cpu_us_per_delivery", 1.0, 2),
    ("deliveries/s", "rate_per_s", 1.0, 0),
    ("p50, ms", "delivery_p50_us", 1e3, 2),
    ("p99, ms", "delivery_p99_us", 1e3, 2),
    ("bytes per delivery", "bytes_per_delivery", 1.0, 0),
    ("RSS fresh, MB", "rss_fresh_bytes", 1e6, 1),
    ("in the end, MB", "rss_bytes", 1e6, 1),
    ("lost", "lost", 1.0, 0),
];
const SUBJECTS: &[Column] = &[
    ("connections", "open", 1.0, 0),
    ("subscriptions", "subscriptions", 1.0, 0),
    ("RSS, MB", "rss_bytes", 1e6, 1),
    (
        "RSS per subscription, bytes",
        "rss_bytes_per_subscription",
        1.0,
        0,
    ),
    (
        "set-up CPU per subscription, µs",
        "set_up_cpu_us_per_subscription",
        1.0,
        1,
    ),
    ("CPU per delivery, µs", "cpu_us_per_message", 1.0, 2),
    ("p50, ms", "delivery_p50_us", 1e3, 2),
];
const STORM: &[Column] = &[
    (
        "first storm: CPU per connection, µs",
        "cpu_us_per_connection",
        1.0,
        1,
    ),
    ("connections/s", "rate_per_s", 1.0, 0),
    ("all: handshake p50, ms", "handshake_p50_us", 1e3, 0),
    ("longest, ms", "handshake_max_us", 1e3, 0),
    ("failed", "connections_lost", 1.0, 0),
    ("RSS before all, MB", "rss_before_bytes", 1e6, 1),
    ("after all, MB", "rss_bytes", 1e6, 1),
];
const RAMP: &[Column] = &[("RSS in the end, MB", "rss_bytes", 1e6, 1)];

/// How a scenario is shown.
pub(crate) struct Form {
    /// What it was.
    pub(crate) title: String,
    /// The figure by which rows are compared.
    pub(crate) primary: &'static str,
    /// The rows that the others are compared with.
    pub(crate) peers: &'static [&'static str],
    /// The columns.
    pub(crate) columns: &'static [Column],
}

/// How a scenario of this name is shown in a table, if it is.
pub(crate) fn form(scenario: &str) -> Option<Form> {
    servers(scenario).or_else(|| ways(scenario))
}

/// Scenarios in which servers are beside each other.
fn servers(scenario: &str) -> Option<Form> {
    let mut parts = scenario.split('-');
    let (title, primary, columns) = match parts.next()? {
        "memory" => (
            "Memory: connections settle, then 16 messages to each; one fresh process at a time"
                .into(),
            "rss_bytes",
            MEMORY,
        ),
        "ramp" => (
            "Memory for more and more connections".into(),
            "rss_bytes",
            RAMP,
        ),
        "idle" => (
            "Set-up and subscription: 10,000 connections to a fresh process".into(),
            "cpu_us_per_connection",
            IDLE,
        ),
        "storm" => (
            "Storms: 18,000 connect at the same moment, and leave; again and again".into(),
            "cpu_us_per_connection",
            STORM,
        ),
        "fanout" => {
            let (connections, window) = (parts.next()?, parts.next()?);
            let title = format!("Fan-out: {connections} connections, window {window}, 128 bytes");
            (title, "cpu_us_per_delivery", DELIVERY)
        }
        "open" => {
            let rate = parts.nth(1)?;
            let title = format!("Open loop: 5,000 connections, {rate} messages a second");
            (title, "cpu_us_per_delivery", DELIVERY)
        }
        "echo" => (
            "Echo: 100 connections, one message of 64 bytes under way on each".into(),
            "cpu_us_per_message",
            ECHO,
        ),
        "churn" => (
            "Set-up and close: 100 at a time".into(),
            "cpu_us_per_connection",
            CHURN,
        ),
        _ => return None,
    };
    Some(Form {
        title,
        primary,
        peers: &["floor", "gorilla"],
        columns,
    })
}

/// Scenarios in which ways to run or to load the gateway are beside each other.
fn ways(scenario: &str) -> Option<Form> {
    let mut parts = scenario.split('-');
    let (title, primary, peers, columns): (String, _, &[&str], _) = match parts.next()? {
        "shards" => {
            let (connections, window) = (parts.next()?, parts.next()?);
            (
                format!("One shard and two: {connections} connections, window {window}, 128 bytes"),
                "cpu_us_per_delivery",
                &["gateway-1-shard"],
                DELIVERY,
            )
        }
        "compressed" => {
            let (connections, window) = (parts.next()?, parts.next()?);
            (
                format!(
                    "Compressed fan-out: {connections} connections, window {window}, orders of a shop of up to 1 KiB"
                ),
                "cpu_us_per_delivery",
                &["plain"],
                COMPRESSED,
            )
        }
        "stalled" => (
            "One client of 10,000 does not read: what the others see at 5 messages a second".into(),
            "delivery_p99_us",
            &["all read"],
            DELIVERY,
        ),
        "subjects" if parts.next()? == "50" => (
            "Many subjects: 50 on each of 2,000 connections".into(),
            "rss_bytes",
            &["1 subject"],
            SUBJECTS,
        ),
        "subjects" => (
            "Many subjects: one subscriber for each".into(),
            "cpu_us_per_message",
            &["1 subject"],
            SUBJECTS,
        ),
        _ => return None,
    };
    Some(Form {
        title,
        primary,
        peers,
        columns,
    })
}
