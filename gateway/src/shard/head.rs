//! The bytes of a request, until there is something that hyper can answer.
//!
//! hyper takes 16 KiB for a connection that it reads from, for as long as that takes. Here who sends nothing costs a
//! small task, and who sends slowly costs what was sent; hyper then reads a whole head at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Shard;
use crate::stream::Stream;

/// The largest request head. A handshake has no need of more.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;

/// As many as hyper takes.
const HEADERS_MAX: usize = 100;

/// Reads until hyper can answer: a whole head, one that is wrong already, or one that is too long. None where the
/// client leaves without a word.
///
/// # Errors
/// When the connection breaks, or ends within the head.
pub(super) async fn read(shard: &Shard, stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !can_be_answered(&head) {
        stream.readable().await?;
        let scratch = &mut shard.state.borrow_mut().scratch;
        match stream.try_read(scratch) {
            Ok(0) if head.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                head.reserve_exact(read);
                head.extend_from_slice(scratch.get(..read).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(head))
}

fn can_be_answered(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let parsed = httparse::Request::new(&mut headers).parse(head);
    !matches!(parsed, Ok(httparse::Status::Partial)) || head.len() >= HEAD_BYTES_MAX
}

/// A stream whose first bytes have been read already.
#[derive(Debug)]
pub(super) struct Rewound {
    head: Vec<u8>,
    taken: usize,
    stream: Stream,
}

impl Rewound {
    /// Gives them once more.
    pub(super) fn new(head: Vec<u8>, stream: Stream) -> Self {
        Self {
            head,
            taken: 0,
            stream,
        }
    }

    /// The stream, and what was not read again.
    pub(super) fn into_parts(mut self) -> (Stream, Vec<u8>) {
        self.head.drain(..self.taken);
        (self.stream, self.head)
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.head.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let part = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(part);
        self.taken += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_gets_what_it_can_answer() {
        let long = format!("GET / HTTP/1.1\r\nCookie: {}", "a".repeat(HEAD_BYTES_MAX));
        for (head, expected) in [
            ("", false),
            ("GET /ws HTT", false),
            ("GET /ws HTTP/1.1\r\nHost: a\r\n", false),
            ("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET /ws HTTP/1.1\nHost: a\n\n", true),
            ("GET /ws HTTP/1.1\r\nHost: a\r\n\r\nmore", true),
            ("\u{16}\u{3}\u{1}", true),
            ("SSH-2.0-x\r\n", true),
            (&long, true),
        ] {
            assert_eq!(can_be_answered(head.as_bytes()), expected, "{head}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert!(can_be_answered(many.as_bytes()));
    }
}
