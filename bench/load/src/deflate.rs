//! What a client must know of permessage-deflate (RFC 7692).

use anyhow::{Result, anyhow};
use memchr::memmem;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// What the sender left out of each message (section 7.2.2), and an empty last block, so that the
/// stream has an end.
const TAIL: &[u8] = &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// The largest message that is inflated, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Whether this answer to a handshake accepts the offer, without a window that outlives a message:
/// messages are inflated one by one here, and not all of them.
pub fn accepted(answer: &[u8]) -> bool {
    let answer = answer.to_ascii_lowercase();
    let holds = |text: &str| memmem::find(&answer, text.as_bytes()).is_some();
    holds("sec-websocket-extensions: permessage-deflate") && holds("server_no_context_takeover")
}

/// The message in these payloads of compressed frames.
pub fn inflate(payload: &[u8]) -> Result<Vec<u8>> {
    decompress_to_vec_with_limit(&[payload, TAIL].concat(), MESSAGE_BYTES_MAX)
        .map_err(|error| anyhow!("a message cannot be inflated: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_the_rfc_is_inflated() {
        // Section 7.2.3.1: "Hello".
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflate(&hello).unwrap(), b"Hello");
        assert!(inflate(&hello[..4]).is_err());
    }

    #[test]
    fn an_answer_accepts_or_not() {
        let answer = |extensions| format!("HTTP/1.1 101 x\r\n{extensions}\r\n");
        for (extensions, expected) in [
            ("", false),
            ("Sec-WebSocket-Extensions: permessage-deflate\r\n", false),
            (
                "sec-websocket-extensions: permessage-deflate; server_no_context_takeover\r\n",
                true,
            ),
        ] {
            assert_eq!(accepted(answer(extensions).as_bytes()), expected);
        }
    }
}
