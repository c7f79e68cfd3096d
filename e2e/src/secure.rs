//! A WebSocket client over TLS that checks what it is shown, and reads only when the test does.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use socket2::{Domain, Socket, Type};

use crate::{
    frame::{CLOSE, Frame},
    http::Response,
    socket::{Endpoint, request},
    wait::SOON,
};

/// A connection whose handshakes are done.
#[derive(Debug)]
pub struct SecureSocket {
    stream: StreamOwned<ClientConnection, TcpStream>,
    unread: Vec<u8>,
}

/// What clients trust: the authority, PEM. They speak `http/1.1`, as browsers do to upgrade it.
pub fn trusting(authority: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

impl SecureSocket {
    /// Connects as `localhost`, and upgrades.
    pub fn open(trust: &Arc<ClientConfig>, to: SocketAddr, path: &str) -> Self {
        Self::open_from(Endpoint::default(), trust, to, path)
    }

    /// The same, as the given client.
    pub fn open_from(
        from: Endpoint,
        trust: &Arc<ClientConfig>,
        to: SocketAddr,
        path: &str,
    ) -> Self {
        let mut socket = Self::try_connect(from, trust, to)
            .unwrap_or_else(|error| panic!("no TLS with {to}: {error}"));
        socket.send(request(path, ""));
        let answer = socket.head();
        assert_eq!(answer.status, 101, "{answer:?}");
        socket
    }

    /// Connects as `localhost`.
    ///
    /// # Errors
    /// When nobody listens there, or is not to be trusted.
    pub fn try_connect(
        from: Endpoint,
        trust: &Arc<ClientConfig>,
        to: SocketAddr,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(bytes) = from.receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&to.into(), SOON)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_write_timeout(Some(SOON))?;
        socket.set_read_timeout(Some(SOON))?;
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(trust.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, TcpStream::from(socket));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// The certificate that it was shown, DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// The protocol within TLS and the version of TLS that were agreed on.
    pub fn agreed(&self) -> (Option<&[u8]>, rustls::ProtocolVersion) {
        let connection = &self.stream.conn;
        (
            connection.alpn_protocol(),
            connection.protocol_version().unwrap(),
        )
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, frame: &Frame) {
        self.send(frame.encode());
    }

    /// The next answer's head. What follows it is read later.
    pub fn head(&mut self) -> Response {
        loop {
            if let Some(mut response) = Response::parse(&self.unread) {
                self.unread = std::mem::take(&mut response.body);
                return response;
            }
            assert!(self.read_more().unwrap() > 0, "the connection has ended");
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection ends before, or nothing comes within the time.
    pub fn receive(&mut self, within: Duration) -> io::Result<Frame> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = Frame::decode(&mut self.unread) {
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.stream.sock.set_read_timeout(Some(left))?;
            if self.read_more()? == 0 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    /// The payload of the next frame, which must be of a message.
    pub fn message(&mut self, within: Duration) -> Vec<u8> {
        let frame = self.receive(within).expect("a message should come");
        assert!(frame.fin && frame.opcode < CLOSE, "{frame:?}");
        frame.payload
    }

    /// Says nothing more and reads to the end, which must be one of TLS: a connection that is merely cut is an error.
    ///
    /// # Errors
    /// When it is cut.
    pub fn end(mut self) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()?;
        while self.read_more()? > 0 {}
        Ok(())
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        let read = self.stream.read(&mut chunk)?;
        self.unread.extend(&chunk[..read]);
        Ok(read)
    }
}
