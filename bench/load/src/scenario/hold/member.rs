//! One client process: reads orders, and answers each with a report once it is carried out.

use std::{
    io::{self, ErrorKind, Read, Write},
    ops::AddAssign,
    os::{fd::AsFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use serde::{Deserialize, Serialize};

use crate::{
    client::Role,
    options::{Member, Target},
    swarm::Swarm,
};

/// How long nothing may arrive before what is missing counts as lost. All wait for the same cores:
/// the first to arrive here may be the last of all.
const STALL_MAX: Duration = Duration::from_secs(20);

/// How often is looked whether that is so.
const TURN_MAX: Duration = Duration::from_secs(1);

/// What a member is told: a line of JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Connect.
    Connect,
    /// Say what has come.
    Count,
    /// Wait for a message at each client.
    Deliver,
}

/// What its clients have seen since they were dialled: a line of JSON. The times are in the report
/// of the order that they belong to alone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// Connections that are open.
    pub(super) open: usize,
    /// How often a client was dialled again that had been refused or had failed while connecting.
    pub(super) dialled_again: u64,
    /// Pings from the server.
    pub(super) pings: u64,
    /// Messages.
    pub(super) marks: u64,
    /// Frames with messages.
    pub(super) frames: u64,
    /// Microseconds from the first SYN to the whole answer.
    pub(super) handshakes_us: Vec<u32>,
    /// Microseconds from publication to arrival.
    pub(super) latencies_us: Vec<u32>,
    /// The first thing that went wrong.
    pub(super) trouble: Option<String>,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.open += other.open;
        self.dialled_again += other.dialled_again;
        self.pings += other.pings;
        self.marks += other.marks;
        self.frames += other.frames;
        self.handshakes_us.extend(other.handshakes_us);
        self.latencies_us.extend(other.latencies_us);
        self.trouble = self.trouble.take().or(other.trouble);
    }
}

/// Does as it is told until there are no more orders.
pub fn run(options: &Member) -> Result<()> {
    // Orders end with who gives them, but they are not read while clients connect.
    set_pdeathsig(Signal::SIGKILL)?;
    let target = &options.target;
    let mut swarm = Swarm::new(target, Role::Listen)?;
    swarm.dial_as(options.number);
    let mut orders = Orders::open(&swarm)?;
    let mut dialled_again = 0;
    while let Some(order) = orders.next(&mut swarm)? {
        match order {
            Order::Connect => dialled_again = connect(&mut swarm, target)?,
            Order::Count => {}
            Order::Deliver => deliver(&mut swarm)?,
        }
        let tally = &mut swarm.tally;
        let report = Report {
            open: tally.open,
            dialled_again,
            pings: tally.pings,
            marks: tally.marks,
            frames: tally.frames,
            handshakes_us: std::mem::take(&mut tally.handshakes_us),
            latencies_us: std::mem::take(&mut tally.latencies_us),
            trouble: tally.trouble.clone(),
        };
        let mut line = serde_json::to_vec(&report)?;
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
    }
    Ok(())
}

/// Connects all. The kernel spreads connections over the server's processes by a hash of their
/// addresses, so that one process may be full and refuse while others have room: then another
/// address is tried. Returns how often.
fn connect(swarm: &mut Swarm, target: &Target) -> Result<u64> {
    swarm.connect_all(target.conns, target.at_once)?;
    let (mut again, again_max) = (0, target.conns as u64);
    while swarm.tally.open < target.conns {
        if swarm.dial_again()? {
            again += 1;
        }
        ensure!(
            again <= again_max,
            "{} of {} are open after {again} more attempts: {}",
            swarm.tally.open,
            target.conns,
            swarm.tally.trouble.as_deref().unwrap_or("no answer")
        );
        swarm.turn(Duration::from_millis(10))?;
    }
    // What was made good is no trouble.
    swarm.tally.trouble = None;
    Ok(again)
}

/// Waits until each client has a message, or none comes any more.
fn deliver(swarm: &mut Swarm) -> Result<()> {
    let (mut seen, mut progress) = (0, Instant::now());
    while swarm.tally.marks < swarm.tally.open as u64 && progress.elapsed() < STALL_MAX {
        swarm.turn(TURN_MAX)?;
        if seen != swarm.tally.marks {
            (seen, progress) = (swarm.tally.marks, Instant::now());
        }
    }
    Ok(())
}

/// Orders, from standard input, which is a socket so that it can be read without waiting.
struct Orders {
    input: UnixStream,
    /// What was read and is no line yet.
    heard: Vec<u8>,
}

impl Orders {
    fn open(swarm: &Swarm) -> Result<Self> {
        let input = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        input.set_nonblocking(true)?;
        swarm.watch(&input)?;
        Ok(Self {
            input,
            heard: Vec::new(),
        })
    }

    /// The next order; `None` at the end. The clients go on until it comes.
    fn next(&mut self, swarm: &mut Swarm) -> Result<Option<Order>> {
        let mut buffer = [0; 256];
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line = self.heard.drain(..=end).collect::<Vec<u8>>();
                return Ok(Some(serde_json::from_slice(&line).context("not an order")?));
            }
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => self.heard.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => swarm.turn(TURN_MAX)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read orders"),
            }
        }
    }
}
