//! Free ports that tests of other threads and processes do not take meanwhile.

use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the ports from which the kernel takes the source of an outgoing connection.
const RANGE: Range<u16> = 20_000..32_000;

/// A port of 127.0.0.1 that is ours until this is dropped, whether or not something listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Its lock is the lease; the kernel gives it back however this process ends.
    _lease: File,
}

impl Port {
    /// Takes a free port.
    pub fn lease() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = env::temp_dir().join("wsgateway-e2e-ports");
        fs::create_dir_all(&folder).unwrap();
        let count = RANGE.end - RANGE.start;
        // Processes begin at different places, since a port is free again a moment before its last
        // connections are gone.
        let begin = (std::process::id() as u16).wrapping_mul(31) % count;
        for _ in 0..count {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = RANGE.start + (u32::from(begin) + u32::from(step)) as u16 % count;
            let Ok(lease) = File::create(folder.join(number.to_string())) else {
                continue;
            };
            if lease.try_lock().is_ok() && TcpListener::bind(("0.0.0.0", number)).is_ok() {
                return Self {
                    number,
                    _lease: lease,
                };
            }
        }
        panic!("no free port in {RANGE:?}")
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
