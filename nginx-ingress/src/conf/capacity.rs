//! How many connections nginx holds.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// How many connections nginx holds, and in how many processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Processes that share the sockets.
    pub worker_processes: NonZeroU16,
    /// Connections of each process. A WebSocket takes two, one on either side. nginx sets aside
    /// some 420 bytes for each when it starts.
    pub worker_connections: u32,
    /// Descriptors of each process: its connections and a few files.
    pub worker_rlimit_nofile: u32,
}

/// Connections that are no client's: listeners, the channel to the master, readers of the status
/// page, and clients that are being told that there is no room.
const SPARE_CONNECTIONS: u32 = 512;

/// Descriptors that are no connections: logs, spooled bodies, libraries.
const SPARE_DESCRIPTORS: u32 = 64;

/// What an even share is raised by where several processes share the sockets: the kernel deals
/// connections by a hash, and those that live long do not even out.
const SKEW_PERCENT: u64 = 25;

impl Capacity {
    /// The capacity for so many client sockets in all.
    ///
    /// `descriptors_max` is the hard limit of a process (`ulimit -Hn`): without privileges nginx
    /// cannot raise its own, and a process with more connections than descriptors fails to accept
    /// or to connect.
    pub fn for_sockets(sockets: u32, worker_processes: NonZeroU16, descriptors_max: u32) -> Self {
        let processes = u64::from(worker_processes.get());
        let share = u64::from(sockets).div_ceil(processes);
        let skew = if processes > 1 {
            share * SKEW_PERCENT / 100
        } else {
            0
        };
        let wanted = 2 * (share + skew) + u64::from(SPARE_CONNECTIONS);
        let possible = descriptors_max
            .saturating_sub(SPARE_DESCRIPTORS)
            .max(SPARE_CONNECTIONS);
        let worker_connections = u32::try_from(wanted).unwrap_or(u32::MAX).min(possible);
        let worker_rlimit_nofile = worker_connections.saturating_add(SPARE_DESCRIPTORS);
        Self {
            worker_processes,
            worker_connections,
            worker_rlimit_nofile,
        }
    }

    /// The client sockets that all processes hold together, at best.
    pub fn sockets_max(&self) -> u32 {
        let connections = self.worker_connections.saturating_sub(SPARE_CONNECTIONS);
        (connections / 2).saturating_mul(u32::from(self.worker_processes.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_two_connections_and_descriptors_are_the_ceiling() {
        let check = |(sockets, processes, descriptors_max), expected| {
            let processes = NonZeroU16::new(processes).unwrap();
            let capacity = Capacity::for_sockets(sockets, processes, descriptors_max);
            assert_eq!(
                (capacity.worker_connections, capacity.worker_rlimit_nofile),
                expected
            );
        };
        check((30_000, 1, 1_048_576), (60_512, 60_576));
        check((30_000, 2, 1_048_576), (38_012, 38_076));
        check((30_000, 1, 20_000), (19_936, 20_000));
        check((0, 1, 20_000), (512, 576));
        check((u32::MAX, 1, u32::MAX), (u32::MAX - 64, u32::MAX));
        check((10, 1, 0), (512, 576));
    }

    #[test]
    fn what_was_asked_for_fits_unless_descriptors_are_short() {
        let fits = Capacity::for_sockets(30_000, NonZeroU16::MIN, u32::MAX).sockets_max();
        let short = Capacity::for_sockets(30_000, NonZeroU16::MIN, 20_000).sockets_max();
        assert_eq!((fits, short), (30_000, 9_712));
    }
}
