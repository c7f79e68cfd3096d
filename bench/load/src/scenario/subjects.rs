//! Clients subscribe to much: the memory that takes, and the cost of a message to one subject of many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{begin, note_connections, note_times};
use crate::{
    client::{NUMBER, Role},
    mark,
    measurement::Measurement,
    meter::Meter,
    options::{Subjects, seconds},
    process::Processes,
    publisher::Publisher,
    swarm::Swarm,
};

/// What stands in a subject for one of a client's subjects.
const INDEX: &str = "{k}";

/// How long a message may take to arrive.
const STALL_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(options: &Subjects) -> Result<Measurement> {
    let target = &options.target;
    ensure!(options.each > 0, "--each must be at least 1");
    let server = Processes::new(&target.pids);
    let mut measurement = begin(target);
    let fresh = server.resident()?;
    let mut swarm = Swarm::new(target, Role::Listen)?;
    let meter = Meter::start(target)?;
    swarm.connect_all(target.conns, target.at_once)?;
    swarm.rest(seconds(options.settle))?;
    let set_up = meter.cost()?;
    let settled = server.resident()?;
    let open = swarm.tally.open as u64;
    ensure!(
        open == target.conns as u64,
        "{open} of {} connect: {:?}",
        target.conns,
        swarm.tally.trouble
    );

    let mut publisher = Publisher::connect(options.source.nats, &options.source.subject)?;
    // A message to each client, or as many to all, shows that every client is subscribed.
    publish(&mut swarm, &mut publisher, options, open)?;
    swarm.tally.forget_messages();
    let meter = Meter::start(target)?;
    publish(&mut swarm, &mut publisher, options, options.msgs)?;
    let cost = meter.cost()?;

    cost.note(&mut measurement, "message", options.msgs);
    measurement.set("delivered", swarm.tally.marks as f64);
    let subscriptions = (open * options.each) as f64;
    let added = settled.total as f64 - fresh.total as f64;
    measurement.set("subscriptions", subscriptions);
    measurement.set("rss_fresh_bytes", fresh.total as f64);
    measurement.set("rss_bytes", settled.total as f64);
    measurement.set("rss_bytes_per_connection", added / open as f64);
    measurement.set("rss_bytes_per_subscription", added / subscriptions);
    measurement.set(
        "set_up_cpu_us_per_subscription",
        set_up.cpu.as_secs_f64() * 1e6 / subscriptions,
    );
    note_times(&mut measurement, "delivery", &mut swarm.tally.latencies_us);
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}

/// Publishes so many messages, each after the one before has arrived wherever it should. Subject
/// follows subject such that clients and their subjects all have their turn.
fn publish(
    swarm: &mut Swarm,
    publisher: &mut Publisher,
    options: &Subjects,
    count: u64,
) -> Result<()> {
    let open = swarm.tally.open as u64;
    let one = options.source.subject.contains(NUMBER);
    let receivers = if one { 1 } else { open };
    let messages = if one { count } else { count.div_ceil(open) };
    for number in 0..messages {
        let subject = options
            .source
            .subject
            .replace(NUMBER, &(number % open).to_string())
            .replace(
                INDEX,
                &((number + number / open) % options.each).to_string(),
            );
        let wanted = swarm.tally.marks + receivers;
        publisher.publish_to(&subject, &options.source.message(mark::now_ns()));
        publisher.flush()?;
        let deadline = Instant::now() + STALL_MAX;
        while swarm.tally.marks < wanted {
            swarm.turn(Duration::from_millis(10))?;
            ensure!(
                Instant::now() < deadline,
                "message {number}, to {subject}, does not arrive: {:?}",
                swarm.tally.trouble
            );
        }
        ensure!(
            swarm.tally.marks == wanted,
            "message {number}, to {subject}, arrives where it should not"
        );
    }
    Ok(())
}
