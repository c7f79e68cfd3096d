//! Plain HTTP: a GET, and metrics in Prometheus' text form.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Output,
    time::Duration,
};

use crate::{process::command, program::Program};

/// How long a connection may stay silent.
const SILENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// What came after the head.
    pub body: Vec<u8>,
}

impl Response {
    /// Splits what was received. `None` where the head is not complete or not HTTP.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()?
            .strip_prefix("HTTP/1.")?
            .get(2..5)?
            .parse()
            .ok()?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        })
    }

    /// The value of a header that comes once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        value
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks for a path, and panics when no answer comes.
pub fn get(address: SocketAddr, path: &str) -> Response {
    try_get(address, path).unwrap_or_else(|error| panic!("GET http://{address}{path}: {error}"))
}

/// Asks for a path.
///
/// # Errors
/// When nobody listens, or what comes is no HTTP.
pub fn try_get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    // HTTP/1.0, so that the body comes in one piece and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Response::parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Sends a body to a path; `headers` are whole lines. Panics when no answer comes.
pub fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Response {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut bytes = Vec::new();
    // One that is refused before it is read whole may be cut off behind its answer.
    let read = stream.read_to_end(&mut bytes);
    Response::parse(&bytes).unwrap_or_else(|| panic!("POST http://{address}{path}: {read:?}"))
}

/// Asks with curl, which speaks TLS.
pub fn curl(arguments: &[&str]) -> Output {
    command(Program::Curl.expect())
        .args(["--silent", "--show-error", "--max-time", "10"])
        .args(arguments)
        .output()
        .unwrap()
}

/// What a `/metrics` page said.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Sample>);

/// One line of it.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text form. Panics at a line that is not of it.
    pub fn parse(page: &str) -> Self {
        let lines = page
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| Sample::parse(line).unwrap_or_else(|| panic!("{line}")))
                .collect(),
        )
    }

    /// The sum over all series of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample| {
            labels
                .iter()
                .all(|(k, v)| sample.labels.get(*k).is_some_and(|value| value == v))
        };
        let samples = self
            .0
            .iter()
            .filter(|sample| sample.name == name && has(sample));
        samples.map(|sample| sample.value).sum()
    }

    /// The labels and the value of each series of this name.
    pub fn series(&self, name: &str) -> impl Iterator<Item = (&BTreeMap<String, String>, f64)> {
        let samples = self.0.iter().filter(move |sample| sample.name == name);
        samples.map(|sample| (&sample.labels, sample.value))
    }

    /// Whether a series of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, rest) = match line.find('}') {
            Some(brace) => line.split_at(brace + 1),
            None => line.split_once(' ')?,
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|label| !label.is_empty())
            .map(|label| {
                let (key, value) = label.split_once("=\"")?;
                Some((
                    key.trim().to_owned(),
                    value.trim_end_matches('"').to_owned(),
                ))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            name: name.to_owned(),
            labels,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_named() {
        let page =
            "# TYPE a counter\na_total{x=\"1\",y=\"p, q\"} 2\na_total{x=\"2\"} 3\nb 4.5 99\n";
        let metrics = Metrics::parse(page);
        let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
            assert!(
                (metrics.sum(name, labels) - expected).abs() < 1e-9,
                "{name} {labels:?}"
            );
        };
        check("a_total", &[], 5.0);
        check("a_total", &[("x", "2")], 3.0);
        check("a_total", &[("y", "p, q")], 2.0);
        check("a_total", &[("x", "3")], 0.0);
        check("b", &[], 4.5);
    }
}
