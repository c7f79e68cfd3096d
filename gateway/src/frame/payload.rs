//! The payload of a client's message or control frame, lent or kept.

use bytes::Bytes;

use crate::frame::{
    encode,
    header::{HEADER_BYTES_MAX, Opcode, encode_header},
};

/// How much is set aside for a message before its bytes have come. A header may claim more than its
/// sender ever sends.
const RESERVE_BYTES_MAX: usize = 64 << 10;

/// Whether a message is text or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8, which has been checked.
    Text,
    /// Bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of its frame.
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// A payload: lent from what was read, or put together from parts.
#[derive(Debug)]
pub enum Payload<'a> {
    /// It lay whole in what was read.
    Lent(&'a [u8]),
    /// It came in parts.
    Owned(Reassembled),
    /// It came compressed.
    Inflated(Reassembled),
}

impl Payload<'_> {
    /// Whether it came compressed.
    pub const fn was_compressed(&self) -> bool {
        matches!(self, Self::Inflated(_))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Owned(reassembled) | Self::Inflated(reassembled) => reassembled.payload(),
        }
    }

    /// The bytes, to keep.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(reassembled) | Self::Inflated(reassembled) => {
                Bytes::from(reassembled.bytes).slice(HEADER_BYTES_MAX..)
            }
        }
    }

    /// The same payload as a whole frame of the server.
    pub fn into_frame(self, opcode: Opcode) -> Bytes {
        match self {
            Self::Lent(bytes) => encode(opcode, bytes),
            Self::Owned(reassembled) | Self::Inflated(reassembled) => {
                reassembled.into_frame(opcode)
            }
        }
    }
}

/// A message that came in parts. It keeps room in front for a header, so that it can go back as a frame
/// without being copied.
#[derive(Debug)]
pub struct Reassembled {
    bytes: Vec<u8>,
}

impl Reassembled {
    /// An empty one, with room for a payload of so many bytes if that is no more than a sender may claim.
    pub fn with_capacity(len: u64) -> Self {
        let reserve = usize::try_from(len).map_or(RESERVE_BYTES_MAX, |l| l.min(RESERVE_BYTES_MAX));
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + reserve);
        bytes.resize(HEADER_BYTES_MAX, 0);
        Self { bytes }
    }

    /// Adds a part.
    pub fn extend(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// Room behind the payload, of at least so many bytes, for what adds to it.
    pub fn reserve(&mut self, room: usize) -> &mut Vec<u8> {
        self.bytes.reserve_exact(room);
        &mut self.bytes
    }

    /// Without the room that was not needed, where that is most of it.
    #[must_use]
    pub fn shrunk(mut self) -> Self {
        if self.bytes.capacity() > self.bytes.len() * 2 {
            self.bytes.shrink_to_fit();
        }
        self
    }

    /// The payload so far.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES_MAX..).unwrap_or_default()
    }

    /// The memory that it holds, in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn into_frame(mut self, opcode: Opcode) -> Bytes {
        let mut room = [0; HEADER_BYTES_MAX];
        let head = encode_header(opcode, self.payload().len(), &mut room);
        let start = HEADER_BYTES_MAX - head.len();
        if let Some(place) = self.bytes.get_mut(start..HEADER_BYTES_MAX) {
            place.copy_from_slice(head);
        }
        Bytes::from(self.bytes).slice(start..)
    }
}
