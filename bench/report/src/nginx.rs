//! Markdown of the scenario `nginx`: a table for each of its parts, a row for each configuration or each
//! process that was looked at.

use load::measurement::Measurement;

use crate::runs::Runs;

/// A column: its heading, what it shows of a measurement, and the decimals.
type Column = (&'static str, fn(&Measurement) -> Option<f64>, usize);

const MEMORY: &[Column] = &[
    ("nginx's RSS per socket, bytes", settled_per_connection, 0),
    ("sockets", |it| figure(it, "open"), 0),
    ("lost", |it| figure(it, "lost"), 0),
];
const DELIVERY: &[Column] = &[
    (
        "CPU per delivery, µs",
        |it| figure(it, "cpu_us_per_delivery"),
        2,
    ),
    ("deliveries/s", |it| figure(it, "rate_per_s"), 0),
    (
        "p50, ms",
        |it| Some(figure(it, "delivery_p50_us")? / 1e3),
        2,
    ),
    (
        "p99, ms",
        |it| Some(figure(it, "delivery_p99_us")? / 1e3),
        2,
    ),
    ("lost", |it| figure(it, "lost"), 0),
];
const SETUP: &[Column] = &[
    (
        "CPU per connection, µs",
        |it| figure(it, "cpu_us_per_connection"),
        1,
    ),
    ("connections/s", |it| figure(it, "rate_per_s"), 0),
    (
        "handshake p50, ms",
        |it| Some(figure(it, "handshake_p50_us")? / 1e3),
        2,
    ),
    (
        "p99, ms",
        |it| Some(figure(it, "handshake_p99_us")? / 1e3),
        2,
    ),
];
const TLS: &[Column] = &[
    (
        "nginx's RSS per socket, bytes",
        |it| figure(it, "rss_bytes_per_connection"),
        0,
    ),
    ("sockets", |it| figure(it, "open"), 0),
];

/// What a part was, and its columns.
fn form(scenario: &str) -> Option<(String, &'static [Column])> {
    let part = scenario.strip_prefix("nginx-")?;
    Some(match part.split_once('-').unwrap_or((part, "")) {
        ("memory", _) => ("nginx: memory, a handshake of 170 bytes".to_owned(), MEMORY),
        ("token", _) => ("nginx: memory, a handshake of 1.3 KB".to_owned(), MEMORY),
        ("tls", _) => (
            "nginx: memory with TLS 1.3, beyond what it has at the start".to_owned(),
            TLS,
        ),
        ("delivery", window) => (
            format!("nginx: delivery to 5,000 connections, window {window}, 128 bytes"),
            DELIVERY,
        ),
        ("size", size) => (
            format!("nginx: delivery to 1,000 connections, window 1, {size} bytes"),
            DELIVERY,
        ),
        ("setup", _) => ("nginx: open and close, 100 at a time".to_owned(), SETUP),
        _ => return None,
    })
}

/// The tables, in the order in which the parts were begun; nothing where nginx was not measured.
pub(crate) fn tables(runs: &Runs) -> String {
    let mut text = String::new();
    for scenario in runs.scenarios() {
        let Some((title, columns)) = form(scenario) else {
            continue;
        };
        text += &format!("\n## {title}\n\n| |");
        for (heading, ..) in columns {
            text += &format!(" {heading} |");
        }
        text += &format!("\n|---|{}\n", "---|".repeat(columns.len()));
        for name in names(runs, scenario) {
            text += &row(runs, scenario, name, columns);
        }
    }
    text
}

/// Who was measured, in the order in which that began.
fn names<'a>(runs: &'a Runs, scenario: &str) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for it in runs.all().iter().filter(|it| it.scenario == scenario) {
        if !names.contains(&it.server.as_str()) {
            names.push(&it.server);
        }
    }
    names
}

/// The medians over the rounds; below it what went wrong.
fn row(runs: &Runs, scenario: &str, name: &str, columns: &[Column]) -> String {
    let mut text = format!("| {name} |");
    for (_, show, decimals) in columns {
        let mut values: Vec<f64> = runs.of(scenario, name).filter_map(show).collect();
        values.sort_unstable_by(f64::total_cmp);
        text += &values
            .get(values.len() / 2)
            .map_or(" – |".to_owned(), |median| {
                format!(" {median:.decimals$} |")
            });
    }
    text.push('\n');
    for trouble in runs.of(scenario, name).filter_map(|it| it.trouble.as_ref()) {
        text += &format!("| {name}: {trouble} |\n");
    }
    text
}

fn figure(measurement: &Measurement, name: &str) -> Option<f64> {
    measurement.figures.get(name).copied()
}

fn settled_per_connection(measurement: &Measurement) -> Option<f64> {
    let grown = figure(measurement, "rss_settled_bytes")? - figure(measurement, "rss_fresh_bytes")?;
    Some(grown / figure(measurement, "open")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_median_of_its_rounds_and_other_scenarios_are_left_alone() {
        let row = |fresh, settled| {
            format!(
                r#"{{"scenario":"nginx-memory","server":"rendered","figures":{{"open":10,"lost":0,"rss_fresh_bytes":{fresh},"rss_settled_bytes":{settled}}}}}"#
            )
        };
        let other = r#"{"scenario":"fanout-1-1","server":"gateway","figures":{}}"#.to_owned();
        let rows = [row(0, 100), other, row(100, 400), row(0, 200)].join("\n");
        let text = tables(&Runs::parse(&rows).unwrap());
        assert!(text.ends_with("| rendered | 20 | 10 | 0 |\n"), "{text}");
        assert_eq!(text.matches("## ").count(), 1, "{text}");
    }
}
