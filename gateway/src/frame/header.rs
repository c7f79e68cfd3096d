//! Frame headers, RFC 6455 section 5.2.

/// The longest header of a server's frame: two bytes and a 64-bit length, no mask.
pub const HEADER_BYTES_MAX: usize = 10;

/// The longest payload of a control frame, RFC 6455 section 5.5.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// The kinds of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a fragmented message.
    Continuation = 0x0,
    /// Text in UTF-8.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The end, with a code and a reason.
    Close = 0x8,
    /// A question whether the peer lives.
    Ping = 0x9,
    /// Its answer, with the same payload.
    Pong = 0xA,
}

impl Opcode {
    /// The kind for a header's low four bits; `None` for the reserved ones.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is Close, Ping or Pong.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// Whether it is a message's first frame.
    pub const fn begins_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }
}

/// The first reserved bit of a frame's first byte.
pub const RSV1_BIT: u8 = 0x40;

/// What RSV1 means on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rsv1 {
    /// Nothing: no extension was agreed on.
    Reserved,
    /// The message is compressed, RFC 7692 section 6. It stands on a message's first frame.
    Compressed,
}

/// A client's frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether it is the message's last frame.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether the message that begins here is compressed.
    pub is_compressed: bool,
    /// The masking key.
    pub mask: [u8; 4],
    /// The payload's length in bytes.
    pub len: u64,
}

/// What is wrong with a header. Each closes the connection with 1002.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// RSV1 to RSV3 are for extensions, and none was agreed on that uses it here.
    #[error("reserved bit set")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client masks every frame, section 5.1.
    #[error("frame not masked")]
    NotMasked,
    /// A control frame of more than 125 bytes.
    #[error("control frame too long")]
    ControlTooLong,
    /// A control frame without FIN.
    #[error("control frame fragmented")]
    ControlFragmented,
    /// A length in more bytes than it needs, or with its highest bit set.
    #[error("length not in its shortest form")]
    Length,
}

/// Reads a client's header from the front of `bytes`: the header and its length, or `None` where bytes
/// are missing. What is wrong is said at the first byte that shows it.
///
/// # Errors
/// When no header may start so.
pub fn decode_header(bytes: &[u8], rsv1: Rsv1) -> Result<Option<(Header, usize)>, HeaderError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let reserved = match rsv1 {
        Rsv1::Reserved => 0x70,
        Rsv1::Compressed => 0x30,
    };
    if first & reserved != 0 {
        return Err(HeaderError::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(HeaderError::ReservedOpcode)?;
    let is_compressed = first & RSV1_BIT != 0;
    if is_compressed && !opcode.begins_message() {
        return Err(HeaderError::ReservedBits);
    }
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(HeaderError::ControlFragmented);
    }
    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    if second & 0x80 == 0 {
        return Err(HeaderError::NotMasked);
    }
    let short = second & 0x7F;
    if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(HeaderError::ControlTooLong);
    }
    let (len, at) = match short {
        126 => {
            let Some(field) = bytes.get(2..4).and_then(|b| b.try_into().ok()) else {
                return Ok(None);
            };
            let len = u16::from_be_bytes(field);
            if len < 126 {
                return Err(HeaderError::Length);
            }
            (u64::from(len), 4)
        }
        127 => {
            let Some(field) = bytes.get(2..10).and_then(|b| b.try_into().ok()) else {
                return Ok(None);
            };
            let len = u64::from_be_bytes(field);
            if u16::try_from(len).is_ok() || len >> 63 == 1 {
                return Err(HeaderError::Length);
            }
            (len, 10)
        }
        short => (u64::from(short), 2),
    };
    let Some(mask) = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()) else {
        return Ok(None);
    };
    Ok(Some((
        Header {
            fin,
            opcode,
            is_compressed,
            mask,
            len,
        },
        at + 4,
    )))
}

/// Writes the header of a whole, unmasked frame and returns the bytes used.
pub fn encode_header(opcode: Opcode, len: usize, room: &mut [u8; HEADER_BYTES_MAX]) -> &[u8] {
    room[0] = 0x80 | opcode as u8;
    let used = match (len, u16::try_from(len)) {
        (0..=125, _) => {
            room[1] = len as u8;
            2
        }
        (_, Ok(len)) => {
            room[1] = 126;
            room[2..4].copy_from_slice(&len.to_be_bytes());
            4
        }
        (_, Err(_)) => {
            room[1] = 127;
            room[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    room.get(..used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_byte_by_byte_or_at_once() {
        for (bytes, header) in [
            (
                &b"\x81\x85abcd"[..],
                Header {
                    fin: true,
                    opcode: Opcode::Text,
                    is_compressed: false,
                    mask: *b"abcd",
                    len: 5,
                },
            ),
            (
                b"\x02\xFE\x01\x00abcd",
                Header {
                    fin: false,
                    opcode: Opcode::Binary,
                    is_compressed: false,
                    mask: *b"abcd",
                    len: 256,
                },
            ),
            (
                b"\x80\xFF\0\0\0\0\0\x01\0\0abcd",
                Header {
                    fin: true,
                    opcode: Opcode::Continuation,
                    is_compressed: false,
                    mask: *b"abcd",
                    len: 65_536,
                },
            ),
        ] {
            for end in 0..bytes.len() {
                let got = decode_header(&bytes[..end], Rsv1::Reserved);
                assert_eq!(got, Ok(None), "{end} of {bytes:?}");
            }
            let got = decode_header(bytes, Rsv1::Reserved);
            assert_eq!(got, Ok(Some((header, bytes.len()))));
        }
    }

    #[test]
    fn a_wrong_header_is_refused_at_its_first_wrong_byte() {
        for (bytes, error) in [
            (&b"\xC1"[..], HeaderError::ReservedBits),
            (b"\x91", HeaderError::ReservedBits),
            (b"\x83", HeaderError::ReservedOpcode),
            (b"\x8F", HeaderError::ReservedOpcode),
            (b"\x09", HeaderError::ControlFragmented),
            (b"\x81\x05", HeaderError::NotMasked),
            (b"\x89\xFE", HeaderError::ControlTooLong),
            (b"\x81\xFE\0\x7D", HeaderError::Length),
            (b"\x81\xFF\0\0\0\0\0\0\xFF\xFF", HeaderError::Length),
            (b"\x81\xFF\x80\0\0\0\0\0\0\0", HeaderError::Length),
        ] {
            let got = decode_header(bytes, Rsv1::Reserved);
            assert_eq!(got, Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn rsv1_stands_on_the_first_frame_of_a_message_alone() {
        for first in [0x41, 0xC1, 0x42, 0xC2] {
            let bytes = [first, 0x80, 0, 0, 0, 0];
            let (header, _) = decode_header(&bytes, Rsv1::Compressed).unwrap().unwrap();
            assert!(header.is_compressed, "{first:x}");
            let reserved = decode_header(&bytes, Rsv1::Reserved);
            assert_eq!(reserved, Err(HeaderError::ReservedBits), "{first:x}");
        }
        for first in [0x40, 0xC0, 0xC8, 0xC9, 0xCA, 0xA1, 0x91, 0xF1] {
            let got = decode_header(&[first], Rsv1::Compressed);
            assert_eq!(got, Err(HeaderError::ReservedBits), "{first:x}");
        }
    }

    #[test]
    fn a_header_is_written_in_its_shortest_form() {
        for (len, used) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(
                encode_header(Opcode::Text, len, &mut [0; HEADER_BYTES_MAX]).len(),
                used
            );
        }
    }
}
