//! What a client offers in `Sec-WebSocket-Extensions`, RFC 6455 section 9.1 and RFC 7692 section 7.1, and the answer.
//!
//! The first offer that can be kept is taken. One with a parameter that is unknown, stands twice or has a wrong
//! value is declined, as RFC 7692 asks; a header that is no list of extensions at all fails the handshake.

use std::{borrow::Cow, fmt::Write};

use super::Window;

/// What gateway and client have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// What the gateway compresses with.
    pub window: Window,
    /// The value of the answer's `Sec-WebSocket-Extensions`.
    pub answer: String,
}

/// The header is no list of extensions with parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Sec-WebSocket-Extensions must be a list of extensions with their parameters")]
pub struct MalformedOffer;

/// Answers a request's offers: the values of all its `Sec-WebSocket-Extensions` headers, in order. `None` where
/// no offer can be kept; then nothing is compressed.
///
/// # Errors
/// When a value does not follow the grammar.
pub fn negotiate<'a>(
    headers: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<Agreement>, MalformedOffer> {
    let mut agreement = None;
    for header in headers {
        let mut text = Text { rest: header };
        while let Some(offer) = text.extension()? {
            // What follows the one that is taken must be well-formed too.
            if agreement.is_none() {
                agreement = agree(&offer);
            }
        }
    }
    Ok(agreement)
}

/// One offered extension.
#[derive(Debug, PartialEq, Eq)]
struct Extension<'a> {
    name: &'a str,
    params: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The answer to an offer; `None` where it is declined.
fn agree(offer: &Extension<'_>) -> Option<Agreement> {
    if offer.name != "permessage-deflate" {
        return None;
    }
    let mut window = Window::MAX;
    // These two are the gateway's own conditions; a client that offers them too has nothing to add.
    let mut answer =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
    for (at, (name, value)) in offer.params.iter().enumerate() {
        let earlier = offer.params.get(..at).unwrap_or_default();
        if earlier.iter().any(|(other, _)| other == name) {
            return None;
        }
        let bits = value.as_deref().map(window_bits);
        match (*name, bits) {
            // Without a value the client says that it would heed one. The gateway can take any.
            (
                "server_no_context_takeover"
                | "client_no_context_takeover"
                | "client_max_window_bits",
                None,
            ) => {}
            ("server_max_window_bits", Some(Some(bits))) => {
                window = Window::from_bits(bits)?;
                write!(answer, "; server_max_window_bits={bits}").ok()?;
            }
            ("client_max_window_bits", Some(Some(bits))) => {
                write!(answer, "; client_max_window_bits={bits}").ok()?;
            }
            _ => return None,
        }
    }
    Some(Agreement { window, answer })
}

/// 8 to 15 in decimal, without leading zeros, RFC 7692 section 7.1.2.
fn window_bits(value: &str) -> Option<u8> {
    let is_decimal = !value.starts_with('0') && value.bytes().all(|b| b.is_ascii_digit());
    let bits = value.parse().ok().filter(|_| is_decimal)?;
    Window::from_bits(bits).map(|_| bits)
}

/// What is left to read of a header's value.
struct Text<'a> {
    rest: &'a [u8],
}

impl<'a> Text<'a> {
    /// The next extension of the list. List elements may be empty, RFC 9110 section 5.6.1.2.
    fn extension(&mut self) -> Result<Option<Extension<'a>>, MalformedOffer> {
        while self.takes(b',') {}
        if self.rest.is_empty() {
            return Ok(None);
        }
        let name = self.token().ok_or(MalformedOffer)?;
        let mut params = Vec::new();
        while self.takes(b';') {
            let name = self.token().ok_or(MalformedOffer)?;
            let value = if self.takes(b'=') {
                Some(self.value().ok_or(MalformedOffer)?)
            } else {
                None
            };
            params.push((name, value));
        }
        if !self.rest.is_empty() && !self.takes(b',') {
            return Err(MalformedOffer);
        }
        Ok(Some(Extension { name, params }))
    }

    /// A parameter's value: a token, or a quoted string that is a token once it is unquoted.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.takes(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        loop {
            let byte = match self.byte()? {
                b'"' if value.is_empty() => return None,
                b'"' => break,
                b'\\' => self.byte()?,
                byte => byte,
            };
            if !is_token(byte) {
                return None;
            }
            value.push(char::from(byte));
        }
        self.skip_space();
        Some(Cow::Owned(value))
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let end = self.rest.iter().position(|byte| !is_token(*byte));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        self.skip_space();
        std::str::from_utf8(token).ok().filter(|t| !t.is_empty())
    }

    /// Whether this byte comes next, white space aside. If so, it is passed over.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn check(headers: &[&str], expected: Result<Option<(u8, &str)>, MalformedOffer>) {
        let got = negotiate(headers.iter().map(|header| header.as_bytes()));
        let expected = expected.map(|agreement| {
            agreement.map(|(bits, more)| Agreement {
                window: Window(bits),
                answer: format!("{BOTH}{more}"),
            })
        });
        assert_eq!(got, expected, "{headers:?}");
    }

    #[test]
    fn the_offers_of_clients_are_accepted() {
        for offer in [
            // wscat and all of npm's ws, Chromium, Firefox, Python's websockets and aiohttp.
            "permessage-deflate; client_max_window_bits",
            // Java: Tyrus, Jetty, OkHttp. Safari.
            "permessage-deflate",
            // Java-WebSocket before 1.6, Go's gorilla.
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            // Netty.
            "permessage-deflate;client_max_window_bits,deflate-frame,x-webkit-deflate-frame",
            // Go's coder/websocket.
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            // Older Safari.
            "x-webkit-deflate-frame, permessage-deflate",
        ] {
            check(&[offer], Ok(Some((15, ""))));
        }
        // websocket-client of Autobahn's cases 13.3 to 13.7.
        for (offer, bits, more) in [
            (
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
                9,
                "; server_max_window_bits=9",
            ),
            (
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=15; client_max_window_bits=15",
                15,
                "; server_max_window_bits=15; client_max_window_bits=15",
            ),
        ] {
            check(&[offer], Ok(Some((bits, more))));
        }
    }

    #[test]
    fn window_sizes_are_kept() {
        for (offer, bits, more) in [
            ("server_max_window_bits=8", 9, "; server_max_window_bits=8"),
            (
                "server_max_window_bits=\"10\"",
                10,
                "; server_max_window_bits=10",
            ),
            (
                "server_max_window_bits=\"\\1\\0\"",
                10,
                "; server_max_window_bits=10",
            ),
            (
                "client_max_window_bits=8 ;\tserver_max_window_bits = 12",
                12,
                "; client_max_window_bits=8; server_max_window_bits=12",
            ),
        ] {
            check(
                &[&format!("permessage-deflate; {offer}")],
                Ok(Some((bits, more))),
            );
        }
    }

    #[test]
    fn an_offer_that_cannot_be_kept_is_passed_over() {
        for params in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=+9",
            "server_max_window_bits=9.0",
            "client_max_window_bits=16",
            "client_max_window_bits=0",
            "client_max_window_bits=x",
            "client_max_window_bits=999",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=10",
            "unknown",
            "unknown=9",
            "Server_No_Context_Takeover",
        ] {
            let offer = format!("permessage-deflate; {params}");
            check(&[&offer], Ok(None));
            check(
                &[&format!("{offer}, permessage-deflate")],
                Ok(Some((15, ""))),
            );
            check(
                &[
                    &offer,
                    "other",
                    "permessage-deflate; server_max_window_bits=11",
                ],
                Ok(Some((11, "; server_max_window_bits=11"))),
            );
        }
        for offer in ["", " , ,", "permessage-bzip2", "deflate-frame; a=\"b\""] {
            check(&[offer], Ok(None));
        }
        check(&[], Ok(None));
        check(
            &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            Ok(Some((10, "; server_max_window_bits=10"))),
        );
    }

    #[test]
    fn what_is_no_list_of_extensions_is_malformed() {
        for header in [
            ";",
            "a b",
            "a;",
            "a; ;b",
            "a; b=",
            "a; b=\"",
            "a; b=\"\"",
            "a; b=\"c",
            "a; b=\"c d\"",
            "a; b=\"c\\",
            "a; b=\"c\"d",
            "a; b==c",
            "a=b",
            "\"a\"",
            "a; \"b\"",
            "a\u{0}",
            "permessage-deflate, é",
            "permessage-deflate; client_max_window_bits=\"15",
        ] {
            check(&[header], Err(MalformedOffer));
        }
    }
}
