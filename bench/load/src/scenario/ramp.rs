//! Memory for more and more connections.

use anyhow::{Result, ensure};

use super::{begin, note_connections, note_step};
use crate::{
    client::Role,
    measurement::Measurement,
    options::{Ramp, seconds},
    process::Processes,
    swarm::Swarm,
};

pub(super) fn run(options: &Ramp) -> Result<Measurement> {
    let target = &options.target;
    ensure!(
        options.counts.is_sorted(),
        "the numbers in --counts must ascend"
    );
    let server = Processes::new(&target.pids);
    let mut measurement = begin(target);
    let mut swarm = Swarm::new(target, Role::Listen)?;
    note_step(&mut measurement, "fresh", &server, &swarm.tally)?;
    for count in &options.counts {
        let missing = count.saturating_sub(swarm.tally.open + swarm.tally.lost);
        swarm.connect_all(missing, target.at_once)?;
        swarm.rest(seconds(options.settle))?;
        note_step(
            &mut measurement,
            &format!("{count} connections"),
            &server,
            &swarm.tally,
        )?;
    }
    measurement.set("rss_bytes", server.resident()?.total as f64);
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}
