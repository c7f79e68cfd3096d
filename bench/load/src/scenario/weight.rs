//! What a connection weighs, step by step: in the server, and in the kernel at both ends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    begin,
    fanout::{Pace, deliver},
    note_connections, note_step,
};
use crate::{
    client::Role,
    frame::{Opcode, encode},
    mark,
    measurement::Measurement,
    options::{Weight, seconds},
    process::Processes,
    publisher::Publisher,
    swarm::Swarm,
};

/// Connections before the first slope: with them the server has allocated what it needs once.
const FIRST_CONNECTIONS: usize = 100;

/// Messages to each client.
const MESSAGES: u64 = 16;

/// How long what has just happened may still be on its way to where it is measured.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn run(options: &Weight) -> Result<Measurement> {
    let target = &options.target;
    let mut scale = Scale {
        server: Processes::new(&target.pids),
        measurement: begin(target),
    };
    let mut swarm = Swarm::new(target, Role::Listen)?;
    swarm.rest(SETTLE)?;
    scale.read("fresh", &swarm)?;
    let half = target.conns / 2;
    ensure!(
        half > FIRST_CONNECTIONS,
        "--conns must be above {}",
        2 * FIRST_CONNECTIONS
    );
    for (name, goal) in [
        ("a few", FIRST_CONNECTIONS),
        ("half", half),
        ("all", target.conns),
    ] {
        swarm.connect_all(goal - swarm.tally.open - swarm.tally.lost, target.at_once)?;
        swarm.rest(SETTLE)?;
        scale.read(name, &swarm)?;
    }
    for (name, pings) in [("one ping each", 1), ("two pings each", 2)] {
        if options.ping_period > 0 {
            rest_until_pings(&mut swarm, pings, options.ping_period)?;
            scale.read(name, &swarm)?;
        }
    }
    if options.echo {
        echo(&mut swarm, options.source.size)?;
    } else {
        let mut publisher = Publisher::connect(options.source.nats, &options.source.subject)?;
        deliver(
            &mut swarm,
            &mut publisher,
            &options.source,
            MESSAGES,
            Pace::Window(1),
        )?;
    }
    let (came, wanted) = (swarm.tally.marks, MESSAGES * swarm.tally.open as u64);
    ensure!(
        came == wanted,
        "{came} of {wanted} messages arrive: {:?}",
        swarm.tally.trouble
    );
    swarm.rest(SETTLE)?;
    scale.read("16 messages each", &swarm)?;
    note_connections(&mut scale.measurement, &swarm.tally);
    swarm.drop_all();
    swarm.rest(SETTLE * 2)?;
    scale.read("all gone", &swarm)?;
    Ok(scale.measurement)
}

/// Waits until every client has had so many pings; at most one and a half periods longer than that
/// should take.
fn rest_until_pings(swarm: &mut Swarm, pings: u64, period: u64) -> Result<()> {
    let deadline = Instant::now() + seconds(period * 3 / 2 + 2);
    let wanted = pings * swarm.tally.open as u64;
    while swarm.tally.pings < wanted && Instant::now() < deadline {
        swarm.turn(Duration::from_millis(50))?;
    }
    ensure!(
        swarm.tally.pings >= wanted,
        "{} of {wanted} pings come: {:?}",
        swarm.tally.pings,
        swarm.tally.trouble
    );
    swarm.rest(SETTLE)
}

/// Lets each client send 16 messages, one after the other, and get them back.
fn echo(swarm: &mut Swarm, size: usize) -> Result<()> {
    let frame = encode(Opcode::Text, &mark::message(0, size));
    for round in 1..=MESSAGES {
        swarm.send_from_each(&frame)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while swarm.tally.marks < round * swarm.tally.open as u64 && Instant::now() < deadline {
            swarm.turn(Duration::from_millis(10))?;
        }
    }
    Ok(())
}

struct Scale {
    server: Processes,
    measurement: Measurement,
}

impl Scale {
    fn read(&mut self, name: &str, swarm: &Swarm) -> Result<()> {
        note_step(&mut self.measurement, name, &self.server, &swarm.tally)
    }
}
