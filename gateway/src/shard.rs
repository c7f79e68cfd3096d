//! One thread's share of the connections: it accepts, fans out, sweeps and drains them.
//!
//! Everything here runs on one thread, so that sessions, outboxes and the hub need no lock. Each
//! connection has a small task that waits for its socket; a round of fan-out writes to sockets directly.

mod accept;
mod change;
mod fanout;
mod head;
mod line;
mod logout;
mod peer;
mod round;
mod sweep;

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

pub use self::accept::listen;
use self::round::Round;
use slab::Slab;
use tokio::{net::TcpListener, sync::Notify, task::spawn_local};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Terms,
    clock::Tick,
    config::{LiveConfig, Route},
    deflate::Codec,
    exchange::{ClientId, ConnectionKey, ShardId, ShardOutlet, ToNats, ToShard},
    hub::Hub,
    logout::Logouts,
    metrics::{CloseLabel, Metrics, ReasonLabel, RouteMetrics},
    nats::NatsHandle,
    outbox::OutboxLimits,
    page::Pages,
    rate::Meter,
    session::{CloseCause, Session},
    socket::{Connection, Counts, End, READ_BYTES_MAX, Surroundings, Turn},
    stream::{self, Stream},
    tls::Certificates,
    upgrade::{Accepted, Gate},
};

/// What a shard is given by the server.
#[derive(Debug)]
pub struct ShardParts {
    /// Which one it is.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Its listener, one of several on the same port.
    pub listener: std::net::TcpListener,
    /// What it is told.
    pub outlet: ShardOutlet,
    /// NATS.
    pub nats: NatsHandle,
    /// The places for connections.
    pub gate: Arc<Gate>,
    /// The places that descriptors allow.
    pub connections_max: usize,
    /// The sessions that were ended.
    pub logouts: Arc<Logouts>,
    /// What is counted.
    pub metrics: Metrics,
    /// When the process began.
    pub epoch: Instant,
    /// The first configuration.
    pub live: Arc<LiveConfig>,
    /// What clients are shown, with TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Milliseconds since the epoch at the last sweep: a shard that is stuck shows here.
    pub heartbeat: Arc<AtomicU64>,
}

/// One thread's share of the connections.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shards: u16,
    nats: NatsHandle,
    gate: Arc<Gate>,
    connections_max: usize,
    logouts: Arc<Logouts>,
    metrics: Metrics,
    epoch: Instant,
    heartbeat: Arc<AtomicU64>,
    tls: Option<Tls>,
    /// Ends the accepting.
    draining: CancellationToken,
    /// Somebody has got in line.
    line_grows: Notify,
    state: RefCell<State>,
}

/// What its connections have TLS by.
#[derive(Debug)]
struct Tls {
    certificates: Arc<Certificates>,
    scratch: Rc<RefCell<stream::Scratch>>,
}

#[derive(Debug)]
struct State {
    live: Arc<LiveConfig>,
    outbox: OutboxLimits,
    routes: Vec<ShardRoute>,
    connections: Slab<Connection>,
    pages: Pages,
    /// One past the highest slot that was ever used.
    slots: u32,
    next_generation: u32,
    hub: Hub,
    scratch: Vec<u8>,
    codec: Codec,
    /// Bytes in outboxes and unfinished messages.
    buffered_bytes: usize,
    reported_bytes: usize,
    /// Connections that wait for room in NATS.
    publish_waiters: Vec<ConnectionKey>,
    /// Connections that wait for their next turn, each of them once.
    line: VecDeque<ConnectionKey>,
    sweep_at: u32,
}

/// A route as this shard knows it.
#[derive(Debug)]
struct ShardRoute {
    config: Arc<Route>,
    counts: Counts,
    metrics: RouteMetrics,
    open: u32,
    /// The configuration no longer has it in this form; its last connections are being closed.
    is_retired: bool,
}

/// Runs a shard until it has drained: accepts, hears the NATS side, sweeps.
pub async fn run(parts: ShardParts) -> std::io::Result<()> {
    let ShardParts {
        outlet, listener, ..
    } = parts;
    let listener = TcpListener::from_std(listener)?;
    let state = State {
        outbox: parts.live.outbox,
        routes: Vec::new(),
        live: parts.live.clone(),
        connections: Slab::new(),
        pages: Pages::default(),
        slots: 0,
        next_generation: 1,
        hub: Hub::default(),
        scratch: vec![0; READ_BYTES_MAX],
        codec: Codec::default(),
        buffered_bytes: 0,
        reported_bytes: 0,
        publish_waiters: Vec::new(),
        line: VecDeque::new(),
        sweep_at: 0,
    };
    let shard = Rc::new(Shard {
        id: parts.id,
        shards: parts.shards,
        nats: parts.nats,
        gate: parts.gate,
        connections_max: parts.connections_max,
        logouts: parts.logouts,
        metrics: parts.metrics,
        epoch: parts.epoch,
        heartbeat: parts.heartbeat,
        tls: parts.certificates.map(|certificates| Tls {
            certificates,
            scratch: Rc::default(),
        }),
        draining: CancellationToken::new(),
        line_grows: Notify::new(),
        state: RefCell::new(state),
    });
    shard.reload(parts.live);
    spawn_local(accept::run(shard.clone(), listener));
    spawn_local(sweep::run(shard.clone()));
    spawn_local(line::run(shard.clone()));
    shard.hear(outlet).await;
    Ok(())
}

impl Shard {
    /// Does what it is told, until it has drained or the server has gone.
    async fn hear(self: &Rc<Self>, mut outlet: ShardOutlet) {
        let mut drained = None;
        let mut round = Round::default();
        loop {
            let message = tokio::select! {
                biased;
                message = outlet.receiver.recv() => message,
                () = round.due() => {
                    self.fan_out(&outlet, &mut round).await;
                    continue;
                }
                () = wait_for(&mut drained) => return,
            };
            let Some(mut message) = message else { return };
            let mut ended = Vec::new();
            // A round is all that has arrived; what is not a publication ends it.
            loop {
                match message {
                    ToShard::Publications(batch) => round.push(batch),
                    ToShard::Deliveries(deliveries) => {
                        self.fan_out(&outlet, &mut round).await;
                        self.deliver(deliveries);
                    }
                    ToShard::PublishRoom => self.wake_publishers(),
                    ToShard::Reload(live, handover) => {
                        self.reload(live);
                        handover.taken();
                    }
                    ToShard::LogOut(session) => ended.push(session),
                    ToShard::Drain => drained = Some(spawn_local(self.clone().drain())),
                }
                match outlet.receiver.try_recv() {
                    Ok(next) => message = next,
                    Err(_) => break,
                }
            }
            self.log_out(&ended);
            if !round.waits_for_more() {
                self.fan_out(&outlet, &mut round).await;
            }
        }
    }

    fn now(&self) -> Tick {
        Tick::at(self.epoch, Instant::now())
    }

    /// Takes in a connection whose handshake has been answered. `leftover` came behind its head.
    fn open(self: &Rc<Self>, stream: Stream, leftover: Vec<u8>, accepted: Accepted) {
        let Accepted {
            route,
            page,
            patterns,
            subjects,
            publish,
            window,
            terms,
            permit,
            places,
        } = accepted;
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let is_route = |r: &ShardRoute| !r.is_retired && r.config.name == route.name;
        let Some(at) = state.routes.iter().position(is_route) else {
            return;
        };
        let generation = state.next_generation;
        state.next_generation = generation.wrapping_add(1);
        let expires = terms.map(|terms| Tick::at(self.epoch, terms.expires_at));
        let session = Session::new(now, &route.session, generation)
            .with_compression(window)
            .until(expires);
        let queues: Vec<_> = route.queues.iter().map(|queue| queue.id).collect();
        let publish = publish.filter(|_| route.publish_fixed.is_none());
        let is_over = |terms: &Terms| terms.login.is_some_and(|login| self.logouts.covers(&login));
        let outdated = if terms.as_ref().is_some_and(is_over) {
            Some(CloseCause::LoggedOut)
        } else {
            state.outdated(at, &route, page.as_ref())
        };
        let mut connection = Connection::new(stream, session, permit, (generation, at as u16))
            .with_extras(publish, &queues)
            .with_terms(terms, self.epoch)
            .with_limits(places, state.meter(at, now));
        connection.page = page.map(|page| state.pages.enter(page));
        let slot = state.connections.insert(connection) as u32;
        state.slots = state.slots.max(slot + 1);
        if let Some(route) = state.routes.get_mut(at) {
            route.open += 1;
            route.metrics.opened.inc();
            route.metrics.connections.inc();
        }
        state.hub.subscribe(slot, &patterns, &subjects);
        let key = ConnectionKey { slot, generation };
        let client = self.client(key);
        for queue in queues {
            self.nats.send(ToNats::QueueJoin { queue, client });
        }
        if let Some(cause) = outdated {
            state.with(self, key, now, |connection, _| {
                connection.close(cause, "", now);
            });
        }
        if !leftover.is_empty() {
            state.with(self, key, now, |connection, around| {
                connection.take_input(leftover, around);
            });
        }
        drop(state);
        let shard = self.clone();
        spawn_local(std::future::poll_fn(move |cx| {
            shard.poll_connection(key, cx)
        }));
    }

    fn client(&self, key: ConnectionKey) -> ClientId {
        ClientId {
            shard: self.id,
            key,
        }
    }

    /// The whole life of a connection's task.
    fn poll_connection(&self, key: ConnectionKey, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let mut scratch = std::mem::take(&mut state.scratch);
        let mut gets_in_line = false;
        let polled = state.with(self, key, now, |connection, around| {
            let ended = connection.poll(cx, &mut scratch, around);
            gets_in_line = connection.gets_in_line();
            (ended, connection.waits_to_publish())
        });
        state.scratch = scratch;
        if gets_in_line {
            state.line.push_back(key);
            self.line_grows.notify_one();
        }
        match polled {
            Some((Poll::Ready(end), _)) => {
                self.remove(&mut state, key, end);
                Poll::Ready(())
            }
            Some((Poll::Pending, waits_to_publish)) => {
                if waits_to_publish && !state.publish_waiters.contains(&key) {
                    state.publish_waiters.push(key);
                }
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Takes a connection down: nothing of it is left.
    fn remove(&self, state: &mut State, key: ConnectionKey, end: End) {
        let Some(connection) = state.connections.try_remove(key.slot as usize) else {
            return;
        };
        state.buffered_bytes = state
            .buffered_bytes
            .saturating_sub(connection.accounted_bytes);
        for pattern in state.hub.unsubscribe(key.slot) {
            self.nats.send(ToNats::Unsubscribe {
                shard: self.id,
                pattern,
            });
        }
        if let Some(page) = connection.page {
            state.pages.leave(page);
        }
        for queue in connection.queues() {
            self.nats.send(ToNats::QueueLeave {
                queue,
                client: self.client(key),
            });
        }
        if let Some(route) = state.routes.get_mut(usize::from(connection.route)) {
            route.open = route.open.saturating_sub(1);
            route.metrics.connections.dec();
        }
        let label = match end {
            End::Closed(cause @ (CloseCause::WriteTimeout | CloseCause::CloseTimeout)) => {
                CloseLabel {
                    reason: cause.reason(),
                    code: 1006,
                }
            }
            End::Closed(cause) => CloseLabel {
                reason: cause.reason(),
                code: cause.code(),
            },
            End::ClosedByPeer => CloseLabel {
                reason: "ClosedByPeer",
                code: 1000,
            },
            End::Lost => CloseLabel {
                reason: "Lost",
                code: 1006,
            },
        };
        self.metrics.closes.get_or_create(&label).inc();
    }

    fn wake_publishers(&self) {
        let mut state = self.state.borrow_mut();
        for key in std::mem::take(&mut state.publish_waiters) {
            if let Some(connection) = state.connection(key) {
                connection.wake();
            }
        }
    }

    /// A round or a poll may have taken more memory than there is: the largest go first.
    fn shed(&self, state: &mut State, now: Tick) {
        let budget = state.live.total_bytes_max / usize::from(self.shards.max(1));
        if state.buffered_bytes <= budget {
            return;
        }
        let mut held: Vec<_> = state
            .connections
            .iter()
            .filter(|(_, c)| c.is_open() && c.accounted_bytes > 0)
            .map(|(slot, c)| (c.accounted_bytes, c.key(slot as u32)))
            .collect();
        held.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, key) in held {
            if state.buffered_bytes <= budget {
                return;
            }
            state.with(self, key, now, |c, _| {
                c.close(CloseCause::OutOfMemory, "", now);
            });
        }
    }

    fn count_dropped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.metrics
                .dropped
                .get_or_create(&ReasonLabel { reason })
                .inc_by(count);
        }
    }

    fn beat(&self) {
        let millis = self.epoch.elapsed().as_millis();
        self.heartbeat
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl State {
    /// The connection of a key, if it is still there.
    fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections
            .get_mut(key.slot as usize)
            .filter(|connection| connection.generation == key.generation)
    }

    /// What a new connection to a route, by index, is held to.
    fn meter(&self, at: usize, now: Tick) -> Option<Meter> {
        let rates = &self.routes.get(at)?.config.rates;
        (!rates.is_none()).then(|| Meter::new(rates, now))
    }

    /// Does something with a connection and what it needs, and counts the bytes that it then holds.
    fn with<R>(
        &mut self,
        shard: &Shard,
        key: ConnectionKey,
        now: Tick,
        act: impl FnOnce(&mut Connection, &mut Surroundings<'_>) -> R,
    ) -> Option<R> {
        let connection = self
            .connections
            .get_mut(key.slot as usize)
            .filter(|connection| connection.generation == key.generation)?;
        let route = self.routes.get_mut(usize::from(connection.route))?;
        let mut around = Surroundings {
            route: &route.config,
            counts: &mut route.counts,
            outbox: self.outbox,
            codec: &mut self.codec,
            nats: &shard.nats,
            now,
            turn: Turn::default(),
            client: ClientId {
                shard: shard.id,
                key,
            },
        };
        let result = act(connection, &mut around);
        let held = connection.held_bytes();
        self.buffered_bytes = self.buffered_bytes - connection.accounted_bytes + held;
        connection.accounted_bytes = held;
        Some(result)
    }
}

/// Waits for a task, or for ever where there is none.
async fn wait_for(task: &mut Option<tokio::task::JoinHandle<()>>) {
    match task {
        Some(task) => {
            // A drain that panicked has nothing left to do either.
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}
