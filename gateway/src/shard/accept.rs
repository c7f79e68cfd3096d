//! From a TCP connection to a WebSocket: hyper reads the head and writes the answer.

use std::{
    cell::RefCell, convert::Infallible, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::spawn_local,
    time::timeout,
};

use super::Shard;
use crate::{
    exchange::ToNats,
    metrics::{ReasonLabel, ResultLabel},
    probe,
    upgrade::{Accepted, Conditions, Entry, Refusal, accept},
};

/// How many handshakes a shard has under way at once. Each holds hyper's two buffers of
/// 8 KiB until it is done.
const HANDSHAKES_MAX: usize = 1_024;

/// The largest request head. A handshake has no need of more.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long accepting rests when there is no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts until the shard drains.
pub(super) async fn run(shard: Rc<Shard>, listener: TcpListener) {
    let handshakes = Rc::new(Semaphore::new(HANDSHAKES_MAX));
    let draining = shard.draining.clone();
    loop {
        let next = async {
            let place = Semaphore::acquire(&handshakes).await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = draining.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                // The place is given back by the task, which outlives this borrow of the semaphore.
                place
                    .into_iter()
                    .for_each(tokio::sync::SemaphorePermit::forget);
                let (shard, handshakes) = (shard.clone(), handshakes.clone());
                spawn_local(async move {
                    shake_hands(&shard, stream).await;
                    handshakes.add_permits(1);
                });
            }
            Err(error) => {
                shard.metrics.accept_errors.inc();
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Reads a request, answers it, and opens the connection where the answer is 101.
async fn shake_hands(shard: &Rc<Shard>, stream: TcpStream) {
    let limit = shard.state.borrow().live.handshake_timeout;
    let accepted = RefCell::new(None);
    let service = service_fn(|request| answer(shard, request, &accepted));
    // The connection is taken back from hyper instead of upgraded by it: that way nothing of hyper's
    // outlives the handshake, neither its read buffer nor a channel.
    let handshake = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    match timeout(limit, handshake).await {
        Ok(Ok(parts)) => {
            let stream = parts.io.into_inner();
            match accepted.take() {
                Some(Opening::Connection(accepted, hold)) => {
                    shard.open(stream, &parts.read_buf, accepted);
                    drop(hold);
                }
                Some(Opening::Probe) => {
                    let leftover = parts.read_buf;
                    spawn_local(async move { probe::serve(stream, &leftover).await });
                }
                None => {}
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake broke off");
            shard
                .metrics
                .refused
                .get_or_create(&ReasonLabel {
                    reason: "BrokenHead",
                })
                .inc();
        }
        Err(_elapsed) => {
            shard
                .metrics
                .refused
                .get_or_create(&ReasonLabel {
                    reason: "HandshakeTimeout",
                })
                .inc();
        }
    }
}

/// What is opened once the answer is out.
enum Opening {
    Connection(Accepted, Hold),
    Probe,
}

async fn answer(
    shard: &Rc<Shard>,
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
    };
    Ok(match accept(&request, conditions) {
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
