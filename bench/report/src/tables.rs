//! Markdown.

use load::measurement::{Measurement, Step};

use crate::{
    about::About,
    goals::Goal,
    hold,
    runs::{Runs, SERVERS, Spread},
};

/// Cores that others may keep busy before the figures are called noise.
const OTHERS_CORES_MAX: f64 = 0.2;

/// A column: its heading, its figure, what that is divided by, and the decimals.
type Column = (&'static str, &'static str, f64, usize);

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

/// What a scenario was, the figure that servers are compared by, and its columns.
fn form(scenario: &str) -> Option<(String, &'static str, &'static [Column])> {
    let mut parts = scenario.split('-');
    Some(match parts.next()? {
        "memory" => (
            "Memory: connections settle, then 16 messages to each; one fresh process at a time"
                .to_owned(),
            "rss_bytes",
            MEMORY,
        ),
        "idle" => (
            "Set-up and subscription: 10,000 connections to a fresh process".to_owned(),
            "cpu_us_per_connection",
            IDLE,
        ),
        "fanout" => {
            let (connections, window) = (parts.next()?, parts.next()?);
            let title = format!("Fan-out: {connections} connections, window {window}, 128 bytes");
            (title, "cpu_us_per_delivery", DELIVERY)
        }
        "open" => (
            "Open loop: 5,000 connections, 8 messages a second".to_owned(),
            "cpu_us_per_delivery",
            DELIVERY,
        ),
        "echo" => (
            "Echo: 100 connections, one message of 64 bytes under way on each".to_owned(),
            "cpu_us_per_message",
            ECHO,
        ),
        "churn" => (
            "Set-up and close: 100 at a time".to_owned(),
            "cpu_us_per_connection",
            CHURN,
        ),
        _ => return None,
    })
}

/// The top: machine, programs, command, and how quiet it was.
pub(crate) fn heading(
    title: &str,
    about: &About,
    command: &str,
    quick: bool,
    runs: &Runs,
) -> String {
    let gib = about.memory_bytes as f64 / f64::from(1 << 30);
    let mut text = format!("# {title}\n\n`{command}`\n\n| | |\n|---|---|\n");
    text += &format!(
        "| machine | {} cores, {}; {gib:.1} GiB; Linux {} |\n",
        about.cores, about.processor, about.kernel
    );
    for (key, value) in &about.notes {
        text += &format!("| {key} | {value} |\n");
    }
    if quick {
        text +=
            "\nA quick run: it shows that everything works. The figures are not to be quoted.\n";
    }
    let mut others: Vec<f64> = runs
        .all()
        .iter()
        .filter_map(|it| it.figures.get("others_cores").copied())
        .collect();
    others.sort_unstable_by(f64::total_cmp);
    if let (Some(median), Some(most)) = (others.get(others.len() / 2), others.last()) {
        text += &format!(
            "\nPrograms that are no part of this, and the kernel's own threads, kept {median:.2} cores busy in the median measurement and {most:.2} at most.{}\n",
            if *median > OTHERS_CORES_MAX {
                " **That is too much: only ratios mean anything here.**"
            } else {
                ""
            }
        );
    }
    text += "\nMedians, with the range where there were several rounds. A ratio is the median over rounds of the ratio within the round.\n";
    text
}

/// What was aimed at, and reached; nothing where no goal was measured.
pub(crate) fn goals(goals: &[Goal]) -> String {
    if goals.iter().all(|goal| goal.reached.is_none()) {
        return String::new();
    }
    let mut text = "\n## Goals\n\n| | at most | reached | |\n|---|---|---|---|\n".to_owned();
    for goal in goals {
        let reached = goal
            .reached
            .map_or("–".to_owned(), |reached| format!("{reached:.2}"));
        let verdict = match goal.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        text += &format!(
            "| {} | {:.2} {} | {reached} | {verdict} |\n",
            goal.what, goal.limit, goal.unit
        );
    }
    text
}

/// A table for each scenario, and one over all fan-outs.
pub(crate) fn scenarios(runs: &Runs) -> String {
    let mut text = String::new();
    let names = runs.scenarios();
    let fanouts: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| name.starts_with("fanout-"))
        .collect();
    if fanouts.len() > 1 {
        text += &fanout_overview(runs, &fanouts);
    }
    for name in names {
        if name.starts_with("weight-") {
            text += &runs
                .all()
                .iter()
                .filter(|it| it.scenario == name)
                .map(weight)
                .collect::<String>();
        } else if name.starts_with("hold-") {
            text += &runs
                .all()
                .iter()
                .filter(|it| it.scenario == name)
                .map(hold::section)
                .collect::<String>();
        } else if let Some((title, primary, columns)) = form(name) {
            text += &format!(
                "\n## {title}\n\n{}",
                comparison(runs, name, primary, columns)
            );
        }
    }
    text
}

/// CPU per delivery alone, in each server's row.
fn fanout_overview(runs: &Runs, fanouts: &[&str]) -> String {
    let mut text = "\n## CPU per delivery, µs\n\n| |".to_owned();
    for name in fanouts {
        let parts: Vec<&str> = name.split('-').skip(1).collect();
        text += &format!(" {} |", parts.join(", window "));
    }
    text += "\n|---|";
    text += &"---|".repeat(fanouts.len());
    text.push('\n');
    for server in SERVERS {
        let cell = |name: &&str| {
            let spread = runs.spread(name, server, "cpu_us_per_delivery");
            spread.map_or(" – |".to_owned(), |it| format!(" {:.2} |", it.median))
        };
        text += &format!(
            "| {server} |{}\n",
            fanouts.iter().map(cell).collect::<String>()
        );
    }
    for peer in ["floor", "gorilla"] {
        let cell = |name: &&str| {
            let ratio = runs.ratio(name, "cpu_us_per_delivery", "gateway", peer);
            ratio.map_or(" – |".to_owned(), |it| format!(" {:.2} |", it.median))
        };
        text += &format!(
            "| gateway ÷ {peer} |{}\n",
            fanouts.iter().map(cell).collect::<String>()
        );
    }
    text
}

/// A row for each server, with its ratios to the floor and to gorilla.
fn comparison(runs: &Runs, scenario: &str, primary: &str, columns: &[Column]) -> String {
    let mut text = "| |".to_owned();
    for (heading, ..) in columns {
        text += &format!(" {heading} |");
    }
    text += " × floor | × gorilla |\n|---|";
    text += &"---|".repeat(columns.len() + 2);
    text.push('\n');
    let mut troubles = String::new();
    for server in SERVERS
        .into_iter()
        .filter(|server| runs.of(scenario, server).next().is_some())
    {
        text += &format!("| {server} |");
        for (_, figure, unit, decimals) in columns {
            let spread = runs.spread(scenario, server, figure);
            text += &spread.map_or(" – |".to_owned(), |it| {
                format!(" {} |", number(it, *unit, *decimals))
            });
        }
        for peer in ["floor", "gorilla"] {
            let ratio = runs
                .ratio(scenario, primary, server, peer)
                .filter(|_| server != peer);
            text += &ratio.map_or(" – |".to_owned(), |it| {
                format!(" {} |", number(it, 1.0, 2))
            });
        }
        text.push('\n');
        for trouble in runs
            .of(scenario, server)
            .filter_map(|it| it.trouble.as_ref())
        {
            troubles += &format!("\n{server}: {trouble}\n");
        }
    }
    text + &troubles
}

/// The median, and the range where there is one.
fn number(spread: Spread, unit: f64, decimals: usize) -> String {
    let show = |value: f64| format!("{:.decimals$}", value / unit);
    let (median, least, most) = (show(spread.median), show(spread.least), show(spread.most));
    if least == most {
        median
    } else {
        format!("{median} ({least}–{most})")
    }
}

/// A connection's weight, step by step and per connection.
fn weight(measurement: &Measurement) -> String {
    let what = measurement.scenario.trim_start_matches("weight-");
    let mut text = format!(
        "\n## Weight of a connection, {what}\n\n\
         Kernel memory is for both ends; the loader holds the other one.\n\n\
         | step | connections | RSS, MB | heap and stacks, MB | RSS per connection, bytes | slab per connection, bytes \
         | of it not reclaimable | TCP buffers, MB |\n|---|---|---|---|---|---|---|---|\n"
    );
    let Some(fresh) = measurement.steps.first() else {
        return text
            + &format!(
                "\n{}\n",
                measurement.trouble.as_deref().unwrap_or("nothing measured")
            );
    };
    for step in &measurement.steps {
        let each = |part: fn(&Step) -> u64| slope(fresh, step, part);
        let (rss, slab) = (each(|it| it.resident_bytes), each(|it| it.slab_bytes));
        let unreclaimable = each(|it| it.slab_unreclaimable_bytes);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        text += &format!(
            "| {} | {} | {:.1} | {:.1} | {rss} | {slab} | {unreclaimable} | {:.1} |\n",
            step.name,
            step.connections,
            megabytes(step.resident_bytes),
            megabytes(step.anonymous_bytes),
            megabytes(step.tcp_buffer_bytes),
        );
    }
    let step = |name: &str| measurement.steps.iter().find(|step| step.name == name);
    if let (Some(half), Some(all)) = (step("half"), step("all")) {
        let (heap, slab) = (
            slope(half, all, |it| it.anonymous_bytes),
            slope(half, all, |it| it.slab_bytes),
        );
        text += &format!(
            "\nFrom {} to {} connections each added {heap} bytes of heap here and {slab} bytes in the kernel, both ends together.\n",
            half.connections, all.connections
        );
    }
    if let Some(trouble) = &measurement.trouble {
        text += &format!("\n{trouble}\n");
    }
    text
}

/// Bytes for each connection that was added between two steps.
fn slope(from: &Step, to: &Step, part: fn(&Step) -> u64) -> String {
    if to.connections <= from.connections {
        return "–".to_owned();
    }
    let added = (to.connections - from.connections) as f64;
    format!("{:.0}", (part(to) as f64 - part(from) as f64) / added)
}
