//! Markdown for `hold`: one server of many processes, which has no peer to be compared with.

use load::measurement::{Measurement, Step};

/// A row: what, the figures that it shows, and how. A figure is its name, what it is divided by, the
/// decimals and what follows.
type Row = (&'static str, &'static [Figure]);
type Figure = (&'static str, f64, usize, &'static str);

const ROWS: &[Row] = &[
    ("connections open at the end", &[("open", 1.0, 0, "")]),
    (
        "gateways, processes of clients",
        &[
            ("processes", 1.0, 0, ", "),
            ("client_processes", 1.0, 0, ""),
        ],
    ),
    (
        "time to connect all",
        &[
            ("connect_seconds", 1.0, 1, " s, "),
            ("connections_per_s", 1.0, 0, " a second"),
        ],
    ),
    (
        "of it in the gateways",
        &[("cpu_us_per_connection", 1.0, 1, " µs of CPU a connection")],
    ),
    (
        "handshake p50, p99, longest",
        &[
            ("handshake_p50_us", 1e3, 0, " ms, "),
            ("handshake_p99_us", 1e3, 0, " ms, "),
            ("handshake_max_us", 1e3, 0, " ms"),
        ],
    ),
    (
        "dialled again, because a gateway was full",
        &[("dialled_again", 1.0, 0, "")],
    ),
    (
        "memory of the gateways: heap and stacks, PSS, RSS",
        &[
            ("anonymous_bytes", 1e6, 0, " MB, "),
            ("pss_bytes", 1e6, 0, " MB, "),
            ("rss_bytes", 1e6, 0, " MB"),
        ],
    ),
    (
        "of the clients: heap and stacks, PSS, RSS",
        &[
            ("client_anonymous_bytes", 1e6, 0, " MB, "),
            ("client_pss_bytes", 1e6, 0, " MB, "),
            ("client_rss_bytes", 1e6, 0, " MB"),
        ],
    ),
    (
        "of the kernel, both ends: slab, TCP buffers",
        &[
            ("slab_bytes", 1e6, 0, " MB, "),
            ("tcp_buffer_bytes", 1e6, 0, " MB"),
        ],
    ),
    (
        "less memory on the machine than before, all in all",
        &[
            ("machine_bytes", 1e6, 0, " MB, "),
            (
                "machine_bytes_per_connection",
                1.0,
                0,
                " bytes a connection",
            ),
        ],
    ),
    ("held", &[("hold_seconds", 1.0, 0, " s")]),
    (
        "CPU of the gateways meanwhile",
        &[
            ("idle_cores", 1.0, 3, " cores, "),
            (
                "idle_cpu_us_per_connection_and_s",
                1.0,
                3,
                " µs a connection and second",
            ),
        ],
    ),
    ("of the clients", &[("client_idle_cores", 1.0, 3, " cores")]),
    (
        "pings to each connection meanwhile",
        &[("pings_per_connection", 1.0, 2, "")],
    ),
    ("connections lost", &[("connections_lost", 1.0, 0, "")]),
    (
        "one message to all: until the last has it",
        &[("delivery_max_us", 1e6, 2, " s")],
    ),
    (
        "p50, p99",
        &[
            ("delivery_p50_us", 1e6, 2, " s, "),
            ("delivery_p99_us", 1e6, 2, " s"),
        ],
    ),
    (
        "of it in the gateways",
        &[("cpu_us_per_delivery", 1.0, 2, " µs of CPU a delivery")],
    ),
    ("deliveries lost", &[("lost", 1.0, 0, "")]),
];

/// A table of what was found, and one of the memory step by step.
pub(crate) fn section(measurement: &Measurement) -> String {
    let wanted = measurement.scenario.trim_start_matches("hold-");
    let wanted = wanted.parse().map_or(wanted.to_owned(), thousands);
    let mut text = format!("\n## {wanted} connections held\n\n");
    if let Some(trouble) = &measurement.trouble {
        text += &format!("**Failed**: {trouble}\n\n");
    }
    text += "| | |\n|---|---|\n";
    for (what, figures) in ROWS {
        // A run that failed has not come to all of them.
        if let Some(shown) = figures
            .iter()
            .map(|figure| show(measurement, figure))
            .collect::<Option<String>>()
        {
            text += &format!("| {what} | {shown} |\n");
        }
    }
    text += "\n| step | connections | RSS of the gateways, MB | heap and stacks, MB | slab, MB | of it not reclaimable, MB \
             | TCP buffers, MB |\n|---|---|---|---|---|---|---|\n";
    text += &measurement.steps.iter().map(row).collect::<String>();
    text
}

fn show(measurement: &Measurement, (name, unit, decimals, after): &Figure) -> Option<String> {
    let value = measurement.figures.get(*name)? / unit;
    Some(if *decimals == 0 {
        format!("{}{after}", thousands(value))
    } else {
        format!("{value:.decimals$}{after}")
    })
}

fn row(step: &Step) -> String {
    let megabytes = |bytes: u64| thousands(bytes as f64 / 1e6);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |\n",
        step.name,
        thousands(step.connections as f64),
        megabytes(step.resident_bytes),
        megabytes(step.anonymous_bytes),
        megabytes(step.slab_bytes),
        megabytes(step.slab_unreclaimable_bytes),
        megabytes(step.tcp_buffer_bytes),
    )
}

/// `1,000,000`, rounded to a whole number.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let sign = if value < 0.0 && digits != "0" {
        "-"
    } else {
        ""
    };
    let grouped = digits.char_indices().fold(String::new(), |text, (at, it)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        text + if comma { "," } else { "" } + it.encode_utf8(&mut [0; 4])
    });
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_commas() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.2, "0"),
            (999.6, "1,000"),
            (-12_345.0, "-12,345"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(thousands(value), expected);
        }
    }
}
