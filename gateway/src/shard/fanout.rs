//! Rounds: all messages that have arrived, to all their subscribers, one vectored write for each.

use std::{
    cell::OnceCell,
    io::IoSlice,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::yield_now;
use wsgateway_crds::config::{Payload, SlowConsumer};

use super::{Shard, round::Round};
use crate::{
    clock::Tick,
    config::Route,
    deflate::{Compression, Compressor},
    exchange::{ConnectionKey, Delivery, QueueId, ShardOutlet, ToNats},
    frame::{PreparedFrame, payload::MessageKind},
    hub::Subscriber,
    outbox::{FRAMES_PER_WRITE_MAX, Frame, FrameClass},
    publication::Publication,
    socket::{Connection, frame},
};

/// After how many sockets a round lets accepts, pings and the sweeper pass.
const SOCKETS_PER_TURN: usize = 256;

/// After how long it does in any case, and how often it looks.
const TURN: Duration = Duration::from_millis(1);
const SOCKETS_PER_LOOK: usize = 32;

/// A subscriber as it was when the round began. Its slot may have another connection by its turn.
struct Target {
    subscriber: Subscriber,
    key: ConnectionKey,
}

/// The frames of one run of messages, in the forms that its subscribers need: a list, as there are few.
struct Forms<'a> {
    publications: &'a [&'a Publication],
    now: Tick,
    first: OnceCell<Form>,
}

/// What decides the form that a subscriber gets.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FormKey {
    payload: Payload,
    policy: SlowConsumer,
    compression: Option<Compression>,
}

impl FormKey {
    fn new(connection: &Connection, route: &Route, policy: SlowConsumer) -> Self {
        Self {
            payload: route.payload,
            policy,
            compression: connection.compression(route),
        }
    }
}

struct Form {
    key: FormKey,
    frames: Vec<Rc<Frame>>,
    bytes: usize,
    /// Messages that have no such form.
    unsendable: u64,
    next: OnceCell<Box<Self>>,
}

impl<'a> Forms<'a> {
    fn new(publications: &'a [&'a Publication], now: Tick) -> Self {
        Self {
            publications,
            now,
            first: OnceCell::new(),
        }
    }

    /// The form for a key, made when it is first asked for.
    fn form(&self, key: FormKey, compressor: &mut Compressor) -> &Form {
        let mut form = self.first.get_or_init(|| self.make(key, compressor));
        while form.key != key {
            let next = &form.next;
            form = next.get_or_init(|| Box::new(self.make(key, compressor)));
        }
        form
    }

    fn make(&self, key: FormKey, compressor: &mut Compressor) -> Form {
        let of = |p: &&Publication| prepare(&p.frame, key, self.now, compressor);
        let frames: Vec<_> = self.publications.iter().filter_map(of).collect();
        Form {
            key,
            bytes: frames.iter().map(|frame| frame.bytes.len()).sum(),
            unsendable: (self.publications.len() - frames.len()) as u64,
            frames,
            next: OnceCell::new(),
        }
    }
}

fn class(policy: SlowConsumer) -> FrameClass {
    match policy {
        SlowConsumer::Disconnect => FrameClass::Ordered,
        SlowConsumer::DropOldest => FrameClass::Broadcast,
    }
}

/// A message as a frame of this shard; `None` where it cannot be text and must be.
fn prepare(
    prepared: &PreparedFrame,
    key: FormKey,
    now: Tick,
    compressor: &mut Compressor,
) -> Option<Rc<Frame>> {
    let kind = match key.payload {
        Payload::Text if !prepared.is_utf8() => return None,
        Payload::Auto if !prepared.is_utf8() => MessageKind::Binary,
        Payload::Text | Payload::Auto => MessageKind::Text,
        Payload::Binary => MessageKind::Binary,
    };
    let bytes = key
        .compression
        .filter(|to| prepared.payload().len() >= to.payload_bytes_min)
        .and_then(|to| prepared.compressed(kind, to.window, compressor))
        .unwrap_or_else(|| prepared.plain(kind));
    Some(frame(bytes.clone(), now, class(key.policy)))
}

fn policy_of(route: &Route, subscriber: Subscriber) -> SlowConsumer {
    route
        .subjects
        .get(usize::from(subscriber.subject))
        .map(|s| s.slow_consumer)
        .unwrap_or_default()
}

impl Shard {
    /// One round. Takes the batches out of `round`.
    pub(super) async fn fan_out(&self, outlet: &ShardOutlet, round: &mut Round) {
        let batches = round.begin();
        if batches.is_empty() {
            return;
        }
        let started = Instant::now();
        let publications: Vec<_> = batches.iter().flat_map(|batch| batch.iter()).collect();
        let first = publications
            .first()
            .map(|publication| publication.pattern.clone());
        match first {
            Some(pattern) if publications.iter().all(|p| p.pattern == pattern) => {
                for run in publications.chunks(FRAMES_PER_WRITE_MAX) {
                    self.broadcast(&pattern, run).await;
                }
            }
            _ => self.scatter(&publications).await,
        }
        for batch in &batches {
            outlet.finished(batch);
        }
        let took = started.elapsed();
        round.ended(took);
        self.metrics.round_seconds.observe(took.as_secs_f64());
    }

    /// Messages of one pattern: every subscriber gets the same frames, so nothing is queued for those
    /// that keep up. Against queueing and flushing this takes off 8 and 2 % of the CPU per delivery with one
    /// message under way, 5 and 15 % with sixteen (1,000 and 5,000 connections, medians of three).
    async fn broadcast(&self, pattern: &str, run: &[&Publication]) {
        let forms = Forms::new(run, self.now());
        let targets = self.targets(pattern);
        let mut rest = targets.as_slice();
        while !rest.is_empty() {
            let done = self.broadcast_turn(pattern, rest, &forms);
            rest = rest.get(done..).unwrap_or_default();
            if !rest.is_empty() {
                yield_now().await;
            }
        }
    }

    fn targets(&self, pattern: &str) -> Vec<Target> {
        let state = self.state.borrow();
        let target = |subscriber: &Subscriber| {
            let connection = state.connections.get(subscriber.slot as usize)?;
            Some(Target {
                subscriber: *subscriber,
                key: connection.key(subscriber.slot),
            })
        };
        state
            .hub
            .subscribers(pattern)
            .iter()
            .filter_map(target)
            .collect()
    }

    /// Sends to the first of `targets` until its turn is over. Returns to how many.
    fn broadcast_turn(&self, pattern: &str, targets: &[Target], forms: &Forms<'_>) -> usize {
        let started = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let hub = std::mem::take(&mut state.hub);
        let mut unsendable = 0;
        let mut done = 0;
        // The slices of the form that was used last: mostly there is just one.
        let mut slices: [IoSlice<'_>; FRAMES_PER_WRITE_MAX] = [IoSlice::new(&[]); _];
        let mut last_form: Option<&Form> = None;
        for Target { subscriber, key } in targets {
            state.with(self, *key, forms.now, |connection, around| {
                let policy = policy_of(around.route, *subscriber);
                let wanted = FormKey::new(connection, around.route, policy);
                let form = forms.form(wanted, &mut around.codec.compressor);
                unsendable += form.unsendable;
                if subscriber.overlaps {
                    for publication in forms.publications {
                        let compressor = &mut around.codec.compressor;
                        if hub.delivers(*subscriber, pattern, &publication.subject)
                            && let Some(frame) =
                                prepare(&publication.frame, wanted, forms.now, compressor)
                        {
                            let slice = [IoSlice::new(&frame.bytes)];
                            let one = std::slice::from_ref(&frame);
                            connection.send(one, &slice, frame.bytes.len(), policy, around);
                        }
                    }
                    return;
                }
                if !last_form.is_some_and(|last| std::ptr::eq(last, form)) {
                    for (slice, frame) in slices.iter_mut().zip(&form.frames) {
                        *slice = IoSlice::new(&frame.bytes);
                    }
                    last_form = Some(form);
                }
                let slices = slices.get(..form.frames.len()).unwrap_or_default();
                if !slices.is_empty() {
                    connection.send(&form.frames, slices, form.bytes, policy, around);
                }
            });
            done += 1;
            let is_over = done >= SOCKETS_PER_TURN
                || (done % SOCKETS_PER_LOOK == 0 && started.elapsed() >= TURN);
            if is_over {
                break;
            }
        }
        state.hub = hub;
        self.shed(state, forms.now);
        self.count_dropped("NotText", unsendable);
        done
    }

    /// Messages of several patterns: queued in order for each subscriber, then flushed, each outbox once.
    async fn scatter(&self, publications: &[&Publication]) {
        let mut dirty = Vec::new();
        let mut turn = Instant::now();
        for publication in publications {
            self.queue_one(publication, &mut dirty);
            if turn.elapsed() >= TURN {
                yield_now().await;
                turn = Instant::now();
            }
        }
        for keys in dirty.chunks(SOCKETS_PER_TURN) {
            self.flush(keys);
            if dirty.len() > SOCKETS_PER_TURN {
                yield_now().await;
            }
        }
    }

    fn flush(&self, keys: &[ConnectionKey]) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        for key in keys {
            state.with(self, *key, now, |connection, _| connection.flush());
        }
        self.shed(&mut state, now);
    }

    fn queue_one(&self, publication: &Publication, dirty: &mut Vec<ConnectionKey>) {
        let now = self.now();
        let one = [publication];
        let forms = Forms::new(&one, now);
        let mut unsendable = 0;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let hub = std::mem::take(&mut state.hub);
        for subscriber in hub.subscribers(&publication.pattern) {
            if !hub.delivers(*subscriber, &publication.pattern, &publication.subject) {
                continue;
            }
            let Some(connection) = state.connections.get(subscriber.slot as usize) else {
                continue;
            };
            let key = connection.key(subscriber.slot);
            state.with(self, key, now, |connection, around| {
                let policy = policy_of(around.route, *subscriber);
                let wanted = FormKey::new(connection, around.route, policy);
                let form = forms.form(wanted, &mut around.codec.compressor);
                unsendable += form.unsendable;
                for frame in &form.frames {
                    if connection.is_drained() {
                        dirty.push(key);
                    }
                    connection.queue(frame, policy, around);
                }
            });
        }
        state.hub = hub;
        self.count_dropped("NotText", unsendable);
    }

    /// Gives each message of a queue to its client, and asks each client once for its receipt.
    pub(super) fn deliver(&self, deliveries: Vec<Delivery>) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let mut asked: Vec<(ConnectionKey, QueueId, u32)> = Vec::new();
        for Delivery {
            client,
            queue,
            counter,
            frame,
        } in deliveries
        {
            let delivered = state.with(self, client.key, now, |connection, around| {
                let wanted = FormKey::new(connection, around.route, SlowConsumer::Disconnect);
                let compressor = &mut around.codec.compressor;
                let Some(frame) = prepare(&frame, wanted, now, compressor) else {
                    return false;
                };
                connection.deliver(queue, counter, frame, around);
                true
            });
            match delivered {
                Some(true) => match asked
                    .iter_mut()
                    .rev()
                    .find(|a| a.0 == client.key && a.1 == queue)
                {
                    Some(ask) => ask.2 = counter,
                    None => asked.push((client.key, queue, counter)),
                },
                Some(false) => {
                    self.count_dropped("NotText", 1);
                    self.nats.send(ToNats::QueueUndeliverable {
                        queue,
                        client,
                        counter,
                    });
                }
                // It has left, and the NATS side has heard or will.
                None => {}
            }
        }
        for (key, queue, counter) in asked {
            state.with(self, key, now, |connection, _| {
                connection.ask_receipt(queue, counter, now);
                connection.flush();
            });
        }
    }
}
