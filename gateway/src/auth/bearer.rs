//! The token of a request, wherever it stands.

use std::borrow::Cow;

use hyper::{HeaderMap, header};
use wsgateway_auth::TokenError;
use wsgateway_crds::{config::TokenSource, value::query_value};

use super::AuthRefusal;

/// An offered subprotocol that carries a token begins so: browsers can set no other header of a handshake.
const SUBPROTOCOL_PREFIX: &str = "wsgateway.bearer.";

/// The query parameter of RFC 6750 section 2.3.
const QUERY_PARAMETER: &str = "access_token";

/// The one token of a request. An empty one is none, as a cookie has after a logout.
pub(super) fn find<'a>(
    sources: &[TokenSource],
    headers: &'a HeaderMap,
    query: &'a str,
) -> Result<Option<Cow<'a, str>>, AuthRefusal> {
    let mut tokens = Vec::new();
    for source in sources {
        match source {
            TokenSource::Header => {
                let values = texts(headers, &header::AUTHORIZATION)?;
                tokens.extend(values.into_iter().filter_map(bearer).map(Cow::Borrowed));
            }
            TokenSource::Subprotocol => {
                let offers = texts(headers, &header::SEC_WEBSOCKET_PROTOCOL)?;
                let offers = offers.into_iter().flat_map(|offers| offers.split(','));
                let carried =
                    offers.filter_map(|offer| offer.trim().strip_prefix(SUBPROTOCOL_PREFIX));
                tokens.extend(carried.map(Cow::Borrowed));
            }
            TokenSource::Cookie { name } => {
                let cookies = texts(headers, &header::COOKIE)?;
                let cookies = cookies.into_iter().flat_map(|cookies| cookies.split(';'));
                let named = cookies.filter_map(|cookie| {
                    let (found, value) = cookie.trim().split_once('=')?;
                    (found == name).then_some(value.trim_matches('"'))
                });
                tokens.extend(named.map(Cow::Borrowed));
            }
            TokenSource::Query => {
                // Each pair by itself: of a parameter that stands twice the whole query has no value.
                tokens.extend(
                    query
                        .split('&')
                        .filter_map(|pair| query_value(pair, QUERY_PARAMETER)),
                );
            }
        }
    }
    tokens.retain(|token| !token.is_empty());
    match tokens.len() {
        0 | 1 => Ok(tokens.pop()),
        _ => Err(AuthRefusal::TwoTokens),
    }
}

/// The values of a header, which are texts if a token is in them.
fn texts<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> Result<Vec<&'a str>, TokenError> {
    let values = headers
        .get_all(name)
        .into_iter()
        .map(|value| value.to_str());
    values
        .collect::<Result<_, _>>()
        .map_err(|_| TokenError::Malformed("a header that may carry it is no text"))
}

/// The token behind `Bearer`, which is compared without regard to case (RFC 9110 section 11.1). Other schemes are for
/// others.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then_some(token.trim_start())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_one_token_is_found_where_the_configuration_looks_for_it() {
        let cookie = || TokenSource::Cookie {
            name: "token".to_owned(),
        };
        let all = [
            TokenSource::Header,
            TokenSource::Subprotocol,
            cookie(),
            TokenSource::Query,
        ];
        let check = |sources: &[TokenSource],
                     lines: &[(&str, &str)],
                     query: &str,
                     expected: Result<Option<&str>, &str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let found = find(sources, &headers, query);
            let found = match &found {
                Ok(token) => Ok(token.as_deref()),
                Err(refusal) => Err(refusal.reason()),
            };
            assert_eq!(found, expected, "{lines:?} {query:?}");
        };
        let authorization = ("authorization", "Bearer a.b.c");
        let offer = (
            "sec-websocket-protocol",
            "wsgateway.plain, wsgateway.bearer.a.b.c",
        );
        check(&all, &[], "", Ok(None));
        check(&all, &[authorization], "", Ok(Some("a.b.c")));
        check(
            &all,
            &[("authorization", "bEARER   a.b.c")],
            "",
            Ok(Some("a.b.c")),
        );
        check(&all, &[("authorization", "Basic YTpi")], "", Ok(None));
        check(&all, &[("authorization", "Bearer ")], "", Ok(None));
        check(&all, &[offer], "", Ok(Some("a.b.c")));
        check(
            &all,
            &[("cookie", "x=1; token=a.b.c; y=2")],
            "",
            Ok(Some("a.b.c")),
        );
        check(&all, &[("cookie", "xtoken=a.b.c; token=")], "", Ok(None));
        check(&all, &[], "x=1&access_token=a.b.c", Ok(Some("a.b.c")));
        check(&all, &[], "x=1&access_token=a%2Eb.c", Ok(Some("a.b.c")));

        check(&all, &[authorization, authorization], "", Err("TwoTokens"));
        check(&all, &[authorization, offer], "", Err("TwoTokens"));
        check(&all, &[offer, offer], "", Err("TwoTokens"));
        check(
            &all,
            &[("cookie", "token=a; token=b")],
            "",
            Err("TwoTokens"),
        );
        check(&all, &[], "access_token=a&access_token=b", Err("TwoTokens"));
        check(&all, &[authorization], "access_token=a", Err("TwoTokens"));
        check(
            &all,
            &[("authorization", "Bearer \u{e9}")],
            "",
            Err("TokenMalformed"),
        );

        // What is not named is not looked at.
        let header = [TokenSource::Header];
        check(
            &header,
            &[offer, ("cookie", "token=a")],
            "access_token=a",
            Ok(None),
        );
        check(
            &header,
            &[authorization, offer],
            "access_token=a",
            Ok(Some("a.b.c")),
        );
        check(&[cookie()], &[authorization], "", Ok(None));
    }
}
