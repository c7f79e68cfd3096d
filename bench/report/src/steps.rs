//! Memory step by step.

use load::measurement::{Measurement, Step};

/// Resident memory at each step, of all servers beside each other.
pub(crate) fn resident(measurements: &[&Measurement]) -> String {
    let Some(longest) = measurements.iter().max_by_key(|it| it.steps.len()) else {
        return String::new();
    };
    let mut text = "\nRSS in MB:\n\n| |".to_owned();
    for measurement in measurements {
        text += &format!(" {} |", measurement.server);
    }
    text += "\n|---|";
    text += &"---|".repeat(measurements.len());
    text.push('\n');
    for step in &longest.steps {
        text += &format!("| {} |", step.name);
        for measurement in measurements {
            let same = measurement.steps.iter().find(|it| it.name == step.name);
            text += &same.map_or(" – |".to_owned(), |it| {
                format!(" {:.1} |", it.resident_bytes as f64 / 1e6)
            });
        }
        text.push('\n');
    }
    text
}

/// A connection's weight, step by step and per connection.
pub(crate) fn weight(measurement: &Measurement) -> String {
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
