//! What the kernel says about the whole machine: who else is busy, and the memory of sockets.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use crate::process::kilobytes;

/// What `/proc/stat` counts in. Linux has shown user space hundredths of a second since 2.6,
/// whatever the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

/// The size of a page, in which `/proc/net/sockstat` counts, on x86-64 and most of arm64.
const PAGE_BYTES: u64 = 4096;

/// The kernel's memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct KernelMemory {
    /// Slab caches: sockets, inodes, dentries, epoll items, but file caches as well.
    pub slab: u64,
    /// Those of them that cannot be reclaimed.
    pub slab_unreclaimable: u64,
    /// Buffers of TCP sockets.
    pub tcp_buffers: u64,
    /// What programs could still get, less the slab caches that the kernel calls reclaimable: the
    /// inodes and dentries of open sockets are among them, and are not.
    pub available: u64,
}

impl KernelMemory {
    /// As it is now.
    pub fn now() -> Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
        let sockstat = fs::read_to_string("/proc/net/sockstat").context("/proc/net/sockstat")?;
        let bytes = |key| {
            kilobytes(&meminfo, key)
                .map(|number| number * 1024)
                .context(key)
        };
        let (slab, slab_unreclaimable) = (bytes("Slab:")?, bytes("SUnreclaim:")?);
        Ok(Self {
            slab,
            slab_unreclaimable,
            tcp_buffers: tcp(&sockstat, "mem").context("the line TCP of /proc/net/sockstat")?
                * PAGE_BYTES,
            available: bytes("MemAvailable:")?
                .saturating_sub(slab.saturating_sub(slab_unreclaimable)),
        })
    }

    /// The part of the slab caches that the kernel calls reclaimable.
    pub const fn slab_reclaimable(&self) -> u64 {
        self.slab.saturating_sub(self.slab_unreclaimable)
    }
}

/// The TCP sockets of this network namespace that are in use: both ends of a connection within it.
pub fn tcp_sockets() -> Result<u64> {
    let sockstat = fs::read_to_string("/proc/net/sockstat").context("/proc/net/sockstat")?;
    tcp(&sockstat, "inuse").context("the line TCP of /proc/net/sockstat")
}

/// In `TCP: inuse 53 orphan 0 tw 4210 alloc 65 mem 245`, `mem` is 245: pages.
fn tcp(sockstat: &str, key: &str) -> Option<u64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != key);
    words.nth(1)?.parse().ok()
}

/// The time that all cores together have not been idle: with programs and interrupts of this
/// machine, or taken by the host that runs it.
pub fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .context("/proc/stat")?;
    // user nice system idle iowait irq softirq steal
    let fields = line
        .split_whitespace()
        .take(8)
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4));
    let ticks: u64 = fields.flat_map(|(_, ticks)| ticks.parse::<u64>()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_tcp_are_found() {
        let sockstat = "sockets: used 121\nTCP: inuse 53 orphan 0 tw 4210 alloc 65 mem 245\nUDP: inuse 0 mem 7\n";
        assert_eq!(tcp(sockstat, "mem"), Some(245));
        assert_eq!(tcp(sockstat, "inuse"), Some(53));
    }
}
