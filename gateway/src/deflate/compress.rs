//! From a payload to a compressed frame, RFC 7692 section 7.2.1.

use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};

use super::{Window, inflate::compressed_bytes_max};
use crate::frame::{encode_compressed, header::Opcode};

/// What zlib ends a flush with. It is left out on the wire.
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// zlib's own middle between time and size.
const LEVEL: flate2::Compression = flate2::Compression::new(6);

/// Larger payloads are sent as they are: compressing one would keep its thread from all else for longer than some
/// 20 ms.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Compresses one payload after the other. What it needs for a window size, some 300 KB at most, it makes when that
/// size is first used.
#[derive(Debug, Default)]
pub struct Compressor {
    by_window: [Option<Box<Compress>>; Window::COUNT],
    output: Vec<u8>,
    /// What it has done since the last report.
    pub counts: CompressCounts,
}

/// What was compressed. What did not shrink is not among it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CompressCounts {
    /// Bytes of payloads before.
    pub before_bytes: u64,
    /// Bytes of payloads after.
    pub after_bytes: u64,
}

impl Compressor {
    /// A whole frame with a compressed payload; `None` where that would not be smaller, or takes too long.
    pub fn compress(&mut self, opcode: Opcode, payload: &[u8], window: Window) -> Option<Bytes> {
        self.compress_within(opcode, payload, window, payload.len().checked_sub(1)?)
    }

    /// The same, even if it is not smaller: for what its peer wants compressed.
    pub fn compress_always(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        window: Window,
    ) -> Option<Bytes> {
        let compressed_max = compressed_bytes_max(payload.len() as u64);
        self.compress_within(
            opcode,
            payload,
            window,
            usize::try_from(compressed_max).ok()?,
        )
    }

    fn compress_within(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        window: Window,
        compressed_max: usize,
    ) -> Option<Bytes> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return None;
        }
        let compressed = self.deflate(payload, window, compressed_max)?;
        let frame = encode_compressed(opcode, compressed);
        let after_bytes = compressed.len() as u64;
        self.counts.before_bytes += payload.len() as u64;
        self.counts.after_bytes += after_bytes;
        Some(frame)
    }

    fn deflate(&mut self, payload: &[u8], window: Window, compressed_max: usize) -> Option<&[u8]> {
        let zlib = self
            .by_window
            .get_mut(window.index())?
            .get_or_insert_with(|| {
                let bits = window.bits();
                Box::new(Compress::new_with_window_bits(LEVEL, false, bits))
            });
        zlib.reset();
        self.output.clear();
        // A flush that fills its room may not be whole, so there is a byte that must stay free.
        let room = compressed_max + FLUSH_TAIL.len() + 1;
        self.output.resize(room, 0);
        let status = zlib.compress(payload, &mut self.output, FlushCompress::Sync);
        let written = usize::try_from(zlib.total_out()).ok()?;
        let is_whole = matches!(status, Ok(Status::Ok)) && zlib.total_in() == payload.len() as u64;
        if !is_whole || written >= room {
            return None;
        }
        self.output.get(..written)?.strip_suffix(&FLUSH_TAIL)
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::inflate::{
        TINFLStatus,
        core::{DecompressorOxide, decompress, inflate_flags},
    };

    use super::*;

    /// Inflates with another library, which forgets all but the last `window_bytes` and so finds what refers back
    /// further.
    fn inflate(compressed: &[u8], window_bytes: usize) -> Vec<u8> {
        let mut input = compressed.to_vec();
        input.extend(FLUSH_TAIL);
        let mut window = vec![0; window_bytes];
        let (mut read, mut at) = (0, 0);
        let mut all = Vec::new();
        let mut state = Box::new(DecompressorOxide::new());
        loop {
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, used, made) =
                decompress(&mut state, &input[read..], &mut window, at, flags);
            all.extend_from_slice(&window[at..at + made]);
            read += used;
            at = (at + made) % window_bytes;
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, input.len());
        all
    }

    fn json(events: usize) -> String {
        let event = |n| {
            format!(
                r#"{{"id":{n},"user":"u{}","text":"hello {}"}}"#,
                n * 7,
                n * n
            )
        };
        (0..events).map(event).collect()
    }

    #[test]
    fn a_payload_is_what_it_was_within_the_window_that_was_agreed_on() {
        let text = json(3_000);
        for bits in 8..=15 {
            let window = Window::from_bits(bits).unwrap();
            let mut compressor = Compressor::default();
            // The second is no other for the first: nothing is taken over.
            for _ in 0..2 {
                let frame = compressor
                    .compress(Opcode::Text, text.as_bytes(), window)
                    .unwrap();
                assert_eq!(frame[..2], [0xC1, 126], "{bits}");
                assert_eq!(inflate(&frame[4..], 1 << bits), text.as_bytes(), "{bits}");
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_as_it_is() {
        let mut compressor = Compressor::default();
        let mut random = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 56) as u8
        })
        .take(10_000)
        .collect();
        for payload in [&b""[..], b"a", b"ab", &noise] {
            let frame = compressor.compress(Opcode::Binary, payload, Window::MAX);
            assert_eq!(frame, None, "{} bytes", payload.len());
        }
        let large = vec![b'a'; PAYLOAD_BYTES_MAX + 1];
        assert_eq!(compressor.compress(Opcode::Text, &large, Window::MAX), None);
        assert_eq!(compressor.counts, CompressCounts::default());
        for payload in [&b""[..], b"a", b"ab", &noise] {
            let frame = compressor
                .compress_always(Opcode::Binary, payload, Window::MIN)
                .unwrap();
            let head = if payload.len() < 100 { 2 } else { 4 };
            assert_eq!(inflate(&frame[head..], 512), payload);
        }
        compressor.counts = CompressCounts::default();
        let frame = compressor.compress(Opcode::Text, &[b'a'; 100], Window::MAX);
        let after_bytes = frame.unwrap().len() as u64 - 2;
        let before_bytes = 100;
        assert_eq!(
            compressor.counts,
            CompressCounts {
                before_bytes,
                after_bytes
            }
        );
    }
}
