//! What comes into a queue's dispatcher and what goes out.

use std::time::Duration;

use async_nats::HeaderMap;

use crate::{exchange::ClientId, frame::PreparedFrame};

/// What the queue allows.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Messages that one client may hold unacknowledged.
    pub credit: u32,
    /// How long the server waits for an acknowledgement.
    pub ack_wait: Duration,
    /// How often a message is delivered.
    pub max_deliver: u32,
}

/// A message of the stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Which delivery this is, from 1. Those that reached no client of ours are taken off.
    pub deliveries: u64,
    /// Where acknowledgements go.
    pub reply: Box<str>,
    /// What it was published to.
    pub subject: Box<str>,
    /// Its headers.
    pub headers: Option<Box<HeaderMap>>,
    /// The message itself, encoded once.
    pub frame: PreparedFrame,
}

impl Message {
    /// Whether it has failed before.
    pub(super) fn travels_alone(&self) -> bool {
        self.deliveries > 1
    }

    /// The payload's size.
    pub(super) fn bytes(&self) -> usize {
        self.frame.payload().len()
    }
}

/// Why a message is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// It came again after its last permitted delivery: no client acknowledged that in time.
    DeliveriesExhausted,
    /// The client of its last permitted delivery went without an acknowledgement.
    ClientGone,
    /// Its payload may not be sent on the route.
    Undeliverable,
}

impl DeadReason {
    /// The stable name of the reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DeliveriesExhausted => "DeliveriesExhausted",
            Self::ClientGone => "ClientGone",
            Self::Undeliverable => "Undeliverable",
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Give a message to a client.
    Deliver {
        /// Who.
        client: ClientId,
        /// Its number among the client's messages of this queue, from 1.
        counter: u32,
        /// Whether it was delivered before.
        is_redelivery: bool,
        /// The message.
        frame: PreparedFrame,
    },
    /// Acknowledge a message.
    Ack(Box<str>),
    /// Give a message back.
    Nak(Box<str>),
    /// Move a message to the dead-letter subject and terminate it, then call
    /// [`super::Dispatcher::handle_dead`].
    Dead {
        /// The message.
        message: Box<Message>,
        /// Why.
        reason: DeadReason,
    },
    /// Ask for messages.
    Pull {
        /// The pull's name.
        id: u64,
        /// How many.
        batch: u32,
    },
    /// End all pulls, read what is still on its way, then call [`super::Dispatcher::handle_cancelled`].
    CancelPulls,
}
