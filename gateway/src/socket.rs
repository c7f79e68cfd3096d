//! The only socket IO: one connection's session, outbox and stream.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::{io::AsyncWrite, net::TcpStream};
use wsgateway_crds::config::{FromClient, SlowConsumer};

use crate::{
    clock::Tick,
    config::Route,
    exchange::{ClientId, ConnectionKey, QueueId, ToNats},
    frame::{
        decode::{MessageKind, Payload},
        encode,
        header::Opcode,
    },
    nats::{NatsHandle, PublishError},
    outbox::{FRAMES_PER_WRITE_MAX, Frame, FrameClass, Full, Outbox, OutboxLimits},
    session::{CloseCause, Due, Event, Session},
    upgrade::Permit,
};

/// What one read takes at most; the shard's scratch buffer.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// How many reads a connection gets before the others of its shard get theirs.
const READS_PER_POLL_MAX: usize = 8;

/// One open WebSocket. It holds no buffer while it is idle.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
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
    /// Why the gateway has said close.
    closing: Option<CloseCause>,
}

#[derive(Debug, Clone, Copy)]
struct QueueProgress {
    queue: QueueId,
    sent: u32,
    received: u32,
}

#[derive(Debug)]
struct Stalled {
    what: Stall,
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Stall {
    /// An echo for which the outbox has no room.
    Echo(Rc<Frame>),
    /// A message that NATS has no room for.
    Publish(Arc<str>, Bytes),
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
    /// NATS.
    pub nats: &'a NatsHandle,
    /// The time.
    pub now: Tick,
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
    /// Publishes that NATS could not take.
    pub publish_stalls: u64,
}

impl Connection {
    /// A connection whose handshake has just been answered.
    pub fn new(stream: TcpStream, session: Session, permit: Permit, key: (u32, u16)) -> Self {
        Self {
            stream,
            session,
            outbox: Outbox::default(),
            waker: Waker::noop().clone(),
            extras: None,
            ended: None,
            generation: key.0,
            route: key.1,
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

    /// Whether messages may be queued for it.
    pub fn is_open(&self) -> bool {
        self.session.is_open() && self.ended.is_none()
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// The bytes of its outbox and of its unfinished message.
    pub fn held_bytes(&self) -> usize {
        let stalled = self
            .extras
            .as_ref()
            .and_then(|extras| extras.stalled.as_ref());
        self.outbox.bytes()
            + self.session.held_bytes()
            + stalled.map_or(0, |stalled| stalled.rest.len() + stalled.what.bytes())
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
            let read_all = self.read(cx, scratch, around);
            let written_all = self.poll_flush(cx);
            if let Some(end) = self.ended {
                return Poll::Ready(end);
            }
            if self.session.is_discarding() && self.outbox.is_empty() {
                // Shutting twice is harmless, and a socket that breaks here is seen by the next read.
                let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            }
            if self.session.is_closed() && self.outbox.is_empty() {
                let end = self.closing_cause().map_or(End::ClosedByPeer, End::Closed);
                self.ended = Some(end);
                return Poll::Ready(end);
            }
            match (read_all, self.can_resume(around)) {
                (_, true) => {}
                (ReadProgress::MoreWaits, _) => {
                    // Others of the shard first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                (ReadProgress::Pending, _) => {
                    debug_assert!(written_all || !self.outbox.is_empty());
                    return Poll::Pending;
                }
            }
        }
    }

    /// The bytes that came with the request head.
    pub fn take_input(&mut self, mut input: Vec<u8>, around: &mut Surroundings<'_>) {
        self.process(&mut input, around);
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        around: &mut Surroundings<'_>,
    ) -> ReadProgress {
        for _ in 0..READS_PER_POLL_MAX {
            if self.ended.is_some() || self.is_stalled() {
                return ReadProgress::Pending;
            }
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return ReadProgress::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.ended = Some(self.lost()),
            }
            match self.stream.try_read(scratch) {
                Ok(0) => self.ended = Some(self.lost()),
                Ok(read) => {
                    self.process(scratch.get_mut(..read).unwrap_or_default(), around);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.ended = Some(self.lost()),
            }
        }
        ReadProgress::MoreWaits
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

    fn process(&mut self, input: &mut [u8], around: &mut Surroundings<'_>) {
        let mut input = input;
        while let Some(event) =
            self.session
                .handle_input(&mut input, &around.route.session, around.now)
        {
            match event {
                Event::Message(kind, payload) => self.handle_message(kind, payload, around),
                Event::Pong(payload) => self.handle_receipt(payload.as_slice(), around),
                Event::Answer(bytes) => {
                    self.outbox
                        .push_control(frame(bytes, around.now, FrameClass::Pong));
                }
                Event::PeerClosed(bytes) => {
                    self.outbox
                        .push_unlimited(frame(bytes, around.now, FrameClass::Ordered));
                }
                Event::Violation(cause) => self.close(cause, "", around.now),
            }
            if let Some(stalled) = self.extras.as_mut().and_then(|e| e.stalled.as_mut()) {
                stalled.rest = input.to_vec();
                return;
            }
        }
    }

    fn handle_message(
        &mut self,
        kind: MessageKind,
        payload: Payload<'_>,
        around: &mut Surroundings<'_>,
    ) {
        around.counts.received += 1;
        around.counts.received_bytes += payload.as_slice().len() as u64;
        match &around.route.from_client {
            FromClient::Echo => {
                let bytes = payload.into_frame(kind.opcode());
                self.echo(frame(bytes, around.now, FrameClass::Ordered), around);
            }
            FromClient::Publish { .. } => {
                let subject = self
                    .extras
                    .as_ref()
                    .and_then(|extras| extras.publish.clone());
                if let Some(subject) = subject.or_else(|| around.route.publish_fixed.clone()) {
                    self.publish(subject, payload.into_bytes(), around);
                }
            }
            FromClient::Discard => {}
            FromClient::Reject => self.close(CloseCause::MessageRejected, "", around.now),
        }
    }

    fn echo(&mut self, echo: Rc<Frame>, around: &mut Surroundings<'_>) {
        match self.outbox.push(echo.clone(), around.outbox) {
            Ok(()) => {
                around.counts.sent += 1;
                around.counts.sent_bytes += echo.bytes.len() as u64;
            }
            Err(Full) => self.stall(Stall::Echo(echo)),
        }
    }

    fn publish(&mut self, subject: Arc<str>, payload: Bytes, around: &mut Surroundings<'_>) {
        match around.nats.try_publish(subject, payload) {
            Ok(()) => {}
            Err(PublishError::Full(subject, payload)) => {
                around.counts.publish_stalls += 1;
                self.stall(Stall::Publish(subject, payload));
            }
            Err(PublishError::TooLarge) => self.close(CloseCause::MessageTooBig, "", around.now),
            Err(PublishError::Disconnected) => {
                self.close(CloseCause::NatsUnavailable, "", around.now);
            }
        }
    }

    fn stall(&mut self, what: Stall) {
        let extras = self.extras.get_or_insert_default();
        extras.stalled = Some(Stalled {
            what,
            rest: Vec::new(),
        });
    }

    fn is_stalled(&self) -> bool {
        self.extras
            .as_ref()
            .is_some_and(|extras| extras.stalled.is_some())
    }

    /// Whether it waits for room in NATS, and so must be woken when there is some.
    pub fn waits_to_publish(&self) -> bool {
        let stalled = self
            .extras
            .as_ref()
            .and_then(|extras| extras.stalled.as_ref());
        stalled.is_some_and(|stalled| matches!(stalled.what, Stall::Publish(..)))
    }

    /// Whether a stalled echo has room now.
    fn can_resume(&self, around: &Surroundings<'_>) -> bool {
        let stalled = self
            .extras
            .as_ref()
            .and_then(|extras| extras.stalled.as_ref());
        stalled.is_some_and(|stalled| match &stalled.what {
            Stall::Echo(echo) => {
                self.outbox.is_empty()
                    || self.outbox.bytes() + echo.bytes.len() <= around.outbox.bytes_max / 2
            }
            Stall::Publish(..) => false,
        })
    }

    /// Goes on with what was stalled, and with the input behind it.
    fn resume(&mut self, around: &mut Surroundings<'_>) {
        let Some(extras) = &mut self.extras else {
            return;
        };
        let Some(Stalled { what, mut rest }) = extras.stalled.take() else {
            return;
        };
        if self.session.is_open() {
            match what {
                Stall::Echo(echo) => self.echo(echo, around),
                Stall::Publish(subject, payload) => self.publish(subject, payload, around),
            }
        }
        match self
            .extras
            .as_mut()
            .and_then(|extras| extras.stalled.as_mut())
        {
            Some(stalled) => stalled.rest = rest,
            None => self.process(&mut rest, around),
        }
    }

    /// A pong that answers a queue's ping says that all up to a counter has been received.
    fn handle_receipt(&mut self, payload: &[u8], around: &mut Surroundings<'_>) {
        let Some(extras) = &mut self.extras else {
            return;
        };
        let Some((queue, counter)) = parse_receipt(payload) else {
            return;
        };
        let known = extras
            .queues
            .iter_mut()
            .find(|progress| progress.queue == queue);
        let Some(progress) = known else { return };
        // What was never sent cannot have been received.
        if progress.received < counter && counter <= progress.sent {
            progress.received = counter;
            around.nats.send(ToNats::QueueReceipt {
                queue,
                client: around.client,
                counter,
            });
        }
    }

    /// Queues a queue's message. The ping that asks for its receipt follows by `ask_receipt`.
    pub fn deliver(
        &mut self,
        queue: QueueId,
        counter: u32,
        message: Rc<Frame>,
        around: &mut Surroundings<'_>,
    ) {
        if !self.is_open() {
            return;
        }
        let extras = self.extras.get_or_insert_default();
        if let Some(progress) = extras.queues.iter_mut().find(|p| p.queue == queue) {
            progress.sent = counter;
        }
        around.counts.sent += 1;
        around.counts.sent_bytes += message.bytes.len() as u64;
        if self.outbox.push(message, around.outbox).is_err() {
            self.close(CloseCause::SlowConsumer, "", around.now);
        }
    }

    /// Queues the ping whose pong acknowledges all messages of a queue up to a counter.
    pub fn ask_receipt(&mut self, queue: QueueId, counter: u32, now: Tick) {
        if self.is_open() {
            let bytes = encode(Opcode::Ping, receipt(queue, counter).as_bytes());
            self.outbox
                .push_unlimited(frame(bytes, now, FrameClass::Ordered));
        }
    }

    /// Gives broadcast frames to a client whose outbox is empty in one write, without queueing them;
    /// `slices` are the frames' bytes, `total` their sum. To one that is behind they are queued.
    pub fn send(
        &mut self,
        frames: &[Rc<Frame>],
        slices: &[IoSlice<'_>],
        total: usize,
        policy: SlowConsumer,
        around: &mut Surroundings<'_>,
    ) {
        if !self.is_open() {
            return;
        }
        around.counts.sent += frames.len() as u64;
        around.counts.sent_bytes += total as u64;
        if !self.outbox.is_empty() {
            for frame in frames {
                self.push(frame, policy, around);
            }
            return;
        }
        let written = match self.try_write(slices) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return self.end(End::Lost),
        };
        if written < total {
            self.keep_rest(frames, written, policy, around);
            self.waker.wake_by_ref();
        }
    }

    fn keep_rest(
        &mut self,
        frames: &[Rc<Frame>],
        written: usize,
        policy: SlowConsumer,
        around: &mut Surroundings<'_>,
    ) {
        let mut written = written;
        for frame in frames {
            if written >= frame.bytes.len() {
                written -= frame.bytes.len();
            } else if self.outbox.is_empty() {
                self.outbox.push_unlimited(frame.clone());
                self.outbox.advance(mem::take(&mut written));
            } else {
                self.push(frame, policy, around);
            }
        }
    }

    /// Queues a broadcast frame for a later flush. What has gathered since the last is written first
    /// where it fills a write, so that a burst does not look like a client that is behind.
    pub fn queue(
        &mut self,
        frame: &Rc<Frame>,
        policy: SlowConsumer,
        around: &mut Surroundings<'_>,
    ) {
        if self.outbox.len() >= FRAMES_PER_WRITE_MAX {
            self.flush();
        }
        around.counts.sent += 1;
        around.counts.sent_bytes += frame.bytes.len() as u64;
        self.push(frame, policy, around);
    }

    fn push(&mut self, frame: &Rc<Frame>, policy: SlowConsumer, around: &mut Surroundings<'_>) {
        if !self.is_open() {
            return;
        }
        let pushed = match policy {
            SlowConsumer::Disconnect => self.outbox.push(frame.clone(), around.outbox).map(|()| 0),
            SlowConsumer::DropOldest => self.outbox.push_dropping_oldest(frame, around.outbox),
        };
        match pushed {
            Ok(dropped) => around.counts.dropped_oldest += dropped as u64,
            Err(Full) => self.close(CloseCause::SlowConsumer, "", around.now),
        }
    }

    /// Whether nothing waits in its outbox.
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Writes what waits, as far as the socket takes it; its task does the rest once it takes more.
    pub fn flush(&mut self) {
        match self.write_out() {
            Ok(()) if self.outbox.is_empty() && !self.session.is_closed() => {}
            Ok(()) => self.waker.wake_by_ref(),
            Err(_) => self.end(self.lost()),
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            let mut room = [IoSlice::new(&[]); FRAMES_PER_WRITE_MAX];
            let used = self.outbox.slices(&mut room);
            match self.try_write(room.get(..used).unwrap_or_default()) {
                Ok(written) => self.outbox.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One frame goes by `send`, which costs less than `writev` with one slice.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.stream.try_write(one),
            many => self.stream.try_write_vectored(many),
        }
    }

    /// Writes what waits, and asks to be woken where something is left. Whether nothing is.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.ended.is_some() {
                return true;
            }
            if let Err(_broken) = self.write_out() {
                self.ended = Some(self.lost());
                return true;
            }
            if self.outbox.is_empty() {
                return true;
            }
            match self.stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.ended = Some(self.lost()),
                Poll::Pending => return false,
            }
        }
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        let waiting = self.outbox.waiting_since();
        match self
            .session
            .handle_timeout(around.now, waiting, &around.route.session)
        {
            None => {}
            Some(Due::Ping) => {
                let was_empty = self.outbox.is_empty();
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

    /// Says close. A drain lets go first what is queued; any other cause drops it.
    pub fn close(&mut self, cause: CloseCause, hint: &str, now: Tick) {
        let Some(bytes) = self.session.close(cause, hint, now) else {
            return;
        };
        self.extras.get_or_insert_default().closing = Some(cause);
        if !matches!(cause, CloseCause::Draining | CloseCause::RouteChanged) {
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

/// How far reading got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadProgress {
    /// The socket has nothing more, or nothing more is wanted of it now.
    Pending,
    /// There may be more, but others come first.
    MoreWaits,
}

impl Stall {
    fn bytes(&self) -> usize {
        match self {
            Self::Echo(echo) => echo.bytes.len(),
            Self::Publish(_, payload) => payload.len(),
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

/// The payload of the ping that asks for a receipt.
fn receipt(queue: QueueId, counter: u32) -> String {
    format!("q{}.{counter}", queue.0)
}

fn parse_receipt(payload: &[u8]) -> Option<(QueueId, u32)> {
    let text = std::str::from_utf8(payload).ok()?.strip_prefix('q')?;
    let (queue, counter) = text.split_once('.')?;
    Some((QueueId(queue.parse().ok()?), counter.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let text = receipt(QueueId(3), 4_000_000_000);
        assert_eq!(
            parse_receipt(text.as_bytes()),
            Some((QueueId(3), 4_000_000_000))
        );
        for payload in [&b""[..], b"q", b"q1", b"1.2", b"q1.2.3", b"q-1.2", b"\xff"] {
            assert_eq!(parse_receipt(payload), None, "{payload:?}");
        }
    }
}
