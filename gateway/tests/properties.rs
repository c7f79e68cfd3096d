//! What holds for any client: the checks of the fuzz targets, bounded, and the codec beside other implementations.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::io::{self, Cursor, Read, Write};

use hyper_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{Role, WebSocketConfig},
};
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec};
use proptest::{collection::vec, prelude::*, sample::select};
use wsgateway_gateway::{
    deflate::{Compressor, Inflater, Window, inflate::InflateError},
    frame::{header::Opcode, payload::MessageKind},
    session::CloseCause,
};

use crate::checks::{Seen, events};

/// What its sender left out and an empty last block: with that behind it, a payload is a whole stream.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

const MESSAGE_BYTES_MAX: u64 = 300;

/// A client's frame, masked.
fn encode(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 0x7e);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
    frame.extend(masked);
    frame
}

/// Text in parts that may fall within a character, or something near it.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..200),
        1 => vec(select(&b"\xe2\x82\xac\xf0\x9f\x98\x80a"[..]), 0..8),
    ]
}

/// A frame, mostly one that may stand alone.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => select(vec![0x81_u8, 0x82]),
        3 => select(vec![0x01, 0x02, 0x00, 0x80]),
        2 => select(vec![0x89, 0x8A]),
        1 => select(vec![0x91, 0xC1, 0x83, 0x8B, 0x09]),
    ];
    (first, payload(), any::<[u8; 4]>()).prop_map(|(first, mut payload, mask)| {
        if first & 0x08 != 0 {
            payload.truncate(125);
        }
        encode(first, &payload, mask)
    })
}

/// One compressed message, sound or not, in one frame or two.
fn compressed_frames() -> impl Strategy<Value = Vec<u8>> {
    let compressed = (
        vec(payload(), 1..4),
        any::<bool>(),
        0..400_usize,
        any::<u8>(),
    );
    let compressed = compressed.prop_map(|(parts, is_broken, at, byte)| {
        let mut compressed = compress_to_vec(&parts.concat(), 6);
        if is_broken && let Some(place) = compressed.get_mut(at) {
            *place = byte;
        }
        compressed
    });
    (compressed, any::<[u8; 4]>(), 0..100_usize).prop_map(|(payload, mask, split)| {
        let (one, two) = payload.split_at(split.min(payload.len()));
        match split % 2 {
            0 => encode(0xC1, &payload, mask),
            _ => [encode(0x41, one, mask), encode(0x80, two, mask)].concat(),
        }
    })
}

/// A client's bytes in memory; what is sent to it is dropped.
struct Bytes(Cursor<Vec<u8>>);

impl Read for Bytes {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of a client's bytes, up to the first broken rule.
fn tungstenite(input: &[u8]) -> Vec<Seen> {
    let max = usize::try_from(MESSAGE_BYTES_MAX).unwrap();
    let config = WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max));
    let bytes = Bytes(Cursor::new(input.to_vec()));
    let mut socket = WebSocket::from_raw_socket(bytes, Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Message(MessageKind::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Seen::Message(MessageKind::Binary, bytes.to_vec()),
            Ok(Message::Ping(payload)) => {
                let head = [0x8A, payload.len() as u8];
                Seen::Answer([&head, &payload[..]].concat())
            }
            Ok(Message::Pong(payload)) => Seen::Pong(payload.to_vec()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                seen.extend(match error {
                    Error::Utf8(_) => Some(Seen::Violation(CloseCause::InvalidUtf8)),
                    Error::Capacity(_) => Some(Seen::Violation(CloseCause::MessageTooBig)),
                    Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
                    Error::Protocol(_) => Some(Seen::Violation(CloseCause::ProtocolError)),
                    other => panic!("{other}"),
                });
                return seen;
            }
        });
    }
}

/// The same of ours.
fn until_violation(mut seen: Vec<Seen>) -> Vec<Seen> {
    let is_violation = |seen: &Seen| matches!(seen, Seen::Violation(_));
    let end = seen
        .iter()
        .position(is_violation)
        .map_or(seen.len(), |at| at + 1);
    seen.truncate(end);
    seen
}

proptest! {
    #[test]
    fn a_session_sees_what_tungstenite_does_however_the_bytes_come(
        frames in vec(frame(), 0..8),
        parts in vec(1..50_usize, 1..6),
    ) {
        let input = frames.concat();
        let ours = events(&input, &parts, None, MESSAGE_BYTES_MAX);
        prop_assert_eq!(until_violation(ours), tungstenite(&input));
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_come(data in vec(any::<u8>(), 0..300)) {
        checks::session(&data);
    }

    #[test]
    fn frames_mean_the_same_however_they_come(
        setup in any::<u8>(),
        frames in vec(prop_oneof![frame(), compressed_frames()], 0..8),
    ) {
        checks::session(&[vec![setup], frames.concat()].concat());
    }

    #[test]
    fn any_offer_is_answered_or_not(
        text in r#"(permessage-deflate|[a-z-]{1,8}|[;,= "\\]|(server|client)_(no_context_takeover|max_window_bits)(=("?[0-9]{1,2}"?)?)?|[; ,]{1,2}){0,9}"#,
        bytes in vec(any::<u8>(), 0..60),
    ) {
        checks::offer(text.as_bytes());
        checks::offer(&bytes);
    }

    #[test]
    fn any_data_is_inflated_within_the_limit(data in vec(any::<u8>(), 0..300)) {
        checks::inflate(&data);
        checks::inflate(&compress_to_vec(&data, 6));
    }

    #[test]
    fn another_implementation_reads_what_is_compressed(
        parts in vec(payload(), 0..60),
        bits in 8..=15_u8,
    ) {
        let payload = parts.concat();
        let window = Window::from_bits(bits).unwrap();
        let frame = Compressor::default().compress(Opcode::Binary, &payload, window);
        if let Some(frame) = frame {
            let head = if frame.len() < 128 { 2 } else { 4 };
            prop_assert!(frame.len() - head < payload.len());
            let stream = [&frame[head..], TAIL].concat();
            prop_assert_eq!(decompress_to_vec(&stream).unwrap(), payload.clone());
            let ours = Inflater::default().inflate(&frame[head..], payload.len() as u64);
            prop_assert_eq!(ours.unwrap().payload().to_vec(), payload);
        }
    }

    #[test]
    fn what_another_implementation_compresses_is_read(
        parts in vec(payload(), 0..60),
        level in 0..=10_u8,
        end in select(vec![&b""[..], b"\0"]),
    ) {
        let payload = parts.concat();
        let max = payload.len() as u64;
        let compressed = [&compress_to_vec(&payload, level), end].concat();
        let mut inflater = Inflater::default();
        let message = inflater.inflate(&compressed, max).unwrap();
        prop_assert_eq!(message.payload().to_vec(), payload);
        if max > 0 {
            let error = inflater.inflate(&compressed, max - 1).err();
            prop_assert_eq!(error, Some(InflateError::TooBig));
        }
    }

    #[test]
    fn broken_data_that_is_taken_means_the_same_to_another_implementation(
        payload in payload(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut compressed = compress_to_vec(&payload, 6);
        *at.get_mut(&mut compressed) = byte;
        if let Ok(ours) = Inflater::default().inflate(&compressed, 1 << 20) {
            // It reads up to the first end of a stream, of which there may be several here.
            let theirs = decompress_to_vec(&[&compressed, TAIL].concat());
            prop_assert!(ours.payload().starts_with(&theirs.unwrap()));
        }
    }
}
