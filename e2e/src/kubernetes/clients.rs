//! Many clients at once, as browsers are: each stays connected, and comes back when it is cut off, at once and then
//! less and less often. What happens to each is written down.

mod history;

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    panic,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
    task::LocalSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, header},
        protocol::WebSocketConfig,
    },
};

pub use self::history::{Entry, Event, History};
use super::network::enter;

/// The first attempts are spread over so long: people do not come in the same moment.
const ARRIVAL: Duration = Duration::from_secs(2);

/// How long one waits after an end, at most. It doubles with each attempt that fails, and half of it is random.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// See [`BACKOFF_MIN`].
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How many connect at the same time: these clients stand for as many machines, but have one processor or two for all
/// their TLS.
const ATTEMPTS_AT_ONCE: usize = 32;

/// How long an attempt may take before it counts as failed.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// What each reads at once: a thousand buffers of the library's own size would be 128 MiB.
const READ_BYTES: usize = 4 << 10;

/// Where clients go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The network that they are in, such as `/proc/PID/ns/net`.
    pub network: PathBuf,
    /// The proxy.
    pub address: SocketAddr,
    /// The host that they ask for.
    pub host: String,
    /// The authority that they trust, in PEM.
    pub authority: String,
}

/// Clients that do the same.
#[derive(Debug, Clone)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// What they ask for.
    pub path: String,
    /// The page that they are on, where they are browsers.
    pub origin: Option<String>,
}

impl Group {
    /// So many programs that ask for this.
    pub fn new(count: usize, path: &str) -> Self {
        Self {
            count,
            path: path.to_owned(),
            origin: None,
        }
    }

    /// The same as browsers on a page.
    #[must_use]
    pub fn on_page(self, origin: &str) -> Self {
        Self {
            origin: Some(origin.to_owned()),
            ..self
        }
    }
}

/// The clients. They go when this is dropped.
#[derive(Debug)]
pub struct Clients {
    seen: Arc<Seen>,
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What was seen by all of them.
#[derive(Debug, Default)]
struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many are open.
    open: usize,
    entries: Vec<Entry>,
    /// How often each message has come, over all clients.
    messages: BTreeMap<String, usize>,
}

impl Clients {
    /// Starts them, the groups in order: the first client is number 0. They all connect from a thread of their own.
    pub fn start(to: &Destination, groups: &[Group]) -> Self {
        let seen = Arc::<Seen>::default();
        let (leave, left) = oneshot::channel();
        let (to, groups, into) = (to.clone(), groups.to_vec(), seen.clone());
        let thread = thread::Builder::new().name("clients".to_owned());
        let thread = thread.spawn(move || {
            let runtime = enter(&to.network);
            let clients = LocalSet::new();
            let way = Way::new(to);
            let all = groups
                .iter()
                .flat_map(|group| (0..group.count).map(move |_| group));
            for (number, group) in all.enumerate() {
                let client = Client {
                    number,
                    group: group.clone(),
                    way: way.clone(),
                    seen: into.clone(),
                };
                clients.spawn_local(client.live());
            }
            // An error says that they are dropped, which means the same.
            let _ = clients.block_on(&runtime, left);
        });
        Self {
            seen,
            leave: Some(leave),
            thread: Some(thread.unwrap()),
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.seen.lock().open
    }

    /// Awaits that so many are open.
    pub fn until_open(&self, count: usize, within: Duration) {
        let what = format!("{count} clients are open");
        self.seen.until(&what, within, |state| state.open == count);
    }

    /// Awaits that each of these messages has come, to whom ever.
    pub fn until_received(&self, messages: &[String], within: Duration) {
        let what = format!("{} messages have come", messages.len());
        self.seen.until(&what, within, |state| {
            let mut messages = messages.iter();
            messages.all(|message| state.messages.contains_key(message))
        });
    }

    /// Awaits that a message has come so many times.
    pub fn until_received_by(&self, count: usize, message: &str, within: Duration) {
        let what = format!("`{message}` has come {count} times");
        self.seen.until(&what, within, |state| {
            state.messages.get(message).copied().unwrap_or_default() >= count
        });
    }

    /// How often a message has come, over all clients.
    pub fn received(&self, message: &str) -> usize {
        let messages = &self.seen.lock().messages;
        messages.get(message).copied().unwrap_or_default()
    }

    /// What has happened since.
    pub fn since(&self, begin: Instant) -> History {
        let state = self.seen.lock();
        let entries = state.entries.iter().filter(|entry| entry.at >= begin);
        History::new(entries.cloned().collect())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the clients' thread has failed");
        }
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, what: &str, within: Duration, condition: impl Fn(&State) -> bool) {
        let state = self.lock();
        let (state, waited) = self
            .changed
            .wait_timeout_while(state, within, |state| !condition(state))
            .unwrap();
        assert!(
            !waited.timed_out(),
            "after {within:?} still not: {what}; {} are open: {}",
            state.open,
            History::new(state.entries.clone())
        );
    }

    fn note(&self, client: usize, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Opened => state.open += 1,
            Event::Closed { .. } => state.open -= 1,
            Event::Refused(_) => {}
        }
        state.entries.push(Entry {
            at: Instant::now(),
            client,
            event,
        });
        self.changed.notify_all();
    }

    fn receive(&self, message: &str) {
        *self.lock().messages.entry(message.to_owned()).or_default() += 1;
        self.changed.notify_all();
    }
}

/// The certificate that a proxy presents, DER.
pub fn presented(to: &Destination) -> Vec<u8> {
    let to = to.clone();
    let thread = thread::spawn(move || {
        enter(&to.network).block_on(async {
            let stream = Way::new(to).connect_tls().await.unwrap();
            let certificates = stream.get_ref().1.peer_certificates();
            certificates.expect("it should present one")[0].to_vec()
        })
    });
    thread
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// The first certificate of a PEM file, DER.
pub fn first_certificate(pem: &[u8]) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// How each gets to the proxy. TLS sessions are resumed, as browsers do.
#[derive(Clone)]
struct Way {
    to: Destination,
    tls: TlsConnector,
    attempts: Arc<Semaphore>,
}

impl Way {
    fn new(to: Destination) -> Self {
        let mut trusted = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(to.authority.as_bytes()) {
            trusted.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Self {
            to,
            tls: TlsConnector::from(Arc::new(config)),
            attempts: Arc::new(Semaphore::new(ATTEMPTS_AT_ONCE)),
        }
    }

    async fn connect_tls(&self) -> Result<TlsStream<TcpStream>, Box<dyn Error>> {
        let stream = TcpStream::connect(self.to.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.to.host.clone())?;
        Ok(self.tls.connect(name, stream).await?)
    }

    async fn connect(&self, group: &Group) -> Result<Socket, Box<dyn Error>> {
        let stream = self.connect_tls().await?;
        let url = format!("wss://{}{}", self.to.host, group.path);
        let mut request = url.into_client_request()?;
        if let Some(origin) = &group.origin {
            let origin = HeaderValue::from_str(origin)?;
            request.headers_mut().insert(header::ORIGIN, origin);
        }
        let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        Ok(socket)
    }
}

/// One of them.
struct Client {
    number: usize,
    group: Group,
    way: Way,
    seen: Arc<Seen>,
}

impl Client {
    async fn live(self) {
        let mut random = Random::new(self.number);
        sleep(ARRIVAL.mul_f64(random.share())).await;
        let mut backoff = BACKOFF_MIN;
        loop {
            let turn = self.way.attempts.acquire().await;
            let attempt = timeout(ATTEMPT_MAX, self.way.connect(&self.group)).await;
            drop(turn);
            let event = match attempt {
                Ok(Ok(socket)) => {
                    self.seen.note(self.number, Event::Opened);
                    backoff = BACKOFF_MIN;
                    self.follow(socket).await
                }
                Ok(Err(error)) => Event::Refused(refusal(&*error)),
                Err(_elapsed) => Event::Refused("no answer".to_owned()),
            };
            let was_refused = matches!(event, Event::Refused(_));
            self.seen.note(self.number, event);
            sleep(backoff.mul_f64(0.5 + 0.5 * random.share())).await;
            if was_refused {
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    /// Reads until the end, which it returns. The library answers pings and the close frame meanwhile.
    async fn follow(&self, mut socket: Socket) -> Event {
        let mut said = None;
        while let Some(received) = socket.next().await {
            match received {
                Ok(Message::Text(text)) => self.seen.receive(&text),
                Ok(Message::Close(frame)) => {
                    said = Some(frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.to_string())
                    }));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // RFC 6455, section 7.1.5: what a browser says of an end without a close frame.
        let (code, reason) = said.unwrap_or((1006, String::new()));
        Event::Closed { code, reason }
    }
}

/// Why an attempt failed: the status where there was one, and the gateway's reason.
fn refusal(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Http(response)) => {
            let reason = response.headers().get("wsgateway-reason");
            let reason = reason.and_then(|reason| reason.to_str().ok());
            format!("{} {}", response.status().as_u16(), reason.unwrap_or(""))
                .trim_end()
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Numbers that need only differ between clients (xorshift64).
struct Random(u64);

impl Random {
    fn new(seed: usize) -> Self {
        Self((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as f64 / u64::MAX as f64
    }
}
