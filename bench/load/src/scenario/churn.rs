//! Clients connect, close and connect again: the whole life of a connection.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{begin, note_connections, note_times};
use crate::{client::Role, measurement::Measurement, meter::Meter, options::Churn, swarm::Swarm};

/// How long nothing may happen.
const STALL_MAX: Duration = Duration::from_secs(20);

pub(super) fn run(options: &Churn) -> Result<Measurement> {
    let target = &options.target;
    let mut measurement = begin(target);
    let mut swarm = Swarm::new(target, Role::CloseAtOnce)?;
    let meter = Meter::start(target)?;
    let mut dialled = 0;
    while dialled < options.total.min(target.conns as u64) {
        swarm.dial_another()?;
        dialled += 1;
    }
    let (mut seen, mut progress) = (0, Instant::now());
    while swarm.tally.closed + (swarm.tally.lost as u64) < options.total {
        swarm.turn(Duration::from_millis(10))?;
        while dialled < options.total && swarm.dial_again()? {
            dialled += 1;
        }
        if seen != swarm.tally.closed {
            (seen, progress) = (swarm.tally.closed, Instant::now());
        }
        ensure!(
            progress.elapsed() < STALL_MAX,
            "nothing closes any more: {:?}",
            swarm.tally.trouble
        );
    }
    meter
        .cost()?
        .note(&mut measurement, "connection", swarm.tally.closed);
    measurement.set("closed", swarm.tally.closed as f64);
    note_times(
        &mut measurement,
        "handshake",
        &mut swarm.tally.handshakes_us,
    );
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}
