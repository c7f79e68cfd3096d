//! Which client gets which message of a work queue, free of IO.
//!
//! The stream's pull consumer is shared by all gateways; each has a [`Dispatcher`] for its own clients.
//! Messages are asked for as clients have credit, given out in turn, and acknowledged when a client
//! says that it has received them; what a client held when it went is given back at once.
//!
//! **Attempts.** A message that is delivered for the `max_deliver`th time and fails is given up, and so
//! is one that arrives with a higher count. The gateway counts by what the server says and the
//! consumer's own `max_deliver` is unlimited: a server that stopped delivering would leave the message
//! in the stream for ever, with nobody to move it to the dead-letter subject, whereas this way it
//! comes to some gateway again even if one crashes in between.
//!
//! **Isolation.** A message that has failed before may be the reason why a client died. It goes only to
//! a client that holds nothing, and that client gets nothing more until it has acknowledged it or
//! gone; so what merely travelled beside it does not collect failures.

mod clients;
mod message;
mod pulls;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use self::{
    clients::{Clients, InFlight},
    pulls::Pulls,
};
pub use self::{
    message::{DeadReason, Message, Output, QueueLimits},
    pulls::PULL_EXPIRES,
};
use crate::exchange::ClientId;

/// The largest batch of one pull.
pub const PULL_BATCH_MAX: u32 = 256;

/// Bytes of payload that one queue's clients may hold unacknowledged; beyond it nothing is pulled.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long a message without a client to go to is kept, when another gateway could have it.
const HOLD: Duration = Duration::from_secs(2);

/// After the last client has left, how long what is on its way is awaited before the pulls are
/// cancelled: it arrives within a round trip, and would be lost until its `ackWait` ends if the
/// subscription ended first.
const SETTLE: Duration = Duration::from_millis(20);

/// How many messages are remembered to have been given back without an attempt.
const SPARED_MAX: usize = 16_384;

/// Whether messages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    /// They cannot be: NATS is away, or there is no consumer.
    Closed,
    /// As clients have credit.
    Open,
    /// The last client has left; what is on its way is awaited until then.
    Settling(Instant),
    /// The pulls are to be cancelled.
    Cancel,
    /// They are being cancelled.
    Cancelling,
}

/// A message that waits for a client, until then.
#[derive(Debug)]
struct Held {
    message: Message,
    until: Instant,
}

/// One queue's clients and messages.
#[derive(Debug)]
pub struct Dispatcher {
    limits: QueueLimits,
    batch_max: u32,
    fetch: Fetch,
    clients: Clients,
    pulls: Pulls,
    /// Who holds which sequence, by the latest delivery that came here.
    holders: HashMap<u64, (ClientId, u32)>,
    /// Never delivered before, waiting for credit.
    fresh: VecDeque<Held>,
    /// Delivered before, waiting for a client that holds nothing.
    failed: VecDeque<Held>,
    /// When clients that hold a message which travels alone are no longer waited for.
    overdue: VecDeque<(Instant, ClientId, u32)>,
    outputs: VecDeque<Output>,
    /// How often a message was given back that no client had been given, which the server counts as a
    /// delivery. It is known for what comes again to this gateway.
    spared: BTreeMap<u64, u64>,
    /// To be given back, as soon as no pull of ours would fetch them at once.
    naks: VecDeque<Box<str>>,
    /// Messages being given up.
    dead: usize,
    bytes: usize,
    in_flight: usize,
}

impl Dispatcher {
    /// A queue without clients, whose consumer is not open.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            batch_max: PULL_BATCH_MAX,
            fetch: Fetch::Closed,
            clients: Clients::new(limits.credit),
            pulls: Pulls::default(),
            holders: HashMap::new(),
            fresh: VecDeque::new(),
            failed: VecDeque::new(),
            overdue: VecDeque::new(),
            outputs: VecDeque::new(),
            spared: BTreeMap::new(),
            naks: VecDeque::new(),
            dead: 0,
            bytes: 0,
            in_flight: 0,
        }
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How many messages they hold.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing is held, and nothing is left to do.
    pub fn is_at_rest(&self) -> bool {
        self.clients.is_empty()
            && self.outputs.is_empty()
            && self.naks.is_empty()
            && self.dead == 0
            && matches!(self.fetch, Fetch::Closed | Fetch::Open)
    }

    /// The consumer is open and NATS is there: messages may be asked for, at most so many at once.
    pub fn handle_open(&mut self, batch_max: u32) {
        self.batch_max = batch_max.clamp(1, PULL_BATCH_MAX);
        self.pulls.clear();
        self.fetch = Fetch::Open;
        if self.clients.is_empty() {
            self.give_back_held();
        }
    }

    /// NATS is away, or the consumer. What clients hold they keep.
    pub fn handle_lost(&mut self) {
        self.pulls.clear();
        self.fetch = Fetch::Closed;
        if self.clients.is_empty() {
            self.give_back_held();
        }
    }

    /// A client takes messages from now on.
    pub fn handle_join(&mut self, client: ClientId, now: Instant) {
        if self.clients.join(client) && matches!(self.fetch, Fetch::Settling(_) | Fetch::Cancel) {
            self.fetch = Fetch::Open;
        }
        self.dispatch(now);
    }

    /// A client is gone.
    pub fn handle_leave(&mut self, client: ClientId, now: Instant) {
        let Some(slots) = self.clients.leave(client) else {
            return;
        };
        for in_flight in slots.into_iter().flatten() {
            self.fail(in_flight, DeadReason::ClientGone, now);
        }
        if !self.clients.is_empty() {
            return self.dispatch(now);
        }
        if self.fetch == Fetch::Open && self.pulls.outstanding() > 0 {
            self.fetch = Fetch::Settling(now + SETTLE);
        } else if matches!(self.fetch, Fetch::Open | Fetch::Closed) {
            self.give_back_held();
        }
    }

    /// All clients are gone, since the gateway ends.
    pub fn handle_shutdown(&mut self, now: Instant) {
        for client in self.clients.ids() {
            self.handle_leave(client, now);
        }
    }

    /// A client has received all messages up to a counter. One that was never sent is ignored.
    pub fn handle_receipt(&mut self, client: ClientId, counter: u32, now: Instant) {
        let Some(received) = self.clients.receive(client, counter) else {
            return;
        };
        for in_flight in received.into_iter().flatten() {
            self.forget(&in_flight);
            self.spared.remove(&in_flight.message.sequence);
            self.outputs.push_back(Output::Ack(in_flight.message.reply));
        }
        self.dispatch(now);
    }

    /// A client cannot be given one of its messages.
    pub fn handle_undeliverable(&mut self, client: ClientId, counter: u32, now: Instant) {
        if let Some(in_flight) = self.clients.take(client, counter) {
            self.fail(in_flight, DeadReason::Undeliverable, now);
        }
        self.dispatch(now);
    }

    /// A message has arrived.
    pub fn handle_message(&mut self, mut message: Message, now: Instant) {
        self.pulls.handle_message();
        let spared = self.spared.get(&message.sequence).copied().unwrap_or(0);
        message.deliveries = message.deliveries.saturating_sub(spared).max(1);
        if let Some((client, counter)) = self.holders.remove(&message.sequence) {
            self.clients.supersede(client, counter);
        }
        if message.deliveries + spared > 1 {
            let is_older = |held: &Held| held.message.sequence == message.sequence;
            for held in [&mut self.fresh, &mut self.failed] {
                if let Some(older) = held
                    .iter()
                    .position(is_older)
                    .and_then(|at| held.remove(at))
                {
                    self.bytes -= older.message.bytes();
                }
            }
        }
        if message.deliveries > u64::from(self.limits.max_deliver) {
            self.give_up(message, DeadReason::DeliveriesExhausted);
            return;
        }
        if self.clients.is_empty() {
            self.give_back(message);
            return;
        }
        self.bytes += message.bytes();
        if message.travels_alone() {
            // Another gateway could have it no sooner by being counted as failed once more, so it
            // is kept for most of the time that the server gives.
            let until = now + self.limits.ack_wait * 3 / 4;
            self.failed.push_back(Held { message, until });
        } else {
            let until = now + HOLD.min(self.limits.ack_wait / 2);
            self.fresh.push_back(Held { message, until });
        }
        self.dispatch(now);
    }

    /// The server has ended a pull, and left so many of its messages; `None` where it does not say.
    pub fn handle_pull_ended(&mut self, id: u64, left: Option<u32>) {
        self.pulls.handle_ended(id, left);
    }

    /// The server did not take a pull.
    pub fn handle_pull_refused(&mut self, id: u64, now: Instant) {
        self.pulls.handle_refused(id, now);
    }

    /// The pulls are cancelled, and what was on its way has been read.
    pub fn handle_cancelled(&mut self) {
        if self.fetch == Fetch::Cancelling {
            self.pulls.clear();
            self.fetch = Fetch::Open;
            if self.clients.is_empty() {
                self.give_back_held();
            }
        }
    }

    /// A message has been given up, or could not be and will come again.
    pub fn handle_dead(&mut self) {
        self.dead = self.dead.saturating_sub(1);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.pulls.handle_timeout(now);
        while self.overdue.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, client, counter)) = self.overdue.pop_front() {
                self.clients.stop_waiting(client, counter);
            }
        }
        let mut overdue = Vec::new();
        for held in [&mut self.fresh, &mut self.failed] {
            while held.front().is_some_and(|held| held.until <= now) {
                overdue.extend(held.pop_front());
            }
        }
        for held in overdue {
            self.bytes -= held.message.bytes();
            self.give_back(held.message);
        }
        if matches!(self.fetch, Fetch::Settling(until) if until <= now) {
            self.fetch = Fetch::Cancel;
        }
        self.dispatch(now);
    }

    /// When [`Dispatcher::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = [&self.fresh, &self.failed].map(|held| held.front().map(|held| held.until));
        let settled = match self.fetch {
            Fetch::Settling(until) => Some(until),
            _ => None,
        };
        let overdue = self.overdue.front().map(|(at, ..)| *at);
        // Without clients nothing follows from a pull's end.
        let pulls = if self.clients.is_empty() {
            None
        } else {
            self.pulls.poll_timeout()
        };
        held.into_iter()
            .chain([settled, overdue, pulls])
            .flatten()
            .min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.fetch == Fetch::Cancel {
            self.fetch = Fetch::Cancelling;
            return Some(Output::CancelPulls);
        }
        if matches!(self.fetch, Fetch::Settling(_) | Fetch::Cancelling) {
            return None;
        }
        if let Some(reply) = self.naks.pop_front() {
            return Some(Output::Nak(reply));
        }
        let batch = self.wanted_batch()?;
        Some(Output::Pull {
            id: self.pulls.begin(batch, now),
            batch,
        })
    }

    /// How many messages to ask for: what is asked for and not here never exceeds the free credit.
    fn wanted_batch(&self) -> Option<u32> {
        if self.fetch != Fetch::Open || self.pulls.is_waiting() || self.bytes >= QUEUE_BYTES_MAX {
            return None;
        }
        let waiting = self.fresh.len() + self.failed.len() + self.dead;
        let free = self.clients.free().saturating_sub(waiting);
        let outstanding = self.pulls.outstanding();
        // A pull for each credit that frees would be one for each message: one is worth sending when
        // it at least doubles what may come.
        if free == 0 || outstanding * 2 > free {
            return None;
        }
        let wanted = u32::try_from(free - outstanding).unwrap_or(u32::MAX);
        Some(wanted.min(self.batch_max))
    }

    /// Gives out what waits, as far as there are clients for it.
    fn dispatch(&mut self, now: Instant) {
        // Half of the clients at most, so that the others go on with what is new.
        let isolated_max = (self.clients.len() / 2).max(1);
        while self.clients.isolated() < isolated_max
            && let Some(client) = self.clients.next_idle()
            && let Some(held) = self.failed.pop_front()
        {
            self.give(client, held.message, now);
        }
        while self.clients.reserved() > self.failed.len() && self.clients.release() {}
        // Before new messages are given out, or else a busy client would never be empty.
        while self.clients.reserved() < self.failed.len()
            && self.clients.isolated() + self.clients.reserved() < isolated_max
            && self.clients.reserve()
        {}
        while let Some(client) = self.clients.next_open()
            && let Some(held) = self.fresh.pop_front()
        {
            self.give(client, held.message, now);
        }
    }

    fn give(&mut self, client: ClientId, message: Message, now: Instant) {
        let sequence = message.sequence;
        let is_redelivery = message.travels_alone();
        let frame = message.frame.clone();
        let Some(counter) = self.clients.give(client, message, now) else {
            return;
        };
        self.holders.insert(sequence, (client, counter));
        self.in_flight += 1;
        if is_redelivery {
            self.overdue
                .push_back((now + self.limits.ack_wait, client, counter));
        }
        self.outputs.push_back(Output::Deliver {
            client,
            counter,
            is_redelivery,
            frame,
        });
    }

    /// A client did not take what it was given.
    fn fail(&mut self, in_flight: InFlight, reason: DeadReason, now: Instant) {
        self.forget(&in_flight);
        let InFlight {
            message,
            since,
            is_superseded,
        } = in_flight;
        let is_last = message.deliveries >= u64::from(self.limits.max_deliver);
        if reason == DeadReason::Undeliverable {
            self.give_up(message, reason);
        } else if is_superseded || now.saturating_duration_since(since) >= self.limits.ack_wait {
            // The server has taken it back already. To give it back as well would count as a failure
            // of whoever has it now.
        } else if is_last {
            self.give_up(message, reason);
        } else {
            self.naks.push_back(message.reply);
        }
    }

    fn give_up(&mut self, message: Message, reason: DeadReason) {
        self.dead += 1;
        self.spared.remove(&message.sequence);
        self.outputs.push_back(Output::Dead {
            message: Box::new(message),
            reason,
        });
    }

    /// A message is with its client no more.
    fn forget(&mut self, in_flight: &InFlight) {
        self.bytes -= in_flight.message.bytes();
        self.in_flight -= 1;
        if !in_flight.is_superseded {
            self.holders.remove(&in_flight.message.sequence);
        }
    }

    fn give_back_held(&mut self) {
        let held: Vec<_> = self.fresh.drain(..).chain(self.failed.drain(..)).collect();
        for held in held {
            self.bytes -= held.message.bytes();
            self.give_back(held.message);
        }
    }

    /// Gives back what no client was given.
    fn give_back(&mut self, message: Message) {
        *self.spared.entry(message.sequence).or_default() += 1;
        if self.spared.len() > SPARED_MAX {
            self.spared.pop_first();
        }
        self.naks.push_back(message.reply);
    }
}
