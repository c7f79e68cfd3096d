//! From a TCP connection to a WebSocket: hyper reads the head and writes the answer.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{spawn_local, unconstrained, yield_now},
    time::timeout,
};

use super::{
    Shard,
    head::{self, HEAD_BYTES_MAX, Rewound},
    peer,
};
use crate::{
    admission::{
        AdmissionRefusal, Arrival,
        proxy_protocol::{self, ProxyHeaderError},
    },
    exchange::ToNats,
    logout,
    metrics::{ReasonLabel, ResultLabel},
    probe,
    stream::{HandshakeError, Stream, TlsStream},
    upgrade::{Accepted, Conditions, Entry, Refusal, accept},
};

/// How many handshakes a shard has under way at once. Until its head is there each holds little more than a
/// descriptor, and a storm must not wait behind those who say nothing.
const HANDSHAKES_MAX: usize = 16_384;

/// How many of them hyper has at once. It holds two buffers of 8 KiB for each, and is done at once but for those that
/// wait for NATS to know their subjects.
const ANSWERS_MAX: usize = 512;

/// How many connections are accepted before others have their turn. With a handshake between every few, a storm of
/// 18,000 fills the backlog, and whom the kernel drops then comes seconds late.
const ACCEPTS_PER_TURN: usize = 512;

/// How long accepting rests when there is no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How many clients are heard out that are refused already, so that they hear why. Who says nothing waits for its
/// head's deadline; the next ones are dropped.
const REFUSED_MAX: usize = 256;

/// What handshakes wait for.
#[derive(Debug)]
struct Turns {
    answers: Semaphore,
    refused: Semaphore,
}

/// Accepts until the shard drains.
pub(super) async fn run(shard: Rc<Shard>, listener: TcpListener) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let turns = Rc::new(Turns {
        answers: Semaphore::new(ANSWERS_MAX),
        refused: Semaphore::new(REFUSED_MAX),
    });
    let draining = shard.draining.clone();
    loop {
        for _ in 0..ACCEPTS_PER_TURN {
            let next = async {
                let place = handshakes.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = draining.cancelled() => return,
                next = unconstrained(next) => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (shard, turns) = (shard.clone(), turns.clone());
                    spawn_local(async move {
                        shake_hands(&shard, stream, peer.ip(), &turns).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    shard.metrics.accept_errors.inc();
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        yield_now().await;
    }
}

/// Reads a request, answers it, and opens the connection where the answer is 101.
async fn shake_hands(shard: &Rc<Shard>, stream: TcpStream, peer: IpAddr, turns: &Turns) {
    let limit = shard.state.borrow().live.handshake_timeout;
    let handshake = async {
        let Some(peer) = peer::find(shard, &stream, peer).await? else {
            return Ok(None);
        };
        let arrival = arrive(shard, peer);
        let _heard_out = match arrival.refusal() {
            // TLS costs more than whoever is refused is worth.
            Some(refusal) if shard.tls.is_some() => return Err(refusal.clone().into()),
            Some(refusal) => Some(turns.refused.try_acquire().map_err(|_| refusal.clone())?),
            None => None,
        };
        let Some(mut stream) = secured(shard, stream).await? else {
            return Ok(None);
        };
        let Some(head) = head::read(shard, &mut stream).await? else {
            return Ok(None);
        };
        if proxy_protocol::begins(&head) {
            return Err(ProxyHeaderError::Untrusted.into());
        }
        let _place = turns.answers.acquire().await;
        // Apart, so that who waits for its head is small.
        Box::pin(hand_over(shard, arrival, Rewound::new(head, stream))).await
    };
    let refusal = match timeout(limit, handshake).await {
        Ok(Ok(None)) => return,
        Ok(Ok(Some((stream, leftover, opening)))) => {
            match opening {
                Opening::Connection(accepted, hold) => {
                    shard.open(stream, leftover, *accepted);
                    drop(hold);
                }
                Opening::Probe => {
                    spawn_local(async move { probe::serve(stream, &leftover).await });
                }
            }
            return;
        }
        Ok(Err(error)) => {
            let cause: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::debug!(error = cause, "a handshake broke off");
            reason_of(&error)
        }
        Err(_elapsed) => "HandshakeTimeout",
    };
    let label = ReasonLabel { reason: refusal };
    shard.metrics.refused.get_or_create(&label).inc();
}

/// A client whose request is awaited.
fn arrive(shard: &Shard, peer: IpAddr) -> Arrival {
    let live = &shard.state.borrow().live;
    Arrival::new(peer, &shard.gate.admissions, live, shard.epoch.elapsed())
}

/// The stream that heads come from: with TLS, once that is agreed on. None where the client leaves without a word.
async fn secured(shard: &Shard, tcp: TcpStream) -> anyhow::Result<Option<Stream>> {
    let Some(tls) = &shard.tls else {
        return Ok(Some(Stream::Plain(tcp)));
    };
    // Who says nothing costs no more than without TLS.
    tcp.readable().await?;
    let config = tls.certificates.current();
    match Box::pin(TlsStream::accept(tcp, config, tls.scratch.clone())).await {
        Ok(stream) => Ok(Some(Stream::Tls(stream))),
        Err(HandshakeError::Left) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn reason_of(error: &anyhow::Error) -> &'static str {
    let of_proxy = error.downcast_ref().map(ProxyHeaderError::reason);
    let of_tls = || error.downcast_ref().map(HandshakeError::reason);
    let of_admission = || error.downcast_ref().map(AdmissionRefusal::reason);
    let reason = of_proxy.or_else(of_tls).or_else(of_admission);
    reason.unwrap_or("BrokenHead")
}

/// hyper reads the head and writes the answer. Returns the stream with what came behind the head, where something is
/// opened on it.
async fn hand_over(
    shard: &Rc<Shard>,
    arrival: Arrival,
    stream: Rewound,
) -> anyhow::Result<Option<(Stream, Vec<u8>, Opening)>> {
    let opening = RefCell::new(None);
    // There is one request on a connection: whatever is answered, it ends or becomes something else.
    let arrival = Cell::new(Some(arrival));
    let service = service_fn(|request| answer(shard, arrival.take(), request, &opening));
    // The connection is taken back from hyper instead of upgraded by it: that way nothing of hyper's
    // outlives the handshake, neither its read buffer nor a channel.
    let parts = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown()
        .await?;
    let (stream, rest) = parts.io.into_inner().into_parts();
    let leftover = [&parts.read_buf[..], &rest].concat();
    Ok(opening.take().map(|opening| (stream, leftover, opening)))
}

/// What is opened once the answer is out.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and is a connection nearly always"
)]
enum Opening {
    Connection(Box<Accepted>, Hold),
    Probe,
}

async fn answer(
    shard: &Rc<Shard>,
    arrival: Option<Arrival>,
    request: Request<Incoming>,
    opening: &RefCell<Option<Opening>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let live = shard.state.borrow().live.clone();
    let conditions = Conditions {
        live: &live,
        gate: &shard.gate,
        connections_max: shard.connections_max.min(live.connections_max as usize),
        nats_connected: shard.nats.is_connected(),
        age: shard.epoch.elapsed(),
        logouts: &shard.logouts,
    };
    if let Some(provider) = logout::provider(&live, request.uri().path()) {
        let provider = provider.to_owned();
        let (logouts, age) = (&shard.logouts, conditions.age);
        return Ok(logout::answer(logouts, &live, &provider, request, age).await);
    }
    let accepted = match arrival {
        Some(arrival) => accept(&request, arrival, conditions).await,
        None => Err(Refusal::Malformed("there is one request on a connection")),
    };
    Ok(match accepted {
        Ok((Entry::Connection(accepted), response)) => {
            let hold = Hold::new(shard, &accepted.patterns);
            hold.until_known().await;
            opening.replace(Some(Opening::Connection(accepted, hold)));
            response
        }
        Ok((Entry::Probe, response)) => {
            count_probe(shard, "answered");
            opening.replace(Some(Opening::Probe));
            response
        }
        // It is no client that was refused.
        Err(refusal @ Refusal::TooManyProbes(_)) => {
            count_probe(shard, "limited");
            refusal.response()
        }
        Err(refusal) => {
            let reason = refusal.reason();
            let label = ReasonLabel { reason };
            shard.metrics.refused.get_or_create(&label).inc();
            tracing::debug!(reason, "{refusal}");
            refusal.response()
        }
    })
}

fn count_probe(shard: &Shard, result: &'static str) {
    let label = ResultLabel { result };
    shard.metrics.probes.get_or_create(&label).inc();
}

/// The patterns of a handshake under way. A client that has its answer may count on getting what is
/// published from then on, so the answer waits until messages of its patterns reach this shard: a round
/// trip to NATS for the first client of a pattern, nothing for all others.
struct Hold {
    shard: Rc<Shard>,
    patterns: Vec<Arc<str>>,
}

impl Hold {
    fn new(shard: &Rc<Shard>, patterns: &[Arc<str>]) -> Self {
        let new = shard.state.borrow_mut().hub.hold(patterns);
        for pattern in new {
            let shard_id = shard.id;
            shard.nats.send(ToNats::Subscribe {
                shard: shard_id,
                pattern,
            });
        }
        Self {
            shard: shard.clone(),
            patterns: patterns.to_vec(),
        }
    }

    async fn until_known(&self) {
        for pattern in &self.patterns {
            if self.shard.state.borrow().hub.is_known(pattern) {
                continue;
            }
            self.shard.nats.subscribed(pattern.clone()).await;
            self.shard.state.borrow_mut().hub.set_known(pattern);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let lost = self.shard.state.borrow_mut().hub.release(&self.patterns);
        for pattern in lost {
            self.shard.nats.send(ToNats::Unsubscribe {
                shard: self.shard.id,
                pattern,
            });
        }
    }
}

/// A listener of its own on the port that all shards share. Sockets inherit what is set here.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr, user_timeout: Duration) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    /// As `net.core.somaxconn` allows by default: a storm of connects waits here.
    const BACKLOG: i32 = 4_096;
    /// What the kernel may hold of unsent data before it says that the socket is full: the rest stays in
    /// the outbox, where its policy sees it.
    const NOTSENT_LOWAT_BYTES: u32 = 64 << 10;

    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
