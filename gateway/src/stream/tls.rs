//! TLS over TCP: the IO around [`Records`].

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    mem,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::records::{RECORD_BYTES_MAX, RecordError, Records, UNREAD_BYTES_MAX};
use crate::clock::Tick;

/// What is read at once: as much as a connection without TLS reads, so that all contents have room where they go.
const INPUT_BYTES: usize = 64 << 10;

const _: () = assert!(UNREAD_BYTES_MAX < INPUT_BYTES);

/// What a shard's streams with TLS read into and write from, one at a time, so that none has a buffer of its own.
#[derive(Debug)]
pub struct Scratch {
    input: Vec<u8>,
    content: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            input: vec![0; INPUT_BYTES],
            content: Vec::new(),
            output: Vec::new(),
        }
    }
}

/// Why no TLS connection came about.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client went away without a word.
    #[error("the client has left")]
    Left,
    /// The client speaks HTTP. It has been told.
    #[error("the client speaks HTTP without TLS")]
    PlainHttp,
    /// They could not agree, or the connection broke.
    #[error("no TLS")]
    Failed(#[source] io::Error),
}

impl HandshakeError {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Left => "Left",
            Self::PlainHttp => "PlainHttp",
            Self::Failed(_) => "TlsFailed",
        }
    }
}

/// Who speaks HTTP is told in HTTP, so that a person sees what is wrong.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Wsgateway-Reason: PlainHttp\r\nConnection: close\r\nContent-Length: 40\r\n\r\n\
    this port speaks TLS: use wss or https\r\n";

/// TLS over TCP. While nothing is under way it holds keys alone.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    records: Records,
    scratch: Rc<RefCell<Scratch>>,
    /// Content that had no room where it was asked for.
    content: Vec<u8>,
    /// Records that the socket has not taken yet: of one write, and what rustls has to say.
    pending: Vec<u8>,
    pending_since: Option<Tick>,
    /// The client has ended, one way or the other.
    has_ended: bool,
    has_said_end: bool,
}

impl TlsStream {
    /// Has the handshake with a client. It takes as long as the client does.
    ///
    /// # Errors
    /// When no TLS connection comes about.
    pub async fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        scratch: Rc<RefCell<Scratch>>,
    ) -> Result<Box<Self>, HandshakeError> {
        let mut first = [0];
        match tcp.peek(&mut first).await {
            Ok(0) => return Err(HandshakeError::Left),
            Ok(_) if first[0].is_ascii_uppercase() => {
                // Read, or closing would take back the answer.
                let _ = tcp.try_read(&mut scratch.borrow_mut().input);
                let _ = tcp.try_write(PLAIN_HTTP);
                return Err(HandshakeError::PlainHttp);
            }
            Ok(_) => {}
            Err(error) => return Err(HandshakeError::Failed(error)),
        }
        let records = Records::new(config)
            .map_err(|error| HandshakeError::Failed(io::Error::other(error)))?;
        let mut stream = Box::new(Self {
            tcp,
            records,
            scratch,
            content: Vec::new(),
            pending: Vec::new(),
            pending_since: None,
            has_ended: false,
            has_said_end: false,
        });
        stream.agree().await.map_err(HandshakeError::Failed)?;
        Ok(stream)
    }

    async fn agree(&mut self) -> io::Result<()> {
        while self.records.is_handshaking() {
            self.tcp.readable().await?;
            match self.receive(&mut []) {
                // It only seemed to be readable.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                received => received?,
            };
            if self.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while let Err(error) = self.try_flush() {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error);
                }
                self.tcp.writable().await?;
            }
        }
        Ok(())
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.content.is_empty() && !self.has_ended {
            self.tcp.poll_read_ready(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    pub(super) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.content.is_empty() {
            let count = self.content.len().min(buffer.len());
            let rest = self.content.split_off(count);
            let content = mem::replace(&mut self.content, rest);
            put(&content, &mut &mut *buffer, &mut Vec::new());
            return Ok(count);
        }
        if self.has_ended {
            return Ok(0);
        }
        match self.receive(buffer)? {
            0 if !self.has_ended => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Reads once from the socket. Returns how much content there is in `buffer`; what has no room there is kept.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let scratch = self.scratch.clone();
        let scratch = &mut *scratch.borrow_mut();
        let kept = self.records.unread().len();
        let (unread, room) = scratch.input.split_at_mut(kept);
        let read = self.tcp.try_read(room)?;
        if read == 0 {
            self.has_ended = true;
            return Ok(0);
        }
        unread.copy_from_slice(self.records.unread());
        let input = scratch.input.get_mut(..kept + read).unwrap_or_default();
        let size = buffer.len();
        let mut place = buffer;
        let mut content = |bytes: &[u8]| put(bytes, &mut place, &mut self.content);
        let result = self.records.take(input, &mut content, &mut self.pending);
        let count = size - place.len();
        self.has_ended |= self.records.has_ended();
        // What is to be answered, an alert for example, goes out as far as the socket takes it.
        let flushed = self.try_flush();
        result.map_err(broken)?;
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Each round of the loop is a record and a write, and the first that the socket does not take whole is the last: so
    /// no more than one waits.
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_flush()?;
        let scratch = self.scratch.clone();
        let Scratch {
            content, output, ..
        } = &mut *scratch.borrow_mut();
        let mut written = 0;
        while self.pending.is_empty() {
            let part = next_record(slices, written, content);
            if part.is_empty() {
                break;
            }
            output.clear();
            self.records.put(part, output).map_err(broken)?;
            written += part.len();
            let sent = send(&self.tcp, output)?;
            self.pending
                .extend_from_slice(output.get(sent..).unwrap_or_default());
        }
        Ok(written)
    }

    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let sent = send(&self.tcp, &self.pending)?;
        if sent < self.pending.len() {
            self.pending.drain(..sent);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.pending = Vec::new();
        self.pending_since = None;
        Ok(())
    }

    pub(super) fn say_end(&mut self) {
        if !mem::replace(&mut self.has_said_end, true) {
            // Where it cannot be said any more, the end of the connection does.
            let _ = self.records.end(&mut self.pending);
        }
        // What the socket does not take now goes with a later flush, if there is one.
        let _ = self.try_flush();
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn pending_since(&self) -> Option<Tick> {
        self.pending_since
    }

    pub(super) fn note_pending(&mut self, since: Tick) {
        if self.is_pending() {
            self.pending_since.get_or_insert(since);
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.content.len() + self.pending.len() + self.records.unread().len()
    }
}

/// Puts bytes where there is room, and the rest behind what is kept.
fn put(bytes: &[u8], place: &mut &mut [u8], kept: &mut Vec<u8>) {
    let count = bytes.len().min(place.len());
    let (now, later) = bytes.split_at(count);
    let (filled, rest) = mem::take(place).split_at_mut(count);
    filled.copy_from_slice(now);
    *place = rest;
    kept.extend_from_slice(later);
}

/// What one record takes of the slices behind the first `skip` bytes: a part of a long one as it is, short ones
/// together, by way of `room`.
fn next_record<'a>(slices: &'a [IoSlice<'_>], skip: usize, room: &'a mut Vec<u8>) -> &'a [u8] {
    let mut skip = skip;
    let mut rest = slices.iter().filter_map(|slice| {
        let bytes = slice.get(skip..);
        skip = skip.saturating_sub(slice.len());
        bytes.filter(|bytes| !bytes.is_empty())
    });
    let first = rest.next().unwrap_or_default();
    if let Some(record) = first.get(..RECORD_BYTES_MAX) {
        return record;
    }
    room.clear();
    room.extend_from_slice(first);
    for bytes in rest {
        let free = RECORD_BYTES_MAX - room.len();
        room.extend_from_slice(bytes.get(..free).unwrap_or(bytes));
        if free <= bytes.len() {
            break;
        }
    }
    room
}

/// Writes as much as the socket takes; maybe nothing.
fn send(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match tcp.try_write(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn broken(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
