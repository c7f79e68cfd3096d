//! Clients that connect and then read nothing.

use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};

use crate::{
    options::{Target, seconds},
    single::Single,
};

/// What the kernel may keep for a client that does not read, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// The longest segment that the client takes. The server's kernel sizes its own buffer by it: with
/// that of loopback, 64 KiB, it would take megabytes before anything is seen to stall.
const SEGMENT_BYTES: u32 = 536;

/// How long what the server has sent may take to arrive once it is read.
const READ_WAIT: Duration = Duration::from_secs(2);

/// Beside the server's own time: its sweeps, and the answer to the close frame that it waits for.
const CLOSE_SLACK: Duration = Duration::from_secs(3);

/// Clients that do not read.
#[derive(Debug)]
pub struct Stalled {
    streams: Vec<TcpStream>,
}

impl Stalled {
    /// How long to wait with reading, where the server closes after this many seconds.
    pub const fn patience(write_wait: u64) -> Duration {
        seconds(write_wait).saturating_add(CLOSE_SLACK)
    }

    /// Connects so many of them.
    pub fn connect(target: &Target, count: usize) -> Result<Self> {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, target.port);
        let connect_one = || {
            let fd = socket(
                AddressFamily::Inet,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
            setsockopt(&fd, sockopt::TcpMaxSeg, &SEGMENT_BYTES)?;
            connect(fd.as_raw_fd(), &SockaddrIn::from(server)).context("connect")?;
            let stream = TcpStream::from(fd);
            stream.set_read_timeout(Some(READ_WAIT))?;
            Ok(Single::open_over(stream, &target.path)?.into_stream())
        };
        Ok(Self {
            streams: (0..count).map(|_| connect_one()).collect::<Result<_>>()?,
        })
    }

    /// Reads what the kernel took for them, which must have an end: a server closes a client that does
    /// not read. That none of them is open is proof that they did stall. Returns how many bytes it was.
    pub fn must_be_closed(self) -> Result<usize> {
        let (mut buffer, mut bytes) = ([0; 16 * 1024], 0);
        for mut stream in self.streams {
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => bytes += length,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => {
                        ensure!(
                            error.kind() != ErrorKind::WouldBlock,
                            "a client that did not read is still open"
                        );
                        return Err(error).context("read");
                    }
                }
            }
        }
        Ok(bytes)
    }
}
