//! From a TCP connection to a WebSocket: hyper reads the head and writes the answer.

use std::{
    cell::RefCell, convert::Infallible, future::ready, io, net::SocketAddr, rc::Rc, time::Duration,
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
    metrics::ReasonLabel,
    upgrade::{Accepted, Conditions, accept},
};

/// How many handshakes a shard has under way at once. Each holds some 20 KB until it is done.
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
    let service =
        service_fn(|request| ready(Ok::<_, Infallible>(answer(shard, &request, &accepted))));
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
            if let Some(accepted) = accepted.borrow_mut().take() {
                shard.open(stream, &parts.read_buf, accepted);
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

fn answer(
    shard: &Shard,
    request: &Request<Incoming>,
    accepted: &RefCell<Option<Accepted>>,
) -> Response<Full<Bytes>> {
    let live = shard.state.borrow().live.clone();
    let conditions = Conditions {
        live: &live,
        gate: &shard.gate,
        connections_max: shard.connections_max.min(live.connections_max as usize),
        nats_connected: shard.nats.is_connected(),
    };
    match accept(request, conditions) {
        Ok((request, response)) => {
            *accepted.borrow_mut() = Some(request);
            response
        }
        Err(refusal) => {
            let reason = refusal.reason();
            shard
                .metrics
                .refused
                .get_or_create(&ReasonLabel { reason })
                .inc();
            tracing::debug!(reason, "{refusal}");
            refusal.response()
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
