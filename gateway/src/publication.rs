//! One message from NATS on its way to the shards.

use std::sync::Arc;

use crate::frame::PreparedFrame;

/// A message, encoded once, with what decides who gets it.
#[derive(Debug)]
pub struct Publication {
    /// The pattern whose subscription it came by. Shards look up their subscribers by it.
    pub pattern: Arc<str>,
    /// The subject that it was published to. It matters where a client's patterns overlap.
    pub subject: Box<str>,
    /// The message itself.
    pub frame: PreparedFrame,
}
