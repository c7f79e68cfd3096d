//! What holds for any bytes at all. Shared by the fuzz targets and by gateway/tests/properties.rs.

use std::time::Duration;

use wsgateway_gateway::{
    clock::Tick,
    deflate::{Inflater, Window, inflate::compressed_bytes_max, offer::negotiate},
    frame::payload::MessageKind,
    session::{CloseCause, Event, Session, SessionLimits},
};

/// What came of a client's bytes, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A message.
    Message(MessageKind, Vec<u8>),
    /// A pong's payload.
    Pong(Vec<u8>),
    /// The frame that answers a ping.
    Answer(Vec<u8>),
    /// The frame that answers a close.
    Closed(Vec<u8>),
    /// A broken rule.
    Violation(CloseCause),
}

/// What a session holds beside its message: the state of an unfinished frame.
const STATE_BYTES_MAX: usize = 1 << 10;

/// Feeds a session with parts of these lengths in turn, and holds it to its limits all the while.
pub(crate) fn events(
    input: &[u8],
    parts: &[usize],
    window: Option<Window>,
    message_bytes_max: u64,
) -> Vec<Seen> {
    let limits = SessionLimits {
        ping_period: Duration::from_secs(30),
        pong_wait: Duration::from_secs(60),
        write_wait: Duration::from_secs(15),
        message_bytes_max,
    };
    let now = Tick::default();
    let mut session = Session::new(now, &limits, 0).with_compression(window);
    let mut inflater = Inflater::default();
    let mut seen = Vec::new();
    let mut rest = input;
    let mut lengths = parts.iter().copied().cycle();
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (part, later) = rest.split_at(length);
        rest = later;
        let mut part = part.to_vec();
        let mut part = part.as_mut_slice();
        while let Some(event) = session.handle_input(&mut part, &limits, &mut inflater, now) {
            seen.push(match event {
                Event::Message(kind, payload) => {
                    let payload = payload.as_slice();
                    assert!(
                        payload.len() as u64 <= message_bytes_max,
                        "a message over the limit"
                    );
                    let is_text = kind == MessageKind::Text;
                    assert!(
                        !is_text || std::str::from_utf8(payload).is_ok(),
                        "not UTF-8"
                    );
                    Seen::Message(kind, payload.to_vec())
                }
                Event::Fragment => continue,
                Event::Pong(payload) => Seen::Pong(payload.as_slice().to_vec()),
                Event::Answer(frame) => Seen::Answer(frame.to_vec()),
                Event::PeerClosed(frame) => Seen::Closed(frame.to_vec()),
                Event::Violation(cause) => {
                    assert!(session.close(cause, "", now).is_some(), "closed twice");
                    Seen::Violation(cause)
                }
            });
        }
        // A message that grows in parts has room for twice its bytes.
        let held_max = 2 * compressed_bytes_max(message_bytes_max) as usize + STATE_BYTES_MAX;
        assert!(
            session.held_bytes() <= held_max,
            "{} bytes held",
            session.held_bytes()
        );
    }
    seen
}

/// The first byte says how the session is set up, the rest is what its client sends: however that comes in parts,
/// the same comes of it.
pub(crate) fn session(data: &[u8]) {
    let Some((setup, input)) = data.split_first() else {
        return;
    };
    let window = (setup & 1 == 1).then_some(Window::MAX);
    let message_bytes_max = [0, 10, 200, 70_000][usize::from(setup >> 1 & 3)];
    let whole = events(input, &[], window, message_bytes_max);
    for parts in [&[1][..], &[2, 7, 1], &[usize::from(*setup) + 1]] {
        assert_eq!(
            events(input, parts, window, message_bytes_max),
            whole,
            "{parts:?}"
        );
    }
}

/// A header is malformed, declined, or accepted with an answer of the one form there is; and what follows an
/// accepted offer changes nothing.
pub(crate) fn offer(data: &[u8]) {
    let Ok(Some(agreement)) = negotiate([data]) else {
        return;
    };
    let conditions = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert!(agreement.answer.starts_with(conditions));
    assert!((Window::MIN..=Window::MAX).contains(&agreement.window));
    assert_eq!(
        negotiate([data, b"permessage-deflate"]),
        Ok(Some(agreement))
    );
}

/// However wrong the data, what comes out is within the limit, and the next payload is not touched by it.
pub(crate) fn inflate(data: &[u8]) {
    const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut inflater = Inflater::default();
    let unlimited = inflater
        .inflate(data, 1 << 20)
        .map(|m| m.payload().to_vec());
    for max in [0, 5, 1_000] {
        match (inflater.inflate(data, max), &unlimited) {
            (Ok(message), Ok(whole)) => assert_eq!(message.payload(), whole),
            (Ok(message), Err(error)) => panic!("{} bytes, {error}", message.payload().len()),
            (Err(_), Ok(whole)) => assert!(whole.len() as u64 > max),
            (Err(_), Err(_)) => {}
        }
        assert_eq!(
            inflater.inflate(HELLO, 5).map(|m| m.payload().to_vec()),
            Ok(b"Hello".to_vec())
        );
    }
}
