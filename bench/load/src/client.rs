//! One connection, from its handshake on: what came in changes its state and the tally, what is to
//! go out is appended to a buffer. The sockets are [`swarm`](crate::swarm)'s.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use memchr::memmem;

use crate::{
    frame::{Opcode, Part, Reader, encode},
    mark::{self, Scanner},
};

/// The key of every handshake, from RFC 6455, section 1.3, and the answer that proves it was read.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest answer to a handshake that is waited for.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Latencies that are kept; later ones are only counted.
const LATENCIES_MAX: usize = 4_000_000;

/// What clients do by themselves, besides answering pings.
#[derive(Debug)]
pub enum Role {
    /// Nothing.
    Listen,
    /// Close as soon as the connection is open.
    CloseAtOnce,
    /// Send this frame again when a message has come, while there are any left.
    SendAgain {
        /// The frame.
        frame: Vec<u8>,
        /// How many more are to be sent, by all clients together.
        left: u64,
    },
}

/// What all clients have seen.
#[derive(Debug)]
pub struct Tally {
    /// Connections that are open.
    pub open: usize,
    /// Connections that failed, or that the server ended.
    pub lost: usize,
    /// Connections that ended as they should.
    pub closed: u64,
    /// Frames that carried a message or a piece of one.
    pub frames: u64,
    /// Marks, and so messages.
    pub marks: u64,
    /// Bytes of payload in frames with messages.
    pub payload_bytes: u64,
    /// Pings from the server.
    pub pings: u64,
    /// Microseconds from publication to arrival.
    pub latencies_us: Vec<u32>,
    /// Microseconds from the first SYN to the whole answer.
    pub handshakes_us: Vec<u32>,
    /// The first thing that went wrong.
    pub trouble: Option<String>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            open: 0,
            lost: 0,
            closed: 0,
            frames: 0,
            marks: 0,
            payload_bytes: 0,
            pings: 0,
            latencies_us: Vec::new(),
            handshakes_us: Vec::new(),
            trouble: None,
        }
    }

    /// Forgets the messages that have come, so that counting starts anew.
    pub fn forget_messages(&mut self) {
        self.frames = 0;
        self.marks = 0;
        self.payload_bytes = 0;
        self.latencies_us.clear();
    }

    fn mark(&mut self, stamp_ns: Option<u64>) {
        self.marks += 1;
        if let Some(stamp_ns) = stamp_ns
            && self.latencies_us.len() < LATENCIES_MAX
        {
            self.latencies_us
                .push((mark::now_ns().saturating_sub(stamp_ns) / 1000) as u32);
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    /// The request has been sent; this much of the answer has come.
    Handshake(Vec<u8>),
    /// Frames come.
    Open,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It does.
    Stay,
    /// It ends, as it should.
    End,
}

/// What every client says first, and what it is there for.
#[derive(Debug)]
pub struct Script {
    /// The head of the handshake.
    pub request: Vec<u8>,
    /// Frames that follow it.
    pub greetings: Vec<u8>,
    /// What it does later.
    pub role: Role,
}

/// The head of a handshake for this path.
pub fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// The state of one connection.
#[derive(Debug)]
pub struct Client {
    stage: Stage,
    reader: Reader,
    scanner: Scanner,
    /// The payload of the control frame that is being read.
    control: Vec<u8>,
    dialled: Instant,
}

impl Client {
    /// A connection that has just been dialled.
    pub fn new() -> Self {
        Self {
            stage: Stage::Handshake(Vec::new()),
            reader: Reader::default(),
            scanner: Scanner::default(),
            control: Vec::new(),
            dialled: Instant::now(),
        }
    }

    /// Whether the handshake is over.
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Takes in what came from the server.
    pub fn handle(
        &mut self,
        bytes: &[u8],
        script: &mut Script,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<Next> {
        let Stage::Handshake(held) = &mut self.stage else {
            return self.frames(bytes, script, tally, out);
        };
        held.extend(bytes);
        let Some(end) = memmem::find(held, b"\r\n\r\n") else {
            ensure!(
                held.len() < HEAD_BYTES_MAX,
                "the answer to the handshake does not end"
            );
            return Ok(Next::Stay);
        };
        let held = std::mem::take(held);
        let (answer, rest) = held.split_at(end + 4);
        self.open(answer, script, tally, out)?;
        self.frames(rest, script, tally, out)
    }

    fn frames(
        &mut self,
        mut bytes: &[u8],
        script: &mut Script,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<Next> {
        while let Some(part) = self.reader.next(&mut bytes) {
            match part {
                Part::Payload(opcode, piece) if opcode.is_data() => {
                    tally.payload_bytes += piece.len() as u64;
                    self.scanner.scan(piece, |stamp_ns| tally.mark(stamp_ns));
                }
                Part::Payload(_, piece) => self.control.extend(piece),
                Part::End(opcode) => {
                    if self.frame_end(opcode, script, tally, out)? == Next::End {
                        return Ok(Next::End);
                    }
                }
            }
        }
        Ok(Next::Stay)
    }

    fn open(
        &mut self,
        answer: &[u8],
        script: &Script,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if !answer.starts_with(b"HTTP/1.1 101 ") || memmem::find(answer, ACCEPT).is_none() {
            let line = answer
                .split(|byte| *byte == b'\r')
                .next()
                .unwrap_or_default();
            bail!(
                "the handshake is answered with {}",
                String::from_utf8_lossy(line)
            );
        }
        self.stage = Stage::Open;
        tally.open += 1;
        tally
            .handshakes_us
            .push(self.dialled.elapsed().as_micros() as u32);
        out.extend(&script.greetings);
        if matches!(script.role, Role::CloseAtOnce) {
            out.extend(encode(Opcode::Close, &1000_u16.to_be_bytes()));
        }
        Ok(())
    }

    fn frame_end(
        &mut self,
        opcode: Opcode,
        script: &mut Script,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<Next> {
        match opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                tally.frames += 1;
                if let Role::SendAgain { frame, left } = &mut script.role
                    && *left > 0
                {
                    *left -= 1;
                    out.extend_from_slice(frame);
                }
            }
            Opcode::Ping => {
                tally.pings += 1;
                out.extend(encode(Opcode::Pong, &std::mem::take(&mut self.control)));
            }
            Opcode::Pong => self.control = Vec::new(),
            Opcode::Close if matches!(script.role, Role::CloseAtOnce) => return Ok(Next::End),
            Opcode::Close => {
                let (code, reason) = self.control.split_first_chunk().unwrap_or((&[0, 0], &[]));
                let (code, reason) = (u16::from_be_bytes(*code), String::from_utf8_lossy(reason));
                bail!("the server closes with {code} {reason}");
            }
            Opcode::Reserved => bail!("the server sends a frame with a reserved opcode"),
        }
        Ok(Next::Stay)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    /// Feeds `input` in chunks of every size to a client with this role; returns what it sends.
    fn check(role: fn() -> Role, input: &[u8], end: Next, sent: &[u8]) -> Tally {
        let mut last = Tally::new();
        for chunk in 1..=input.len() {
            let mut script = Script {
                request: Vec::new(),
                greetings: Vec::new(),
                role: role(),
            };
            let (mut client, mut tally, mut out) = (Client::new(), Tally::new(), Vec::new());
            let mut next = Next::Stay;
            for bytes in input.chunks(chunk) {
                next = client
                    .handle(bytes, &mut script, &mut tally, &mut out)
                    .unwrap();
            }
            assert_eq!((&next, &*out), (&end, sent), "chunks of {chunk}");
            last = tally;
        }
        last
    }

    #[test]
    fn a_ping_is_answered_and_a_message_counted() {
        let message = crate::mark::message(0, 60);
        let input = [ANSWER, &[0x89, 1, b'p'], &[0x81, 60], &message].concat();
        let tally = check(
            || Role::Listen,
            &input,
            Next::Stay,
            &encode(Opcode::Pong, b"p"),
        );
        assert_eq!(
            (tally.open, tally.marks, tally.frames, tally.payload_bytes),
            (1, 1, 1, 60)
        );
    }

    #[test]
    fn a_closing_client_ends_with_the_answer() {
        let close = encode(Opcode::Close, &[0x03, 0xe8]);
        check(
            || Role::CloseAtOnce,
            &[ANSWER, &[0x88, 2, 3, 0xe8]].concat(),
            Next::End,
            &close,
        );
    }

    #[test]
    fn a_refusal_and_an_early_close_are_troubles() {
        for (input, expected) in [
            (
                b"HTTP/1.1 503 Busy\r\n\r\n".to_vec(),
                "the handshake is answered with HTTP/1.1 503 Busy",
            ),
            (
                [ANSWER, &[0x88, 4, 3, 0xe9, b'o', b'h']].concat(),
                "the server closes with 1001 oh",
            ),
        ] {
            let mut script = Script {
                request: Vec::new(),
                greetings: Vec::new(),
                role: Role::Listen,
            };
            let answer =
                Client::new().handle(&input, &mut script, &mut Tally::new(), &mut Vec::new());
            assert_eq!(answer.unwrap_err().to_string(), expected);
        }
    }
}
