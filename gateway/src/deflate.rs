//! permessage-deflate, RFC 7692: messages compressed one by one.
//!
//! Neither side keeps a window from one message to the next (`no_context_takeover`). So a broadcast is
//! compressed once for all clients of a window size, no connection holds memory for compression, and each
//! thread has one [`Codec`] for all of its connections.
//!
//! - [`offer`]: what a client offers in its request, and the answer;
//! - [`compress`] and [`inflate`]: the two directions.

pub mod compress;
pub mod inflate;
pub mod offer;

pub use self::{compress::Compressor, inflate::Inflater, offer::Agreement};

/// What one thread compresses and inflates with.
#[derive(Debug, Default)]
pub struct Codec {
    /// From the gateway to clients.
    pub compressor: Compressor,
    /// From clients to the gateway.
    pub inflater: Inflater,
}

/// How far back a compressed message may refer: 2 to this power bytes.
///
/// RFC 7692 has sizes from 8 on, zlib from 9 on. As zlib never looks back over the whole of its window, what it
/// makes with 9 bits refers back 250 bytes at most and so is within 8 bits too; Node.js relies on the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(u8);

impl Window {
    /// The smallest that zlib makes.
    pub const MIN: Self = Self(9);
    /// The largest: what holds where nothing is said.
    pub const MAX: Self = Self(15);
    /// How many sizes there are.
    pub const COUNT: usize = (Self::MAX.0 - Self::MIN.0) as usize + 1;

    /// The window for a size that a client asks for; `None` where RFC 7692 has no such size.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (8..=Self::MAX.0)
            .contains(&bits)
            .then(|| Self(bits.max(Self::MIN.0)))
    }

    /// The power.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Its place among all sizes, from 0.
    pub const fn index(self) -> usize {
        (self.0 - Self::MIN.0) as usize
    }
}

/// How a connection's messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// What its client can look back over.
    pub window: Window,
    /// Smaller payloads are sent as they are, in bytes.
    pub payload_bytes_min: usize,
}
