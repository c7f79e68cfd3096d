//! What the kernel says about processes: the CPU time they used, the memory they hold.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{time::ClockId, unistd::Pid};

/// A group of processes that count as one, as nginx and its workers do.
#[derive(Debug, Clone)]
pub struct Processes {
    pids: Vec<i32>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    /// All that is resident (`VmRSS`).
    pub total: u64,
    /// What is not backed by a file (`RssAnon`): the heap and the stacks.
    pub anonymous: u64,
}

impl Processes {
    /// The processes with these ids.
    pub fn new(pids: &[i32]) -> Self {
        Self {
            pids: pids.to_vec(),
        }
    }

    /// The CPU time used so far by all their threads, in user and kernel mode.
    ///
    /// From the process's CPU clock, which counts nanoseconds; `/proc/PID/stat` shows the same
    /// cut to ticks of 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        self.pids
            .iter()
            .map(|&pid| {
                let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid));
                let now = clock.and_then(ClockId::now);
                now.map(Duration::from)
                    .with_context(|| format!("process {pid} has no CPU clock"))
            })
            .sum()
    }

    /// The descriptors they have open.
    pub fn descriptors(&self) -> Result<usize> {
        let count = |pid| {
            let entries = fs::read_dir(format!("/proc/{pid}/fd"));
            entries
                .map(Iterator::count)
                .with_context(|| format!("the descriptors of process {pid}"))
        };
        self.pids.iter().map(count).sum()
    }

    /// The memory they hold.
    pub fn resident(&self) -> Result<Resident> {
        let mut sum = Resident::default();
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("process {pid} has ended"))?;
            sum.total += kilobytes(&status, "VmRSS:").unwrap_or(0) * 1024;
            sum.anonymous += kilobytes(&status, "RssAnon:").unwrap_or(0) * 1024;
        }
        Ok(sum)
    }

    /// The memory they hold, in bytes, where a page that several processes share counts for each of
    /// them by its part (`Pss`): with many processes of one program, what they really cost.
    ///
    /// The kernel walks their page tables for it.
    pub fn proportional(&self) -> Result<u64> {
        let part = |pid: &i32| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
                .with_context(|| format!("process {pid} has ended"))?;
            let pss = kilobytes(&rollup, "Pss:");
            pss.map(|number| number * 1024).context("Pss")
        };
        self.pids.iter().map(part).sum()
    }
}

/// The number in the line of `/proc` that begins with `key`, in the unit that it has there.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}
