//! What is plotted of a run: memory against connections, latency against rate.

use crate::{
    plot::{Plot, Series},
    runs::Runs,
};

/// The plots of a run with what is added to the result's name, as far as there is something to show.
pub(crate) fn plots(runs: &Runs) -> Vec<(&'static str, &'static str, String)> {
    [("memory", memory(runs)), ("latency", latency(runs))]
        .into_iter()
        .filter_map(|(name, plot)| Some((name, plot.title, plot.svg()?)))
        .collect()
}

fn memory(runs: &Runs) -> Plot {
    let series = |(colour, server): (usize, &str)| {
        let steps = runs.of("ramp", server).flat_map(|it| &it.steps);
        Series {
            name: server.to_owned(),
            colour,
            dashed: false,
            points: steps
                .map(|step| (step.connections as f64, step.resident_bytes as f64 / 1e6))
                .collect(),
        }
    };
    let servers = runs.servers("ramp").into_iter().enumerate();
    Plot {
        title: "Resident memory of the server",
        x: "idle subscribed connections",
        y: "RSS, MB (logarithmic)",
        series: servers.map(series).collect(),
    }
}

fn latency(runs: &Runs) -> Plot {
    let mut rates: Vec<(f64, &str)> = runs
        .scenarios()
        .into_iter()
        .filter_map(|name| Some((name.strip_prefix("open-loop-")?.parse().ok()?, name)))
        .collect();
    rates.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
    let mut servers: Vec<&str> = Vec::new();
    for server in rates.iter().flat_map(|(_, name)| runs.servers(name)) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    let mut series = Vec::new();
    for (colour, server) in servers.into_iter().enumerate() {
        for (quantile, dashed) in [("p50", false), ("p99", true)] {
            let figure = format!("delivery_{quantile}_us");
            let point = |(rate, name): &(f64, &str)| {
                let latency_us = runs.spread(name, server, &figure)?.median;
                Some((*rate, latency_us / 1e3))
            };
            series.push(Series {
                name: format!("{server}, {quantile}"),
                colour,
                dashed,
                points: rates.iter().filter_map(point).collect(),
            });
        }
    }
    Plot {
        title: "Latency from publication to arrival, 5,000 connections",
        x: "messages a second, each to all connections",
        y: "latency, ms (logarithmic)",
        series,
    }
}
