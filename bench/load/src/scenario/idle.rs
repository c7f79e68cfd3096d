//! Clients connect and stay: the cost of setting one up, and the memory it takes.

use anyhow::Result;

use super::{begin, note_connections, note_times};
use crate::{
    client::Role,
    machine::KernelMemory,
    measurement::Measurement,
    meter::Meter,
    options::{Idle, seconds},
    process::Processes,
    swarm::Swarm,
};

pub(super) fn run(options: &Idle) -> Result<Measurement> {
    let target = &options.target;
    let server = Processes::new(&target.pids);
    let mut measurement = begin(target);
    let (fresh, available) = (server.resident()?, KernelMemory::now()?.available);

    let meter = Meter::start(target)?;
    let mut swarm = Swarm::new(target, Role::Listen)?;
    swarm.connect_all(target.conns, target.at_once)?;
    meter
        .cost()?
        .note(&mut measurement, "connection", swarm.tally.open as u64);

    swarm.rest(seconds(options.settle))?;
    let (resident, left) = (server.resident()?, KernelMemory::now()?.available);
    let open = swarm.tally.open as f64;
    measurement.set("rss_fresh_bytes", fresh.total as f64);
    measurement.set("rss_bytes", resident.total as f64);
    measurement.set(
        "rss_bytes_per_connection",
        resident.total.saturating_sub(fresh.total) as f64 / open,
    );
    // The loader and both ends in the kernel are in this one.
    measurement.set(
        "machine_bytes_per_connection",
        available.saturating_sub(left) as f64 / open,
    );
    note_times(
        &mut measurement,
        "handshake",
        &mut swarm.tally.handshakes_us,
    );
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}
