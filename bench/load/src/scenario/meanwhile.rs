//! While messages go out to many clients, others connect, ping, and ask whether the server lives: how
//! much longer do they wait than when it is at rest?

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{
    begin,
    fanout::{Pace, deliver},
    note_connections, note_times,
};
use crate::{
    client::Role,
    measurement::Measurement,
    meter::Meter,
    options::{Meanwhile, seconds},
    publisher::Publisher,
    single::{Single, get},
    swarm::Swarm,
};

/// Messages after which the swarm looks whether it is to stop.
const BURST: u64 = 8;

/// How long a prober rests after each of the three.
const REST: Duration = Duration::from_millis(10);

pub(super) fn run(options: &Meanwhile) -> Result<Measurement> {
    let target = &options.target;
    let mut measurement = begin(target);
    let mut swarm = Swarm::new(target, Role::Listen)?;
    swarm.connect_all(target.conns, target.at_once)?;
    swarm.rest(Duration::from_secs(2))?;
    let mut publisher = Publisher::connect(options.source.nats, &options.source.subject)?;
    let open = swarm.tally.open as u64;
    let warm = |swarm: &mut Swarm, publisher: &mut Publisher, pace| {
        deliver(swarm, publisher, &options.source, BURST, pace)
    };
    warm(&mut swarm, &mut publisher, Pace::Window(1))?;

    let mut prober = Prober::start(options)?;
    prober
        .probe(seconds(options.seconds))?
        .note(&mut measurement, "usual");

    let (stop, (begun, has_begun)) = (AtomicBool::new(false), mpsc::channel());
    let (waits, sent) = thread::scope(|scope| {
        let driver = scope.spawn(|| -> Result<u64> {
            let (mut sent, begun) = (0, begun);
            while !stop.load(Ordering::Relaxed) {
                deliver(
                    &mut swarm,
                    &mut publisher,
                    &options.source,
                    BURST,
                    Pace::Window(options.window),
                )?;
                sent += BURST;
                // Nobody listens any more after the first time.
                let _ = begun.send(());
            }
            Ok(sent)
        });
        let meter = Meter::start(target)?;
        // An error if the driver ended, which then says why.
        let waits = has_begun
            .recv()
            .context("the messages do not go out")
            .and_then(|()| prober.probe(seconds(options.seconds)));
        stop.store(true, Ordering::Relaxed);
        let cost = meter.cost()?;
        let sent = driver
            .join()
            .map_err(|_| anyhow!("the thread with the clients panicked"))??;
        cost.note(&mut measurement, "delivery", sent * open);
        anyhow::Ok((waits?, sent))
    })?;
    waits.note(&mut measurement, "meanwhile");
    let wanted = (sent + BURST) * open;
    ensure!(
        swarm.tally.marks == wanted,
        "{} of {wanted} deliveries arrive",
        swarm.tally.marks
    );
    measurement.set("rounds", sent as f64);
    note_connections(&mut measurement, &swarm.tally);
    Ok(measurement)
}

/// Does what others do, one after the other.
struct Prober<'a> {
    options: &'a Meanwhile,
    open: Single,
}

/// How long each took, in microseconds.
#[derive(Default)]
struct Waits {
    accepts: Vec<u32>,
    pings: Vec<u32>,
    livez: Vec<u32>,
}

impl<'a> Prober<'a> {
    fn start(options: &'a Meanwhile) -> Result<Self> {
        let open = Single::open(options.target.port, &options.probe_path)?;
        Ok(Self { options, open })
    }

    fn probe(&mut self, time: Duration) -> Result<Waits> {
        let mut waits = Waits::default();
        let until = Instant::now() + time;
        while Instant::now() < until {
            let port = self.options.target.port;
            let accept = || Single::open(port, &self.options.probe_path).map(drop);
            waits.accepts.push(timed(accept)?);
            rest();
            waits.pings.push(timed(|| self.open.ping())?);
            rest();
            waits
                .livez
                .push(timed(|| get(self.options.admin, "/livez"))?);
            rest();
        }
        Ok(waits)
    }
}

impl Waits {
    fn note(mut self, measurement: &mut Measurement, when: &str) {
        note_times(measurement, &format!("{when}_accept"), &mut self.accepts);
        note_times(measurement, &format!("{when}_ping"), &mut self.pings);
        note_times(measurement, &format!("{when}_livez"), &mut self.livez);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the period of probing: there is nothing to await"
)]
fn rest() {
    thread::sleep(REST);
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<u32> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed().as_micros() as u32)
}
