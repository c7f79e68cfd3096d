//! A WebSocket client that may break every rule: raw TCP, bytes as the test wants them.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    frame::{CLOSE, Frame, PING, PONG},
    http::Response,
    wait::SOON,
};

/// The sample key of RFC 6455, section 1.3, and what a server must answer to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole frame.
    Frame(Frame),
    /// The other side has ended the connection in order.
    End,
    /// The other side has reset the connection.
    Reset,
    /// Nothing more in the time that was given.
    Nothing,
}

/// How a client connects, where it matters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Endpoint {
    /// Its own address, such as 127.0.1.1.
    pub address: Option<IpAddr>,
    /// The size of its receive buffer, small for one that is to be slow.
    pub receive_bytes: Option<usize>,
}

/// A connection.
#[derive(Debug)]
pub struct RawSocket {
    socket: Socket,
    /// What was read and not yet taken.
    unread: Vec<u8>,
}

/// The header line that carries a token.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

impl RawSocket {
    /// Connects, and says nothing yet.
    pub fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Endpoint::default(), to)
    }

    /// As [`connect`](Self::connect), as the given client.
    pub fn connect_from(from: Endpoint, to: SocketAddr) -> Self {
        Self::try_connect(from, to).unwrap_or_else(|error| panic!("no connection to {to}: {error}"))
    }

    /// Connects, and says nothing yet.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn try_connect(from: Endpoint, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(address) = from.address {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        if let Some(bytes) = from.receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&to.into(), SOON)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_write_timeout(Some(SOON))?;
        Ok(Self {
            socket,
            unread: Vec::new(),
        })
    }

    /// Connects and upgrades.
    pub fn open(to: SocketAddr, path: &str) -> Self {
        Self::open_from(Endpoint::default(), to, path)
    }

    /// As [`open`](Self::open), as the given client.
    pub fn open_from(from: Endpoint, to: SocketAddr, path: &str) -> Self {
        Self::open_with(from, to, path, "")
    }

    /// The same with further header lines, each ended by CRLF.
    pub fn open_with(from: Endpoint, to: SocketAddr, path: &str, headers: &str) -> Self {
        let mut socket = Self::connect_from(from, to);
        let answer = socket.upgrade(path, headers);
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        socket
    }

    /// Asks for the upgrade with further header lines, each ended by CRLF.
    pub fn upgrade(&mut self, path: &str, headers: &str) -> Response {
        self.send(request(path, headers));
        self.head(SOON).expect("an answer should come")
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("the server does not take it: {error}"));
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side has closed, or has not read for a long time.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, frame: &Frame) {
        self.send(frame.encode());
    }

    /// The next answer's head, and its body as far as `Content-Length` says and comes. `None` when the
    /// connection ends before the head does.
    pub fn head(&mut self, within: Duration) -> Option<Response> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(mut response) = Response::parse(&self.unread) {
                let length = response
                    .header("content-length")
                    .map_or(0, |v| v.parse().unwrap());
                if response.body.len() >= length {
                    self.unread = response.body.split_off(length);
                    return Some(response);
                }
            }
            match self.read_more(deadline) {
                None => {}
                Some(Received::Nothing) => panic!("no answer within {within:?}"),
                // An answer to HEAD tells a length and sends nothing.
                Some(_) => return Response::parse(&std::mem::take(&mut self.unread)),
            }
        }
    }

    /// What comes next. No ping is answered.
    pub fn receive(&mut self, within: Duration) -> Received {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = Frame::decode(&mut self.unread) {
                assert!(!frame.masked, "a server's frame must not be masked");
                return Received::Frame(frame);
            }
            if let Some(ended) = self.read_more(deadline) {
                return ended;
            }
        }
    }

    /// The next frame that is no ping. Pings are answered, as every client does.
    pub fn frame(&mut self, within: Duration) -> Frame {
        let deadline = Instant::now() + within;
        loop {
            match self.receive(deadline.saturating_duration_since(Instant::now())) {
                Received::Frame(frame) if frame.opcode == PING => {
                    self.send_frame(&Frame::new(PONG, frame.payload));
                }
                Received::Frame(frame) => return frame,
                other => panic!("no frame came, but {other:?}"),
            }
        }
    }

    /// The next message of one frame, as text.
    pub fn message(&mut self, within: Duration) -> String {
        let frame = self.frame(within);
        assert!(
            frame.fin && frame.opcode < CLOSE,
            "no whole message: {frame:?}"
        );
        String::from_utf8(frame.payload).unwrap()
    }

    /// The code with which the other side closes, after whatever it sends before, and `None` for a
    /// close frame without one. It is answered, and the connection's end awaited.
    pub fn closed(&mut self, within: Duration) -> Option<u16> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let frame = loop {
            match self.receive(left()) {
                Received::Frame(frame) if frame.opcode == CLOSE => break frame,
                Received::Frame(_) => {}
                other => panic!("no close frame came, but {other:?}"),
            }
        };
        // It may have ended already, as a server that fails the connection does.
        let _ = self.try_send(Frame::new(CLOSE, frame.payload.clone()).encode());
        match self.receive(left()) {
            Received::End | Received::Reset => frame.close_code(),
            other => panic!("after the close frame came {other:?}"),
        }
    }

    /// Ends the connection with a reset, as a client does whose machine has failed.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads once into `unread`, or says why there was nothing to read.
    fn read_more(&mut self, deadline: Instant) -> Option<Received> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would mean none.
        self.socket
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .unwrap();
        let mut chunk = [0; 16 << 10];
        match self.socket.read(&mut chunk) {
            Ok(0) => Some(Received::End),
            Ok(length) => {
                self.unread.extend(&chunk[..length]);
                None
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => None,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Some(Received::Nothing),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some(Received::Reset),
                _ => panic!("reading failed: {error}"),
            },
        }
    }
}

/// A good request for an upgrade, with further header lines, each ended by CRLF.
pub fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}
