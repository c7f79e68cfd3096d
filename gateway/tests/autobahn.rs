//! The Autobahn cases that need no socket, by their numbers: the quick part. All 517 are run by e2e/tests/autobahn.rs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "the other checks are run by properties.rs")]
#[path = "../../fuzz/checks.rs"]
mod checks;

use wsgateway_gateway::{frame::payload::MessageKind, session::CloseCause};

use crate::checks::{Seen, events};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const TEXT_PART: u8 = 0x01;
const PART: u8 = 0x00;
const LAST_PART: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A client's frame. A mask of zeros leaves the payload as it is.
fn frame((first, payload): &(u8, &[u8])) -> Vec<u8> {
    let mut frame = vec![*first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 0x7e);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(*payload);
    frame
}

/// Whole and octet by octet, as Autobahn does it too.
fn check_bytes(case: &str, input: &[u8], expected: &[Seen]) {
    for parts in [&[][..], &[1]] {
        let seen = events(input, parts, None, 1 << 20);
        assert_eq!(seen, expected, "case {case}, {parts:?}");
    }
}

fn check(case: &str, frames: &[(u8, &[u8])], expected: &[Seen]) {
    let input: Vec<u8> = frames.iter().flat_map(frame).collect();
    check_bytes(case, &input, expected);
}

fn text(text: &[u8]) -> Seen {
    Seen::Message(MessageKind::Text, text.to_vec())
}

fn binary(bytes: &[u8]) -> Seen {
    Seen::Message(MessageKind::Binary, bytes.to_vec())
}

fn pong(payload: &[u8]) -> Seen {
    Seen::Answer([&[PONG, payload.len() as u8], payload].concat())
}

fn closed(code: u16) -> Seen {
    Seen::Closed([&[CLOSE, 2], &code.to_be_bytes()[..]].concat())
}

const PROTOCOL_ERROR: Seen = Seen::Violation(CloseCause::ProtocolError);
const INVALID_UTF8: Seen = Seen::Violation(CloseCause::InvalidUtf8);

#[test]
fn framing_and_pings() {
    for len in [0, 125, 126, 127, 128, 65_535] {
        let payload = vec![b'*'; len];
        check("1.1", &[(TEXT, &payload)], &[text(&payload)]);
        check("1.2", &[(BINARY, &payload)], &[binary(&payload)]);
    }
    check("2.1", &[(PING, b"")], &[pong(b"")]);
    check("2.2", &[(PING, b"Hello")], &[pong(b"Hello")]);
    let bytes = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    check("2.3", &[(PING, bytes)], &[pong(bytes)]);
    check("2.4", &[(PING, &[0xFE; 125])], &[pong(&[0xFE; 125])]);
    check("2.5", &[(PING, &[0xFE; 126])], &[PROTOCOL_ERROR]);
    check("2.7", &[(PONG, b"")], &[Seen::Pong(vec![])]);
    let unasked = Seen::Pong(b"unasked".to_vec());
    check(
        "2.9",
        &[(PONG, b"unasked"), (PING, b"p")],
        &[unasked, pong(b"p")],
    );
    check("2.10", &[(PING, &b"p"[..]); 10], &vec![pong(b"p"); 10]);
}

#[test]
fn reserved_bits_and_opcodes() {
    for reserved in 1..=7_u8 {
        let first = TEXT | reserved << 4;
        let frames: [(u8, &[u8]); 3] = [(TEXT, b"a"), (first, b"b"), (PING, b"")];
        check("3.2", &frames, &[text(b"a"), PROTOCOL_ERROR]);
        check("3.5", &[(BINARY | reserved << 4, b"b")], &[PROTOCOL_ERROR]);
        check("3.6", &[(PING | reserved << 4, b"p")], &[PROTOCOL_ERROR]);
        check("3.7", &[(CLOSE | reserved << 4, b"")], &[PROTOCOL_ERROR]);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let frames: [(u8, &[u8]); 2] = [(TEXT, b"a"), (0x80 | opcode, b"b")];
        check("4", &frames, &[text(b"a"), PROTOCOL_ERROR]);
    }
}

#[test]
fn fragments() {
    let (one, two) = (b"fragment1", b"fragment2");
    let both = text(b"fragment1fragment2");
    let p = || (PING, &b"ping"[..]);
    check("5.1", &[(0x09, one), (LAST_PART, two)], &[PROTOCOL_ERROR]);
    check("5.2", &[(0x0A, one), (LAST_PART, two)], &[PROTOCOL_ERROR]);
    check(
        "5.3",
        &[(TEXT_PART, one), (LAST_PART, two)],
        std::slice::from_ref(&both),
    );
    check(
        "5.6",
        &[(TEXT_PART, one), p(), (LAST_PART, two)],
        &[pong(b"ping"), both],
    );
    check("5.9", &[(PART, one), (TEXT, two)], &[PROTOCOL_ERROR]);
    check("5.10", &[(LAST_PART, one), (TEXT, two)], &[PROTOCOL_ERROR]);
    check(
        "5.15",
        &[(TEXT_PART, one), (LAST_PART, two), (PART, one)],
        &[text(b"fragment1fragment2"), PROTOCOL_ERROR],
    );
    check("5.18", &[(TEXT_PART, one), (TEXT, two)], &[PROTOCOL_ERROR]);
    check(
        "5.19",
        &[
            (TEXT_PART, b"1"),
            (PART, b"2"),
            p(),
            (PART, b"3"),
            p(),
            (LAST_PART, b"5"),
        ],
        &[pong(b"ping"), pong(b"ping"), text(b"1235")],
    );
    check(
        "6.1.3",
        &[(TEXT_PART, b""), (PART, b"middle"), (LAST_PART, b"")],
        &[text(b"middle")],
    );
}

#[test]
fn utf8_is_refused_at_its_first_wrong_byte() {
    const GOOD: &[u8] = "κόσμε".as_bytes();
    for good in [
        "Hello-µ@ßöäüàá-UTF-8!!",
        "\u{0}",
        "\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}",
        "\u{d7ff}\u{e000}\u{10ffff}\u{fffd}\u{fffe}",
    ] {
        let good = good.as_bytes();
        check("6.2.1", &[(TEXT, good)], &[text(good)]);
        let octets: Vec<_> = good.iter().map(std::slice::from_ref).collect();
        let mut frames = vec![(TEXT_PART, &b""[..])];
        frames.extend(octets.into_iter().map(|octet| (PART, octet)));
        frames.push((LAST_PART, b""));
        check("6.2.3", &frames, &[text(good)]);
    }
    for bad in [
        &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65"[..],
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xed\xbf\xbf",
        b"\xfe",
        b"\xff",
        b"\xc0 \xc1 ",
        b"\xe0\x80",
        b"\xce",
        b"\xf0\x90\x80",
    ] {
        check("6.3", &[(TEXT, bad)], &[INVALID_UTF8]);
    }
    // Nothing but what is shown has come: not the message's end, nor the frame's.
    check(
        "6.4.1",
        &[(TEXT_PART, GOOD), (PART, b"\xf4\x90\x80\x80")],
        &[INVALID_UTF8],
    );
    check(
        "6.4.2",
        &[(TEXT_PART, GOOD), (PART, b"\xf4\x90")],
        &[INVALID_UTF8],
    );
    let whole = frame(&(TEXT, &[GOOD, b"\xf4\x90\x80\x80edited"].concat()));
    let until_wrong = 6 + GOOD.len() + 2;
    check_bytes("6.4.3", &whole[..until_wrong], &[INVALID_UTF8]);
    check_bytes("6.4.4", &whole[..until_wrong - 1], &[]);
}

#[test]
fn closes() {
    let hello = [0x03, 0xE8, b'H', b'i'];
    check(
        "7.1.2",
        &[(CLOSE, &hello), (CLOSE, &hello)],
        &[closed(1000)],
    );
    check("7.1.3", &[(CLOSE, &hello), (PING, b"")], &[closed(1000)]);
    check(
        "7.1.5",
        &[(TEXT_PART, b"a"), (CLOSE, &hello), (LAST_PART, b"b")],
        &[closed(1000)],
    );
    check("7.3.1", &[(CLOSE, b"")], &[Seen::Closed(vec![CLOSE, 0])]);
    check("7.3.2", &[(CLOSE, b"a")], &[PROTOCOL_ERROR]);
    check(
        "7.3.5",
        &[(CLOSE, &[&[0x03, 0xE8][..], &[b'*'; 123]].concat())],
        &[closed(1000)],
    );
    check(
        "7.3.6",
        &[(CLOSE, &[&[0x03, 0xE8][..], &[b'*'; 124]].concat())],
        &[PROTOCOL_ERROR],
    );
    check(
        "7.5.1",
        &[(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80")],
        &[INVALID_UTF8],
    );
    for code in [
        1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        check("7.7", &[(CLOSE, &code.to_be_bytes())], &[closed(code)]);
    }
    for code in [
        0_u16, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        check("7.9", &[(CLOSE, &code.to_be_bytes())], &[PROTOCOL_ERROR]);
    }
}
