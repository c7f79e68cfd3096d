//! One queue: its pulls, what they bring, and what is told the server about it.
//!
//! Who gets what is decided by [`Dispatcher`]; here is the IO around it.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Message as NatsMessage, Subscriber, subject::Subject};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wsgateway_crds::config;

use super::{
    connect::{Link, LinkState, jitter},
    consumer::{Api, Consumer, OpenError},
    dead,
    metrics::{QueueLabels, QueueMetrics},
    registry::{Opened, QueueOp},
    reply::{Status, classify, parse_ack_subject, pending_messages},
};
use crate::{
    exchange::{Delivery, QueueId, QueueState, QueueStatus, ShardInbox, ToShard},
    frame::PreparedFrame,
    queue::{Dispatcher, Message, Output, PULL_EXPIRES, QueueLimits},
};

/// What shards say that is taken up before messages are looked at again.
const OPS_MAX: usize = 256;

/// Messages that are taken up before shards are heard again.
const MESSAGES_MAX: usize = 256;

/// The wait before a consumer is looked for again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How long the end of a cancelled subscription is awaited.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// What a worker is made of.
pub(super) struct WorkerParts {
    pub(super) queue: Opened,
    pub(super) api: Api,
    pub(super) shards: Vec<ShardInbox>,
    pub(super) link: Arc<Link>,
    pub(super) metrics: QueueMetrics,
    pub(super) shutdown: CancellationToken,
}

/// Where pulls are answered.
struct Inbox {
    prefix: String,
    subscriber: Subscriber,
    /// Set while what is on its way is read, after the pulls were cancelled.
    cancelled_until: Option<Instant>,
}

enum Job {
    Opened(Result<Consumer, OpenError>),
    Buried,
}

/// One queue at work.
pub(super) struct Worker {
    id: QueueId,
    config: config::Queue,
    status: Arc<QueueStatus>,
    ops: UnboundedReceiver<QueueOp>,
    api: Api,
    shards: Vec<ShardInbox>,
    link: watch::Receiver<LinkState>,
    known_link: LinkState,
    labels: QueueLabels,
    metrics: QueueMetrics,
    shutdown: CancellationToken,
    dispatcher: Dispatcher,
    consumer: Option<Consumer>,
    inbox: Option<Inbox>,
    jobs: JoinSet<Job>,
    is_opening: bool,
    failures: u32,
    retry_at: Option<Instant>,
    last_error: String,
    /// Acknowledgements that wait for NATS: as many as messages were in flight when it went.
    unsent: VecDeque<(Box<str>, &'static str)>,
    is_closing: bool,
    /// In flight and clients, as the gauges know them.
    counted: (i64, i64),
}

impl Worker {
    pub(super) fn new(parts: WorkerParts) -> Self {
        let WorkerParts {
            queue,
            api,
            shards,
            link,
            metrics,
            shutdown,
        } = parts;
        let Opened {
            id,
            config,
            status,
            ops,
        } = queue;
        let limits = QueueLimits {
            credit: config.max_in_flight_per_client,
            ack_wait: config.ack_wait.get(),
            max_deliver: config.max_deliver,
        };
        let labels = QueueLabels {
            stream: config.stream.clone(),
            consumer: config.durable.clone(),
        };
        Self {
            id,
            config,
            status,
            ops,
            api,
            shards,
            link: link.watch(),
            known_link: LinkState::default(),
            labels,
            metrics,
            shutdown,
            dispatcher: Dispatcher::new(limits),
            consumer: None,
            inbox: None,
            jobs: JoinSet::new(),
            is_opening: false,
            failures: 0,
            retry_at: None,
            last_error: String::new(),
            unsent: VecDeque::new(),
            is_closing: false,
            counted: (0, 0),
        }
    }

    /// Runs until it is told to close and its last client has left, or until the process ends.
    pub(super) async fn run(mut self) {
        self.set_state(QueueState::Opening);
        self.handle_link();
        let mut ops = Vec::with_capacity(OPS_MAX);
        loop {
            self.carry_out().await;
            if self.is_closing && self.dispatcher.is_at_rest() && self.jobs.is_empty() {
                break;
            }
            let deadline = self.deadline();
            tokio::select! {
                count = self.ops.recv_many(&mut ops, OPS_MAX) => {
                    if count == 0 {
                        self.end();
                    }
                    ops.drain(..).for_each(|op| self.handle_op(op));
                }
                message = next(&mut self.inbox) => self.handle_messages(message),
                Some(job) = self.jobs.join_next() => self.handle_job(job),
                Ok(()) = self.link.changed() => self.handle_link(),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()),
                    if deadline.is_some() => self.handle_timeout(),
                () = self.shutdown.cancelled(), if !self.is_closing => self.end(),
            }
        }
        self.metrics.set_state(&self.labels, None);
        debug!(
            stream = self.labels.stream,
            consumer = self.labels.consumer,
            "queue closed"
        );
    }

    fn end(&mut self) {
        self.is_closing = true;
        self.dispatcher.handle_shutdown(Instant::now());
    }

    fn handle_op(&mut self, op: QueueOp) {
        let now = Instant::now();
        match op {
            QueueOp::Join(client) => self.dispatcher.handle_join(client, now),
            QueueOp::Receipt(client, counter) => {
                self.dispatcher.handle_receipt(client, counter, now);
            }
            QueueOp::Undeliverable(client, counter) => {
                self.dispatcher.handle_undeliverable(client, counter, now);
            }
            QueueOp::Leave(client) => self.dispatcher.handle_leave(client, now),
            QueueOp::Close => self.is_closing = true,
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.dispatcher.handle_timeout(now);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.inbox.as_ref().and_then(|inbox| inbox.cancelled_until)) {
            self.cancelled();
        }
        if is_due(self.retry_at) {
            self.retry_at = None;
            self.open();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let cancelled = self.inbox.as_ref().and_then(|inbox| inbox.cancelled_until);
        [self.dispatcher.poll_timeout(), cancelled, self.retry_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Follows the connection: what the server knew of our pulls ends with it.
    fn handle_link(&mut self) {
        let link = *self.link.borrow_and_update();
        if link == self.known_link {
            return;
        }
        self.known_link = link;
        self.lose();
        if link.connected {
            self.failures = 0;
            self.open();
        }
    }

    fn lose(&mut self) {
        self.inbox = None;
        self.consumer = None;
        self.retry_at = None;
        self.dispatcher.handle_lost();
    }

    /// Looks for the consumer, in a task of its own.
    fn open(&mut self) {
        if self.is_opening || !self.known_link.connected {
            return;
        }
        self.is_opening = true;
        let (api, config) = (self.api.clone(), self.config.clone());
        self.jobs
            .spawn(async move { Job::Opened(api.open(&config).await) });
    }

    fn handle_job(&mut self, job: Result<Job, tokio::task::JoinError>) {
        match job {
            Ok(Job::Opened(opened)) => {
                self.is_opening = false;
                match opened {
                    _ if !self.known_link.connected => {}
                    Ok(consumer) => self.serve(consumer),
                    Err(error) => self.fail(&error),
                }
            }
            Ok(Job::Buried) => self.dispatcher.handle_dead(),
            Err(error) => {
                warn!(%error, "a task of a queue failed");
                self.dispatcher.handle_dead();
            }
        }
    }

    /// From now on there are pulls.
    fn serve(&mut self, consumer: Consumer) {
        self.dispatcher.handle_open(consumer.batch_max);
        self.consumer = Some(consumer);
        self.last_error.clear();
        self.set_state(QueueState::Ready);
    }

    fn fail(&mut self, error: &OpenError) {
        let state = match error {
            OpenError::Conflict { .. } => QueueState::Conflict,
            OpenError::NoStream(_) | OpenError::Refused(_) | OpenError::Unavailable(_) => {
                QueueState::Unavailable
            }
        };
        // Once for each error, not for each attempt.
        let text = error.to_string();
        if text != self.last_error {
            let QueueLabels { stream, consumer } = &self.labels;
            warn!(
                stream,
                consumer,
                error = error as &dyn std::error::Error,
                "a queue cannot be served"
            );
            self.last_error = text;
        }
        self.set_state(state);
        self.retry();
    }

    fn retry(&mut self) {
        let wait = (RETRY_FIRST * 2_u32.pow(self.failures.min(4))).min(RETRY_MAX);
        self.failures += 1;
        self.retry_at = Some(Instant::now() + wait / 2 + jitter(wait / 2));
    }

    fn set_state(&self, state: QueueState) {
        if self.status.get() != state {
            let QueueLabels { stream, consumer } = &self.labels;
            info!(stream, consumer, ?state, "queue");
        }
        self.status.set(state);
        self.metrics.set_state(&self.labels, Some(state));
    }

    /// Takes up a message and all that have arrived with it.
    fn handle_messages(&mut self, first: Option<NatsMessage>) {
        let mut next = first;
        for _ in 0..MESSAGES_MAX {
            let Some(message) = next else {
                // The subscription has ended: all that was on its way is read.
                return self.cancelled();
            };
            self.handle_message(message);
            let Some(inbox) = &mut self.inbox else { return };
            match inbox.subscriber.next().now_or_never() {
                Some(following) => next = following,
                None => return,
            }
        }
        if let Some(message) = next {
            self.handle_message(message);
        }
    }

    fn handle_message(&mut self, message: NatsMessage) {
        if message.status.is_some() {
            return self.handle_status(&message);
        }
        let NatsMessage {
            subject,
            reply,
            payload,
            headers,
            ..
        } = message;
        let reply: Box<str> = reply.as_deref().unwrap_or_default().into();
        let Some((deliveries, sequence)) = parse_ack_subject(&reply) else {
            return debug!(%subject, "a message without a JetStream reply subject");
        };
        self.failures = 0;
        let message = Message {
            sequence,
            deliveries,
            reply,
            // All that is kept is copied: it would pin the client's read buffer.
            subject: subject.as_str().into(),
            headers: headers.map(Box::new),
            frame: PreparedFrame::new(&payload),
        };
        self.dispatcher.handle_message(message, Instant::now());
    }

    /// What the server says about a pull instead of a message.
    fn handle_status(&mut self, message: &NatsMessage) {
        let Some(inbox) = &self.inbox else { return };
        let token = message
            .subject
            .strip_prefix(&inbox.prefix)
            .and_then(|rest| rest.strip_prefix('.'));
        let Some(id) = token.and_then(|token| token.parse().ok()) else {
            return;
        };
        let text = message.description.as_deref().unwrap_or_default();
        let left = pending_messages(message);
        let status = message.status.map_or(0, |status| status.as_u16());
        match classify(status, text) {
            Status::Ignored => {}
            Status::Ended => self.dispatcher.handle_pull_ended(id, left),
            Status::Refused => {
                warn!(
                    stream = self.labels.stream,
                    consumer = self.labels.consumer,
                    status,
                    text,
                    "a pull was refused"
                );
                self.dispatcher.handle_pull_refused(id, Instant::now());
            }
            Status::ConsumerLost => {
                if !self.is_opening && self.retry_at.is_none() {
                    warn!(
                        stream = self.labels.stream,
                        consumer = self.labels.consumer,
                        status,
                        text,
                        "the consumer is gone"
                    );
                    self.lose();
                    self.set_state(QueueState::Opening);
                    self.retry();
                    // At once the first time: the consumer may have been made anew already.
                    if self.failures == 1 {
                        self.retry_at = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// Does what the dispatcher wants done. What goes to one shard goes at once.
    async fn carry_out(&mut self) {
        let mut deliveries: Vec<Vec<Delivery>> = Vec::new();
        while let Some(output) = self.dispatcher.poll_output(Instant::now()) {
            match output {
                Output::Deliver {
                    client,
                    counter,
                    is_redelivery,
                    frame,
                } => {
                    self.metrics.deliveries.get_or_create(&self.labels).inc();
                    if is_redelivery {
                        self.metrics.redeliveries.get_or_create(&self.labels).inc();
                    }
                    let shard = usize::from(client.shard.0);
                    if deliveries.len() <= shard {
                        deliveries.resize_with(shard + 1, Vec::new);
                    }
                    if let Some(deliveries) = deliveries.get_mut(shard) {
                        deliveries.push(Delivery {
                            client,
                            queue: self.id,
                            counter,
                            frame,
                        });
                    }
                }
                Output::Ack(reply) => {
                    self.metrics.acks.get_or_create(&self.labels).inc();
                    self.unsent.push_back((reply, "+ACK"));
                }
                Output::Nak(reply) => {
                    self.metrics.naks.get_or_create(&self.labels).inc();
                    self.unsent.push_back((reply, "-NAK"));
                }
                Output::Dead { message, reason } => {
                    let (api, config) = (self.api.clone(), self.config.clone());
                    let metrics = self.metrics.clone();
                    self.jobs.spawn(async move {
                        dead::bury(api, config, *message, reason, metrics).await;
                        Job::Buried
                    });
                }
                Output::Pull { id, batch } => {
                    // Clients do not wait for the pull, and it comes after what was given back.
                    self.hand_over(&mut deliveries);
                    self.send_answers().await;
                    self.pull(id, batch).await;
                }
                Output::CancelPulls => self.cancel().await,
            }
        }
        self.hand_over(&mut deliveries);
        self.send_answers().await;
        self.count();
    }

    /// Queues of one consumer share their gauges: each adds its own part.
    fn count(&mut self) {
        let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let now = (
            size(self.dispatcher.in_flight()),
            size(self.dispatcher.clients()),
        );
        let (in_flight, clients) = std::mem::replace(&mut self.counted, now);
        let gauge = self.metrics.in_flight.get_or_create(&self.labels);
        gauge.inc_by(now.0 - in_flight);
        drop(gauge);
        let gauge = self.metrics.clients.get_or_create(&self.labels);
        gauge.inc_by(now.1 - clients);
    }

    /// Acknowledges and gives back, unless NATS is away: then it waits, so that nobody waits here.
    async fn send_answers(&mut self) {
        while self.known_link.connected
            && let Some((reply, answer)) = self.unsent.pop_front()
        {
            let answer = Bytes::from_static(answer.as_bytes());
            if let Err(error) = self
                .api
                .client
                .publish(Subject::from(&*reply), answer)
                .await
            {
                debug!(%error, "cannot acknowledge");
            }
        }
    }

    async fn pull(&mut self, id: u64, batch: u32) {
        if self.inbox.is_none() {
            let prefix = self.api.client.new_inbox();
            match self.api.client.subscribe(format!("{prefix}.*")).await {
                Ok(subscriber) => {
                    self.inbox = Some(Inbox {
                        prefix,
                        subscriber,
                        cancelled_until: None,
                    });
                }
                Err(error) => debug!(%error, "cannot subscribe to an inbox"),
            }
        }
        let Some(inbox) = &self.inbox else {
            return self.dispatcher.handle_pull_refused(id, Instant::now());
        };
        let expires_max = self
            .consumer
            .as_ref()
            .and_then(|consumer| consumer.expires_max);
        let expires = expires_max.unwrap_or(PULL_EXPIRES).min(PULL_EXPIRES);
        let request = format!(r#"{{"batch":{batch},"expires":{}}}"#, expires.as_nanos());
        let reply = format!("{}.{id}", inbox.prefix);
        let subject = self.api.pull_subject(&self.config);
        let sent = self
            .api
            .client
            .publish_with_reply(subject, reply, request.into())
            .await;
        if let Err(error) = sent {
            debug!(%error, "cannot pull");
            self.dispatcher.handle_pull_refused(id, Instant::now());
        }
    }

    fn hand_over(&self, deliveries: &mut [Vec<Delivery>]) {
        for (inbox, deliveries) in self.shards.iter().zip(deliveries) {
            if !deliveries.is_empty() {
                inbox.send(ToShard::Deliveries(std::mem::take(deliveries)));
            }
        }
    }

    /// Takes the inbox away: the server serves no pull that nobody listens for. What is on its way is
    /// still read.
    async fn cancel(&mut self) {
        let Some(inbox) = &mut self.inbox else {
            return self.cancelled();
        };
        inbox.cancelled_until = Some(Instant::now() + CANCEL_TIMEOUT);
        if inbox.subscriber.drain().await.is_err() {
            self.cancelled();
        }
    }

    /// The pulls are cancelled. The next one makes a new inbox.
    fn cancelled(&mut self) {
        self.inbox = None;
        self.dispatcher.handle_cancelled();
    }
}

/// The next message; never, where there is no inbox.
fn next(inbox: &mut Option<Inbox>) -> impl Future<Output = Option<NatsMessage>> + '_ {
    match inbox {
        Some(inbox) => inbox.subscriber.next().left_future(),
        None => pending().right_future(),
    }
}
