//! A WebSocket frame byte by byte (RFC 6455, section 5.2), including those that nobody may send.

/// Continuation.
pub const CONTINUATION: u8 = 0x0;
/// Text.
pub const TEXT: u8 = 0x1;
/// Binary.
pub const BINARY: u8 = 0x2;
/// Close.
pub const CLOSE: u8 = 0x8;
/// Ping.
pub const PING: u8 = 0x9;
/// Pong.
pub const PONG: u8 = 0xA;

/// In place of a length: the length follows in 16 bits.
const FOLLOWS_IN_16_BITS: u8 = 0x7E;
/// In place of a length: the length follows in 64 bits.
const FOLLOWS_IN_64_BITS: u8 = 0x7F;

/// The key that a client's frames are masked with here.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// How the length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// In the fewest bytes, as it must be.
    Minimal,
    /// In 16 bits whatever it is.
    In16Bits,
    /// In 64 bits whatever it is.
    In64Bits,
    /// This in 64 bits, whatever follows.
    Claimed(u64),
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends its message.
    pub fin: bool,
    /// The three reserved bits, from 0 to 7.
    pub reserved: u8,
    /// What it is.
    pub opcode: u8,
    /// Whether it is masked, as a client's must be and a server's must not.
    pub masked: bool,
    /// How its length is written.
    pub length: Length,
    /// Its payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message or control frame as a client sends it.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            reserved: 0,
            opcode,
            masked: true,
            length: Length::Minimal,
            payload: payload.into(),
        }
    }

    /// A text message.
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(TEXT, payload)
    }

    /// A binary message.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(BINARY, payload)
    }

    /// The next part of a message that was not finished, and its end.
    pub fn more(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(CONTINUATION, payload)
    }

    /// A close frame.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// The same, not the last of its message.
    #[must_use]
    pub fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }

    /// The same, with these reserved bits.
    #[must_use]
    pub fn reserved(self, reserved: u8) -> Self {
        Self { reserved, ..self }
    }

    /// The same, not masked.
    #[must_use]
    pub fn unmasked(self) -> Self {
        Self {
            masked: false,
            ..self
        }
    }

    /// The same, with its length written so.
    #[must_use]
    pub fn length(self, length: Length) -> Self {
        Self { length, ..self }
    }

    /// The code of a close frame that has one.
    pub fn close_code(&self) -> Option<u16> {
        let code = self
            .payload
            .first_chunk()
            .map(|bytes| u16::from_be_bytes(*bytes));
        code.filter(|_| self.opcode == CLOSE)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mask = u8::from(self.masked) << 7;
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        let length = self.payload.len();
        match (self.length, length) {
            (Length::Claimed(claimed), _) => put_64_bits(&mut bytes, mask, claimed),
            (Length::In64Bits, _) | (Length::Minimal, 0x1_0000..) => {
                put_64_bits(&mut bytes, mask, length as u64);
            }
            (Length::In16Bits, _) | (Length::Minimal, 126..) => {
                bytes.push(mask | FOLLOWS_IN_16_BITS);
                bytes.extend((length as u16).to_be_bytes());
            }
            (Length::Minimal, _) => bytes.push(mask | length as u8),
        }
        if self.masked {
            bytes.extend(KEY);
            bytes.extend(
                self.payload
                    .iter()
                    .zip(KEY.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Takes the first frame off what was received, if it is complete.
    pub fn decode(bytes: &mut Vec<u8>) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, written, rest) = match second & 0x7F {
            FOLLOWS_IN_16_BITS => {
                let (length, rest) = rest.split_first_chunk()?;
                (
                    u64::from(u16::from_be_bytes(*length)),
                    Length::In16Bits,
                    rest,
                )
            }
            FOLLOWS_IN_64_BITS => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), Length::In64Bits, rest)
            }
            length => (u64::from(length), Length::Minimal, rest),
        };
        let masked = second & 0x80 != 0;
        let (key, rest) = if masked {
            rest.split_first_chunk()?
        } else {
            (&[0; 4], rest)
        };
        let length = usize::try_from(length).ok()?;
        let payload = rest.get(..length)?;
        let frame = Self {
            fin: first & 0x80 != 0,
            reserved: first >> 4 & 0x7,
            opcode: first & 0xF,
            masked,
            length: match (written, length) {
                (Length::In16Bits, 126..) | (Length::In64Bits, 0x1_0000..) => Length::Minimal,
                _ => written,
            },
            // Most frames that are read here come from a server, some of them by the gigabyte.
            payload: if masked {
                payload
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, key)| byte ^ key)
                    .collect()
            } else {
                payload.to_vec()
            },
        };
        let used = bytes.len() - (rest.len() - length);
        bytes.drain(..used);
        Some(frame)
    }
}

fn put_64_bits(bytes: &mut Vec<u8>, mask: u8, length: u64) {
    bytes.push(mask | FOLLOWS_IN_64_BITS);
    bytes.extend(length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_sent() {
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 0x1_0001] {
            for frame in [
                Frame::text(vec![b'x'; length]),
                Frame::binary(vec![7; length])
                    .unmasked()
                    .unfinished()
                    .reserved(5),
            ] {
                let mut bytes = frame.encode();
                let last = bytes.pop().unwrap();
                assert_eq!(Frame::decode(&mut bytes), None, "one byte is missing");
                bytes.extend([last, 0x81]);
                assert_eq!(Frame::decode(&mut bytes), Some(frame));
                assert_eq!(bytes, [0x81], "what follows stays");
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_standards_examples() {
        let check = |frame: Frame, bytes: &[u8]| assert_eq!(frame.encode(), bytes);
        // RFC 6455, section 5.7.
        check(Frame::text("Hello").unmasked(), b"\x81\x05Hello");
        check(
            Frame::text("Hello"),
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
        );
        check(Frame::new(PING, "Hello").unmasked(), b"\x89\x05Hello");
    }
}
