//! The connection to NATS: who we say we are, how we come back, and what is known about it.

mod failure;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{
    AuthError, Client, ClientError, ConnectOptions, Event, ServerAddr, connection::State,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use wsgateway_crds::{
    config::{self, NatsCredentials},
    report::NatsReport,
};

use self::failure::Failure;
use super::{
    NatsConfigError, identity,
    metrics::{DropReason, NatsMetrics},
};
use crate::telemetry::chain;

/// A server that is silent for so long is asked whether it lives; it is given up when two are not
/// answered.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait before a second attempt, at most; it doubles with each further one.
const RECONNECT_DELAY_FIRST: Duration = Duration::from_millis(50);

/// The longest wait before an attempt.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(4);

/// Messages that may wait in one subscription. The client parses all that the socket holds before the
/// pump gets its turn, some megabytes after a stall, which must fit; it is 12 MB at most, and only
/// while it is used.
const SUBSCRIPTION_MESSAGES_MAX: usize = 65_536;

/// Commands that may wait for the connection.
const COMMANDS_MAX: usize = 2_048;

/// A lame duck waits 10 s by default before it closes its first client: we go earlier, and not all at
/// once.
const LAME_DUCK_JITTER: Duration = Duration::from_secs(3);

/// How often the same failure to connect is told.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// How often the client is asked for its state, since its events are lost when too many come at once.
pub(super) const OBSERVE_INTERVAL: Duration = Duration::from_secs(1);

/// What is known about the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LinkState {
    /// Whether it stands.
    pub(super) connected: bool,
    /// How often it was made: another number means that what the server knew of us is gone.
    pub(super) connects: u64,
}

/// The connection and its state, shared by all that uses it.
#[derive(Debug)]
pub(super) struct Link {
    client: OnceLock<Client>,
    has_connected: AtomicBool,
    state: watch::Sender<LinkState>,
    lame_duck: Notify,
    /// Why it does not stand, and when that was told last.
    failure: Mutex<Option<(Failure, Instant)>>,
    metrics: NatsMetrics,
}

impl Link {
    pub(super) fn new(metrics: NatsMetrics) -> Self {
        Self {
            client: OnceLock::new(),
            has_connected: AtomicBool::new(false),
            state: watch::Sender::default(),
            lame_duck: Notify::new(),
            failure: Mutex::new(None),
            metrics,
        }
    }

    /// The client, once there is one.
    pub(super) fn client(&self) -> Option<Client> {
        self.client.get().cloned()
    }

    /// Whether the connection stands at this moment.
    pub(super) fn is_connected(&self) -> bool {
        self.client
            .get()
            .is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// Whether it ever stood.
    pub(super) fn has_connected(&self) -> bool {
        self.has_connected.load(Ordering::Relaxed) || self.is_connected()
    }

    /// The largest payload that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.get().map_or(usize::MAX, Client::max_payload)
    }

    /// How the state changes.
    pub(super) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// What there is to say of it.
    pub(super) fn report(&self) -> NatsReport {
        if self.is_connected() {
            return NatsReport {
                connected: true,
                reason: String::new(),
                message: String::new(),
            };
        }
        let known = self.failure().as_ref().map(|(failure, _)| failure.clone());
        let Failure { reason, message } =
            known.unwrap_or_else(|| Failure::unknown(self.has_connected()));
        NatsReport {
            connected: false,
            reason: reason.to_owned(),
            message,
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<(Failure, Instant)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the client's state with what was known.
    pub(super) fn observe(&self) {
        let Some(client) = self.client.get() else {
            return;
        };
        let connected = client.connection_state() == State::Connected;
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let now = LinkState {
            connected,
            connects,
        };
        self.state.send_if_modified(|known| {
            if *known == now {
                return false;
            }
            self.metrics
                .connects
                .inc_by(now.connects.saturating_sub(known.connects));
            // A connection that was lost and made again between two looks was lost as well.
            let lost = now.connects.saturating_sub(u64::from(now.connected));
            let known_lost = known.connects.saturating_sub(u64::from(known.connected));
            self.metrics
                .disconnects
                .inc_by(lost.saturating_sub(known_lost));
            self.metrics.connected.set(i64::from(connected));
            if connected {
                let server = client.try_server_info().unwrap_or_default();
                info!(server = %server.server_name, connects, "connected to NATS");
                self.has_connected.store(true, Ordering::Relaxed);
                *self.failure() = None;
            } else {
                warn!("disconnected from NATS");
            }
            *known = now;
            true
        });
    }

    fn handle_event(&self, event: Event) {
        match event {
            Event::LameDuckMode => {
                self.metrics.lame_ducks.inc();
                warn!("the NATS server will shut down");
                self.lame_duck.notify_one();
            }
            Event::SlowConsumer(_) => self.metrics.drop_messages(DropReason::SubscriptionFull, 1),
            Event::ServerError(error) => warn!(%error, "the NATS server reports an error"),
            Event::ClientError(ClientError::Other(text)) => {
                if let Some(failure) = Failure::of_client(text) {
                    self.fail(failure);
                }
            }
            Event::ClientError(error) => warn!(%error, "the NATS client reports an error"),
            Event::Connected | Event::Disconnected | Event::Draining | Event::Closed => {}
        }
        self.observe();
    }

    /// An attempt to connect has failed. There are many in an outage: one a while is told, and one for
    /// each new reason.
    fn fail(&self, failure: Failure) {
        let mut last = self.failure();
        match &*last {
            Some((known, at)) if *known == failure && at.elapsed() < FAILURE_LOG_INTERVAL => {}
            _ => {
                let Failure { reason, message } = &failure;
                warn!(reason, "cannot connect to NATS, trying again: {message}");
                *last = Some((failure, Instant::now()));
            }
        }
    }

    /// Leaves servers that say they will shut down, for as long as the process runs.
    ///
    /// The client may pick any server of its pool, but a lame duck has closed its listener, so that it
    /// does not come back to it. Where there is no other server, staying serves clients longest.
    pub(super) async fn leave_lame_ducks(&self) {
        loop {
            self.lame_duck.notified().await;
            tokio::time::sleep(jitter(LAME_DUCK_JITTER)).await;
            let Some(client) = self.client.get() else {
                continue;
            };
            let servers = client
                .server_pool()
                .await
                .map_or(0, |servers| servers.len());
            if servers < 2 || !self.is_connected() {
                continue;
            }
            info!("moving to another NATS server");
            if let Err(error) = client.force_reconnect().await {
                warn!(%error, "cannot move to another NATS server");
            }
        }
    }
}

/// Reads all that the configuration names, to find mistakes before anything is served.
pub(super) fn check(config: &config::Nats) -> Result<(), NatsConfigError> {
    servers(config)?;
    if let Some(credentials) = &config.credentials {
        identity::authenticate(credentials, b"nonce")?;
    }
    let Some(tls) = &config.tls else {
        return Ok(());
    };
    let certificates = tls
        .client_certificate
        .iter()
        .map(|files| &files.certificate_file);
    for file in tls.ca_file.iter().chain(certificates) {
        let found = CertificateDer::pem_slice_iter(identity::read(file)?.as_bytes()).next();
        if !matches!(found, Some(Ok(_))) {
            return Err(identity::invalid(file, "PEM certificate"));
        }
    }
    if let Some(files) = &tls.client_certificate {
        let text = identity::read(&files.key_file)?;
        PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| identity::invalid(&files.key_file, "PEM private key"))?;
    }
    Ok(())
}

/// Connects, in the background: it comes back at once, and goes on trying for as long as it takes.
pub(super) async fn connect(
    config: &config::Nats,
    link: &Arc<Link>,
) -> Result<(), NatsConfigError> {
    // Other crates in the process may bring in a second provider; rustls then wants to be told.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (events, delays) = (link.clone(), link.clone());
    let mut options = authenticated(config.credentials.as_ref(), link)
        .name(format!("wsgateway {}", hostname()))
        .retry_on_initial_connect()
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
        .client_capacity(COMMANDS_MAX)
        .event_callback(move |event| {
            events.handle_event(event);
            std::future::ready(())
        })
        .reconnect_delay_callback(move |attempt| match attempt {
            0 | 1 if !delays.has_connected() => Duration::ZERO,
            _ => jitter(reconnect_delay_max(attempt)),
        });
    if let Some(tls) = &config.tls {
        options = options.require_tls(true);
        if let Some(file) = &tls.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some(files) = &tls.client_certificate {
            options = options
                .add_client_certificate(files.certificate_file.clone(), files.key_file.clone());
        }
    }
    let client = options
        .connect(servers(config)?)
        .await
        .map_err(NatsConfigError::Connect)?;
    // Set once: `run` consumes what it is called on.
    let _ = link.client.set(client);
    link.observe();
    Ok(())
}

/// The servers' addresses.
pub(super) fn servers(config: &config::Nats) -> Result<Vec<ServerAddr>, NatsConfigError> {
    let parse = |server: &String| {
        server.parse().map_err(|source| {
            // What stands before the `@` is a password.
            let server = server
                .rsplit_once('@')
                .map_or(server.as_str(), |(_, host)| host)
                .to_owned();
            NatsConfigError::Server { server, source }
        })
    };
    config.servers.iter().map(parse).collect()
}

/// Options that read the credentials' files at each attempt to connect, so that a Secret that was
/// rotated takes effect with the next connection. The certificates' files are read so by the client.
fn authenticated(credentials: Option<&NatsCredentials>, link: &Arc<Link>) -> ConnectOptions {
    let Some(credentials) = credentials.cloned() else {
        return ConnectOptions::new();
    };
    let link = link.clone();
    ConnectOptions::with_auth_callback(move |nonce| {
        // A few hundred bytes from memory: the control thread may wait for them.
        let auth = identity::authenticate(&credentials, &nonce);
        std::future::ready(auth.map_err(|error| {
            let reason = error.reason();
            link.fail(Failure::new(reason, chain(&error)));
            AuthError::new(reason)
        }))
    })
}

fn hostname() -> String {
    // Of Linux; elsewhere shells tell it.
    identity::read("/proc/sys/kernel/hostname".as_ref())
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Full jitter over a wait that doubles, since all gateways lose a server at the same moment.
fn reconnect_delay_max(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(10);
    (RECONNECT_DELAY_FIRST * 2_u32.pow(doublings)).min(RECONNECT_DELAY_MAX)
}

/// A random part of a duration.
pub(super) fn jitter(max: Duration) -> Duration {
    // The standard library seeds its hashers at random; that is random enough to spread reconnects.
    let random = RandomState::new().hash_one(()) as u32;
    max.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_before_an_attempt_doubles_up_to_four_seconds() {
        let waits: Vec<_> = [1, 2, 3, 7, 8, 1_000]
            .map(|attempt| reconnect_delay_max(attempt).as_millis())
            .into();
        assert_eq!(waits, [50, 100, 200, 3_200, 4_000, 4_000]);
        let jitters: Vec<_> = (0..100).map(|_| jitter(Duration::from_secs(1))).collect();
        assert!(jitters.iter().all(|wait| *wait <= Duration::from_secs(1)));
        assert!(
            jitters
                .iter()
                .any(|wait| *wait < Duration::from_millis(400))
        );
        assert!(
            jitters
                .iter()
                .any(|wait| *wait > Duration::from_millis(600))
        );
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let server = "http://user:secret@host:1".to_owned();
        let config = config::Nats {
            servers: vec![server],
            tls: None,
            credentials: None,
            jet_stream: config::JetStreamApi::default(),
        };
        let error = servers(&config).unwrap_err().to_string();
        assert_eq!(error, "`host:1` is not the address of a NATS server");
    }
}
