//! Marks in payloads: `@@T` and the time of publication as 16 hexadecimal digits of nanoseconds.
//!
//! A delivery is counted by its mark, so that a server which puts several messages into one frame,
//! or one into several, counts right.

use std::time::Duration;

use memchr::memmem;
use nix::time::ClockId;

const MARK: &[u8; 3] = b"@@T";
const STAMP_DIGITS: usize = 16;

/// What surrounds the filling of a message: its shortest form, and so the least size.
const MESSAGE_BYTES_MIN: usize = 6 + MARK.len() + STAMP_DIGITS + 7 + 2;

/// The time in stamps: nanoseconds of the machine's monotonic clock, which is the same in all processes.
pub fn now_ns() -> u64 {
    // Every Linux has this clock.
    let now = ClockId::CLOCK_MONOTONIC
        .now()
        .map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// A JSON message of `size` bytes, or a few more if that is too few, which carries the time.
pub fn message(stamp_ns: u64, size: usize) -> Vec<u8> {
    let filling = "x".repeat(size.saturating_sub(MESSAGE_BYTES_MIN));
    format!(r#"{{"t":"@@T{stamp_ns:016x}","p":"{filling}"}}"#).into_bytes()
}

/// Finds marks in pieces of a payload.
#[derive(Debug, Default)]
pub struct Scanner {
    /// How many bytes of a mark the last piece ended with.
    begun: u8,
}

impl Scanner {
    /// Calls `found` for each mark: with its stamp, unless the mark was cut.
    pub fn scan(&mut self, piece: &[u8], mut found: impl FnMut(Option<u64>)) {
        if self.begun > 0 {
            // The seam: what was begun and the two bytes after it. A mark in it starts before the piece.
            let mut seam = MARK
                .iter()
                .take(usize::from(self.begun))
                .copied()
                .collect::<Vec<u8>>();
            seam.extend(piece.iter().take(MARK.len() - 1));
            if memmem::find(&seam, MARK).is_some() {
                found(None);
            }
            self.begun = if piece.len() < MARK.len() - 1 {
                begun(&seam)
            } else {
                begun(piece)
            };
        } else {
            self.begun = begun(piece);
        }
        for at in memmem::find_iter(piece, MARK) {
            let after = piece.get(at + MARK.len()..).unwrap_or_default();
            found(stamp(after));
        }
    }
}

/// How many bytes of a mark the end of `bytes` is.
fn begun(bytes: &[u8]) -> u8 {
    if bytes.ends_with(b"@@") {
        2
    } else {
        u8::from(bytes.ends_with(b"@"))
    }
}

fn stamp(after: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(after.get(..STAMP_DIGITS)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_size_that_was_asked_for() {
        let text = message(0x1234, 128);
        assert_eq!(text.len(), 128);
        assert!(text.starts_with(br#"{"t":"@@T0000000000001234","p":"xx"#));
        assert!(text.ends_with(br#"xx"}"#));
        assert_eq!(message(0, 0).len(), MESSAGE_BYTES_MIN);
    }

    #[test]
    fn every_mark_is_found_once_however_it_is_cut() {
        let text = [
            b"@".to_vec(),
            message(5, 40),
            b"@@@".to_vec(),
            message(6, 40),
        ]
        .concat();
        for chunk in 1..=text.len() {
            let (mut scanner, mut marks) = (Scanner::default(), 0);
            for piece in text.chunks(chunk) {
                scanner.scan(piece, |_| marks += 1);
            }
            assert_eq!(marks, 2, "chunks of {chunk}");
        }
        let mut stamps = Vec::new();
        Scanner::default().scan(&text, |stamp| stamps.push(stamp));
        assert_eq!(stamps, [Some(5), Some(6)]);
    }
}
