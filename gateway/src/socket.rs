//! The only socket IO: one connection's session, outbox and stream.

mod inbound;
mod meter;
mod outbound;
mod turn;

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

pub use self::turn::Turn;
use self::{inbound::Stalled, turn::Waiting};
use crate::{
    admission::Places,
    auth::Terms,
    clock::Tick,
    config::Route,
    deflate::{Codec, Compression},
    exchange::{ClientId, ConnectionKey, QueueId},
    frame::{encode, header::Opcode},
    logout::Login,
    nats::NatsHandle,
    outbox::{Frame, FrameClass, Outbox, OutboxLimits},
    page::PageId,
    rate::Meter,
    session::{CloseCause, Due, Session},
    stream::Stream,
    upgrade::Permit,
};

/// What one read takes at most; the shard's scratch buffer.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// A read of so many bytes is worth a look at the clock: they may be a thousand frames.
const READ_COSTS: usize = 4 << 10;

/// How many reads a connection gets before the others of its shard get theirs.
const READS_PER_POLL_MAX: usize = 8;

/// One open WebSocket. It holds no buffer while it is idle.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    session: Session,
    outbox: Outbox,
    /// Wakes the task that polls it.
    waker: Waker,
    /// What few connections need.
    extras: Option<Box<Extras>>,
    /// How it ended, once it has. The task then takes it down.
    ended: Option<End>,
    /// Which use of its slot this is.
    pub generation: u32,
    /// Its route's index in the shard.
    pub route: u16,
    /// The page that it comes from, where it is a browser's.
    pub page: Option<PageId>,
    /// The bytes that the shard has counted for it.
    pub accounted_bytes: usize,
    _permit: Permit,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The gateway closed it, and this is why.
    Closed(CloseCause),
    /// The client said close.
    ClosedByPeer,
    /// The socket broke, or the client hung up without a word.
    Lost,
}

/// What few connections need, apart from the rest so that the others stay small.
#[derive(Debug, Default)]
struct Extras {
    /// What its messages are published to.
    publish: Option<Arc<str>>,
    /// How far it is with each queue.
    queues: Vec<QueueProgress>,
    /// What could not go on, with the input behind it. Nothing is read meanwhile.
    stalled: Option<Stalled>,
    /// What its last turn has left, until the next.
    waiting: Option<Waiting>,
    /// Why the gateway has said close.
    closing: Option<CloseCause>,
    /// When its client is to be told that its token expires.
    warn_at: Option<Tick>,
    /// Which logouts end it.
    login: Option<Login>,
    /// Its token does not allow it to publish.
    may_not_publish: bool,
    /// What it has sent, where its route holds it to something.
    meter: Option<Box<Meter>>,
    /// Its places among those of its address and its user, where these are counted.
    #[expect(dead_code, reason = "held, and given back when dropped")]
    places: Option<Box<Places>>,
}

#[derive(Debug, Clone, Copy)]
struct QueueProgress {
    queue: QueueId,
    sent: u32,
    received: u32,
}

/// What a connection needs of its shard.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Its route as configured now.
    pub route: &'a Route,
    /// What its route has counted since the last sweep.
    pub counts: &'a mut Counts,
    /// What an outbox may hold.
    pub outbox: OutboxLimits,
    /// What its thread compresses and inflates with.
    pub codec: &'a mut Codec,
    /// NATS.
    pub nats: &'a NatsHandle,
    /// The time.
    pub now: Tick,
    /// What it has done of its turn.
    pub turn: Turn,
    /// Who this is.
    pub client: ClientId,
}

/// What a route of one shard has counted since the last sweep: kept apart from the metrics, whose
/// atomics are shared between shards.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Messages from clients.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames to clients.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames dropped by a policy.
    pub dropped_oldest: u64,
}

impl Connection {
    /// A connection whose handshake has just been answered.
    pub fn new(stream: Stream, session: Session, permit: Permit, key: (u32, u16)) -> Self {
        Self {
            stream,
            session,
            outbox: Outbox::default(),
            waker: Waker::noop().clone(),
            extras: None,
            ended: None,
            generation: key.0,
            route: key.1,
            page: None,
            accounted_bytes: 0,
            _permit: permit,
        }
    }

    /// What it publishes to and which queues it takes part in, where either is needed.
    #[must_use]
    pub fn with_extras(mut self, publish: Option<Arc<str>>, queues: &[QueueId]) -> Self {
        if publish.is_some() || !queues.is_empty() {
            let queues = queues.iter().map(|queue| QueueProgress {
                queue: *queue,
                sent: 0,
                received: 0,
            });
            self.extras = Some(Box::new(Extras {
                publish,
                queues: queues.collect(),
                ..Extras::default()
            }));
        }
        self
    }

    /// What it is held to by its token, beside the end of its time. Most tokens ask for nothing more.
    #[must_use]
    pub fn with_terms(mut self, terms: Option<Terms>, epoch: Instant) -> Self {
        let Some(Terms {
            expires_at: _,
            warn_at,
            login,
            may_publish,
        }) = terms
        else {
            return self;
        };
        if warn_at.is_some() || login.is_some() || !may_publish {
            let extras = self.extras.get_or_insert_default();
            extras.warn_at = warn_at.map(|at| Tick::at(epoch, at));
            extras.login = login;
            extras.may_not_publish = !may_publish;
        }
        self
    }

    /// Which logouts end it, where any do.
    pub fn login(&self) -> Option<&Login> {
        self.extras.as_ref()?.login.as_ref()
    }

    /// Tells its client, once, that its token expires.
    fn warn(&mut self, around: &mut Surroundings<'_>) {
        let extras = self.extras.as_mut();
        let is_due = |at: &mut Tick| around.now >= *at;
        let due = extras.and_then(|extras| extras.warn_at.take_if(is_due));
        let Some(warning) = around
            .route
            .expiry_warning
            .clone()
            .filter(|_| due.is_some())
        else {
            return;
        };
        if !self.is_open() {
            return;
        }
        around.counts.sent += 1;
        around.counts.sent_bytes += warning.len() as u64;
        let was_empty = self.outbox.is_empty();
        self.outbox
            .push_unlimited(frame(warning, around.now, FrameClass::Ordered));
        if was_empty {
            self.flush();
        }
    }

    /// Whether messages may be queued for it.
    pub fn is_open(&self) -> bool {
        self.session.is_open() && self.ended.is_none()
    }

    /// How its messages are compressed: where its client can inflate them and its route has it so now.
    pub fn compression(&self, route: &Route) -> Option<Compression> {
        Some(Compression {
            window: self.session.window()?,
            payload_bytes_min: route.compress_bytes_min?,
        })
    }

    /// The bytes of its outbox and of its unfinished message.
    pub fn held_bytes(&self) -> usize {
        let stalled = self
            .extras
            .as_ref()
            .and_then(|extras| extras.stalled.as_ref());
        let stalled = stalled.map_or(0, Stalled::bytes);
        let waiting = self.waiting().map_or(0, |waiting| waiting.rest.len());
        let unread = self.session.held_bytes() + stalled + waiting;
        self.outbox.bytes() + self.stream.held_bytes() + unread
    }

    /// Reads, answers and writes as far as the socket goes. Ready once the connection has ended.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        around: &mut Surroundings<'_>,
    ) -> Poll<End> {
        if !self.waker.will_wake(cx.waker()) {
            self.waker = cx.waker().clone();
        }
        loop {
            self.resume(around);
            self.take_turn(around);
            self.read(cx, scratch, around);
            self.poll_flush(cx);
            if let Some(end) = self.ended {
                return Poll::Ready(end);
            }
            if self.session.is_discarding() && self.is_drained() {
                // Shutting twice is harmless, and a socket that breaks here is seen by the next read.
                let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            }
            if self.session.is_closed() && self.is_drained() {
                self.stream.say_end();
                let end = self.closing_cause().map_or(End::ClosedByPeer, End::Closed);
                self.ended = Some(end);
                return Poll::Ready(end);
            }
            if self.can_resume(around) {
                continue;
            }
            return Poll::Pending;
        }
    }

    /// The bytes that came with the request head.
    pub fn take_input(&mut self, mut input: Vec<u8>, around: &mut Surroundings<'_>) {
        self.meter_bytes(input.len(), around);
        self.process(&mut input, around);
    }

    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], around: &mut Surroundings<'_>) {
        for _ in 0..READS_PER_POLL_MAX {
            if self.ended.is_some() || self.is_stalled() || self.waits_for_turn() {
                return;
            }
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.ended = Some(self.lost()),
            }
            match self.stream.try_read(scratch) {
                Ok(0) => self.ended = Some(self.lost()),
                Ok(read) => {
                    self.meter_bytes(read, around);
                    self.process(scratch.get_mut(..read).unwrap_or_default(), around);
                    if read >= READ_COSTS && around.turn.is_late() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.ended = Some(self.lost()),
            }
        }
        // There may be more, but others come first.
        if self.ended.is_none() && !self.is_stalled() && !self.waits_for_turn() {
            self.wait_for_turn(&[]);
        }
    }

    /// The end of a socket that broke: what the gateway meant by it where it had said close.
    fn lost(&self) -> End {
        if self.session.is_closed() {
            return self.closing_cause().map_or(End::ClosedByPeer, End::Closed);
        }
        self.closing_cause().map_or(End::Lost, End::Closed)
    }

    fn closing_cause(&self) -> Option<CloseCause> {
        self.extras.as_ref().and_then(|extras| extras.closing)
    }

    /// Its route's limits have changed.
    pub fn handle_new_limits(&mut self, around: &Surroundings<'_>) {
        self.session
            .handle_new_limits(around.now, &around.route.session, self.generation);
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        self.warn(around);
        let now = around.now;
        let is_silent = self
            .meter()
            .is_some_and(|meter| meter.lacks_first_message(now));
        if is_silent && self.is_open() {
            return self.close(CloseCause::NoFirstMessage, "", now);
        }
        self.stream.note_pending(now);
        let waiting = self.stream.pending_since();
        let waiting = waiting.or_else(|| self.outbox.waiting_since());
        match self
            .session
            .handle_timeout(around.now, waiting, &around.route.session)
        {
            None => {}
            Some(Due::Ping) => {
                if let Some(meter) = self.meter() {
                    meter.expect_pong();
                }
                let was_empty = self.is_drained();
                let ping = encode(Opcode::Ping, &[]);
                self.outbox
                    .push_control(frame(ping, around.now, FrameClass::Ping));
                if was_empty {
                    self.flush();
                }
            }
            Some(Due::Close(cause)) => self.close(cause, "", around.now),
            Some(Due::Abort(cause)) => {
                let cause = self.closing_cause().unwrap_or(cause);
                self.end(End::Closed(cause));
            }
        }
    }

    /// Says close, behind what is queued, save where there is too much of that.
    pub fn close(&mut self, cause: CloseCause, hint: &str, now: Tick) {
        let Some(bytes) = self.session.close(cause, hint, now) else {
            return;
        };
        self.extras.get_or_insert_default().closing = Some(cause);
        if matches!(cause, CloseCause::SlowConsumer | CloseCause::OutOfMemory) {
            self.outbox.drop_unstarted();
        }
        self.outbox
            .push_unlimited(frame(bytes, now, FrameClass::Ordered));
        self.flush();
        self.waker.wake_by_ref();
    }

    /// Ends it; its task takes it down.
    fn end(&mut self, end: End) {
        self.ended = Some(end);
        self.waker.wake_by_ref();
    }

    /// Wakes its task.
    pub fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// The queues that it takes part in.
    pub fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.extras
            .iter()
            .flat_map(|extras| extras.queues.iter().map(|progress| progress.queue))
    }

    /// Its key in a slot.
    pub fn key(&self, slot: u32) -> ConnectionKey {
        ConnectionKey {
            slot,
            generation: self.generation,
        }
    }
}

/// A frame to queue now.
pub fn frame(bytes: Bytes, now: Tick, class: FrameClass) -> Rc<Frame> {
    Rc::new(Frame {
        bytes,
        queued: now,
        class,
    })
}
