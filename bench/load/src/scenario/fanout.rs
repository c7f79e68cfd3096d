//! Messages into NATS, and out at every client: the cost of a delivery and its latency.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{begin, note_connections, note_times};
use crate::{
    client::Role,
    mark,
    measurement::Measurement,
    meter::Meter,
    options::{Fanout, seconds},
    process::Processes,
    publisher::Publisher,
    swarm::Swarm,
};

/// How long nothing may arrive before what is missing counts as lost.
const STALL_MAX: Duration = Duration::from_secs(5);

/// When the next message may go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// When at most so many are under way.
    Window(u64),
    /// So many a second, whatever has arrived.
    Rate(u64),
}

pub(super) fn run(options: &Fanout) -> Result<Measurement> {
    let target = &options.target;
    let server = Processes::new(&target.pids);
    let mut measurement = begin(target);
    let fresh = server.resident()?;
    let mut swarm = Swarm::new(target, Role::Listen)?;
    swarm.connect_all(target.conns, target.at_once)?;

    let meter = Meter::start(target)?;
    swarm.rest(seconds(options.settle))?;
    let (idle, settled) = (meter.cost()?, server.resident()?);

    let mut publisher = Publisher::connect(options.source.nats, &options.source.subject)?;
    let open = swarm.tally.open as u64;
    deliver(
        &mut swarm,
        &mut publisher,
        options.source.size,
        options.warm,
        Pace::Window(1),
    )?;
    let warm = swarm.tally.marks;
    ensure!(
        warm == options.warm * open,
        "{warm} of {} deliveries arrive before the start",
        options.warm * open
    );

    swarm.tally.forget_messages();
    let pace = options
        .rate
        .map_or(Pace::Window(options.window), Pace::Rate);
    let meter = Meter::start(target)?;
    let stalled = deliver(
        &mut swarm,
        &mut publisher,
        options.source.size,
        options.msgs,
        pace,
    )?;
    let mut cost = meter.cost()?;
    cost.wall = cost.wall.saturating_sub(stalled);

    let (delivered, wanted) = (swarm.tally.marks, options.msgs * open);
    cost.note(&mut measurement, "delivery", delivered);
    measurement.set("delivered", delivered as f64);
    measurement.set("lost", wanted as f64 - delivered as f64);
    measurement.set(
        "frames_per_delivery",
        swarm.tally.frames as f64 / delivered.max(1) as f64,
    );
    measurement.set(
        "bytes_per_delivery",
        swarm.tally.payload_bytes as f64 / delivered.max(1) as f64,
    );
    measurement.set("rss_fresh_bytes", fresh.total as f64);
    measurement.set("rss_settled_bytes", settled.total as f64);
    measurement.set("rss_bytes", server.resident()?.total as f64);
    measurement.set(
        "pings_per_connection",
        swarm.tally.pings as f64 / open as f64,
    );
    let idle_us = idle.cpu.as_secs_f64() * 1e6;
    measurement.set(
        "idle_cpu_us_per_connection_and_s",
        idle_us / open as f64 / idle.wall.as_secs_f64(),
    );
    note_times(&mut measurement, "delivery", &mut swarm.tally.latencies_us);
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}

/// Publishes `count` messages and waits until all have arrived everywhere. Returns how long it
/// waited in vain where some have not.
pub(super) fn deliver(
    swarm: &mut Swarm,
    publisher: &mut Publisher,
    size: usize,
    count: u64,
    pace: Pace,
) -> Result<Duration> {
    let open = swarm.tally.open as u64;
    let (before, begun) = (swarm.tally.marks, Instant::now());
    let (mut sent, mut seen, mut progress) = (0, 0, begun);
    while seen < count * open {
        let allowed = match pace {
            Pace::Window(window) => seen / open + window,
            Pace::Rate(rate) => due(begun.elapsed(), rate),
        };
        while sent < allowed.min(count) {
            publisher.publish(&mark::message(mark::now_ns(), size));
            sent += 1;
        }
        publisher.flush()?;
        swarm.turn(Duration::from_millis(1))?;
        let now_seen = swarm.tally.marks - before;
        if now_seen != seen {
            (seen, progress) = (now_seen, Instant::now());
        } else if progress.elapsed() > STALL_MAX {
            return Ok(progress.elapsed());
        }
    }
    Ok(Duration::ZERO)
}

/// How many messages are due: one at once, and the next after each period.
fn due(elapsed: Duration, rate: u64) -> u64 {
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    elapsed_us.saturating_mul(rate) / 1_000_000 + 1
}
