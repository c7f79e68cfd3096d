//! RFC 6455 frames, free of IO: the encoded frame that many sockets share, and the codec's parts.

pub mod decode;
pub mod header;
pub mod mask;
pub mod utf8;

use std::sync::OnceLock;

use bytes::Bytes;

use crate::frame::header::{HEADER_BYTES_MAX, Opcode, encode_header};

/// A message encoded once for every socket that gets it.
///
/// It owns a copy of the payload, and no part of the buffer that NATS was read into. The text form is
/// made at once, since text is the default; the binary form differs in one byte and is made when first
/// asked for.
#[derive(Debug, Clone)]
pub struct PreparedFrame {
    text: Bytes,
    payload_start: usize,
    is_utf8: OnceLock<bool>,
    binary: OnceLock<Bytes>,
}

impl PreparedFrame {
    /// Encodes a payload.
    pub fn new(payload: &[u8]) -> Self {
        let text = encode(Opcode::Text, payload);
        Self {
            payload_start: text.len() - payload.len(),
            text,
            is_utf8: OnceLock::new(),
            binary: OnceLock::new(),
        }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.text.get(self.payload_start..).unwrap_or_default()
    }

    /// A text frame; `None` where the payload is not UTF-8, which a text frame must be.
    pub fn text(&self) -> Option<&Bytes> {
        let is_utf8 = self
            .is_utf8
            .get_or_init(|| std::str::from_utf8(self.payload()).is_ok());
        is_utf8.then_some(&self.text)
    }

    /// A binary frame.
    pub fn binary(&self) -> &Bytes {
        self.binary
            .get_or_init(|| encode(Opcode::Binary, self.payload()))
    }
}

/// A whole, final, unmasked frame.
pub fn encode(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut head = [0; HEADER_BYTES_MAX];
    let head = encode_header(opcode, payload.len(), &mut head);
    // Exact, so that making it `Bytes` does not allocate again.
    let mut frame = Vec::with_capacity(head.len() + payload.len());
    frame.extend_from_slice(head);
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_frame_has_a_text_and_a_binary_form() {
        let frame = PreparedFrame::new(b"hi");
        assert_eq!(frame.payload(), b"hi");
        assert_eq!(&frame.text().unwrap()[..], b"\x81\x02hi");
        assert_eq!(&frame.binary()[..], b"\x82\x02hi");
        let frame = PreparedFrame::new(b"\xff");
        assert!(frame.text().is_none());
        assert_eq!(&frame.binary()[..], b"\x82\x01\xff");
    }
}
