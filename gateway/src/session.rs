//! The protocol state of one connection, free of IO and of any clock: bytes and ticks come in, events
//! go out.

use std::time::Duration;

use bytes::Bytes;
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    clock::Tick,
    deflate::{Inflater, Window, inflate::InflateError},
    frame::{
        decode::{DecodeError, Decoder, FrameRules, Item},
        encode,
        header::{CONTROL_PAYLOAD_BYTES_MAX, Opcode, Rsv1},
        payload::{MessageKind, Payload},
    },
};

/// How long the peer may take to answer a close frame. It has nothing else to do.
pub const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What a session is held to. It may change while the session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// How often a ping is sent.
    pub ping_period: Duration,
    /// How long it lives after its last pong.
    pub pong_wait: Duration,
    /// How old the oldest unwritten frame may be.
    pub write_wait: Duration,
    /// The largest message in bytes.
    pub message_bytes_max: u64,
}

/// The protocol state of one connection.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    phase: Phase,
    /// What its messages are compressed with, where that was agreed on.
    window: Option<Window>,
    /// The last pong, or the open.
    last_pong: Tick,
    /// When the next ping is due.
    next_ping: Tick,
    /// When its token expires.
    expires: Option<Tick>,
    /// Since when a message is unfinished, or since when the phase is not `Open`.
    since: Tick,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Messages go both ways.
    Open,
    /// A close frame has been queued; the peer's is awaited.
    Closing,
    /// The peer's bytes make no sense, or are too many, and a close frame says so: what else comes is dropped until it
    /// hangs up, since closing with unread bytes would reset the connection under the frame.
    Discarding,
    /// Both have said close: the socket ends once the outbox is empty.
    Closed,
}

/// What came of a client's bytes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A whole message.
    Message(MessageKind, Payload<'a>),
    /// A part of a message that is not its last.
    Fragment,
    /// A pong's payload, which may be a receipt.
    Pong(Payload<'a>),
    /// A frame to send at once: the answer to a ping.
    Answer(Bytes),
    /// The peer said close: the frame that answers it, to go behind what is queued.
    PeerClosed(Bytes),
    /// The peer broke a rule: close for this cause.
    Violation(CloseCause),
}

/// What time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a ping.
    Ping,
    /// Close for this cause.
    Close(CloseCause),
    /// End the socket without a word, since none would arrive.
    Abort(CloseCause),
}

/// Why the gateway closes a connection. The reason is the metric's label and the close frame's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// A frame that RFC 6455 does not allow.
    ProtocolError,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A compressed message that cannot be inflated.
    InvalidCompression,
    /// A message over the limit.
    MessageTooBig,
    /// The route takes no messages.
    MessageRejected,
    /// A message that stayed unfinished for longer than `pongWait`.
    MessageUnfinished,
    /// No pong within `pongWait`.
    PongTimeout,
    /// The oldest frame waited longer than `writeWait`.
    WriteTimeout,
    /// The outbox was full.
    SlowConsumer,
    /// The process had no memory left for the connection's messages.
    OutOfMemory,
    /// The message could not be published: NATS is away.
    NatsUnavailable,
    /// The process ends.
    Draining,
    /// The route's subjects or sources changed; a new connection gets the new ones.
    RouteChanged,
    /// The new configuration does not permit the connection.
    ConfigChanged,
    /// The peer did not answer the close frame.
    CloseTimeout,
    /// A probe carries no data.
    ProbeMessage,
    /// The token that it was opened with has expired, or is about to.
    TokenExpired,
    /// The issuer has ended the session of its token.
    LoggedOut,
    /// It sent a message, and its token does not allow it to publish.
    PublishDenied,
    /// More frames came in a second than may.
    TooManyMessages,
    /// More bytes came in a second than may.
    TooManyBytes,
    /// No message came in the time for the first one.
    NoFirstMessage,
}

impl CloseCause {
    /// The close code, RFC 6455 section 7.4 and the registry that it set up.
    pub const fn code(self) -> u16 {
        match self {
            Self::ProtocolError => 1002,
            Self::ProbeMessage => 1003,
            Self::InvalidUtf8 | Self::InvalidCompression => 1007,
            Self::MessageTooBig => 1009,
            Self::MessageRejected
            | Self::MessageUnfinished
            | Self::PongTimeout
            | Self::WriteTimeout
            | Self::SlowConsumer
            | Self::ConfigChanged
            | Self::TooManyMessages
            | Self::TooManyBytes
            | Self::NoFirstMessage
            | Self::CloseTimeout => 1008,
            Self::Draining | Self::RouteChanged => 1012,
            Self::OutOfMemory | Self::NatsUnavailable => 1013,
            // Of those that are free for applications, the one that means what HTTP's 401 does.
            Self::TokenExpired | Self::LoggedOut => 4401,
            // Likewise 403.
            Self::PublishDenied => 4403,
        }
    }

    /// A stable name.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ProtocolError => "ProtocolError",
            Self::InvalidUtf8 => "InvalidUtf8",
            Self::InvalidCompression => "InvalidCompression",
            Self::MessageTooBig => "MessageTooBig",
            Self::MessageRejected => "MessageRejected",
            Self::MessageUnfinished => "MessageUnfinished",
            Self::PongTimeout => "PongTimeout",
            Self::WriteTimeout => "WriteTimeout",
            Self::SlowConsumer => "SlowConsumer",
            Self::OutOfMemory => "OutOfMemory",
            Self::NatsUnavailable => "NatsUnavailable",
            Self::Draining => "Draining",
            Self::RouteChanged => "RouteChanged",
            Self::ConfigChanged => "ConfigChanged",
            Self::CloseTimeout => "CloseTimeout",
            Self::ProbeMessage => "ProbeMessage",
            Self::TokenExpired => "TokenExpired",
            Self::LoggedOut => "LoggedOut",
            Self::PublishDenied => "PublishDenied",
            Self::TooManyMessages => "TooManyMessages",
            Self::TooManyBytes => "TooManyBytes",
            Self::NoFirstMessage => "NoFirstMessage",
        }
    }
}

impl From<DecodeError> for CloseCause {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Utf8(_) => Self::InvalidUtf8,
            DecodeError::TooBig => Self::MessageTooBig,
            DecodeError::Header(_) | DecodeError::NothingToContinue | DecodeError::Interleaved => {
                Self::ProtocolError
            }
        }
    }
}

impl From<InflateError> for CloseCause {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::Invalid => Self::InvalidCompression,
            InflateError::TooBig => Self::MessageTooBig,
        }
    }
}

/// A close frame. The text is cut to what fits.
pub fn close_frame(code: u16, text: &str) -> Bytes {
    let mut payload = Vec::with_capacity(2 + text.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend(text.bytes().take(CONTROL_PAYLOAD_BYTES_MAX - 2));
    encode(Opcode::Close, &payload)
}

impl Session {
    /// A session that opens now. The first ping comes within the last quarter of its period, by `spread`
    /// (any number), so that connections that opened together are not pinged together.
    pub fn new(now: Tick, limits: &SessionLimits, spread: u32) -> Self {
        Self {
            decoder: Decoder::default(),
            phase: Phase::Open,
            window: None,
            last_pong: now,
            next_ping: first_ping(now, limits, spread),
            expires: None,
            since: now,
        }
    }

    /// The same, where client and gateway have agreed on compression.
    #[must_use]
    pub fn with_compression(mut self, window: Option<Window>) -> Self {
        self.window = window;
        self
    }

    /// What its messages may be compressed with.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// The same, which ends at a moment, since its token does.
    #[must_use]
    pub fn until(self, expires: Option<Tick>) -> Self {
        Self { expires, ..self }
    }

    /// Goes over to other limits: their periods begin now, so that a shorter one ends nobody who has not
    /// had the time to answer.
    pub fn handle_new_limits(&mut self, now: Tick, limits: &SessionLimits, spread: u32) {
        self.last_pong = now;
        self.next_ping = first_ping(now, limits, spread);
    }

    /// Whether messages may be queued for it.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the socket ends once the outbox is empty.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether nothing that the peer says is understood any more. Its answer to the close frame would not
    /// be either, so the socket is shut for writing once the frame is out: then the peer hangs up.
    pub fn is_discarding(&self) -> bool {
        self.phase == Phase::Discarding
    }

    /// The memory that its unfinished message holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.decoder.held_bytes()
    }

    /// Takes from the front of `input` until something comes of it. `None` once it is used up.
    pub fn handle_input<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        limits: &SessionLimits,
        inflater: &mut Inflater,
        now: Tick,
    ) -> Option<Event<'a>> {
        let rules = FrameRules {
            rsv1: self.window.map_or(Rsv1::Reserved, |_| Rsv1::Compressed),
            message_bytes_max: limits.message_bytes_max,
        };
        loop {
            if matches!(self.phase, Phase::Discarding | Phase::Closed) {
                *input = &mut [];
                return None;
            }
            let was_unfinished = self.decoder.is_unfinished();
            let item = match self.decoder.next(input, rules) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    // A part of a newer message starts the clock anew.
                    if self.phase == Phase::Open && !was_unfinished {
                        self.since = now;
                    }
                    return None;
                }
                Err(error) if self.phase == Phase::Closing => {
                    if CloseCause::from(error) == CloseCause::ProtocolError {
                        self.phase = Phase::Discarding;
                    }
                    continue;
                }
                Err(error) => return Some(Event::Violation(error.into())),
            };
            match item {
                Item::Message(kind, payload) if self.phase == Phase::Open => {
                    return Some(Event::Message(kind, payload));
                }
                Item::Compressed(kind, payload) if self.phase == Phase::Open => {
                    let max = limits.message_bytes_max;
                    return Some(match inflate(inflater, kind, &payload, max) {
                        Ok(payload) => Event::Message(kind, payload),
                        Err(cause) => Event::Violation(cause),
                    });
                }
                Item::Ping(payload) if self.phase == Phase::Open => {
                    return Some(Event::Answer(payload.into_frame(Opcode::Pong)));
                }
                Item::Pong(payload) => {
                    self.last_pong = now;
                    return Some(Event::Pong(payload));
                }
                Item::Fragment if self.phase == Phase::Open => {
                    if !was_unfinished {
                        self.since = now;
                    }
                    return Some(Event::Fragment);
                }
                Item::Message(..) | Item::Compressed(..) | Item::Ping(_) | Item::Fragment => {}
                Item::Close(payload) => {
                    if let Some(event) = self.handle_close(payload.as_slice()) {
                        return Some(event);
                    }
                }
            }
        }
    }

    fn handle_close(&mut self, payload: &[u8]) -> Option<Event<'static>> {
        let answers_ours = self.phase == Phase::Closing;
        let event = match payload {
            [] => Event::PeerClosed(encode(Opcode::Close, &[])),
            [high, low, text @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !CloseCode::from(code).is_allowed() {
                    Event::Violation(CloseCause::ProtocolError)
                } else if std::str::from_utf8(text).is_err() {
                    Event::Violation(CloseCause::InvalidUtf8)
                } else {
                    Event::PeerClosed(close_frame(code, ""))
                }
            }
            [_] => Event::Violation(CloseCause::ProtocolError),
        };
        if answers_ours {
            self.phase = Phase::Closed;
            return None;
        }
        if matches!(event, Event::PeerClosed(_)) {
            self.phase = Phase::Closed;
        }
        Some(event)
    }

    /// What time asks for, if anything; `waiting_since` is when the outbox's front frame was queued.
    pub fn handle_timeout(
        &mut self,
        now: Tick,
        waiting_since: Option<Tick>,
        limits: &SessionLimits,
    ) -> Option<Due> {
        if waiting_since.is_some_and(|since| since.is_older_than(limits.write_wait, now)) {
            return Some(Due::Abort(CloseCause::WriteTimeout));
        }
        if self.phase != Phase::Open {
            let is_over = self.since.is_older_than(CLOSE_WAIT, now);
            return is_over.then_some(Due::Abort(CloseCause::CloseTimeout));
        }
        if self.expires.is_some_and(|expires| now >= expires) {
            return Some(Due::Close(CloseCause::TokenExpired));
        }
        if self.last_pong.is_older_than(limits.pong_wait, now) {
            return Some(Due::Close(CloseCause::PongTimeout));
        }
        if self.decoder.is_unfinished() && self.since.is_older_than(limits.pong_wait, now) {
            return Some(Due::Close(CloseCause::MessageUnfinished));
        }
        if now >= self.next_ping {
            self.next_ping = now.after(limits.ping_period);
            return Some(Due::Ping);
        }
        None
    }

    /// Closes for a cause: the frame to queue, or `None` where one has been queued before. `hint` is
    /// added to the reason.
    pub fn close(&mut self, cause: CloseCause, hint: &str, now: Tick) -> Option<Bytes> {
        if self.phase != Phase::Open {
            return None;
        }
        self.phase = match cause {
            // Of a flood nothing more is even looked at.
            CloseCause::ProtocolError | CloseCause::TooManyMessages | CloseCause::TooManyBytes => {
                Phase::Discarding
            }
            _ => Phase::Closing,
        };
        self.since = now;
        Some(close_frame(
            cause.code(),
            &format!("{}{hint}", cause.reason()),
        ))
    }
}

/// A compressed message as it was before.
fn inflate(
    inflater: &mut Inflater,
    kind: MessageKind,
    compressed: &Payload<'_>,
    bytes_max: u64,
) -> Result<Payload<'static>, CloseCause> {
    let message = inflater.inflate(compressed.as_slice(), bytes_max)?;
    if kind == MessageKind::Text && std::str::from_utf8(message.payload()).is_err() {
        return Err(CloseCause::InvalidUtf8);
    }
    Ok(Payload::Inflated(message))
}

fn first_ping(now: Tick, limits: &SessionLimits, spread: u32) -> Tick {
    let early = limits.ping_period / 4 * (spread % 64) / 64;
    now.after(limits.ping_period.saturating_sub(early))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        ping_period: Duration::from_secs(30),
        pong_wait: Duration::from_secs(60),
        write_wait: Duration::from_secs(15),
        message_bytes_max: 100,
    };

    fn at(secs: u64) -> Tick {
        let epoch = Instant::now();
        Tick::at(epoch, epoch + Duration::from_secs(secs))
    }

    fn masked(bytes: &[u8]) -> Vec<u8> {
        // A mask of zeros leaves the payload as it is.
        let mut frame = vec![bytes[0], bytes[1] | 0x80, 0, 0, 0, 0];
        frame.extend_from_slice(&bytes[2..]);
        frame
    }

    /// The events of the frames, given whole, written in short.
    fn events(session: &mut Session, frames: &[&[u8]], now: Tick) -> Vec<String> {
        let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| masked(frame)).collect();
        let mut input = bytes.as_mut_slice();
        let mut events = Vec::new();
        while let Some(event) =
            session.handle_input(&mut input, &LIMITS, &mut Inflater::default(), now)
        {
            let text = match event {
                Event::Message(kind, payload) => format!("{kind:?} {:?}", payload.into_bytes()),
                Event::Pong(payload) => format!("pong {:?}", payload.into_bytes()),
                Event::Fragment => "fragment".to_owned(),
                Event::Answer(frame) => format!("answer {frame:?}"),
                Event::PeerClosed(frame) => format!("closed {frame:?}"),
                Event::Violation(cause) => {
                    assert!(session.close(cause, "", now).is_some());
                    format!("{cause:?}")
                }
            };
            events.push(text);
        }
        events
    }

    #[test]
    fn frames_become_events() {
        for (frames, expected) in [
            (vec![&b"\x81\x02hi"[..]], vec![r#"Text b"hi""#]),
            (
                vec![b"\x01\x01a", b"\x89\x01p", b"\x80\x01b"],
                vec!["fragment", r#"answer b"\x8a\x01p""#, r#"Text b"ab""#],
            ),
            (
                vec![b"\x82\x00", b"\x8a\x01x"],
                vec![r#"Binary b"""#, r#"pong b"x""#],
            ),
            (vec![b"\x88\x00", b"\x81\x01x"], vec![r#"closed b"\x88\0""#]),
            (
                vec![b"\x88\x02\x03\xe8"],
                vec![r#"closed b"\x88\x02\x03\xe8""#],
            ),
            (vec![b"\x88\x01\x03"], vec!["ProtocolError"]),
            (vec![b"\x88\x02\x03\xed"], vec!["ProtocolError"]),
            (vec![b"\x88\x03\x03\xe8\xff"], vec!["InvalidUtf8"]),
            (vec![b"\x81\x01\xff", b"\x81\x01x"], vec!["InvalidUtf8"]),
            (
                vec![b"\x01\x01\xc3", b"\x80\x01\xa9"],
                vec!["fragment", r#"Text b"\xc3\xa9""#],
            ),
            (
                vec![b"\x01\x01\xc3", b"\x80\x00"],
                vec!["fragment", "InvalidUtf8"],
            ),
            (vec![b"\x80\x00"], vec!["ProtocolError"]),
            (
                vec![b"\x01\x00", b"\x81\x00"],
                vec!["fragment", "ProtocolError"],
            ),
            (vec![b"\x82\x65"], vec!["MessageTooBig"]),
            (vec![b"\x81\x03\xffab", b"\x88\x00"], vec!["InvalidUtf8"]),
        ] {
            assert_eq!(
                events(&mut Session::new(at(0), &LIMITS, 0), &frames, at(0)),
                expected
            );
        }
    }

    #[test]
    fn the_answer_to_a_close_is_understood_behind_a_refused_message() {
        let mut too_big = b"\x82\x65".to_vec();
        too_big.resize(2 + 0x65, 0);
        for refused in [&too_big[..], b"\x81\x03\xffab", b"\x01\x03\xe2\x28\xa1"] {
            let mut bytes = masked(refused);
            bytes.extend(masked(b"\x88\x00"));
            for split in 0..bytes.len() {
                let mut session = Session::new(at(0), &LIMITS, 0);
                for part in [&bytes[..split], &bytes[split..]] {
                    let mut part = part.to_vec();
                    let mut input = part.as_mut_slice();
                    while let Some(event) =
                        session.handle_input(&mut input, &LIMITS, &mut Inflater::default(), at(0))
                    {
                        if let Event::Violation(cause) = event {
                            session.close(cause, "", at(0));
                        }
                    }
                }
                assert!(session.is_closed(), "{refused:?} split at {split}");
            }
        }
    }

    #[test]
    fn bytes_that_come_one_by_one_make_the_same_events() {
        let frames: Vec<u8> = [
            &b"\x01\x03\xe2\x82\xac"[..],
            b"\x89\x01p",
            b"\x00\x00",
            b"\x80\x02ab",
            b"\x82\x01z",
        ]
        .iter()
        .flat_map(|frame| masked(frame))
        .collect();
        let mut session = Session::new(at(0), &LIMITS, 0);
        let mut messages = Vec::new();
        for byte in frames {
            let mut byte = [byte];
            let mut input = byte.as_mut_slice();
            while let Some(event) =
                session.handle_input(&mut input, &LIMITS, &mut Inflater::default(), at(0))
            {
                if let Event::Message(_, payload) = event {
                    messages.push(payload.into_bytes());
                }
            }
        }
        assert_eq!(messages, [Bytes::from("€ab"), Bytes::from("z")]);
        assert_eq!(session.held_bytes(), 0);
    }

    #[test]
    fn time_pings_and_ends_a_connection() {
        let mut session = Session::new(at(0), &LIMITS, 0);
        assert_eq!(session.handle_timeout(at(29), None, &LIMITS), None);
        assert_eq!(
            session.handle_timeout(at(31), None, &LIMITS),
            Some(Due::Ping)
        );
        assert_eq!(session.handle_timeout(at(32), None, &LIMITS), None);
        events(&mut session, &[b"\x8a\x00"], at(40));
        assert_eq!(
            session.handle_timeout(at(62), None, &LIMITS),
            Some(Due::Ping)
        );
        assert_eq!(session.handle_timeout(at(62), None, &LIMITS), None);
        let late = Some(Due::Close(CloseCause::PongTimeout));
        assert_eq!(session.handle_timeout(at(101), None, &LIMITS), late);
        let stuck = Some(Due::Abort(CloseCause::WriteTimeout));
        assert_eq!(
            session.handle_timeout(at(101), Some(at(80)), &LIMITS),
            stuck
        );
        assert!(
            session
                .close(CloseCause::PongTimeout, "", at(101))
                .is_some()
        );
        assert_eq!(session.close(CloseCause::Draining, "", at(101)), None);
        let over = Some(Due::Abort(CloseCause::CloseTimeout));
        assert_eq!(session.handle_timeout(at(107), None, &LIMITS), over);
    }

    #[test]
    fn a_session_ends_with_its_token_and_not_before() {
        let mut session = Session::new(at(0), &LIMITS, 0).until(Some(at(10)));
        assert_eq!(session.handle_timeout(at(9), None, &LIMITS), None);
        let due = Some(Due::Close(CloseCause::TokenExpired));
        assert_eq!(session.handle_timeout(at(10), None, &LIMITS), due);
        assert!(
            session
                .close(CloseCause::TokenExpired, "", at(10))
                .is_some()
        );
        assert_eq!(session.handle_timeout(at(11), None, &LIMITS), None);
    }

    #[test]
    fn shorter_periods_begin_when_they_come() {
        let mut session = Session::new(at(0), &LIMITS, 0);
        let short = SessionLimits {
            ping_period: Duration::from_secs(1),
            pong_wait: Duration::from_secs(3),
            ..LIMITS
        };
        session.handle_new_limits(at(20), &short, 0);
        assert_eq!(session.handle_timeout(at(20), None, &short), None);
        assert_eq!(
            session.handle_timeout(at(22), None, &short),
            Some(Due::Ping)
        );
        assert_eq!(session.handle_timeout(at(23), None, &short), None);
        let late = Some(Due::Close(CloseCause::PongTimeout));
        assert_eq!(session.handle_timeout(at(24), None, &short), late);
    }

    #[test]
    fn a_newer_message_has_its_own_time() {
        let mut session = Session::new(at(0), &LIMITS, 0);
        events(&mut session, &[b"\x01\x01a"], at(1));
        events(
            &mut session,
            &[b"\x80\x01b", b"\x01\x01c", b"\x8a\x00"],
            at(50),
        );
        events(&mut session, &[b"\x00\x01d", b"\x8a\x00"], at(100));
        assert_eq!(
            session.handle_timeout(at(109), None, &LIMITS),
            Some(Due::Ping)
        );
        assert_eq!(session.handle_timeout(at(109), None, &LIMITS), None);
        let due = Some(Due::Close(CloseCause::MessageUnfinished));
        assert_eq!(session.handle_timeout(at(111), None, &LIMITS), due);
    }

    #[test]
    fn a_message_that_stays_unfinished_is_ended_though_pongs_come() {
        let mut session = Session::new(at(0), &LIMITS, 0);
        events(&mut session, &[b"\x01\x01a"], at(1));
        for secs in [30, 59] {
            events(&mut session, &[b"\x8a\x00"], at(secs));
            session.handle_timeout(at(secs), None, &LIMITS);
        }
        let due = Some(Due::Close(CloseCause::MessageUnfinished));
        assert_eq!(session.handle_timeout(at(62), None, &LIMITS), due);
    }
}
