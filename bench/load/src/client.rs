//! One connection, from its handshake on: what came in changes its state and the tally, what is to
//! go out is appended to a buffer. The sockets are [`swarm`](crate::swarm)'s.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use memchr::memmem;

use crate::{
    deflate,
    frame::{Opcode, Part, Reader, encode},
    mark::Scanner,
    tally::Tally,
};

/// The key of every handshake, from RFC 6455, section 1.3, and the answer that proves it was read.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What stands in a path or a subject for a client's number.
pub const NUMBER: &str = "{n}";

/// The offer of permessage-deflate (RFC 7692) that Chromium and Firefox make.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// The longest answer to a handshake that is waited for.
const HEAD_BYTES_MAX: usize = 16 * 1024;

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
    /// The head of the handshake. [`NUMBER`] in it stands for the client's number.
    pub request: Vec<u8>,
    /// Whether it offers compression, which the server then must take.
    pub compress: bool,
    /// Frames that follow it.
    pub greetings: Vec<u8>,
    /// What it does later.
    pub role: Role,
}

/// The head of a handshake for this path, with or without the offer of compression that browsers make.
pub fn request(path: &str, compress: bool) -> Vec<u8> {
    let offer = if compress { OFFER } else { "" };
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n"
    )
    .into_bytes()
}

impl Script {
    /// The head of the handshake of the client with this number.
    pub fn request_of(&self, number: usize) -> Vec<u8> {
        match memmem::find(&self.request, NUMBER.as_bytes()) {
            Some(at) => {
                let (before, rest) = self.request.split_at(at);
                let after = rest.get(NUMBER.len()..).unwrap_or_default();
                [before, number.to_string().as_bytes(), after].concat()
            }
            None => self.request.clone(),
        }
    }
}

/// The state of one connection.
#[derive(Debug)]
pub struct Client {
    stage: Stage,
    reader: Reader,
    scanner: Scanner,
    /// The payload of the control frame that is being read.
    control: Vec<u8>,
    /// The compressed message that is being read, where this client inflates: only a sample of them
    /// does, so that this costs little.
    sample: Option<Vec<u8>>,
    dialled: Instant,
}

impl Client {
    /// A connection that has just been dialled. Of compressed messages, only a client that inflates
    /// reads the stamps; the others count them.
    pub fn new(inflates: bool) -> Self {
        Self {
            stage: Stage::Handshake(Vec::new()),
            reader: Reader::default(),
            scanner: Scanner::default(),
            control: Vec::new(),
            sample: inflates.then(Vec::new),
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
                    if !self.reader.compressed() {
                        self.scanner.scan(piece, |stamp_ns| tally.mark(stamp_ns));
                    } else if let Some(sample) = &mut self.sample {
                        sample.extend(piece);
                    }
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
        ensure!(
            !script.compress || deflate::accepted(answer),
            "the offer of compression is not accepted"
        );
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
                if self.reader.compressed() {
                    self.compressed_end(tally)?;
                }
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

    /// Counts a compressed message: by its marks where it is inflated, otherwise as one.
    fn compressed_end(&mut self, tally: &mut Tally) -> Result<()> {
        tally.compressed += 1;
        let Some(sample) = &mut self.sample else {
            tally.mark(None);
            return Ok(());
        };
        let message = deflate::inflate(&std::mem::take(sample))?;
        self.scanner.scan(&message, |stamp_ns| tally.mark(stamp_ns));
        Ok(())
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
                compress: false,
                greetings: Vec::new(),
                role: role(),
            };
            let (mut client, mut tally, mut out) = (Client::new(false), Tally::new(), Vec::new());
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
    fn a_number_stands_in_the_path() {
        let script = Script {
            request: request("/own/{n}", false),
            compress: false,
            greetings: Vec::new(),
            role: Role::Listen,
        };
        assert!(
            script
                .request_of(17)
                .starts_with(b"GET /own/17 HTTP/1.1\r\n")
        );
    }

    #[test]
    fn a_compressed_message_is_counted_once_and_a_sample_is_inflated() {
        // "@@T" and sixteen digits in a stored block, as RFC 7692, section 7.2.3.3 shows one.
        let body = b"@@T0000000000000001";
        let stored = [&[0x00, 19, 0, 0xec, 0xff], &body[..], &[0x00]].concat();
        let accepted = [
            &ANSWER[..ANSWER.len() - 2],
            b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n",
        ]
        .concat();
        let input = [&accepted, &[0xc1, stored.len() as u8][..], &stored].concat();
        for (inflates, latencies) in [(true, 1), (false, 0)] {
            let mut script = Script {
                request: Vec::new(),
                compress: true,
                greetings: Vec::new(),
                role: Role::Listen,
            };
            let mut tally = Tally::new();
            let next = Client::new(inflates)
                .handle(&input, &mut script, &mut tally, &mut Vec::new())
                .unwrap();
            assert_eq!(next, Next::Stay);
            let seen = (tally.marks, tally.compressed, tally.latencies_us.len());
            assert_eq!(seen, (1, 1, latencies));
        }
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
                compress: false,
                greetings: Vec::new(),
                role: Role::Listen,
            };
            let answer =
                Client::new(false).handle(&input, &mut script, &mut Tally::new(), &mut Vec::new());
            assert_eq!(answer.unwrap_err().to_string(), expected);
        }
    }
}
