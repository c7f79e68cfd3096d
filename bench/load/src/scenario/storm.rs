//! Many clients connect at the same moment, and all of them leave: again and again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{begin, note_connections, note_step, note_times};
use crate::{
    client::Role,
    measurement::Measurement,
    meter::Meter,
    options::{Storm, seconds},
    process::Processes,
    swarm::Swarm,
};

/// Connections before the first storm: with them the server has allocated what it needs once.
const FIRST_CONNECTIONS: usize = 100;

/// Descriptors beside those of clients that may come and go in the server.
const DESCRIPTORS_SLACK: usize = 8;

/// How long the server may take to let go of clients that have left.
const LEAVE_WAIT: Duration = Duration::from_secs(20);

pub(super) fn run(options: &Storm) -> Result<Measurement> {
    let target = &options.target;
    let server = Processes::new(&target.pids);
    let mut measurement = begin(target);
    let mut swarm = Swarm::new(target, Role::Listen)?;
    let empty = server.descriptors()? + DESCRIPTORS_SLACK;
    swarm.connect_all(FIRST_CONNECTIONS, FIRST_CONNECTIONS)?;
    leave(&mut swarm, &server, empty)?;
    let before = server.resident()?;
    note_step(&mut measurement, "before", &server, &swarm.tally)?;
    swarm.tally.handshakes_us.clear();

    let (mut open, mut lost) = (0, 0);
    for number in 1..=options.storms {
        let meter = Meter::start(target)?;
        swarm.connect_all(target.conns, target.conns)?;
        open = swarm.tally.open;
        if number == 1 {
            // The later ones find memory that is there already, and so are cheaper.
            meter
                .cost()?
                .note(&mut measurement, "connection", open as u64);
        }
        note_step(
            &mut measurement,
            &format!("storm {number}, all open"),
            &server,
            &swarm.tally,
        )?;
        lost += std::mem::take(&mut swarm.tally.lost);
        leave(&mut swarm, &server, empty)?;
        note_step(
            &mut measurement,
            &format!("storm {number}, all gone"),
            &server,
            &swarm.tally,
        )?;
    }
    swarm.tally.lost = lost;
    note_times(
        &mut measurement,
        "handshake",
        &mut swarm.tally.handshakes_us,
    );
    note_connections(&mut measurement, &swarm.tally);
    measurement.set("open", open as f64);
    swarm.rest(seconds(options.settle))?;
    note_step(&mut measurement, "in the end", &server, &swarm.tally)?;
    let after = server.resident()?;
    measurement.set("storms", f64::from(options.storms));
    measurement.set("rss_before_bytes", before.total as f64);
    measurement.set("rss_bytes", after.total as f64);
    measurement.set("rss_kept_bytes", after.total as f64 - before.total as f64);
    Ok(measurement)
}

/// Closes all connections, and waits until the server has closed them too.
fn leave(swarm: &mut Swarm, server: &Processes, empty: usize) -> Result<()> {
    swarm.drop_all();
    let deadline = Instant::now() + LEAVE_WAIT;
    while let held = server.descriptors()?
        && held > empty
    {
        ensure!(
            Instant::now() < deadline,
            "the server still has {held} descriptors open, {empty} at the start"
        );
        swarm.rest(Duration::from_millis(50))?;
    }
    Ok(())
}
