//! Clients send and the server sends back, one message under way on each connection.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{begin, note_connections};
use crate::{
    client::Role,
    frame::{Opcode, encode},
    mark,
    measurement::Measurement,
    meter::Meter,
    options::Echo,
    swarm::Swarm,
};

/// How long nothing may come back.
const STALL_MAX: Duration = Duration::from_secs(20);

pub(super) fn run(options: &Echo) -> Result<Measurement> {
    let target = &options.target;
    let conns = target.conns as u64;
    ensure!(
        options.msgs >= conns,
        "--msgs must be at least --conns: each connection begins with one"
    );
    let mut measurement = begin(target);
    let message = mark::message(0, options.size);
    let role = Role::SendAgain {
        frame: encode(Opcode::Text, &message),
        left: options.msgs - conns,
    };
    let mut swarm = Swarm::new(target, role)?;
    swarm.connect_all(target.conns, target.at_once)?;

    let meter = Meter::start(target)?;
    swarm.begin()?;
    let (mut seen, mut progress) = (0, Instant::now());
    while swarm.tally.marks < options.msgs {
        swarm.turn(Duration::from_millis(10))?;
        if seen != swarm.tally.marks {
            (seen, progress) = (swarm.tally.marks, Instant::now());
        }
        ensure!(
            progress.elapsed() < STALL_MAX,
            "{seen} come back and no more: {:?}",
            swarm.tally.trouble
        );
    }
    meter
        .cost()?
        .note(&mut measurement, "message", swarm.tally.marks);
    let back = swarm.tally.marks * message.len() as u64;
    ensure!(
        swarm.tally.payload_bytes == back,
        "{} bytes come back instead of {back}",
        swarm.tally.payload_bytes
    );
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}
