//! What to try, printed once everything runs.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use wsgateway_crds::{
    config::{Access, Auth, Queue, Route, Source, SourceKind, TokenSource},
    value::{Pattern, Size, Template},
};

/// What the lines are made of.
#[derive(Debug, Clone)]
pub struct Banner<'a> {
    /// The gateway's name.
    pub name: &'a str,
    /// Its routes.
    pub routes: &'a [Route],
    /// Whose tokens are believed. None: nobody needs one.
    pub auth: Option<&'a Auth>,
    /// `websocket.maxMessageSize`.
    pub max_message_size: Size,
    /// The manifest's file.
    pub file: &'a Path,
    /// nginx's port for TLS, and the authority to trust where it is the local one. None: there is no TLS.
    pub tls: Option<(u16, Option<&'a Path>)>,
    /// nginx's plain port.
    pub http_port: u16,
    /// nginx's status path.
    pub status_path: &'a str,
    /// A NATS server.
    pub nats_url: &'a str,
    /// The admin address of each worker.
    pub workers: Vec<(String, SocketAddr)>,
    /// Where the metrics of nginx and all workers are.
    pub metrics: SocketAddr,
    /// How the clients are called here.
    pub tools: Tools,
}

impl Banner<'_> {
    /// The option that names the server, where that is not the usual one.
    fn server(&self) -> String {
        match self.nats_url {
            NATS_URL_DEFAULT => String::new(),
            url => format!(" --server {}", quoted(url)),
        }
    }

    /// Where a client of a route carries its token: where the gateway looks first.
    fn token_source(&self, route: &Route) -> Option<&TokenSource> {
        match route.authorization.access {
            Access::Token => self.auth?.token_sources.first(),
            Access::Anonymous => None,
        }
    }
}

/// How programs are called here: by name where PATH has them, else by path.
#[derive(Debug, Clone)]
pub struct Tools {
    /// This program.
    pub wsgw: String,
    /// wscat.
    pub wscat: String,
    /// websocat.
    pub websocat: String,
    /// Whether there is the `nats` program.
    pub has_nats: bool,
}

impl Tools {
    /// Looks for them in PATH and, as `hack/obtain` names them, in `WSGW_WSCAT` and `WSGW_WEBSOCAT`.
    pub fn find() -> Self {
        let call = |name: &str, variable: &str| {
            let named = || std::env::var_os(variable).map(PathBuf::from);
            match super::programs::in_path(name) {
                Some(_) => None,
                None => named(),
            }
            .map_or_else(|| name.to_owned(), |path| quoted(&path.to_string_lossy()))
        };
        let exe = std::env::current_exe().ok();
        let wsgw = match (super::programs::in_path("wsgw"), exe) {
            (None, Some(exe)) => quoted(&relative(&exe).to_string_lossy()),
            _ => "wsgw".to_owned(),
        };
        Self {
            wsgw,
            wscat: call("wscat", "WSGW_WSCAT"),
            websocat: call("websocat", "WSGW_WEBSOCAT"),
            has_nats: super::programs::in_path("nats").is_some(),
        }
    }
}

/// The size of the seed's large message.
const LARGE_BYTES: u64 = 102_400;

/// How many routes are shown; the manifest has them all.
const ROUTES_SHOWN: usize = 4;

/// NATS clients look there by themselves.
const NATS_URL_DEFAULT: &str = "nats://127.0.0.1:4222";

/// The block.
pub fn banner(banner: &Banner<'_>) -> String {
    let mut text = String::new();
    let count = banner.workers.len();
    let plural = if count == 1 { "" } else { "s" };
    let _ = writeln!(
        text,
        "\n{} is ready: nginx, {count} worker{plural}, NATS at {}\n",
        banner.name, banner.nats_url
    );
    let mut rows = Rows(&mut text);
    let (base, status) = match banner.tls {
        Some((port, _)) => (
            format!("wss://localhost{}", suffix(port, 443)),
            format!("curl -k https://localhost{}", suffix(port, 443)),
        ),
        None => (
            format!("ws://localhost{}", suffix(banner.http_port, 80)),
            format!("curl http://localhost{}", suffix(banner.http_port, 80)),
        ),
    };
    token(&mut rows, banner);
    for route in banner.routes.iter().take(ROUTES_SHOWN) {
        connect(&mut rows, banner, route, &base);
    }
    if let Some(route) = banner.routes.first() {
        large(&mut rows, banner, route, &base);
    }
    for queue in banner
        .routes
        .iter()
        .flat_map(|route| &route.to_client)
        .filter_map(queue)
    {
        stream(&mut rows, banner, queue);
    }
    for subject in banner.routes.iter().take(ROUTES_SHOWN).filter_map(subject) {
        publish(&mut rows, banner, &subject);
    }
    rows.row("status", &format!("{status}{}", banner.status_path));
    rows.row(
        "metrics",
        &format!("http://{}/metrics  (nginx and all workers)", banner.metrics),
    );
    for (name, admin) in &banner.workers {
        rows.row("metrics", &format!("http://{admin}/metrics  ({name})"));
    }
    rows.row(
        "change",
        &format!("edit {}: it is watched", banner.file.display()),
    );
    rows.row("stop", "Ctrl-C");
    text.push('\n');
    text
}

/// Where tokens come from: how they are asked for, only the issuer's people know.
fn token(rows: &mut Rows<'_>, banner: &Banner<'_>) {
    for provider in banner.auth.iter().flat_map(|auth| &auth.providers) {
        let (issuer, audiences) = (&provider.issuer, provider.audiences.join(" or "));
        rows.row(
            "token",
            &format!("TOKEN=…  # an access token of {issuer} for {audiences}"),
        );
    }
}

fn connect(rows: &mut Rows<'_>, banner: &Banner<'_>, route: &Route, base: &str) {
    let (wscat, websocat) = (&banner.tools.wscat, &banner.tools.websocat);
    let Call {
        url,
        wscat_options,
        websocat_options,
    } = Call::of(banner, route, base);
    let Some((_, authority)) = banner.tls else {
        rows.row("connect", &format!("{wscat} -c {url} -P{wscat_options}"));
        rows.row("connect", &format!("{websocat}{websocat_options} {url}"));
        return;
    };
    rows.row("connect", &format!("{wscat} -n -c {url} -P{wscat_options}"));
    if let Some(authority) = authority {
        let authority = quoted(&authority.to_string_lossy());
        rows.row(
            "connect",
            &format!("{wscat} --ca {authority} -c {url} -P{wscat_options}"),
        );
    }
    rows.row("connect", &format!("{websocat} -k{websocat_options} {url}"));
}

/// How a route is called from a shell.
struct Call {
    /// Its URL, quoted.
    url: String,
    /// Options with a space in front of each.
    wscat_options: String,
    websocat_options: String,
}

impl Call {
    fn of(banner: &Banner<'_>, route: &Route, base: &str) -> Self {
        let url = format!("{base}{}", route.path);
        // A header of websocat's without an equal sign takes the URL with it.
        let with_header = |header: &str| {
            let header = format!(r#""{header}""#);
            (format!(" -H {header}"), format!(" -H={header}"))
        };
        let (wscat_options, websocat_options) = match banner.token_source(route) {
            None | Some(TokenSource::Query) => Default::default(),
            Some(TokenSource::Header) => with_header("Authorization: Bearer $TOKEN"),
            Some(TokenSource::Cookie { name }) => with_header(&format!("Cookie: {name}=$TOKEN")),
            Some(TokenSource::Subprotocol) => (
                r#" -s wsgateway.plain -s "wsgateway.bearer.$TOKEN""#.to_owned(),
                r#" --protocol "wsgateway.plain, wsgateway.bearer.$TOKEN""#.to_owned(),
            ),
        };
        let url = match banner.token_source(route) {
            Some(TokenSource::Query) => format!(r#""{url}?access_token=$TOKEN""#),
            _ => quoted(&url),
        };
        Self {
            url,
            wscat_options,
            websocat_options,
        }
    }
}

/// The seed's large message.
fn large(rows: &mut Rows<'_>, banner: &Banner<'_>, route: &Route, base: &str) {
    let size_max = route.max_message_size.unwrap_or(banner.max_message_size);
    let insecure = if banner.tls.is_some() { " -k" } else { "" };
    let websocat = &banner.tools.websocat;
    rows.row(
        "large",
        &format!("base64 /dev/urandom | tr -d '\\n' | head -c {LARGE_BYTES} > big_message.txt"),
    );
    let Call {
        url,
        websocat_options,
        ..
    } = Call::of(banner, route, base);
    let note = if size_max.bytes() < LARGE_BYTES {
        format!("  # closed with 1009: maxMessageSize is {size_max}")
    } else {
        String::new()
    };
    rows.row(
        "large",
        &format!(
            "cat big_message.txt | {websocat}{insecure}{websocat_options} -B 200000 {url}{note}"
        ),
    );
}

fn publish(rows: &mut Rows<'_>, banner: &Banner<'_>, subject: &str) {
    let subject = quoted(subject);
    let wsgw = &banner.tools.wsgw;
    let server = banner.server();
    rows.row("publish", &format!("{wsgw} pub{server} {subject} 'hello'"));
    if banner.tools.has_nats {
        rows.row("publish", &format!("nats pub{server} {subject} 'hello'"));
    }
}

/// A queue's stream must exist. A server of the user's own has its own people for that.
fn stream(rows: &mut Rows<'_>, banner: &Banner<'_>, queue: &Queue) {
    if queue.filter_subjects.is_empty() {
        return;
    }
    let (wsgw, name, server) = (&banner.tools.wsgw, quoted(&queue.stream), banner.server());
    let subjects: Vec<_> = queue
        .filter_subjects
        .iter()
        .map(|s| quoted(&s.to_string()))
        .collect();
    let subjects = subjects.join(" ");
    rows.row(
        "stream",
        &format!("{wsgw} stream{server} {name} {subjects}  # once; it must exist"),
    );
}

fn queue(source: &Source) -> Option<&Queue> {
    match &source.kind {
        SourceKind::Queue(queue) => Some(queue),
        SourceKind::Core { .. } => None,
    }
}

/// A label in front of the first of several rows of one kind.
struct Rows<'a>(&'a mut String);

impl Rows<'_> {
    fn row(&mut self, label: &str, text: &str) {
        let is_first = !self.0.contains(&format!("\n  {label:<9}"));
        let _ = writeln!(self.0, "  {:<9}{text}", if is_first { label } else { "" });
    }
}

/// A subject that the route's clients get.
fn subject(route: &Route) -> Option<String> {
    route
        .to_client
        .iter()
        .find_map(|source| match &source.kind {
            SourceKind::Core { subjects, .. } => subjects.first().map(Template::to_string),
            SourceKind::Queue(queue) => queue.filter_subjects.first().map(Pattern::to_string),
        })
        .map(|subject| {
            // The placeholder of the URL, so that both lines work as they stand.
            let subject = subject.replace("{path.", "{").replace("{query.", "{");
            let tokens = subject.split('.').map(|token| match token {
                "*" | ">" => "demo",
                token => token,
            });
            tokens.collect::<Vec<_>>().join(".")
        })
}

fn suffix(port: u16, default: u16) -> String {
    if port == default {
        String::new()
    } else {
        format!(":{port}")
    }
}

/// As the shell needs it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Shorter to type, where the program is below the current folder.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .map_or_else(|_| path.to_owned(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::manifest::tests::gateway;

    fn check(spec: &str, edit: impl FnOnce(&mut Banner<'_>), expected: &Expect) {
        expected.assert_eq(&text(spec, edit));
    }

    fn text(spec: &str, edit: impl FnOnce(&mut Banner<'_>)) -> String {
        let gateway = gateway(spec);
        let mut lines = Banner {
            name: gateway.name.as_str(),
            routes: &gateway.live.routes,
            auth: gateway.live.auth.as_ref(),
            max_message_size: gateway.live.websocket.max_message_size,
            file: Path::new("gateway.yaml"),
            tls: Some((8443, Some(Path::new("/home/a b/ca.crt")))),
            http_port: 8080,
            status_path: "/status",
            nats_url: NATS_URL_DEFAULT,
            workers: vec![
                ("worker-1".to_owned(), "127.0.0.1:19001".parse().unwrap()),
                ("worker-2".to_owned(), "127.0.0.1:19002".parse().unwrap()),
            ],
            metrics: "127.0.0.1:9113".parse().unwrap(),
            tools: Tools {
                wsgw: "target/release/wsgw".to_owned(),
                wscat: "wscat".to_owned(),
                websocat: "websocat".to_owned(),
                has_nats: false,
            },
        };
        edit(&mut lines);
        banner(&lines)
    }

    #[test]
    fn the_seeds_lines_can_be_copied() {
        let spec = "{routes: [{name: a, path: /ws-notifications, \
            toClient: [{name: live, type: Core, core: {subjects: [notifications.>]}}]}]}";
        check(
            spec,
            |_| {},
            &expect![[r"

                notifications is ready: nginx, 2 workers, NATS at nats://127.0.0.1:4222

                  connect  wscat -n -c wss://localhost:8443/ws-notifications -P
                           wscat --ca '/home/a b/ca.crt' -c wss://localhost:8443/ws-notifications -P
                           websocat -k wss://localhost:8443/ws-notifications
                  large    base64 /dev/urandom | tr -d '\n' | head -c 102400 > big_message.txt
                           cat big_message.txt | websocat -k -B 200000 wss://localhost:8443/ws-notifications  # closed with 1009: maxMessageSize is 64Ki
                  publish  target/release/wsgw pub notifications.demo 'hello'
                  status   curl -k https://localhost:8443/status
                  metrics  http://127.0.0.1:9113/metrics  (nginx and all workers)
                           http://127.0.0.1:19001/metrics  (worker-1)
                           http://127.0.0.1:19002/metrics  (worker-2)
                  change   edit gateway.yaml: it is watched
                  stop     Ctrl-C

            "]],
        );
    }

    #[test]
    fn parameters_stand_as_placeholders_and_without_tls_there_is_no_k() {
        let spec = "{routes: [{name: a, path: '/rooms/{room}', \
            toClient: [{name: live, type: Core, core: {subjects: ['rooms.{path.room}.*']}}]}]}";
        let edit = |lines: &mut Banner<'_>| {
            lines.tls = None;
            lines.nats_url = "nats://127.0.0.1:4223";
            lines.tools.has_nats = true;
            lines.workers.truncate(1);
        };
        check(
            spec,
            edit,
            &expect![[r"

                notifications is ready: nginx, 1 worker, NATS at nats://127.0.0.1:4223

                  connect  wscat -c 'ws://localhost:8080/rooms/{room}' -P
                           websocat 'ws://localhost:8080/rooms/{room}'
                  large    base64 /dev/urandom | tr -d '\n' | head -c 102400 > big_message.txt
                           cat big_message.txt | websocat -B 200000 'ws://localhost:8080/rooms/{room}'  # closed with 1009: maxMessageSize is 64Ki
                  publish  target/release/wsgw pub --server nats://127.0.0.1:4223 'rooms.{room}.demo' 'hello'
                           nats pub --server nats://127.0.0.1:4223 'rooms.{room}.demo' 'hello'
                  status   curl http://localhost:8080/status
                  metrics  http://127.0.0.1:9113/metrics  (nginx and all workers)
                           http://127.0.0.1:19001/metrics  (worker-1)
                  change   edit gateway.yaml: it is watched
                  stop     Ctrl-C

            "]],
        );
    }

    #[test]
    fn a_queue_says_that_its_stream_must_exist() {
        let spec = "{routes: [{name: a, path: /jobs, fromClient: {type: Reject}, toClient: [{name: work, type: Queue, \
            queue: {stream: JOBS, durable: d, filterSubjects: [jobs.>]}}]}]}";
        check(
            spec,
            |lines| lines.workers.truncate(1),
            &expect![[r"

            notifications is ready: nginx, 1 worker, NATS at nats://127.0.0.1:4222

              connect  wscat -n -c wss://localhost:8443/jobs -P
                       wscat --ca '/home/a b/ca.crt' -c wss://localhost:8443/jobs -P
                       websocat -k wss://localhost:8443/jobs
              large    base64 /dev/urandom | tr -d '\n' | head -c 102400 > big_message.txt
                       cat big_message.txt | websocat -k -B 200000 wss://localhost:8443/jobs  # closed with 1009: maxMessageSize is 64Ki
              stream   target/release/wsgw stream JOBS 'jobs.>'  # once; it must exist
              publish  target/release/wsgw pub jobs.demo 'hello'
              status   curl -k https://localhost:8443/status
              metrics  http://127.0.0.1:9113/metrics  (nginx and all workers)
                       http://127.0.0.1:19001/metrics  (worker-1)
              change   edit gateway.yaml: it is watched
              stop     Ctrl-C

        "]],
        );
    }

    #[test]
    fn a_token_stands_where_the_gateway_looks_for_it() {
        let spec = "{auth: {providers: [{name: sso, type: OIDC, oidc: {issuer: 'https://sso.example.com/realms/shop', \
            audiences: [wsgateway]}}]}, routes: [{name: a, path: /me, fromClient: {type: Discard}, \
            toClient: [{name: live, type: Core, core: {subjects: ['users.{claims.sub}.>']}}]}, \
            {name: b, path: /open, authorization: {access: Anonymous}, fromClient: {type: Discard}}]}";
        check(
            spec,
            |lines| lines.workers.truncate(1),
            &expect![[r#"

                notifications is ready: nginx, 1 worker, NATS at nats://127.0.0.1:4222

                  token    TOKEN=…  # an access token of https://sso.example.com/realms/shop for wsgateway
                  connect  wscat -n -c wss://localhost:8443/me -P -H "Authorization: Bearer $TOKEN"
                           wscat --ca '/home/a b/ca.crt' -c wss://localhost:8443/me -P -H "Authorization: Bearer $TOKEN"
                           websocat -k -H="Authorization: Bearer $TOKEN" wss://localhost:8443/me
                           wscat -n -c wss://localhost:8443/open -P
                           wscat --ca '/home/a b/ca.crt' -c wss://localhost:8443/open -P
                           websocat -k wss://localhost:8443/open
                  large    base64 /dev/urandom | tr -d '\n' | head -c 102400 > big_message.txt
                           cat big_message.txt | websocat -k -H="Authorization: Bearer $TOKEN" -B 200000 wss://localhost:8443/me  # closed with 1009: maxMessageSize is 64Ki
                  publish  target/release/wsgw pub 'users.{claims.sub}.demo' 'hello'
                  status   curl -k https://localhost:8443/status
                  metrics  http://127.0.0.1:9113/metrics  (nginx and all workers)
                           http://127.0.0.1:19001/metrics  (worker-1)
                  change   edit gateway.yaml: it is watched
                  stop     Ctrl-C

            "#]],
        );
        for (source, wscat, websocat) in [
            (
                "{type: Subprotocol}",
                r#"/me -P -s wsgateway.plain -s "wsgateway.bearer.$TOKEN""#,
                r#"websocat -k --protocol "wsgateway.plain, wsgateway.bearer.$TOKEN" wss://localhost:8443/me"#,
            ),
            (
                "{type: Cookie, cookie: {name: session}}",
                r#"/me -P -H "Cookie: session=$TOKEN""#,
                r#"websocat -k -H="Cookie: session=$TOKEN" wss://localhost:8443/me"#,
            ),
            (
                "{type: Query}",
                r#"-c "wss://localhost:8443/me?access_token=$TOKEN" -P"#,
                r#"websocat -k "wss://localhost:8443/me?access_token=$TOKEN""#,
            ),
        ] {
            let spec = spec.replace(
                "{auth: {",
                &format!("{{websocket: {{allowedOrigins: [SameHost]}}, auth: {{tokenSources: [{source}], "),
            );
            let text = text(&spec, |_| {});
            assert!(text.contains(wscat) && text.contains(websocat), "{text}");
        }
    }
}
