//! From a client's bytes to messages and control frames, free of IO.
//!
//! A message that lies whole in what was read is unmasked in place and lent. Only an unfinished one is
//! kept, so a decoder between messages is one null pointer.

use std::mem;

use bytes::Bytes;

use crate::frame::{
    header::{HEADER_BYTES_MAX, Header, HeaderError, Opcode, decode_header, encode_header},
    mask::unmask,
    utf8::{Utf8Error, Utf8Stream},
};

/// The longest header of a client's frame: two bytes, a 64-bit length and a mask.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// How much is set aside for a message before its bytes have come. A header may claim more than its
/// sender ever sends.
const RESERVE_BYTES_MAX: usize = 64 << 10;

/// Reads frames of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

/// What has come of a frame or a message that is not whole.
#[derive(Debug, Default)]
struct Partial {
    /// The bytes of a header that is not whole.
    head: [u8; CLIENT_HEADER_BYTES_MAX],
    head_len: usize,
    /// The frame whose payload is being read, and how much of it has come.
    frame: Option<(Header, u64)>,
    /// The payload of a control frame.
    control: Vec<u8>,
    /// The message that the data frames belong to.
    message: Option<Message>,
    /// The rest of the frame is of no use: its message has been refused.
    is_refused: bool,
}

#[derive(Debug)]
struct Message {
    kind: MessageKind,
    text: Utf8Stream,
    reassembled: Reassembled,
}

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

/// What a connection's bytes amount to.
#[derive(Debug)]
pub enum Item<'a> {
    /// A whole message.
    Message(MessageKind, Payload<'a>),
    /// A ping; it wants a pong with the same payload.
    Ping(Payload<'a>),
    /// A pong.
    Pong(Payload<'a>),
    /// The client's close frame.
    Close(Payload<'a>),
}

/// A payload: lent from what was read, or put together from parts.
#[derive(Debug)]
pub enum Payload<'a> {
    /// It lay whole in what was read.
    Lent(&'a [u8]),
    /// It came in parts.
    Owned(Reassembled),
}

/// A message that came in parts. It keeps room in front for a header, so that it can go back as a frame
/// without being copied.
#[derive(Debug)]
pub struct Reassembled {
    bytes: Vec<u8>,
}

impl Reassembled {
    fn with_capacity(len: u64) -> Self {
        let reserve = usize::try_from(len).map_or(RESERVE_BYTES_MAX, |l| l.min(RESERVE_BYTES_MAX));
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + reserve);
        bytes.resize(HEADER_BYTES_MAX, 0);
        Self { bytes }
    }

    fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES_MAX..).unwrap_or_default()
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

impl Payload<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Owned(reassembled) => reassembled.payload(),
        }
    }

    /// The bytes, to keep.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(reassembled) => Bytes::from(reassembled.bytes).slice(HEADER_BYTES_MAX..),
        }
    }

    /// The same payload as a whole frame of the server.
    pub fn into_frame(self, opcode: Opcode) -> Bytes {
        match self {
            Self::Lent(bytes) => super::encode(opcode, bytes),
            Self::Owned(reassembled) => reassembled.into_frame(opcode),
        }
    }
}

/// What is wrong with a client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A header that RFC 6455 does not allow: 1002.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A continuation without a message: 1002.
    #[error("continuation without a message")]
    NothingToContinue,
    /// A new message inside a fragmented one: 1002.
    #[error("message inside a message")]
    Interleaved,
    /// Text that is not UTF-8: 1007.
    #[error(transparent)]
    Utf8(#[from] Utf8Error),
    /// A message over the limit: 1009.
    #[error("message too big")]
    TooBig,
}

impl Decoder {
    /// Whether a frame or a message is unfinished.
    pub fn is_unfinished(&self) -> bool {
        self.partial.is_some()
    }

    /// The memory that the unfinished message holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        let Some(partial) = &self.partial else {
            return 0;
        };
        let message = partial
            .message
            .as_ref()
            .map_or(0, |m| m.reassembled.bytes.capacity());
        size_of::<Partial>() + partial.control.capacity() + message
    }

    /// Takes from the front of `input` until there is an item. `None` once the input is used up.
    /// `message_bytes_max` is the largest message.
    ///
    /// # Errors
    /// At the first byte that no valid continuation could follow. After a message that is too big or not
    /// UTF-8 the rest of its frame is passed over, so that the peer's close frame is still understood.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        message_bytes_max: u64,
    ) -> Result<Option<Item<'a>>, DecodeError> {
        loop {
            let Some(partial) = &mut self.partial else {
                match whole_frame(input, message_bytes_max)? {
                    Front::Item(item) => return Ok(Some(item)),
                    Front::Empty => return Ok(None),
                    Front::Unfinished => self.partial = Some(Box::default()),
                }
                continue;
            };
            let item = match partial.frame {
                None => {
                    if !partial.read_header(input, message_bytes_max)? {
                        return Ok(None);
                    }
                    continue;
                }
                Some(_) => match partial.read_payload(input)? {
                    Progress::InputUsedUp => return Ok(None),
                    Progress::FrameDone => None,
                    Progress::Item(item) => Some(item),
                },
            };
            if partial.is_idle() {
                self.partial = None;
            }
            if item.is_some() {
                return Ok(item);
            }
        }
    }
}

/// What stands at the front of the input when nothing is unfinished.
enum Front<'a> {
    Item(Item<'a>),
    Empty,
    Unfinished,
}

/// The short way: a whole, final frame that lies in the input.
fn whole_frame<'a>(
    input: &mut &'a mut [u8],
    message_bytes_max: u64,
) -> Result<Front<'a>, DecodeError> {
    if input.is_empty() {
        return Ok(Front::Empty);
    }
    let Some((header, used)) = decode_header(input)? else {
        return Ok(Front::Unfinished);
    };
    check_order(&header, None)?;
    let is_too_big = check_size(&header, 0, message_bytes_max).is_err();
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    if !header.fin || is_too_big || input.len() - used < len {
        return Ok(Front::Unfinished);
    }
    take(input, used);
    let payload = take(input, len);
    unmask(payload, header.mask, 0);
    let payload: &'a [u8] = payload;
    Ok(Front::Item(match header.opcode {
        Opcode::Text => {
            std::str::from_utf8(payload).map_err(|_| Utf8Error)?;
            Item::Message(MessageKind::Text, Payload::Lent(payload))
        }
        Opcode::Binary | Opcode::Continuation => {
            Item::Message(MessageKind::Binary, Payload::Lent(payload))
        }
        Opcode::Ping => Item::Ping(Payload::Lent(payload)),
        Opcode::Pong => Item::Pong(Payload::Lent(payload)),
        Opcode::Close => Item::Close(Payload::Lent(payload)),
    }))
}

fn check_order(header: &Header, message: Option<&Message>) -> Result<(), DecodeError> {
    match (header.opcode, message) {
        (Opcode::Continuation, None) => Err(DecodeError::NothingToContinue),
        (Opcode::Text | Opcode::Binary, Some(_)) => Err(DecodeError::Interleaved),
        _ => Ok(()),
    }
}

fn check_size(header: &Header, so_far: u64, max: u64) -> Result<(), DecodeError> {
    let is_data = !header.opcode.is_control();
    if is_data && so_far.saturating_add(header.len) > max {
        return Err(DecodeError::TooBig);
    }
    Ok(())
}

/// Splits off the first `len` bytes.
fn take<'a>(input: &mut &'a mut [u8], len: usize) -> &'a mut [u8] {
    let whole = mem::take(input);
    let (front, rest) = whole.split_at_mut(len.min(whole.len()));
    *input = rest;
    front
}

/// How far a payload has come.
enum Progress<'a> {
    InputUsedUp,
    FrameDone,
    Item(Item<'a>),
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.frame.is_none() && self.head_len == 0 && self.message.is_none()
    }

    /// Reads a header whose bytes may come one at a time. `false` once the input is used up.
    fn read_header(
        &mut self,
        input: &mut &mut [u8],
        message_bytes_max: u64,
    ) -> Result<bool, DecodeError> {
        loop {
            let head = self.head.get(..self.head_len).unwrap_or_default();
            if let Some((header, _)) = decode_header(head)? {
                check_order(&header, self.message.as_ref())?;
                let so_far = self
                    .message
                    .as_ref()
                    .map_or(0, |m| m.reassembled.payload().len() as u64);
                if let Err(error) = check_size(&header, so_far, message_bytes_max) {
                    self.head_len = 0;
                    self.frame = Some((header, 0));
                    self.refuse();
                    return Err(error);
                }
                self.begin_frame(header);
                return Ok(true);
            }
            let [byte] = take(input, 1) else {
                return Ok(false);
            };
            if let Some(place) = self.head.get_mut(self.head_len) {
                *place = *byte;
                self.head_len += 1;
            }
        }
    }

    fn begin_frame(&mut self, header: Header) {
        self.head_len = 0;
        self.frame = Some((header, 0));
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            _ => return,
        };
        let reassembled = Reassembled::with_capacity(header.len);
        self.message = Some(Message {
            kind,
            text: Utf8Stream::default(),
            reassembled,
        });
    }

    fn read_payload<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Progress<'a>, DecodeError> {
        let Some((header, come)) = &mut self.frame else {
            return Ok(Progress::FrameDone);
        };
        let missing = usize::try_from(header.len - *come).unwrap_or(usize::MAX);
        let part = take(input, missing);
        unmask(part, header.mask, *come);
        *come += part.len() as u64;
        let is_whole = *come == header.len;
        let header = *header;
        if is_whole {
            self.frame = None;
        }
        if header.opcode.is_control() {
            self.control.extend_from_slice(part);
        } else if let Some(message) = &mut self.message {
            if message.kind == MessageKind::Text
                && let Err(error) = message.text.push(part)
            {
                self.refuse();
                return Err(error.into());
            }
            message.reassembled.bytes.extend_from_slice(part);
        }
        match (is_whole, self.is_refused) {
            (false, _) => Ok(Progress::InputUsedUp),
            (true, true) => {
                self.is_refused = false;
                Ok(Progress::FrameDone)
            }
            (true, false) => self.end_frame(header),
        }
    }

    /// Forgets the message. What is left of its frame will be passed over.
    fn refuse(&mut self) {
        self.message = None;
        self.is_refused = self.frame.is_some();
    }

    fn end_frame<'a>(&mut self, header: Header) -> Result<Progress<'a>, DecodeError> {
        if header.opcode.is_control() {
            let control = mem::take(&mut self.control);
            let mut reassembled = Reassembled::with_capacity(0);
            reassembled.bytes.extend_from_slice(&control);
            let payload = Payload::Owned(reassembled);
            return Ok(Progress::Item(match header.opcode {
                Opcode::Ping => Item::Ping(payload),
                Opcode::Pong => Item::Pong(payload),
                _ => Item::Close(payload),
            }));
        }
        if !header.fin {
            return Ok(Progress::FrameDone);
        }
        match self.message.take() {
            None => Ok(Progress::FrameDone),
            Some(message) => {
                message.text.finish()?;
                Ok(Progress::Item(Item::Message(
                    message.kind,
                    Payload::Owned(message.reassembled),
                )))
            }
        }
    }
}
