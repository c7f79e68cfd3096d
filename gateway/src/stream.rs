//! A client's bytes: over TCP, or over TLS where the gateway itself ends it.
//!
//! Both are asked alike: is it ready, then try. What TLS needs beyond that stays behind this type: plain connections pay
//! nothing for it, neither time nor memory.

mod records;
mod tls;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

pub use self::tls::{HandshakeError, Scratch, TlsStream};
use crate::clock::Tick;

/// A client's bytes.
#[derive(Debug)]
pub enum Stream {
    /// As they come.
    Plain(TcpStream),
    /// In TLS records.
    Tls(Box<TlsStream>),
}

const _: () = assert!(
    size_of::<Stream>() == size_of::<TcpStream>(),
    "a plain connection should not pay for those with TLS"
);

impl Stream {
    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// Whether there may be something to read; wakes when there is.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    /// Whether something may be written; wakes when it may.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_write_ready(cx),
            Self::Tls(tls) => tls.tcp().poll_write_ready(cx),
        }
    }

    /// Reads what is there; 0 where the client has ended.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing yet.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Writes as much as the socket takes. With TLS a part of it may be [pending](Self::is_pending) then.
    ///
    /// # Errors
    /// `WouldBlock` where it takes nothing.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            // One slice goes by `send`, which costs less than `writev` with one slice.
            (Self::Plain(tcp), [one]) => tcp.try_write(one),
            (Self::Plain(tcp), many) => tcp.try_write_vectored(many),
            (Self::Tls(tls), many) => tls.try_write(many),
        }
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// `WouldBlock` where the socket does not take all of it.
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Whether there are records that the socket has not taken yet.
    pub fn is_pending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.is_pending(),
        }
    }

    /// Since when the oldest pending record waits.
    pub fn pending_since(&self) -> Option<Tick> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.pending_since(),
        }
    }

    /// Takes note that what is pending, if anything, was queued then; unless it is known already.
    pub fn note_pending(&mut self, since: Tick) {
        if let Self::Tls(tls) = self {
            tls.note_pending(since);
        }
    }

    /// Says with TLS that nothing more comes, as far as the socket takes it. Without TLS the end of the connection says
    /// it.
    pub fn say_end(&mut self) {
        if let Self::Tls(tls) = self {
            tls.say_end();
        }
    }

    /// The memory that it holds beside itself, in bytes, of what is unread or unwritten.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.held_bytes(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Plain(tcp) = &mut *self {
            return Pin::new(tcp).poll_read(cx, buffer);
        }
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // The next look at the readiness asks to be woken.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Self::Plain(tcp) = &mut *self {
            return Pin::new(tcp).poll_write_vectored(cx, slices);
        }
        loop {
            match self.try_write(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_write_ready(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_write_ready(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_end();
        ready!(self.as_mut().poll_flush(cx))?;
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.tcp_mut()).poll_shutdown(cx),
        }
    }
}
