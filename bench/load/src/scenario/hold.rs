//! More connections than one process can hold: one server of many processes, and as many client
//! processes, the members, which do as they are told. In the order of the run: [`members`] are
//! started and told what to do, a [`member`] does it.

pub mod member;
mod members;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::{
    member::{Order, Report},
    members::{Guard, Members},
};
use super::{begin, note_times};
use crate::{
    machine::KernelMemory,
    mark,
    measurement::{Measurement, Step},
    meter::{Cost, Meter},
    options::{Hold, Target, seconds},
    process::Processes,
    publisher::Publisher,
};

/// How long what has just happened may still be on its way to where it is measured.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn run(options: &Hold) -> Result<Measurement> {
    ensure!(
        options.target.greetings.is_empty(),
        "clients of hold say nothing: no --init"
    );
    let guard = Guard::new(options.memory_left * 1_000_000)?;
    let mut members = Members::start(options)?;
    let mut scales = Scales {
        server: Processes::new(&options.target.pids),
        clients: Processes::new(&members.pids()),
        // What the members use is no noise.
        target: Target {
            bystanders: [&*options.target.bystanders, &*members.pids()].concat(),
            ..options.target.clone()
        },
        measurement: begin(&options.target),
    };
    // What was found until something went wrong is worth keeping: it says how far that was.
    if let Err(error) = steps(options, &mut members, &guard, &mut scales) {
        scales.measurement.trouble = Some(format!("{error:#}"));
    }
    Ok(scales.measurement)
}

fn steps(options: &Hold, members: &mut Members, guard: &Guard, scales: &mut Scales) -> Result<()> {
    scales
        .measurement
        .set("processes", options.target.pids.len() as f64);
    scales
        .measurement
        .set("client_processes", f64::from(options.members));
    let fresh = scales.weigh("fresh", 0)?;
    let opened = connect(members, guard, scales)?;
    scales.weigh("connected", opened.open)?;
    let held = hold(options, members, guard, scales)?;
    scales.note_memory(fresh, KernelMemory::now()?, opened.open)?;
    scales.weigh("held", held.open)?;
    let delivered = deliver(options, members, guard, scales, held.open)?;
    scales.weigh("after a message to each", delivered.open)?;

    let measurement = &mut scales.measurement;
    measurement.set("open", delivered.open as f64);
    measurement.set("connections_lost", (opened.open - delivered.open) as f64);
    measurement.trouble = delivered.trouble;
    let missing = held.open as u64 - delivered.marks.min(held.open as u64);
    ensure!(missing == 0, "{missing} have not got the message");
    Ok(())
}

/// Lets all connect, at once but for the limit of each.
fn connect(members: &mut Members, guard: &Guard, scales: &mut Scales) -> Result<Report> {
    let meter = Meter::start(&scales.target)?;
    let mut opened = members.order(Order::Connect, guard)?;
    let cost = meter.cost()?;
    let measurement = &mut scales.measurement;
    measurement.set("connect_seconds", cost.wall.as_secs_f64());
    measurement.set(
        "connections_per_s",
        opened.open as f64 / cost.wall.as_secs_f64(),
    );
    measurement.set(
        "cpu_us_per_connection",
        cost.cpu.as_secs_f64() * 1e6 / opened.open as f64,
    );
    measurement.set("connect_others_cores", cost.others_cores);
    measurement.set("dialled_again", opened.dialled_again as f64);
    note_times(measurement, "handshake", &mut opened.handshakes_us);
    members.watch(Instant::now() + SETTLE, opened.open, guard)?;
    Ok(opened)
}

/// Lets them be, and counts the pings.
fn hold(
    options: &Hold,
    members: &mut Members,
    guard: &Guard,
    scales: &mut Scales,
) -> Result<Report> {
    let before = members.order(Order::Count, guard)?;
    let (meter, clients) = (Meter::start(&scales.target)?, scales.clients.cpu()?);
    let until = Instant::now() + seconds(options.seconds);
    members.watch(until, before.open, guard)?;
    let cost = meter.cost()?;
    let clients = scales.clients.cpu()?.saturating_sub(clients);
    let held = members.order(Order::Count, guard)?;

    let (wall, open) = (cost.wall.as_secs_f64(), held.open as f64);
    let measurement = &mut scales.measurement;
    measurement.set("hold_seconds", wall);
    measurement.set("others_cores", cost.others_cores);
    measurement.set("idle_cores", cost.cpu.as_secs_f64() / wall);
    measurement.set("client_idle_cores", clients.as_secs_f64() / wall);
    measurement.set(
        "idle_cpu_us_per_connection_and_s",
        cost.cpu.as_secs_f64() * 1e6 / open / wall,
    );
    measurement.set(
        "pings_per_connection",
        (held.pings - before.pings) as f64 / before.open as f64,
    );
    Ok(held)
}

/// Publishes one message, and waits until all have it.
fn deliver(
    options: &Hold,
    members: &mut Members,
    guard: &Guard,
    scales: &mut Scales,
    open: usize,
) -> Result<Report> {
    let mut publisher = Publisher::connect(options.source.nats, &options.source.subject)?;
    let meter = Meter::start(&scales.target)?;
    members.tell(Order::Deliver)?;
    publisher.publish(&mark::message(mark::now_ns(), options.source.size));
    publisher.flush()?;
    let mut delivered = members.collect(guard)?;
    let Cost {
        cpu, others_cores, ..
    } = meter.cost()?;

    let measurement = &mut scales.measurement;
    let marks = delivered.marks as f64;
    measurement.set("delivered", marks);
    measurement.set("lost", open as f64 - marks);
    measurement.set("frames_per_delivery", delivered.frames as f64 / marks);
    measurement.set("cpu_us_per_delivery", cpu.as_secs_f64() * 1e6 / marks);
    measurement.set("deliver_others_cores", others_cores);
    note_times(measurement, "delivery", &mut delivered.latencies_us);
    Ok(delivered)
}

/// What is measured, and what comes out.
struct Scales {
    server: Processes,
    clients: Processes,
    target: Target,
    measurement: Measurement,
}

impl Scales {
    /// Adds a step. Returns the kernel's memory.
    fn weigh(&mut self, name: &str, connections: usize) -> Result<KernelMemory> {
        let (resident, kernel) = (self.server.resident()?, KernelMemory::now()?);
        self.measurement.steps.push(Step {
            name: name.to_owned(),
            connections,
            resident_bytes: resident.total,
            anonymous_bytes: resident.anonymous,
            slab_bytes: kernel.slab,
            slab_unreclaimable_bytes: kernel.slab_unreclaimable,
            tcp_buffer_bytes: kernel.tcp_buffers,
        });
        Ok(kernel)
    }

    /// Notes the memory of both sides, and of the kernel since it was `fresh`.
    fn note_memory(&mut self, fresh: KernelMemory, now: KernelMemory, open: usize) -> Result<()> {
        let measurement = &mut self.measurement;
        for (side, processes) in [("", &self.server), ("client_", &self.clients)] {
            let resident = processes.resident()?;
            for (what, bytes) in [
                ("rss", resident.total),
                ("anonymous", resident.anonymous),
                ("pss", processes.proportional()?),
            ] {
                measurement.set(&format!("{side}{what}_bytes"), bytes as f64);
            }
        }
        let machine = fresh.available.saturating_sub(now.available);
        let unreclaimable = now
            .slab_unreclaimable
            .saturating_sub(fresh.slab_unreclaimable);
        for (what, bytes) in [
            ("slab", now.slab.saturating_sub(fresh.slab)),
            ("slab_unreclaimable", unreclaimable),
            ("tcp_buffer", now.tcp_buffers),
            ("machine", machine),
            ("available", now.available),
        ] {
            measurement.set(&format!("{what}_bytes"), bytes as f64);
        }
        measurement.set("machine_bytes_per_connection", machine as f64 / open as f64);
        Ok(())
    }
}
