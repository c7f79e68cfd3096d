//! From a client's bytes to messages and control frames, free of IO.
//!
//! A message that lies whole in what was read is unmasked in place and lent. Only an unfinished one is
//! kept, so a decoder between messages is one null pointer.

use std::mem;

use crate::{
    deflate::inflate::compressed_bytes_max,
    frame::{
        header::{Header, HeaderError, Opcode, Rsv1, decode_header},
        mask::unmask,
        payload::{MessageKind, Payload, Reassembled},
        utf8::{Utf8Error, Utf8Stream},
    },
};

/// The longest header of a client's frame: two bytes, a 64-bit length and a mask.
pub const CLIENT_HEADER_BYTES_MAX: usize = 14;

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
    is_compressed: bool,
    text: Utf8Stream,
    reassembled: Reassembled,
}

/// What a connection's bytes amount to.
#[derive(Debug)]
pub enum Item<'a> {
    /// A whole message.
    Message(MessageKind, Payload<'a>),
    /// A whole message in its compressed form. Whether it is UTF-8 is not known yet.
    Compressed(MessageKind, Payload<'a>),
    /// A ping; it wants a pong with the same payload.
    Ping(Payload<'a>),
    /// A pong.
    Pong(Payload<'a>),
    /// The client's close frame.
    Close(Payload<'a>),
    /// A part of a message that is not its last.
    Fragment,
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

/// What a connection's frames are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRules {
    /// What RSV1 means.
    pub rsv1: Rsv1,
    /// The largest message in bytes. A compressed one may be a little larger until it is inflated.
    pub message_bytes_max: u64,
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
            .map_or(0, |m| m.reassembled.capacity());
        size_of::<Partial>() + partial.control.capacity() + message
    }

    /// Takes from the front of `input` until there is an item. `None` once the input is used up.
    ///
    /// # Errors
    /// At the first byte that no valid continuation could follow. After a message that is too big or not
    /// UTF-8 the rest of its frame is passed over, so that the peer's close frame is still understood.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        rules: FrameRules,
    ) -> Result<Option<Item<'a>>, DecodeError> {
        loop {
            let Some(partial) = &mut self.partial else {
                match whole_frame(input, rules)? {
                    Front::Item(item) => return Ok(Some(item)),
                    Front::Empty => return Ok(None),
                    Front::Unfinished => self.partial = Some(Box::default()),
                }
                continue;
            };
            let item = match partial.frame {
                None => {
                    if !partial.read_header(input, rules)? {
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
fn whole_frame<'a>(input: &mut &'a mut [u8], rules: FrameRules) -> Result<Front<'a>, DecodeError> {
    if input.is_empty() {
        return Ok(Front::Empty);
    }
    let Some((header, used)) = decode_header(input, rules.rsv1)? else {
        return Ok(Front::Unfinished);
    };
    check_order(&header, None)?;
    let is_too_big = check_size(&header, None, rules).is_err();
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    if !header.fin || is_too_big || input.len() - used < len {
        return Ok(Front::Unfinished);
    }
    take(input, used);
    let payload = take(input, len);
    unmask(payload, header.mask, 0);
    let payload: &'a [u8] = payload;
    Ok(Front::Item(match header.opcode {
        Opcode::Text if header.is_compressed => {
            Item::Compressed(MessageKind::Text, Payload::Lent(payload))
        }
        Opcode::Binary if header.is_compressed => {
            Item::Compressed(MessageKind::Binary, Payload::Lent(payload))
        }
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

fn check_size(
    header: &Header,
    message: Option<&Message>,
    rules: FrameRules,
) -> Result<(), DecodeError> {
    if header.opcode.is_control() {
        return Ok(());
    }
    let so_far = message.map_or(0, |m| m.reassembled.payload().len() as u64);
    let is_compressed = message.map_or(header.is_compressed, |m| m.is_compressed);
    let max = if is_compressed {
        compressed_bytes_max(rules.message_bytes_max)
    } else {
        rules.message_bytes_max
    };
    if so_far.saturating_add(header.len) > max {
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
        rules: FrameRules,
    ) -> Result<bool, DecodeError> {
        loop {
            let head = self.head.get(..self.head_len).unwrap_or_default();
            if let Some((header, _)) = decode_header(head, rules.rsv1)? {
                check_order(&header, self.message.as_ref())?;
                if let Err(error) = check_size(&header, self.message.as_ref(), rules) {
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
            is_compressed: header.is_compressed,
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
                && !message.is_compressed
                && let Err(error) = message.text.push(part)
            {
                self.refuse();
                return Err(error.into());
            }
            message.reassembled.extend(part);
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
            reassembled.extend(&control);
            let payload = Payload::Owned(reassembled);
            return Ok(Progress::Item(match header.opcode {
                Opcode::Ping => Item::Ping(payload),
                Opcode::Pong => Item::Pong(payload),
                _ => Item::Close(payload),
            }));
        }
        if !header.fin {
            return Ok(Progress::Item(Item::Fragment));
        }
        match self.message.take() {
            None => Ok(Progress::FrameDone),
            Some(message) => {
                let Message {
                    kind,
                    is_compressed,
                    text,
                    reassembled,
                } = message;
                text.finish()?;
                let payload = Payload::Owned(reassembled);
                Ok(Progress::Item(if is_compressed {
                    Item::Compressed(kind, payload)
                } else {
                    Item::Message(kind, payload)
                }))
            }
        }
    }
}
