//! Markdown.

use crate::{
    about::About,
    forms::{Form, form},
    goals::Goal,
    hold,
    runs::{Runs, SERVERS, Spread},
    steps,
};

/// Cores that others may keep busy before the figures are called noise.
const OTHERS_CORES_MAX: f64 = 0.2;

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
        let all: Vec<_> = runs.all().iter().filter(|it| it.scenario == name).collect();
        if name.starts_with("weight-") {
            text += &all.into_iter().map(steps::weight).collect::<String>();
        } else if name.starts_with("hold-") {
            text += &all.into_iter().map(hold::section).collect::<String>();
        } else if name == "meanwhile" {
            text += &meanwhile(runs);
        } else if let Some(form) = form(name) {
            text += &format!("\n## {}\n\n{}", form.title, comparison(runs, name, &form));
            if all.iter().any(|it| !it.steps.is_empty()) {
                text += &steps::resident(&all);
            }
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

/// A row for each server, with its ratios to those that it is compared with.
fn comparison(runs: &Runs, scenario: &str, form: &Form) -> String {
    let mut text = "| |".to_owned();
    for (heading, ..) in form.columns {
        text += &format!(" {heading} |");
    }
    for peer in form.peers {
        text += &format!(" × {peer} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(form.columns.len() + form.peers.len());
    text.push('\n');
    let mut troubles = String::new();
    for server in runs.servers(scenario) {
        text += &format!("| {server} |");
        for (_, figure, unit, decimals) in form.columns {
            let spread = runs.spread(scenario, server, figure);
            text += &spread.map_or(" – |".to_owned(), |it| {
                format!(" {} |", number(it, *unit, *decimals))
            });
        }
        for peer in form.peers {
            let ratio = runs
                .ratio(scenario, form.primary, server, peer)
                .filter(|_| server != *peer);
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

/// What others wait for while messages go out to many, beside what they wait for usually.
fn meanwhile(runs: &Runs) -> String {
    let mut text = "\n## While messages go out to 18,000 connections, window 4\n\n\
        | | usual p50, ms | p99, ms | longest, ms | meanwhile p50, ms | p99, ms | longest, ms |\n\
        |---|---|---|---|---|---|---|\n"
        .to_owned();
    for (act, heading) in [
        ("accept", "connect and shake hands"),
        ("ping", "ping until pong"),
        ("livez", "GET /livez"),
    ] {
        text += &format!("| {heading} |");
        for when in ["usual", "meanwhile"] {
            for quantile in ["p50", "p99", "max"] {
                let figure = format!("{when}_{act}_{quantile}_us");
                let spread = runs.spread("meanwhile", "gateway", &figure);
                text += &spread.map_or(" – |".to_owned(), |it| {
                    format!(" {} |", number(it, 1e3, 2))
                });
            }
        }
        text.push('\n');
    }
    for trouble in runs
        .of("meanwhile", "gateway")
        .filter_map(|it| it.trouble.as_ref())
    {
        text += &format!("\n{trouble}\n");
    }
    text
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
