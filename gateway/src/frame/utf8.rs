//! UTF-8 that comes in parts, checked as it comes: a message is refused at its first wrong byte.

/// What has been seen of a text so far: at most three bytes of an unfinished character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    pending: [u8; 3],
    pending_len: u8,
}

/// The text is not UTF-8. The connection is closed with 1007.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("text is not UTF-8")]
pub struct Utf8Error;

impl Utf8Stream {
    /// Takes the next part.
    ///
    /// # Errors
    /// As soon as no continuation could make it UTF-8.
    pub fn push(&mut self, part: &[u8]) -> Result<(), Utf8Error> {
        let mut part = part;
        while self.pending_len > 0 {
            let Some((&byte, rest)) = part.split_first() else {
                return Ok(());
            };
            part = rest;
            self.finish_character(byte)?;
        }
        match std::str::from_utf8(part) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(Utf8Error),
            Err(error) => {
                for &byte in part.get(error.valid_up_to()..).unwrap_or_default() {
                    self.hold(byte);
                }
                Ok(())
            }
        }
    }

    /// Whether the text may end here.
    ///
    /// # Errors
    /// When a character is unfinished.
    pub fn finish(self) -> Result<(), Utf8Error> {
        if self.pending_len == 0 {
            Ok(())
        } else {
            Err(Utf8Error)
        }
    }

    /// Adds a byte to the unfinished character, and forgets the character once it is whole.
    fn finish_character(&mut self, byte: u8) -> Result<(), Utf8Error> {
        let held = usize::from(self.pending_len);
        let mut character = [0; 4];
        character[..3].copy_from_slice(&self.pending);
        if let Some(place) = character.get_mut(held) {
            *place = byte;
        }
        match std::str::from_utf8(character.get(..=held).unwrap_or_default()) {
            Ok(_) => self.pending_len = 0,
            Err(error) if error.error_len().is_some() => return Err(Utf8Error),
            Err(_) => self.hold(byte),
        }
        Ok(())
    }

    fn hold(&mut self, byte: u8) {
        if let Some(place) = self.pending.get_mut(usize::from(self.pending_len)) {
            *place = byte;
            self.pending_len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], valid: bool) {
        for split in 0..=bytes.len() {
            for second in split..=bytes.len() {
                let mut stream = Utf8Stream::default();
                let result = stream
                    .push(&bytes[..split])
                    .and_then(|()| stream.push(&bytes[split..second]))
                    .and_then(|()| stream.push(&bytes[second..]))
                    .and_then(|()| stream.finish());
                assert_eq!(
                    result.is_ok(),
                    valid,
                    "{bytes:x?} split at {split}, {second}"
                );
            }
        }
    }

    #[test]
    fn text_in_parts_is_judged_as_text_at_once() {
        for text in ["", "a", "κόσμε", "\u{10FFFF}x", "日本", "a\u{7ff}b\u{800}"] {
            check(text.as_bytes(), true);
        }
        for bytes in [
            &b"\xff"[..],
            b"\x80",
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"a\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xe2\x28\xa1",
            b"\xf8\x88\x80\x80\x80",
        ] {
            check(bytes, false);
        }
    }

    #[test]
    fn a_wrong_byte_is_refused_before_the_character_is_whole() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"\xf4"), Ok(()));
        assert_eq!(stream.push(b"\x90"), Err(Utf8Error));
    }
}
