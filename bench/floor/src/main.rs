//! The floor: what one thread with epoll and one `send` per delivery costs, with no care for any
//! protocol: a fixed answer to every handshake, nothing parsed, no timers, no queues. A server that
//! sends each delivery by itself cannot cost less; only one that puts several into one call can.
//!
//! `floor PORT NATS_PORT`

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use anyhow::{Context, Result};
use memchr::memmem;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{Backlog, listen},
};

/// The answer to the one key that the loader sends.
const ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Handshakes that may wait; the standard library's 128 are too few for a loader's start.
const BACKLOG: i32 = 4096;

fn main() -> Result<()> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>());
    let mut port = || {
        ports
            .next()
            .context("usage: floor PORT NATS_PORT")?
            .context("no port")
    };
    Floor::start(port()?, port()?)?.run()
}

struct Floor {
    epoll: Epoll,
    listener: TcpListener,
    nats: TcpStream,
    /// What came from NATS and is not a whole message yet.
    received: Vec<u8>,
    /// Those who have sent something, and so their request.
    open: Vec<TcpStream>,
    /// Those who have not.
    fresh: HashMap<u64, TcpStream>,
}

impl Floor {
    fn start(port: u16, nats_port: u16) -> Result<Self> {
        let mut nats = TcpStream::connect((Ipv4Addr::LOCALHOST, nats_port)).context("no NATS")?;
        nats.set_nodelay(true)?;
        nats.write_all(b"CONNECT {\"verbose\":false}\r\nSUB bench 1\r\n")?;
        nats.set_nonblocking(true)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("cannot listen")?;
        listen(&listener, Backlog::new(BACKLOG)?)?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&nats, readable(token(&nats)))?;
        epoll.add(&listener, readable(token(&listener)))?;
        Ok(Self {
            epoll,
            listener,
            nats,
            received: Vec::new(),
            open: Vec::new(),
            fresh: HashMap::new(),
        })
    }

    fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 1024];
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE)?;
            for who in events.iter().take(count).map(EpollEvent::data) {
                if who == token(&self.nats) {
                    let length = self.nats.read(&mut buffer)?;
                    self.received
                        .extend(buffer.get(..length).unwrap_or_default());
                    self.deliver()?;
                } else if who == token(&self.listener) {
                    self.accept()?;
                } else {
                    self.hear(who, &mut buffer);
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    self.epoll.add(&stream, readable(token(&stream)))?;
                    self.fresh.insert(token(&stream), stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            }
        }
    }

    /// Answers the first bytes of a client, and passes over all others, pongs among them.
    fn hear(&mut self, who: u64, buffer: &mut [u8]) {
        if let Some(mut stream) = self.fresh.remove(&who) {
            if matches!(stream.read(buffer), Ok(1..)) && stream.write(ANSWER).is_ok() {
                self.open.push(stream);
            }
        } else if let Some(at) = self.open.iter().position(|stream| token(stream) == who)
            && let Some(stream) = self.open.get_mut(at)
            && matches!(stream.read(buffer), Ok(0) | Err(_))
        {
            self.open.swap_remove(at);
        }
    }

    /// Sends every whole message that has come to everyone.
    fn deliver(&mut self) -> Result<()> {
        // INFO {…}, PING, or: MSG bench 1 LENGTH, and then the payload
        while let Some(end) = memmem::find(&self.received, b"\r\n") {
            let (line, rest) = self.received.split_at(end);
            let mut used = end + 2;
            if line.starts_with(b"PING") {
                self.nats.write_all(b"PONG\r\n")?;
            } else if line.starts_with(b"MSG ") {
                let length = std::str::from_utf8(line)?
                    .rsplit(' ')
                    .next()
                    .unwrap_or_default();
                let length: usize = length.parse().context("a length from NATS")?;
                let Some(payload) = rest.get(2..2 + length).filter(|_| rest.len() >= length + 4)
                else {
                    return Ok(());
                };
                let frame = frame(payload);
                for stream in &mut self.open {
                    // Whoever does not take it is not cared for.
                    let _ = stream.write(&frame);
                }
                used += length + 2;
            }
            self.received.drain(..used);
        }
        Ok(())
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    if let Ok(length @ ..126) = u8::try_from(payload.len()) {
        frame.push(length);
    } else {
        frame.push(126);
        frame.extend((payload.len() as u16).to_be_bytes());
    }
    frame.extend(payload);
    frame
}

fn readable(token: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, token)
}

fn token(socket: &impl AsRawFd) -> u64 {
    u64::from(socket.as_raw_fd().unsigned_abs())
}
