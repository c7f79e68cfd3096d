//! The client processes: started, told what to do, and ended with this one.

use std::{
    io::{BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::member::{Order, Report};
use crate::{
    machine::{self, KernelMemory},
    options::{Hold, Target},
};

/// How often the machine's memory is looked at: a million connections are made in a minute or two,
/// and take some 200 MB a second.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// How often it is said how far it has come, in such periods.
const SAY_PERIODS: u32 = 10;

/// What must not happen on the way.
pub(super) struct Guard {
    /// What the machine must have left, in bytes.
    left_min: u64,
    /// Slab caches from before, which are nothing that this run needs.
    reclaimable: u64,
}

impl Guard {
    /// From now on there must be so much left, in bytes.
    pub(super) fn new(left_min: u64) -> Result<Self> {
        Ok(Self {
            left_min,
            reclaimable: KernelMemory::now()?.slab_reclaimable(),
        })
    }

    fn check(&self, say: bool) -> Result<()> {
        let (now, sockets) = (KernelMemory::now()?, machine::tcp_sockets()?);
        let left = now.available + self.reclaimable.min(now.slab_reclaimable());
        let so_far = format!("{sockets} TCP sockets, {} MB left", left / 1_000_000);
        ensure!(left >= self.left_min, "too little memory: {so_far}");
        if say {
            eprintln!("load: {so_far}");
        }
        Ok(())
    }
}

/// All members.
pub(super) struct Members {
    all: Vec<Running>,
    /// A line from any of them: the answer to an order, or the sentence with which it ended.
    answers: Receiver<Result<Report>>,
    periods: u32,
}

struct Running {
    child: Child,
    orders: UnixStream,
}

impl Members {
    /// Starts them.
    pub(super) fn start(options: &Hold) -> Result<Self> {
        options.target.check()?;
        ensure!(
            usize::from(options.members) <= options.target.conns && options.members > 0,
            "--members must be at least 1, and at most --conns"
        );
        let (sender, answers) = channel();
        let mut members = Self {
            all: Vec::new(),
            answers,
            periods: 0,
        };
        for number in 0..options.members {
            members
                .all
                .push(Running::start(options, number, sender.clone())?);
        }
        Ok(members)
    }

    /// Their process ids.
    pub(super) fn pids(&self) -> Vec<i32> {
        let id = |it: &Running| i32::try_from(it.child.id()).ok();
        self.all.iter().filter_map(id).collect()
    }

    /// Tells all the same and returns the sum of their answers.
    pub(super) fn order(&mut self, order: Order, guard: &Guard) -> Result<Report> {
        self.tell(order)?;
        self.collect(guard)
    }

    /// Tells all the same.
    pub(super) fn tell(&mut self, order: Order) -> Result<()> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        for member in &mut self.all {
            member
                .orders
                .write_all(&line)
                .context("a client process has ended")?;
        }
        Ok(())
    }

    /// The sum of their answers.
    pub(super) fn collect(&mut self, guard: &Guard) -> Result<Report> {
        let (mut sum, mut missing) = (Report::default(), self.all.len());
        while missing > 0 {
            if let Some(report) = self.wait(WATCH_PERIOD, guard)? {
                sum += report;
                missing -= 1;
            }
        }
        Ok(sum)
    }

    /// Waits until then, or until a hundredth of these connections is gone: what is lost is said
    /// at the next count. That a process ends, or that memory runs out, is an error at once.
    pub(super) fn watch(&mut self, until: Instant, open: usize, guard: &Guard) -> Result<()> {
        // Each has two ends here.
        let sockets_min = open as u64 * 2 * 99 / 100;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
            && machine::tcp_sockets()? >= sockets_min
        {
            if self.wait(left.min(WATCH_PERIOD), guard)?.is_some() {
                bail!("a client process answers what it was not asked");
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration, guard: &Guard) -> Result<Option<Report>> {
        match self.answers.recv_timeout(time) {
            Ok(answer) => answer.map(Some),
            Err(RecvTimeoutError::Timeout) => {
                self.periods += 1;
                guard.check(self.periods.is_multiple_of(SAY_PERIODS))?;
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => bail!("all client processes have ended"),
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // All at first, so that they end side by side. One that has ended already is as it should be.
        for member in &mut self.all {
            member.child.kill().ok();
        }
        for member in &mut self.all {
            member.child.wait().ok();
        }
    }
}

impl Running {
    fn start(options: &Hold, number: u16, answers: Sender<Result<Report>>) -> Result<Self> {
        let (orders, theirs) = UnixStream::pair()?;
        let program = std::env::current_exe().context("where is this program?")?;
        let mut child = Command::new(program)
            .arg("member")
            .args(arguments(options, number))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a client process")?;
        let lines = child.stdout.take().context("no pipe from it")?;
        thread::spawn(move || {
            for line in BufReader::new(lines).lines() {
                let answer = line
                    .map_err(anyhow::Error::from)
                    .and_then(|line| read(&line));
                if answers.send(answer).is_err() {
                    return;
                }
            }
            // Nobody hears this once the run is over.
            answers
                .send(Err(anyhow::anyhow!("client process {number} has ended")))
                .ok();
        });
        Ok(Self { child, orders })
    }
}

fn read(line: &str) -> Result<Report> {
    serde_json::from_str(line).with_context(|| format!("a client process says: {line}"))
}

/// The target, with this member's part of its connections.
fn arguments(options: &Hold, number: u16) -> Vec<String> {
    let Target {
        port,
        path,
        pids,
        conns,
        at_once,
        ..
    } = &options.target;
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    [
        ("--number", number.to_string()),
        ("--port", port.to_string()),
        ("--path", path.clone()),
        ("--pid", pids.join(",")),
        ("--conns", part(*conns, number, options.members).to_string()),
        (
            "--at-once",
            at_once.div_ceil(usize::from(options.members)).to_string(),
        ),
    ]
    .into_iter()
    .flat_map(|(option, value)| [option.to_owned(), value])
    .collect()
}

/// Which of `whole` things the part `number` of `parts` has: as many as any other, or one more.
fn part(whole: usize, number: u16, parts: u16) -> usize {
    let (number, parts) = (usize::from(number), usize::from(parts));
    whole / parts + usize::from(number < whole % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_up_the_whole_and_are_alike() {
        for (whole, parts) in [(1_000_000, 56), (56, 56), (57, 56), (5, 1)] {
            let all: Vec<usize> = (0..parts).map(|it| part(whole, it, parts)).collect();
            assert_eq!(all.iter().sum::<usize>(), whole);
            let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
            assert!(most - least <= 1, "{least} to {most}");
        }
    }
}
