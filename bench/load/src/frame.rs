//! WebSocket frames (RFC 6455, section 5.2) as a client sees them, without any IO.

/// The key that every frame is masked with. A random one for each frame would cost time and change
/// nothing for the server, which has to undo it in any case; zero would let it off.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The longest header of a frame that a server sends: two bytes and a length of eight.
const HEADER_BYTES_MAX: usize = 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The rest of a message.
    Continuation,
    /// A message of text.
    Text,
    /// A message of bytes.
    Binary,
    /// The end.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
    /// None of these.
    Reserved,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => Self::Reserved,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Reserved => 15,
        }
    }

    /// Whether the payload is part of a message.
    pub const fn is_data(self) -> bool {
        matches!(self, Self::Continuation | Self::Text | Self::Binary)
    }
}

/// A whole frame, final and masked.
pub fn encode(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = Vec::with_capacity(length + 14);
    frame.push(0x80 | opcode.bits());
    if length < 126 {
        frame.push(0x80 | length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        frame.push(0xfe);
        frame.extend(length.to_be_bytes());
    } else {
        frame.push(0xff);
        frame.extend((length as u64).to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A piece of a frame's payload.
    Payload(Opcode, &'a [u8]),
    /// A frame has ended.
    End(Opcode),
}

/// Takes frames apart as their bytes come in. It holds no payload.
#[derive(Debug, Default)]
pub struct Reader {
    header: [u8; HEADER_BYTES_MAX],
    header_length: u8,
    /// The frame whose payload is being read, and how much of it is to come.
    body: Option<(u8, u64)>,
    compressed: bool,
}

impl Reader {
    /// The first part in `bytes`, which are shortened by it; `None` once they are used up.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        loop {
            if let Some((bits, left)) = self.body {
                let opcode = Opcode::from_bits(bits);
                if left == 0 {
                    self.body = None;
                    return Some(Part::End(opcode));
                }
                if bytes.is_empty() {
                    return None;
                }
                let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let (piece, rest) = bytes.split_at(length);
                *bytes = rest;
                self.body = Some((bits, left - length as u64));
                return Some(Part::Payload(opcode, piece));
            }
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            self.body = self.header_byte(byte);
        }
    }

    /// Whether the frame whose header came last has the bit of a compressed message, RSV1.
    pub const fn compressed(&self) -> bool {
        self.compressed
    }

    /// Adds a byte to the header: its opcode and the payload's length once it is complete.
    fn header_byte(&mut self, byte: u8) -> Option<(u8, u64)> {
        if let Some(slot) = self.header.get_mut(usize::from(self.header_length)) {
            *slot = byte;
            self.header_length += 1;
        }
        let [first, second, tail @ ..] = &self.header;
        let (wanted, length) = match second & 0x7f {
            126 => (4, u64::from_be_bytes(*tail) >> 48),
            127 => (10, u64::from_be_bytes(*tail)),
            short => (2, u64::from(short)),
        };
        if self.header_length < 2 || self.header_length < wanted {
            return None;
        }
        let bits = first & 0x0f;
        self.compressed = first & 0x40 != 0;
        self.header_length = 0;
        Some((bits, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a frame with this header and payload, cut into chunks of every size.
    fn check(header: &[u8], length: usize, opcode: Opcode) {
        let frame = [header, &vec![7; length], &[0x89, 0]].concat();
        for chunk in 1..=frame.len() {
            let (mut reader, mut seen, mut ends) = (Reader::default(), 0, Vec::new());
            for mut bytes in frame.chunks(chunk) {
                while let Some(part) = reader.next(&mut bytes) {
                    match part {
                        Part::Payload(of, piece) => {
                            assert_eq!(of, opcode);
                            seen += piece.len();
                        }
                        Part::End(of) => ends.push(of),
                    }
                }
            }
            assert_eq!(
                (seen, ends),
                (length, vec![opcode, Opcode::Ping]),
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        check(&[0x81, 0], 0, Opcode::Text);
        check(&[0x82, 125], 125, Opcode::Binary);
        check(&[0x81, 126, 0, 126], 126, Opcode::Text);
        check(&[0x80, 126, 1, 4], 260, Opcode::Continuation);
        check(&[0x81, 127, 0, 0, 0, 0, 0, 0, 1, 0], 256, Opcode::Text);
    }

    #[test]
    fn a_frame_is_masked() {
        let frame = encode(Opcode::Text, b"abc");
        assert_eq!(frame[..6], [0x81, 0x83, 0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(frame[6..], [b'a' ^ 0x37, b'b' ^ 0xfa, b'c' ^ 0x21]);
        assert_eq!(encode(Opcode::Binary, &[0; 300])[..4], [0x82, 0xfe, 1, 44]);
    }
}
