//! From a client's compressed payload to the message, RFC 7692 section 7.2.2, never beyond a message's limit.

use flate2::{Decompress, FlushDecompress, Status};

use super::Window;
use crate::frame::payload::Reassembled;

/// What belongs behind a payload: the tail that its sender left out, and an empty last block.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// The least room that is made at once for what comes out.
const ROOM_BYTES_MIN: usize = 1 << 10;

/// How many streams a payload may have, one after the other. Each costs as much as some hundred bytes do and may take two
/// that hold nothing, while a client has a reason for one.
const STREAMS_MAX: usize = 256;

/// Inflates one payload after the other. What it needs, some 50 KB, it makes with the first.
#[derive(Debug, Default)]
pub struct Inflater {
    zlib: Option<Box<Decompress>>,
    /// What it has done since the last report.
    pub counts: InflateCounts,
}

/// What was inflated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InflateCounts {
    /// Bytes of payloads before.
    pub before_bytes: u64,
    /// Bytes of payloads after.
    pub after_bytes: u64,
    /// Payloads that are not of the form.
    pub invalid: u64,
    /// Payloads that would have become larger than a message may be.
    pub too_big: u64,
}

/// Why a payload is not inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It is no whole number of deflate blocks, or of too many streams: 1007.
    #[error("not deflate data")]
    Invalid,
    /// The message is over the limit: 1009.
    #[error("message too big")]
    TooBig,
}

/// How many bytes the compressed form of a message may have. Where nothing can be saved a client may send blocks of
/// nine bits for a byte, or of a few bytes each that lie in between as they are.
pub const fn compressed_bytes_max(message_bytes_max: u64) -> u64 {
    message_bytes_max
        .saturating_add(message_bytes_max / 8)
        .saturating_add(64)
}

impl Inflater {
    /// Inflates the payload of a message of at most `bytes_max` bytes. No more memory than that is taken.
    ///
    /// # Errors
    /// When it is no deflate data, or the message is larger.
    pub fn inflate(
        &mut self,
        compressed: &[u8],
        bytes_max: u64,
    ) -> Result<Reassembled, InflateError> {
        let result = self.inflate_blocks(compressed, bytes_max);
        let counts = &mut self.counts;
        match &result {
            Ok(message) => {
                counts.before_bytes += compressed.len() as u64;
                counts.after_bytes += message.payload().len() as u64;
            }
            Err(InflateError::Invalid) => counts.invalid += 1,
            Err(InflateError::TooBig) => counts.too_big += 1,
        }
        result
    }

    fn inflate_blocks(
        &mut self,
        compressed: &[u8],
        bytes_max: u64,
    ) -> Result<Reassembled, InflateError> {
        let zlib = self.zlib.get_or_insert_with(|| {
            Box::new(Decompress::new_with_window_bits(false, Window::MAX.bits()))
        });
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut message = Reassembled::with_capacity(compressed.len() as u64);
        let mut rest = compressed;
        let mut streams = 0;
        loop {
            streams += 1;
            if streams > STREAMS_MAX {
                return Err(InflateError::Invalid);
            }
            zlib.reset(false);
            match feed(zlib, &mut rest, &mut message, bytes_max)? {
                Fed::All => break,
                // A client may end its stream within a message, section 7.2.3.4, and begin another.
                Fed::StreamEnd if rest.is_empty() => return Ok(message.shrunk()),
                Fed::StreamEnd => {}
            }
        }
        // Nothing may come of the tail, and the stream must end with it: else the payload ends within a block.
        let len = message.payload().len();
        let mut tail = TAIL;
        let fed = feed(zlib, &mut tail, &mut message, bytes_max)?;
        let is_whole = fed == Fed::StreamEnd && tail.is_empty() && message.payload().len() == len;
        if is_whole {
            Ok(message.shrunk())
        } else {
            Err(InflateError::Invalid)
        }
    }
}

/// Why feeding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fed {
    /// All of the input was used up.
    All,
    /// The stream ended before it.
    StreamEnd,
}

fn feed(
    zlib: &mut Decompress,
    input: &mut &[u8],
    message: &mut Reassembled,
    bytes_max: usize,
) -> Result<Fed, InflateError> {
    loop {
        let room = room(message.payload().len(), bytes_max).ok_or(InflateError::TooBig)?;
        let output = message.reserve(room);
        let read_before = zlib.total_in();
        let status = zlib.decompress_vec(input, output, FlushDecompress::None);
        let read = usize::try_from(zlib.total_in() - read_before).unwrap_or(usize::MAX);
        let has_room = output.len() < output.capacity();
        *input = input.get(read..).unwrap_or_default();
        match status {
            Err(_) => return Err(InflateError::Invalid),
            _ if message.payload().len() > bytes_max => return Err(InflateError::TooBig),
            Ok(Status::StreamEnd) => return Ok(Fed::StreamEnd),
            // With room left, nothing more can come of what was read.
            Ok(_) if input.is_empty() && has_room => return Ok(Fed::All),
            Ok(_) if read == 0 && has_room => return Err(InflateError::Invalid),
            Ok(_) => {}
        }
    }
}

/// How much more is made room for: as much again, and one byte over the limit at most, which shows that it is passed.
fn room(len: usize, bytes_max: usize) -> Option<usize> {
    let left = bytes_max.checked_sub(len)?;
    Some(len.max(ROOM_BYTES_MIN).min(left.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{deflate::Compressor, frame::header::Opcode};

    fn check(compressed: &[u8], max: u64, expected: Result<&[u8], InflateError>) {
        let mut inflater = Inflater::default();
        for _ in 0..2 {
            let got = inflater.inflate(compressed, max);
            let got = got.as_ref().map(Reassembled::payload).map_err(|e| *e);
            assert_eq!(got, expected, "{compressed:x?}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        for compressed in [
            // Section 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5.
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
            // A last block and nothing behind it, as java.util.zip's `finish` leaves it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            check(compressed, 5, Ok(b"Hello"));
            check(compressed, 4, Err(InflateError::TooBig));
        }
        // Section 7.2.3.6.
        check(&[0x00], 0, Ok(b""));
    }

    #[test]
    fn what_is_no_whole_number_of_blocks_is_refused() {
        for compressed in [
            &b""[..],
            // A block type that there is not.
            &[0x06],
            // Cut off in the middle.
            &[0xf2, 0x48, 0xcd, 0xc9],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48],
            // It refers back to before its beginning: section 7.2.3.2 without the message before it.
            &[0xf2, 0x00, 0x11, 0x00, 0x00],
            // Bytes behind the last block.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x55],
        ] {
            check(compressed, 100, Err(InflateError::Invalid));
        }
    }

    #[test]
    fn a_payload_may_be_several_streams_but_not_thousands() {
        let nothing = |streams: usize| [0x03, 0x00].repeat(streams);
        check(&nothing(STREAMS_MAX), 100, Ok(b""));
        check(&nothing(STREAMS_MAX + 1), 100, Err(InflateError::Invalid));
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit() {
        let mut compressor = Compressor::default();
        let zeros = vec![0; 1 << 20];
        let frame = compressor
            .compress(Opcode::Binary, &zeros, Window::MAX)
            .unwrap();
        let bomb = &frame[4..];
        assert!(bomb.len() < 2_000);
        let mut inflater = Inflater::default();
        for max in [0, 1, 1_000, (1 << 20) - 1] {
            assert_eq!(
                inflater.inflate(bomb, max).err(),
                Some(InflateError::TooBig)
            );
        }
        assert_eq!(inflater.inflate(bomb, 1 << 20).unwrap().payload(), zeros);
        assert_eq!(inflater.counts.too_big, 4);
        assert_eq!(inflater.counts.after_bytes, 1 << 20);
    }

    #[test]
    fn room_grows_with_the_message_and_ends_behind_its_limit() {
        for (len, max, expected) in [
            (0, 0, Some(1)),
            (0, 100, Some(101)),
            (0, 65_536, Some(1_024)),
            (5_000, 65_536, Some(5_000)),
            (65_000, 65_536, Some(537)),
            (65_536, 65_536, Some(1)),
            (65_537, 65_536, None),
            (1_024, usize::MAX, Some(1_024)),
        ] {
            assert_eq!(room(len, max), expected, "{len} of {max}");
        }
    }
}
