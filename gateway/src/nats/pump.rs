//! From subscriptions to shards: what has arrived goes to every shard that wants it, as one round.
//!
//! The pump never waits for a shard, and it is one task: a message costs one wake, and a burst of
//! messages over many subscriptions still one.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use async_nats::{Message, Subscriber};
use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    task,
};

use super::{
    metrics::{DropReason, NatsMetrics},
    subscribe::Subscribed,
};
use crate::{
    exchange::{ShardId, ShardInbox},
    frame::PreparedFrame,
    interest::{Change, Interest, ShardSet},
    publication::Publication,
};

/// Messages in one round at most, so that the first of them is not late.
const ROUND_MESSAGES_MAX: usize = 1_024;

/// Bytes of payload after which a round is full.
const ROUND_BYTES_MAX: usize = 1 << 20;

/// What shards ask for that is taken up before arrivals are looked at again.
const COMMANDS_MAX: usize = 256;

/// What the pump is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(ShardId, Arc<str>),
    Unsubscribe(ShardId, Arc<str>),
    /// Say when the server knows a pattern.
    Confirm(Arc<str>, oneshot::Sender<()>),
}

/// A subscription as the pump keeps it.
#[derive(Debug)]
struct Subscription {
    end: AbortHandle,
    is_known: bool,
}

/// What has arrived and is not yet in a round.
#[derive(Debug, Default)]
struct Arrivals {
    messages: Vec<(Arc<str>, Message)>,
    bytes: usize,
}

impl Arrivals {
    fn is_full(&self) -> bool {
        self.messages.len() >= ROUND_MESSAGES_MAX || self.bytes >= ROUND_BYTES_MAX
    }
}

/// One subscription. Whenever it is woken it moves what has arrived, and it ends with the
/// subscription.
struct Inflow {
    pattern: Arc<str>,
    subscriber: Subscriber,
    arrivals: Arc<Mutex<Arrivals>>,
}

impl Future for Inflow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self {
            pattern,
            subscriber,
            arrivals,
        } = &mut *self;
        let mut arrivals = lock(arrivals);
        loop {
            if arrivals.is_full() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match subscriber.poll_next_unpin(context) {
                Poll::Ready(Some(message)) => {
                    arrivals.bytes += message.payload.len();
                    arrivals.messages.push((pattern.clone(), message));
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Only the pump's own task takes this lock: it makes the task movable, and is never contended.
fn lock(arrivals: &Mutex<Arrivals>) -> MutexGuard<'_, Arrivals> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything between the subscriptions and the shards.
pub(super) struct Pump {
    interest: Interest,
    shards: Vec<ShardInbox>,
    changes: UnboundedSender<Change>,
    inflows: FuturesUnordered<Abortable<Inflow>>,
    subscriptions: HashMap<Arc<str>, Subscription>,
    /// Who waits to hear that the server knows a pattern.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<()>>>,
    arrivals: Arc<Mutex<Arrivals>>,
    metrics: NatsMetrics,
}

impl Pump {
    pub(super) fn new(
        shards: Vec<ShardInbox>,
        changes: UnboundedSender<Change>,
        metrics: NatsMetrics,
    ) -> Self {
        Self {
            interest: Interest::default(),
            shards,
            changes,
            inflows: FuturesUnordered::new(),
            subscriptions: HashMap::new(),
            waiting: HashMap::new(),
            arrivals: Arc::default(),
            metrics,
        }
    }

    /// Runs until nobody is left who could ask for anything.
    pub(super) async fn run(
        mut self,
        mut commands: UnboundedReceiver<Command>,
        mut subscribed: UnboundedReceiver<Subscribed>,
    ) {
        let mut received = Vec::with_capacity(COMMANDS_MAX);
        loop {
            let deadline = self.interest.poll_timeout();
            tokio::select! {
                count = commands.recv_many(&mut received, COMMANDS_MAX) => {
                    if count == 0 {
                        return;
                    }
                    received.drain(..).for_each(|command| self.handle_command(command));
                }
                Some(done) = subscribed.recv() => self.handle_subscribed(done),
                // The budget of a task would end a round after 128 messages.
                () = task::unconstrained(poll_fn(|context| self.poll_arrivals(context))) => {
                    if self.hand_over() {
                        // The connection is a task of the same thread, and has more.
                        task::yield_now().await;
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()),
                    if deadline.is_some() => self.interest.handle_timeout(Instant::now()),
            }
            while let Some(change) = self.interest.poll_change() {
                // The subscriber ends after the pump.
                let _ = self.changes.send(change);
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Subscribe(shard, pattern) => self.interest.handle_subscribe(shard, pattern),
            Command::Unsubscribe(shard, pattern) => {
                self.interest
                    .handle_unsubscribe(shard, &pattern, Instant::now());
            }
            Command::Confirm(pattern, answer) => {
                let is_known = self
                    .subscriptions
                    .get(&pattern)
                    .is_some_and(|it| it.is_known);
                if is_known || !self.interest.contains(&pattern) {
                    // Who no longer waits needs no answer.
                    let _ = answer.send(());
                } else {
                    self.waiting.entry(pattern).or_default().push(answer);
                }
            }
        }
    }

    fn handle_subscribed(&mut self, done: Subscribed) {
        match done {
            Subscribed::Begun(pattern, subscriber) => {
                let (end, registration) = AbortHandle::new_pair();
                let arrivals = self.arrivals.clone();
                let inflow = Inflow {
                    pattern: pattern.clone(),
                    subscriber,
                    arrivals,
                };
                self.inflows.push(Abortable::new(inflow, registration));
                let subscription = Subscription {
                    end,
                    is_known: false,
                };
                self.subscriptions.insert(pattern, subscription);
            }
            Subscribed::Known(patterns) => {
                for pattern in patterns {
                    if let Some(subscription) = self.subscriptions.get_mut(&pattern) {
                        subscription.is_known = true;
                    }
                    for answer in self.waiting.remove(&pattern).unwrap_or_default() {
                        let _ = answer.send(());
                    }
                }
            }
            // The inflow wakes, ends and drops its subscriber, which unsubscribes.
            Subscribed::Ended(pattern) => {
                // Nobody wants it any more, so nobody needs to wait: they hear that by the drop.
                self.waiting.remove(&pattern);
                if let Some(subscription) = self.subscriptions.remove(&pattern) {
                    subscription.end.abort();
                }
            }
        }
        let count = i64::try_from(self.subscriptions.len()).unwrap_or(i64::MAX);
        self.metrics.subscriptions.set(count);
    }

    /// Ready when something has arrived. Only subscriptions that were woken are looked at.
    fn poll_arrivals(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(Some(_ended)) = self.inflows.poll_next_unpin(context) {}
        if lock(&self.arrivals).messages.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Hands what has arrived to the shards, and says whether there may be more already.
    fn hand_over(&mut self) -> bool {
        let mut arrivals = lock(&self.arrivals);
        let was_full = arrivals.is_full();
        self.metrics.messages.inc_by(arrivals.messages.len() as u64);
        self.metrics.bytes.inc_by(arrivals.bytes as u64);
        arrivals.bytes = 0;
        let mut round = Vec::with_capacity(arrivals.messages.len());
        let mut wanted_by_any = ShardSet::EMPTY;
        let mut last: Option<(Arc<str>, ShardSet)> = None;
        for (pattern, message) in arrivals.messages.drain(..) {
            let shards = match &last {
                Some((known, shards)) if Arc::ptr_eq(known, &pattern) => *shards,
                _ => self.interest.shards(&pattern),
            };
            last = Some((pattern.clone(), shards));
            // It lingers: nobody wants it any more.
            if shards.is_empty() {
                continue;
            }
            wanted_by_any = wanted_by_any.union(shards);
            round.push(Publication {
                pattern,
                subject: message.subject.as_str().into(),
                frame: PreparedFrame::new(&message.payload),
            });
        }
        drop(arrivals);
        if round.is_empty() {
            return was_full;
        }
        let round: Arc<[Publication]> = round.into();
        for (shard, inbox) in (0..).map(ShardId).zip(&self.shards) {
            if wanted_by_any.contains(shard) && !inbox.publish(round.clone()) {
                self.metrics
                    .drop_messages(DropReason::ShardBehind, round.len());
            }
        }
        was_full
    }
}
