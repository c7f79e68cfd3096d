//! RFC 6455 frames, free of IO: the encoded frame that many sockets share, and the codec's parts.

pub mod decode;
pub mod header;
pub mod mask;
pub mod payload;
pub mod utf8;

use std::sync::OnceLock;

use bytes::Bytes;

use crate::{
    deflate::{Compressor, Window},
    frame::{
        header::{HEADER_BYTES_MAX, Opcode, RSV1_BIT, encode_header},
        payload::MessageKind,
    },
};

/// A message encoded once for every socket that gets it.
///
/// It owns a copy of the payload, and no part of the buffer that NATS was read into. The text form is
/// made at once, since text is the default; the binary form differs in one byte and is made when first
/// asked for, and so is each compressed form.
#[derive(Debug, Clone)]
pub struct PreparedFrame {
    text: Bytes,
    payload_start: usize,
    is_utf8: OnceLock<bool>,
    binary: OnceLock<Bytes>,
    compressed: OnceLock<Box<CompressedForms>>,
}

/// The compressed forms of a message, for each window size that has been asked for. `None` is one that would not be
/// smaller.
#[derive(Debug, Clone, Default)]
struct CompressedForms {
    text: [OnceLock<Option<Bytes>>; Window::COUNT],
    binary: [OnceLock<Option<Bytes>>; Window::COUNT],
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
            compressed: OnceLock::new(),
        }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.text.get(self.payload_start..).unwrap_or_default()
    }

    /// Whether the payload is UTF-8, which a text frame must be.
    pub fn is_utf8(&self) -> bool {
        *self
            .is_utf8
            .get_or_init(|| std::str::from_utf8(self.payload()).is_ok())
    }

    /// A frame. A text frame is valid only where the payload is UTF-8.
    pub fn plain(&self, kind: MessageKind) -> &Bytes {
        match kind {
            MessageKind::Text => &self.text,
            MessageKind::Binary => self
                .binary
                .get_or_init(|| encode(Opcode::Binary, self.payload())),
        }
    }

    /// A compressed frame; `None` where it would not be smaller. Who first asks for a form makes it; others who ask
    /// meanwhile wait for it.
    pub fn compressed(
        &self,
        kind: MessageKind,
        window: Window,
        compressor: &mut Compressor,
    ) -> Option<&Bytes> {
        let forms = self.compressed.get_or_init(Box::default);
        let forms = match kind {
            MessageKind::Text => &forms.text,
            MessageKind::Binary => &forms.binary,
        };
        let make = || compressor.compress(kind.opcode(), self.payload(), window);
        forms.get(window.index())?.get_or_init(make).as_ref()
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

/// The same with a payload that is compressed.
pub fn encode_compressed(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut head = [0; HEADER_BYTES_MAX];
    let head = encode_header(opcode, payload.len(), &mut head);
    let (first, rest) = head.split_first().unwrap_or((&0, &[]));
    let mut frame = Vec::with_capacity(head.len() + payload.len());
    frame.push(first | RSV1_BIT);
    frame.extend_from_slice(rest);
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
        assert!(frame.is_utf8());
        assert_eq!(&frame.plain(MessageKind::Text)[..], b"\x81\x02hi");
        assert_eq!(&frame.plain(MessageKind::Binary)[..], b"\x82\x02hi");
        let frame = PreparedFrame::new(b"\xff");
        assert!(!frame.is_utf8());
        assert_eq!(&frame.plain(MessageKind::Binary)[..], b"\x82\x01\xff");
    }

    #[test]
    fn a_prepared_frame_is_compressed_once_for_each_kind_and_window() {
        let mut compressor = Compressor::default();
        let frame = PreparedFrame::new(&[b'a'; 300]);
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for bits in [9, 15] {
                let window = Window::from_bits(bits).unwrap();
                let first = frame.compressed(kind, window, &mut compressor).unwrap();
                assert_eq!(first[0], 0xC0 | kind.opcode() as u8);
                let again = frame.compressed(kind, window, &mut compressor).unwrap();
                assert_eq!(first.as_ptr(), again.as_ptr());
            }
        }
        assert_eq!(compressor.counts.before_bytes, 4 * 300);
        let frame = PreparedFrame::new(b"a");
        let form = frame.compressed(MessageKind::Text, Window::MAX, &mut compressor);
        assert_eq!(form, None);
    }
}
