//! Subscribes for the pump, which must never wait, and finds out when the server knows.
//!
//! NATS does not confirm a subscription. But a server takes up what a connection says in order: a
//! message that we send to ourselves behind a SUB comes back only after the SUB was heard. Other
//! servers of a cluster hear of it a moment later.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender},
    watch,
};
use tracing::{info, warn};

use super::connect::LinkState;
use crate::interest::Change;

/// Changes that are taken up at once.
const CHANGES_MAX: usize = 256;

/// How long an echo may take before it is sent for again.
const ECHO_TIMEOUT: Duration = Duration::from_millis(500);

/// Echoes that are lost while connected before it is clear that none will come: the server may forbid
/// us to send to ourselves.
const ECHOES_LOST_MAX: u32 = 2;

/// What is waited instead where no echo comes.
const BLIND_WAIT: Duration = Duration::from_millis(20);

/// What the pump is told.
#[derive(Debug)]
pub(super) enum Subscribed {
    /// A new subscription.
    Begun(Arc<str>, Subscriber),
    /// The server knows these patterns.
    Known(Vec<Arc<str>>),
    /// A subscription to drop.
    Ended(Arc<str>),
}

/// The patterns that wait for one echo.
struct Awaited {
    patterns: Vec<Arc<str>>,
    echo: u64,
    until: Instant,
    lost: u32,
}

/// The task that subscribes.
pub(super) struct Subscribing {
    client: Client,
    link: watch::Receiver<LinkState>,
    pump: UnboundedSender<Subscribed>,
    inbox: String,
    /// Subscribed to since the last echo was sent for.
    next: Vec<Arc<str>>,
    awaited: Option<Awaited>,
    last_echo: u64,
    /// The connection on which no echo comes.
    deaf_on: Option<u64>,
}

impl Subscribing {
    pub(super) fn new(
        client: Client,
        link: watch::Receiver<LinkState>,
        pump: UnboundedSender<Subscribed>,
    ) -> Self {
        let inbox = client.new_inbox();
        Self {
            client,
            link,
            pump,
            inbox,
            next: Vec::new(),
            awaited: None,
            last_echo: 0,
            deaf_on: None,
        }
    }

    /// Runs until the pump has ended.
    pub(super) async fn run(mut self, mut changes: UnboundedReceiver<Change>) {
        let mut echoes = match self.client.subscribe(self.inbox.clone()).await {
            Ok(echoes) => echoes,
            Err(error) => return warn!(%error, "cannot subscribe to an inbox"),
        };
        let mut received = Vec::with_capacity(CHANGES_MAX);
        loop {
            let until = self.awaited.as_ref().map(|awaited| awaited.until);
            tokio::select! {
                count = changes.recv_many(&mut received, CHANGES_MAX) => {
                    if count == 0 {
                        return;
                    }
                    for change in received.drain(..) {
                        self.handle_change(change).await;
                    }
                }
                Some(echo) = echoes.next() => self.handle_echo(&echo.payload),
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now).into()),
                    if until.is_some() => self.handle_timeout().await,
            }
            if self.awaited.is_none() && !self.next.is_empty() {
                let patterns = std::mem::take(&mut self.next);
                self.await_echo(patterns, 0).await;
            }
        }
    }

    async fn handle_change(&mut self, change: Change) {
        match change {
            Change::Subscribe(pattern) => match self.client.subscribe(pattern.to_string()).await {
                Ok(subscriber) => {
                    self.tell(Subscribed::Begun(pattern.clone(), subscriber));
                    self.next.push(pattern);
                }
                // Patterns are checked where they are made.
                Err(error) => warn!(%error, %pattern, "cannot subscribe"),
            },
            Change::Unsubscribe(pattern) => self.tell(Subscribed::Ended(pattern)),
        }
    }

    fn handle_echo(&mut self, payload: &[u8]) {
        let is_it = |awaited: &mut Awaited| payload == awaited.echo.to_string().as_bytes();
        if let Some(awaited) = self.awaited.take_if(is_it) {
            self.tell(Subscribed::Known(awaited.patterns));
        }
    }

    async fn handle_timeout(&mut self) {
        let Some(awaited) = self.awaited.take() else {
            return;
        };
        let link = *self.link.borrow();
        if self.deaf_on == Some(link.connects) {
            return self.tell(Subscribed::Known(awaited.patterns));
        }
        let lost = awaited.lost + u32::from(link.connected);
        if lost >= ECHOES_LOST_MAX {
            info!(
                "no echo comes from the NATS server, which may forbid it: subscriptions are trusted"
            );
            self.deaf_on = Some(link.connects);
            return self.tell(Subscribed::Known(awaited.patterns));
        }
        self.await_echo(awaited.patterns, lost).await;
    }

    async fn await_echo(&mut self, patterns: Vec<Arc<str>>, lost: u32) {
        self.last_echo += 1;
        let echo = self.last_echo;
        let mut wait = BLIND_WAIT;
        if self.deaf_on != Some(self.link.borrow().connects) {
            wait = ECHO_TIMEOUT;
            let payload = Bytes::from(echo.to_string());
            if let Err(error) = self.client.publish(self.inbox.clone(), payload).await {
                warn!(%error, "cannot send for an echo");
            }
        }
        self.awaited = Some(Awaited {
            patterns,
            echo,
            until: Instant::now() + wait,
            lost,
        });
    }

    fn tell(&self, what: Subscribed) {
        // The pump ends with the process.
        let _ = self.pump.send(what);
    }
}
