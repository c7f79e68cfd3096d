//! All clients of a run, in one thread: dials, reads, writes, and hands the bytes to
//! [`client`](crate::client).

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
            sockopt,
        },
    },
};

use crate::{
    client::{Client, Next, Role, Script, request},
    frame::encode,
    options::Target,
    tally::Tally,
};

/// Source addresses, 127.0.1.1 and following: one has some 28,000 ports to one destination, and the
/// kernel finds a free one at once only while most of them are free.
const SOURCES: u32 = 64;
const FIRST_SOURCE: u32 = 0x7f00_0101;

/// Events that are taken at once.
const EVENTS_MAX: usize = 1024;

/// Stands for what is watched and is no client.
const NO_SLOT: u64 = u64::MAX;

/// What is read from a socket at once, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Of compressed messages, every so manieth client inflates its own.
const INFLATING: usize = 64;

/// How long nothing may happen while clients connect.
const STALL_MAX: Duration = Duration::from_secs(20);

/// A client and its socket.
#[derive(Debug)]
struct Seat {
    stream: TcpStream,
    client: Client,
    connected: bool,
    /// What the socket has not taken.
    unsent: Vec<u8>,
}

/// All clients.
#[derive(Debug)]
pub struct Swarm {
    /// What they have seen.
    pub tally: Tally,
    script: Script,
    epoll: Epoll,
    server: SocketAddrV4,
    first_source: u32,
    seats: Vec<Option<Seat>>,
    /// Seats that have become empty.
    vacant: Vec<usize>,
    dialled: u32,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Swarm {
    /// No clients yet.
    pub fn new(target: &Target, role: Role) -> Result<Self> {
        target.check()?;
        let greetings = target
            .greetings
            .iter()
            .flat_map(|it| encode(it.opcode, &it.payload))
            .collect();
        Ok(Self {
            tally: Tally::new(),
            script: Script {
                request: request(&target.path, target.compress),
                compress: target.compress,
                greetings,
                role,
            },
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            server: SocketAddrV4::new(Ipv4Addr::LOCALHOST, target.port),
            first_source: FIRST_SOURCE,
            seats: Vec::new(),
            vacant: Vec::new(),
            dialled: 0,
            buffer: vec![0; READ_BYTES],
            out: Vec::new(),
        })
    }

    /// Dials from source addresses that no swarm with another `number` uses.
    pub const fn dial_as(&mut self, number: u16) {
        self.first_source = FIRST_SOURCE + number as u32 * SOURCES;
    }

    /// Lets [`turn`](Self::turn) return when something comes from there, too.
    pub fn watch(&self, descriptor: impl AsFd) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, NO_SLOT);
        self.epoll
            .add(descriptor, event)
            .context("cannot be watched")
    }

    /// Connects as many clients as the target says. Some may fail: the tally counts them.
    pub fn connect_all(&mut self, count: usize, at_once: usize) -> Result<()> {
        let goal = self.seats.len() + count;
        let (mut settled, mut progress) = (0, Instant::now());
        while self.tally.open + self.tally.lost < goal {
            while self.seats.len() < goal
                && self.seats.len() - self.tally.open - self.tally.lost < at_once
            {
                self.dial_another()?;
            }
            self.turn(Duration::from_millis(10))?;
            if settled != self.tally.open + self.tally.lost {
                (settled, progress) = (self.tally.open + self.tally.lost, Instant::now());
            }
            let trouble = || {
                self.tally
                    .trouble
                    .clone()
                    .unwrap_or_else(|| "no answer".to_owned())
            };
            ensure!(
                progress.elapsed() < STALL_MAX,
                "{} of {goal} connect: {}",
                self.tally.open,
                trouble()
            );
            ensure!(
                self.tally.lost <= count / 10,
                "{} of {goal} fail: {}",
                self.tally.lost,
                trouble()
            );
        }
        ensure!(
            self.tally.open > 0,
            "nothing connects: {:?}",
            self.tally.trouble
        );
        Ok(())
    }

    /// Dials from a new seat.
    pub fn dial_another(&mut self) -> Result<()> {
        self.seats.push(None);
        self.dial(self.seats.len() - 1)
    }

    /// Dials from a seat that has become empty; says whether there was one.
    pub fn dial_again(&mut self) -> Result<bool> {
        match self.vacant.pop() {
            Some(slot) => self.dial(slot).map(|()| true),
            None => Ok(false),
        }
    }

    fn dial(&mut self, slot: usize) -> Result<()> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)
            .context("no socket: is the limit of descriptors (ulimit -n) too low?")?;
        // The port is chosen by `connect`, which may share it among destinations.
        setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
        let source = self.first_source + self.dialled % SOURCES;
        bind(
            fd.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source.into(), 0)),
        )?;
        self.dialled = self.dialled.wrapping_add(1);
        match connect(fd.as_raw_fd(), &SockaddrIn::from(self.server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => {
                self.tally.lost += 1;
                self.tally
                    .trouble
                    .get_or_insert_with(|| format!("connect: {error}"));
                self.vacant.push(slot);
                return Ok(());
            }
        }
        let stream = TcpStream::from(fd);
        stream.set_nodelay(true)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
        self.epoll
            .add(&stream, EpollEvent::new(interest, slot as u64))?;
        if let Some(seat) = self.seats.get_mut(slot) {
            *seat = Some(Seat {
                stream,
                client: Client::new(self.script.compress && slot.is_multiple_of(INFLATING)),
                connected: false,
                unsent: Vec::new(),
            });
        }
        Ok(())
    }

    /// Waits for something to happen, at most `wait`, and deals with it.
    pub fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let timeout = EpollTimeout::try_from(wait).context("a wait beyond epoll's")?;
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        for event in events.iter().take(count) {
            let slot = usize::try_from(event.data())?;
            let Some(Some(seat)) = self.seats.get_mut(slot) else {
                continue;
            };
            let outcome = seat.ready(
                event.events(),
                slot,
                (&mut self.script, &mut self.tally),
                (&self.epoll, &mut self.buffer, &mut self.out),
            );
            match outcome {
                Ok(Next::Stay) => {}
                Ok(Next::End) => self.end(slot, None),
                Err(error) => self.end(slot, Some(format!("{error:#}"))),
            }
        }
        Ok(())
    }

    /// Lets things happen for a while.
    pub fn rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.turn(left.min(Duration::from_millis(50)))?;
        }
        Ok(())
    }

    /// Lets every open client send a frame.
    pub fn send_from_each(&mut self, frame: &[u8]) -> Result<()> {
        for slot in 0..self.seats.len() {
            let Some(Some(seat)) = self.seats.get_mut(slot) else {
                continue;
            };
            if seat.client.is_open()
                && let Err(error) = seat.send(frame, &self.epoll, slot)
            {
                self.end(slot, Some(format!("{error:#}")));
            }
            // The answers are read in between, so that neither side's buffers fill.
            if slot % EVENTS_MAX == 0 {
                self.turn(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// Lets every open client send the frame of its role once; the rest follows by itself.
    pub fn begin(&mut self) -> Result<()> {
        let Role::SendAgain { frame, .. } = &self.script.role else {
            bail!("these clients send nothing");
        };
        let frame = frame.clone();
        self.send_from_each(&frame)
    }

    /// Closes all connections at once, without a word.
    pub fn drop_all(&mut self) {
        self.seats.clear();
        self.vacant.clear();
        self.tally.open = 0;
    }

    fn end(&mut self, slot: usize, trouble: Option<String>) {
        let Some(seat) = self.seats.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if seat.client.is_open() {
            self.tally.open -= 1;
        }
        match trouble {
            None => self.tally.closed += 1,
            Some(trouble) => {
                self.tally.lost += 1;
                self.tally.trouble.get_or_insert(trouble);
            }
        }
        self.vacant.push(slot);
    }
}

impl Seat {
    fn ready(
        &mut self,
        flags: EpollFlags,
        slot: usize,
        (script, tally): (&mut Script, &mut Tally),
        (epoll, buffer, out): (&Epoll, &mut [u8], &mut Vec<u8>),
    ) -> Result<Next> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error).context("connect");
            }
            self.connected = true;
            self.unsent = script.request_of(slot);
            self.flush(epoll, slot)?;
        } else if flags.contains(EpollFlags::EPOLLOUT) {
            self.flush(epoll, slot)?;
        }
        if !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return Ok(Next::Stay);
        }
        let length = match self.stream.read(buffer) {
            Ok(0) => bail!("the server ends the connection without a close frame"),
            Ok(length) => length,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(Next::Stay);
            }
            Err(error) => return Err(error).context("read"),
        };
        out.clear();
        let next =
            self.client
                .handle(buffer.get(..length).unwrap_or_default(), script, tally, out)?;
        if next == Next::Stay && !out.is_empty() {
            self.send(out, epoll, slot)?;
        }
        Ok(next)
    }

    fn send(&mut self, bytes: &[u8], epoll: &Epoll, slot: usize) -> Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend(bytes);
            return Ok(());
        }
        let sent = write_some(&mut self.stream, bytes)?;
        let rest = bytes.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.unsent.extend(rest);
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            epoll.modify(&self.stream, &mut EpollEvent::new(interest, slot as u64))?;
        }
        Ok(())
    }

    /// Sends what was left over. The socket is watched for writing until all of it is gone.
    fn flush(&mut self, epoll: &Epoll, slot: usize) -> Result<()> {
        let sent = write_some(&mut self.stream, &self.unsent)?;
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
            epoll.modify(
                &self.stream,
                &mut EpollEvent::new(EpollFlags::EPOLLIN, slot as u64),
            )?;
        }
        Ok(())
    }
}

/// Writes as much as the socket takes.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..)
        && !rest.is_empty()
    {
        match stream.write(rest) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("write"),
        }
    }
    Ok(sent)
}
