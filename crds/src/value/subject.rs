//! NATS subjects: what a message is published to, what a client subscribes to, and the templates
//! that lead from a request to either.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    str::FromStr,
    sync::Arc,
};

/// The longest subject or template, in bytes. nats-server's limit is its 4 KiB control line, which also
/// holds a reply subject.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// The longest value that may become a token of a subject, in bytes.
const VALUE_BYTES_MAX: usize = 128;

/// A subject without wildcards: what a message is published to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<str>);

/// A subject in which `*` stands for one token and a last `>` for one or more: what is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

/// Why a text is no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The text is empty or longer than 1,024 bytes.
    #[error("a subject has 1 to {SUBJECT_BYTES_MAX} bytes")]
    Length,
    /// Two dots in a row, or one at an end.
    #[error("`{0}` has an empty token")]
    EmptyToken(String),
    /// White space or a control character.
    #[error("`{0}` holds white space or a control character")]
    Character(String),
    /// A wildcard where none may stand.
    #[error("`{0}` may not hold the wildcards * and >")]
    Wildcard(String),
    /// `*` or `>` inside a token, or `>` before the last one.
    #[error("`{0}`: `*` must be a whole token and `>` the whole last one")]
    MisplacedWildcard(String),
}

fn check_tokens(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() || text.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::Length);
    }
    let name = || text.to_owned();
    if text.split('.').any(str::is_empty) {
        return Err(SubjectError::EmptyToken(name()));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(SubjectError::Character(name()));
    }
    Ok(())
}

/// `*` and `>` are whole tokens, and `>` the last.
fn check_wildcards(text: &str) -> Result<(), SubjectError> {
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        let whole = token == "*" || (token == ">" && tokens.peek().is_none());
        if token.contains(['*', '>']) && !whole {
            return Err(SubjectError::MisplacedWildcard(text.to_owned()));
        }
    }
    Ok(())
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text)?;
        if text.contains(['*', '>']) {
            return Err(SubjectError::Wildcard(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Pattern {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text)?;
        check_wildcards(text)?;
        Ok(Self(text.into()))
    }
}

impl Subject {
    /// The pattern that the API server checks.
    pub const PATTERN: &'static str = r"^[^\s.*>]+(\.[^\s.*>]+)*$";
}

impl Pattern {
    /// The pattern that the API server checks.
    pub const PATTERN: &'static str = r"^(>|([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?)$";

    /// Whether a message published to this subject is meant.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        subject_matches(&self.0, subject)
    }

    /// Whether there is a subject that both patterns mean.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        patterns_overlap(&self.0, &other.0)
    }
}

/// Whether the pattern means the subject. Both are taken to be well formed.
#[must_use]
pub fn subject_matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for expected in pattern.split('.') {
        match (expected, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (expected, Some(token)) if expected == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether some subject is meant by both patterns.
#[must_use]
pub fn patterns_overlap(left: &str, right: &str) -> bool {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

macro_rules! text_type {
    ($type:ty) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        super::serde_as_string!($type);
    };
}
text_type!(Subject);
text_type!(Pattern);

/// A subject some of whose tokens come from the request: `rooms.{path.room}.>`.
///
/// A token is a literal, or exactly one `{path.x}`, `{query.x}` or `{claims.x}`; `|percent` after the
/// name encodes all bytes but `A-Z a-z 0-9 _ -`. `{claims.x|each}` makes a subject of each text of a claim that is a
/// list. `*` and `>` stand only as whole literals of the
/// template. The first token is a literal without `$`, so that no request reaches system subjects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Token {
    Literal(String),
    Value {
        source: ValueSource,
        name: String,
        each: bool,
        percent: bool,
    },
}

/// How many subjects the lists of a token make of one template at most: each is a subscription.
const EACH_MAX: usize = 64;

/// Where a template's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ValueSource {
    Claims,
    Path,
    Query,
}

impl ValueSource {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Claims, "claims"),
        (Self::Path, "path"),
        (Self::Query, "query"),
    ];

    fn value<'a>(self, name: &str, values: &'a dyn TemplateValues) -> Option<Cow<'a, str>> {
        match self {
            Self::Claims => values.claim(name),
            Self::Path => values.path(name),
            Self::Query => values.query(name),
        }
    }

    /// The values that a token stands for: one, which may be missing, or each of a claim's list.
    fn found<'a>(
        self,
        name: &str,
        each: bool,
        values: &'a dyn TemplateValues,
    ) -> Result<Vec<Option<Cow<'a, str>>>, ValueError> {
        if !each {
            return Ok(vec![self.value(name, values)]);
        }
        let missing = || ValueError::Claim(name.to_owned());
        let list = values.claim_list(name).ok_or_else(missing)?;
        Ok(list.into_iter().map(Some).collect())
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It would not be a subject even with every value filled in.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A token mixes literal text and a value, or names no known source.
    #[error(
        "token `{0}` must be a literal or exactly one of {{path.x}}, {{query.x}}, {{claims.x}}"
    )]
    Token(String),
    /// The first token is a value, a wildcard, or starts with `$`.
    #[error("the first token, `{0}`, must be a literal without `$`, `*` and `>`")]
    FirstToken(String),
}

/// The values of one request, by name. `None` where the request has none of that name.
pub trait TemplateValues {
    /// A parameter of the path.
    fn path(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A parameter of the query string.
    fn query(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A claim of the token.
    fn claim(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A claim that is a list of such, or one of them. Default: that one.
    fn claim_list(&self, name: &str) -> Option<Vec<Cow<'_, str>>> {
        self.claim(name).map(|value| vec![value])
    }
}

/// Why a request's value may not become a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The path or the query lacks the value, or it is not 1 to 128 bytes without space, control
    /// characters, `.`, `*` and `>`. The client sent it: 400.
    #[error(
        "`{{{0}}}` must be 1 to {VALUE_BYTES_MAX} bytes without space, control characters, `.`, `*` and `>`"
    )]
    Request(String),
    /// The same of a claim. The token does not entitle its bearer: 403.
    #[error("claim `{0}` is missing or cannot be a token of a subject")]
    Claim(String),
    /// Its lists make more than 64 subjects. Likewise.
    #[error("claim `{0}` makes more than {EACH_MAX} subjects")]
    TooMany(String),
}

impl Template {
    /// The pattern that the API server checks.
    pub const PATTERN: &'static str = r"^[^\s.*>{}$]+(\.([^\s.*>{}]+|\*|\{((path|query|claims)\.[-A-Za-z0-9_]+|claims\.[-A-Za-z0-9_]+\|each)(\|percent)?\}))*(\.>)?$";

    /// The pattern that the template stands for with a request's values.
    ///
    /// # Errors
    /// When a value is missing or may not become a token. It is never rewritten. What is made of each of a list has no
    /// one pattern: see [`render_each`](Self::render_each).
    pub fn render(&self, values: &dyn TemplateValues) -> Result<Pattern, ValueError> {
        let mut text = String::new();
        for token in &self.tokens {
            if !text.is_empty() {
                text.push('.');
            }
            match token {
                Token::Literal(literal) => text.push_str(literal),
                Token::Value {
                    name, each: true, ..
                } => return Err(ValueError::Claim(name.clone())),
                Token::Value {
                    source,
                    name,
                    percent,
                    each: false,
                } => {
                    let value = source.value(name, values);
                    push_value(&mut text, *source, name, *percent, value)?;
                }
            }
        }
        Ok(Pattern(text.into()))
    }

    /// The patterns that the template stands for: one, or one for each text of a list, or with several lists of each
    /// with each. None where a list is empty.
    ///
    /// # Errors
    /// As [`render`](Self::render), and where there would be more than 64.
    pub fn render_each(&self, values: &dyn TemplateValues) -> Result<Vec<Pattern>, ValueError> {
        let mut texts = vec![String::new()];
        for token in &self.tokens {
            for text in texts.iter_mut().filter(|text| !text.is_empty()) {
                text.push('.');
            }
            match token {
                Token::Literal(literal) => texts.iter_mut().for_each(|text| text.push_str(literal)),
                Token::Value {
                    source,
                    name,
                    percent,
                    each,
                } => {
                    let found = source.found(name, *each, values)?;
                    if texts.len().saturating_mul(found.len()) > EACH_MAX {
                        return Err(ValueError::TooMany(name.clone()));
                    }
                    let mut longer = Vec::with_capacity(texts.len() * found.len());
                    for value in found {
                        for text in &texts {
                            let mut text = text.clone();
                            push_value(&mut text, *source, name, *percent, value.clone())?;
                            longer.push(text);
                        }
                    }
                    texts = longer;
                }
            }
        }
        Ok(texts.into_iter().map(|text| Pattern(text.into())).collect())
    }

    /// Whether it makes a subject of each of a list; such a template cannot be published to.
    #[must_use]
    pub fn has_each(&self) -> bool {
        let mut tokens = self.tokens.iter();
        tokens.any(|token| matches!(token, Token::Value { each: true, .. }))
    }

    /// The template with a token's claims filled in, and what a request would give as it stands: to be shown.
    ///
    /// # Errors
    /// As [`render`](Self::render), for claims.
    pub fn show_with_claims(&self, values: &dyn TemplateValues) -> Result<String, ValueError> {
        let show = |token: &Token| match token {
            Token::Value {
                source: source @ ValueSource::Claims,
                name,
                percent,
                each,
            } => {
                let found = source.found(name, *each, values)?;
                let shown = found.into_iter().map(|value| {
                    let mut text = String::new();
                    push_value(&mut text, *source, name, *percent, value).map(|()| text)
                });
                let shown: Vec<_> = shown.collect::<Result<_, _>>()?;
                Ok(match shown.as_slice() {
                    [one] => one.clone(),
                    several => format!("({})", several.join("|")),
                })
            }
            token => Ok(token.to_string()),
        };
        let tokens: Result<Vec<_>, ValueError> = self.tokens.iter().map(show).collect();
        Ok(tokens?.join("."))
    }

    /// The pattern itself, where no token comes from the request.
    #[must_use]
    pub fn as_pattern(&self) -> Option<Pattern> {
        self.tokens
            .iter()
            .all(|token| matches!(token, Token::Literal(_)))
            .then(|| Pattern(self.to_string().into()))
    }

    /// Whether a wildcard stands in it; such a template cannot be published to.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.tokens
            .iter()
            .any(|t| matches!(t, Token::Literal(text) if text == "*" || text == ">"))
    }

    /// The names of the path parameters that it uses.
    pub fn path_names(&self) -> impl Iterator<Item = &str> {
        self.names(ValueSource::Path)
    }

    /// The names of the claims that it uses.
    pub fn claim_names(&self) -> impl Iterator<Item = &str> {
        self.names(ValueSource::Claims)
    }

    fn names(&self, wanted: ValueSource) -> impl Iterator<Item = &str> {
        self.tokens.iter().filter_map(move |token| match token {
            Token::Value { source, name, .. } if *source == wanted => Some(name.as_str()),
            _ => None,
        })
    }
}

fn push_value(
    text: &mut String,
    source: ValueSource,
    name: &str,
    percent: bool,
    value: Option<Cow<'_, str>>,
) -> Result<(), ValueError> {
    let error = || match source {
        ValueSource::Claims => ValueError::Claim(name.to_owned()),
        _ => ValueError::Request(format!("{}.{name}", source.as_str())),
    };
    let value = value.ok_or_else(error)?;
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Err(error());
    }
    if percent {
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => text.push(byte.into()),
                _ => _ = write!(text, "%{byte:02X}"),
            }
        }
    } else if value
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || ".*>".contains(c))
    {
        return Err(error());
    } else {
        text.push_str(&value);
    }
    Ok(())
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        check_tokens(&text.replace(['{', '}'], ""))?;
        let tokens = split_tokens(text)
            .map(parse_token)
            .collect::<Result<Vec<_>, _>>()?;
        match tokens.first() {
            Some(Token::Literal(first)) if !first.contains(['$', '*', '>']) => {}
            first => {
                let first = first.map(ToString::to_string).unwrap_or_default();
                return Err(TemplateError::FirstToken(first));
            }
        }
        let template = Self { tokens };
        let literal_form: Vec<_> = template
            .tokens
            .iter()
            .map(|token| match token {
                Token::Literal(literal) => literal.as_str(),
                Token::Value { .. } => "value",
            })
            .collect();
        check_tokens(&literal_form.join("."))?;
        check_wildcards(&literal_form.join("."))?;
        Ok(template)
    }
}

/// Splits at the dots that stand outside braces.
fn split_tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '.' && depth == 0
    })
}

fn parse_token(token: &str) -> Result<Token, TemplateError> {
    let error = || TemplateError::Token(token.to_owned());
    if !token.contains(['{', '}']) {
        return Ok(Token::Literal(token.to_owned()));
    }
    let inner = token
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .ok_or_else(error)?;
    let (inner, percent) = match inner.strip_suffix("|percent") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let (inner, each) = match inner.strip_suffix("|each") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let (source, name) = inner.split_once('.').ok_or_else(error)?;
    let source = ValueSource::ALL
        .iter()
        .find(|(_, text)| *text == source)
        .map(|(source, _)| *source)
        .ok_or_else(error)?;
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if !is_name || (each && source != ValueSource::Claims) {
        return Err(error());
    }
    Ok(Token::Value {
        source,
        name: name.to_owned(),
        each,
        percent,
    })
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => f.write_str(literal),
            Self::Value {
                source,
                name,
                each,
                percent,
            } => {
                let each = if *each { "|each" } else { "" };
                let percent = if *percent { "|percent" } else { "" };
                write!(f, "{{{}.{name}{each}{percent}}}", source.as_str())
            }
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, token) in self.tokens.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            write!(f, "{dot}{token}")?;
        }
        Ok(())
    }
}

super::serde_as_string!(Template);

#[cfg(test)]
mod tests {
    use super::*;

    struct One(&'static str);

    impl TemplateValues for One {
        fn path(&self, name: &str) -> Option<Cow<'_, str>> {
            (name == "x").then_some(Cow::Borrowed(self.0))
        }
        fn query(&self, _: &str) -> Option<Cow<'_, str>> {
            None
        }
        fn claim(&self, _: &str) -> Option<Cow<'_, str>> {
            None
        }
    }

    #[test]
    fn a_template_is_read_and_written() {
        for text in [
            "a",
            "a.>",
            "a.*.b",
            "a.{path.x}",
            "a.{query.y}.>",
            "a.{claims.e|percent}",
        ] {
            assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_template_is_refused() {
        for text in [
            "",
            ".",
            "a.",
            "a..b",
            "{path.x}",
            "*.a",
            ">",
            "$JS.a",
            "a.b{path.x}",
            "a.{path.x}b",
            "a.{path.x}{path.y}",
            "a.{other.x}",
            "a.{path}",
            "a.{path.}",
            "a.{path.x|upper}",
            "a.{path.a b}",
            "a.>.b",
            "a.b*",
            "a b",
            "a.{path.x",
            "a.path.x}",
            "a.{{path.x}}",
        ] {
            assert!(text.parse::<Template>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_value_leads_outside_its_token() {
        let template: Template = "a.{path.x}.b".parse().unwrap();
        for value in [
            "", ".", "*", ">", "x.y", "x y", "x\ty", "x\u{0}", "a>", "\u{a0}", "\u{2028}",
        ] {
            assert!(template.render(&One(value)).is_err(), "{value:?}");
        }
        assert!(
            template
                .render(&One("ok-1_é"))
                .is_ok_and(|p| p.as_str() == "a.ok-1_é.b")
        );
        let percent: Template = "a.{path.x|percent}.b".parse().unwrap();
        let pattern = percent.render(&One("j.doe@x >*")).unwrap();
        assert_eq!(pattern.as_str(), "a.j%2Edoe%40x%20%3E%2A.b");
        assert!(
            template
                .render(&One(&*Box::leak("x".repeat(129).into_boxed_str())))
                .is_err()
        );
        let missing: Template = "a.{query.nothing}".parse().unwrap();
        assert!(missing.render(&One("x")).is_err());
    }

    #[test]
    fn a_pattern_means_the_subjects_that_nats_says_it_means() {
        for (pattern, subject, means) in [
            ("a", "a", true),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*.c", "a.b.c", true),
        ] {
            assert_eq!(
                subject_matches(pattern, subject),
                means,
                "{pattern} {subject}"
            );
        }
        for (left, right, overlap) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.*", "a.b", true),
            ("a.>", "a.*.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.*", true),
        ] {
            assert_eq!(patterns_overlap(left, right), overlap, "{left} {right}");
            assert_eq!(patterns_overlap(right, left), overlap, "{right} {left}");
        }
    }

    /// A token with a list.
    struct Listed<'a>(&'a [&'a str]);

    impl TemplateValues for Listed<'_> {
        fn path(&self, _: &str) -> Option<Cow<'_, str>> {
            Some("p".into())
        }
        fn query(&self, _: &str) -> Option<Cow<'_, str>> {
            None
        }
        fn claim(&self, _: &str) -> Option<Cow<'_, str>> {
            Some("one".into())
        }
        fn claim_list(&self, name: &str) -> Option<Vec<Cow<'_, str>>> {
            let list = || self.0.iter().map(|text| Cow::Borrowed(*text)).collect();
            (name == "rooms").then(list)
        }
    }

    #[test]
    fn each_of_a_list_makes_a_subject_and_a_wrong_one_of_them_refuses_all() {
        let render = |template: &str, list: &[&str]| {
            let template: Template = template.parse().unwrap();
            assert!(template.has_each());
            assert!(template.render(&Listed(list)).is_err());
            let rendered = template.render_each(&Listed(list));
            rendered.map(|patterns| patterns.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let room = "rooms.{claims.rooms|each}.{path.x}.>";
        assert_eq!(
            render(room, &["a", "b"]).unwrap(),
            ["rooms.a.p.>", "rooms.b.p.>"]
        );
        assert_eq!(render(room, &[]).unwrap(), Vec::<String>::new());
        let both = "r.{claims.rooms|each}.{claims.rooms|each}";
        assert_eq!(
            render(both, &["a", "b"]).unwrap(),
            ["r.a.a", "r.b.a", "r.a.b", "r.b.b"]
        );
        let encoded = "r.{claims.rooms|each|percent}";
        assert_eq!(render(encoded, &["a.b"]).unwrap(), ["r.a%2Eb"]);
        for wrong in ["", "*", ">", "a.b", "a b"] {
            let refused = render(room, &["a", wrong]).unwrap_err();
            assert_eq!(refused, ValueError::Claim("rooms".to_owned()), "{wrong:?}");
        }
        let missing = render("r.{claims.other|each}", &["a"]).unwrap_err();
        assert_eq!(missing, ValueError::Claim("other".to_owned()));
        let many = vec!["a"; EACH_MAX + 1];
        assert_eq!(render(room, &many[1..]).unwrap().len(), EACH_MAX);
        let refused = render(room, &many).unwrap_err();
        assert_eq!(refused, ValueError::TooMany("rooms".to_owned()));
        assert!(render(both, &many[..9]).is_err());
        for text in [
            "a.{path.x|each}",
            "a.{query.x|each}",
            "a.{claims.x|percent|each}",
            "{claims.x|each}",
        ] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
        let text = "a.{claims.x|each|percent}.b";
        assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
    }
}
