//! One handshake at one address, as a client would make it: connect, TLS, upgrade, ping and pong, close.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        self, ClientRequestBuilder, Message,
        error::ProtocolError,
        http::{HeaderMap, Uri, header},
        protocol::WebSocketConfig,
    },
};
use wsgateway_crds::report::{PROBE_SUBPROTOCOL, REASON_HEADER};

use super::{
    address::{Address, Host, ResolveError},
    certificate,
    target::Target,
};

/// How long a probe of one address may take, from name to pong.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the ping carries, and the pong must.
const PING: &[u8] = b"wsgateway-probe";

/// The largest message that is read; none is expected.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The longest part of a foreign header or error that is quoted.
const QUOTED_CHARS_MAX: usize = 200;

/// What came of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A gateway answered, and its pong came back.
    Gateway,
    /// Somebody upgraded the connection who does not know the probe.
    Upgraded,
    /// An HTTP answer without an upgrade.
    Status(Status),
    /// The proxy presents another certificate than it should.
    Certificate(certificate::Fault),
    /// Nobody answered at this hop.
    Silent(Hop),
}

/// An HTTP answer without an upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Its status code.
    pub code: u16,
    /// Who says that it answered: the header `Server`.
    pub server: Option<String>,
    /// Where it redirects to.
    pub location: Option<String>,
    /// What a gateway gives as its reason; none where a proxy answered by itself.
    pub reason: Option<String>,
}

/// Where nobody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hop {
    /// The address may not be connected to.
    Local(IpAddr),
    /// The name of the address is not known.
    Name,
    /// The port is closed.
    Refused,
    /// There is no way to the address; the system's words.
    Unroutable(String),
    /// Nothing came within the time, while this was awaited.
    Slow(Awaited),
    /// The connection was cut, while this was awaited.
    Cut(Awaited),
    /// TLS could not be agreed on; the words of the library.
    Tls(String),
    /// What came is no HTTP; the words of the library.
    NotHttp(String),
}

/// What is awaited in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The address of a name.
    Name,
    /// The TCP connection.
    Connection,
    /// The TLS handshake.
    Tls,
    /// The answer to the request.
    Answer,
    /// The pong.
    Pong,
}

/// Tries one address.
pub(super) async fn dial(address: &Address, target: &Target) -> Answer {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    // Each of many tasks holds what is awaited here, for as long as it lasts and no longer.
    Box::pin(attempt(address, target, deadline))
        .await
        .unwrap_or_else(Answer::Silent)
}

async fn attempt(address: &Address, target: &Target, deadline: Instant) -> Result<Answer, Hop> {
    let peer = within(deadline, Awaited::Name, address.resolve()).await?;
    let peer = peer.map_err(|error| match error {
        ResolveError::Local(ip) => Hop::Local(ip),
        ResolveError::Unknown(_) => Hop::Name,
    })?;
    let stream = within(deadline, Awaited::Connection, TcpStream::connect(peer)).await?;
    let stream = stream.map_err(|error| of_io(&error, Awaited::Connection))?;
    let Some(expected) = &target.certificate else {
        return upgrade(stream, address, target, deadline).await;
    };
    let host = target.host.as_deref();
    let name = server_name(host, address, peer.ip());
    let stream = within(deadline, Awaited::Tls, connector()?.connect(name, stream)).await?;
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Hop::Tls(quoted(&error.to_string())),
        _ => of_io(&error, Awaited::Tls),
    })?;
    let presented = stream.get_ref().1.peer_certificates();
    let leaf = presented.and_then(|chain| chain.first()).map(AsRef::as_ref);
    if let Err(fault) = certificate::check(leaf, expected, host, SystemTime::now()) {
        return Ok(Answer::Certificate(fault));
    }
    Box::pin(upgrade(stream, address, target, deadline)).await
}

fn connector() -> Result<&'static TlsConnector, Hop> {
    static CONNECTOR: LazyLock<Result<TlsConnector, rustls::Error>> =
        LazyLock::new(|| Ok(TlsConnector::from(Arc::new(certificate::client_config()?))));
    CONNECTOR
        .as_ref()
        .map_err(|error| Hop::Tls(error.to_string()))
}

/// The host that clients name; where they name none, as for an address, none is sent.
fn server_name(host: Option<&str>, address: &Address, peer: IpAddr) -> ServerName<'static> {
    let name = match (host, &address.host) {
        (Some(host), _) => host,
        (None, Host::Name(name)) => name,
        (None, Host::Ip(_)) => return ServerName::from(peer),
    };
    ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::from(peer))
}

async fn upgrade<S>(
    stream: S,
    address: &Address,
    target: &Target,
    deadline: Instant,
) -> Result<Answer, Hop>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authority = target
        .host
        .clone()
        .unwrap_or_else(|| authority(address, target.certificate.is_some()));
    // The scheme is for the library alone; TLS has been agreed on by now.
    let uri: Uri = format!("ws://{authority}{}", target.path)
        .parse()
        .map_err(|_| Hop::Name)?;
    let request = ClientRequestBuilder::new(uri)
        .with_sub_protocol(PROBE_SUBPROTOCOL)
        .with_header("User-Agent", "wsgateway-operator");
    let config = WebSocketConfig::default()
        .read_buffer_size(MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let handshake = client_async_with_config(request, stream, Some(config));
    let mut socket = match within(deadline, Awaited::Answer, handshake).await? {
        Ok((socket, _)) => socket,
        Err(tungstenite::Error::Http(response)) => {
            let code = response.status().as_u16();
            return Ok(Answer::Status(status(code, response.headers())));
        }
        Err(tungstenite::Error::Protocol(
            ProtocolError::SecWebSocketSubProtocolError(_)
            | ProtocolError::SecWebSocketAcceptKeyMismatch
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingConnectionUpgradeHeader,
        )) => return Ok(Answer::Upgraded),
        Err(error) => return Err(of_websocket(error, Awaited::Answer)),
    };
    let of_pong = |error| of_websocket(error, Awaited::Pong);
    let ping = socket.send(Message::Ping(PING.into()));
    within(deadline, Awaited::Pong, ping)
        .await?
        .map_err(of_pong)?;
    loop {
        match within(deadline, Awaited::Pong, socket.next()).await? {
            Some(Ok(Message::Pong(payload))) if payload == PING => break,
            Some(Ok(Message::Close(_))) | None => return Err(Hop::Cut(Awaited::Pong)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(of_pong(error)),
        }
    }
    // All that was asked has been answered; how it ends proves nothing more.
    let close = async {
        if socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout_at(deadline, close).await;
    Ok(Answer::Gateway)
}

/// As a client names an address: with the port where it is not the usual one.
fn authority(address: &Address, is_tls: bool) -> String {
    let usual = if is_tls { 443 } else { 80 };
    if address.port == usual {
        address.host.to_string()
    } else {
        address.to_string()
    }
}

fn status(code: u16, headers: &HeaderMap) -> Status {
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(quoted(value))
    };
    Status {
        code,
        server: text(header::SERVER.as_str()),
        location: text(header::LOCATION.as_str()),
        reason: text(REASON_HEADER),
    }
}

fn of_websocket(error: tungstenite::Error, awaited: Awaited) -> Hop {
    match error {
        tungstenite::Error::Io(error) => of_io(&error, awaited),
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(
            ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake,
        ) => Hop::Cut(awaited),
        error => Hop::NotHttp(quoted(&error.to_string())),
    }
}

fn of_io(error: &io::Error, awaited: Awaited) -> Hop {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Hop::Refused,
        io::ErrorKind::TimedOut => Hop::Slow(awaited),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Hop::Cut(awaited),
        _ => Hop::Unroutable(quoted(&error.to_string())),
    }
}

async fn within<T>(
    deadline: Instant,
    awaited: Awaited,
    step: impl Future<Output = T>,
) -> Result<T, Hop> {
    timeout_at(deadline, step)
        .await
        .map_err(|_elapsed| Hop::Slow(awaited))
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}
