//! Sessions that their issuer ends (OpenID Connect Back-Channel Logout 1.0).
//!
//! ```text
//! issuer ──POST──▶ endpoint ──▶ verified ──▶ this process: table, shards
//!                                  └──▶ NATS ──▶ every gateway, each of which verifies the token itself
//! ```
//!
//! What travels is the logout token as the issuer signed it, so that whoever may publish on the subject can end
//! nobody's session. A connection keeps two numbers and a time for this, and none where its issuer cannot end sessions.

mod endpoint;
mod table;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::timeout,
};
use wsgateway_auth::{Claims, Logout};

pub use self::endpoint::{answer, provider};
use self::table::Table;
use crate::{
    auth::AuthMetrics,
    config::LiveConfig,
    exchange::{ShardInbox, ToShard},
    nats::NatsHandle,
    probe::Allowance,
};

/// Logout tokens from NATS that may wait to be verified. More wait in the subscription.
const HEARD_MAX: usize = 256;

/// How long NATS may take to bring back what was published, which shows that every gateway on it gets it.
const ECHO_WAIT: Duration = Duration::from_secs(2);

/// Keyed anew in each process: nobody can make two names of one number.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a key stands for.
#[derive(Debug, Clone, Copy, Hash)]
enum Kind {
    /// A session.
    Session,
    /// All sessions of a subject.
    Subject,
    /// What is a subject's, and of no session that is known: a logout of any of them ends it.
    Loose,
}

/// The number that stands for a name. Never 0, which stands for none.
fn key(kind: Kind, issuer: &str, name: &str) -> u64 {
    HASHER.hash_one((kind, issuer, name)) | 1
}

/// Whose connection it is, as far as logouts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// What it ends with; 0 for nothing.
    keys: [u64; 2],
    /// When its token was issued, in seconds since 1970; 0 where that is not known.
    issued_at: u64,
}

impl Login {
    /// What a token of an issuer says.
    pub fn new(issuer: &str, claims: &Claims, issued_at: Option<Duration>) -> Self {
        let subject = claims.text("sub");
        let of_subject = |kind| {
            subject
                .as_deref()
                .map_or(0, |subject| key(kind, issuer, subject))
        };
        let session = claims.text("sid");
        let session = session.map_or(of_subject(Kind::Loose), |session| {
            key(Kind::Session, issuer, &session)
        });
        Self {
            keys: [session, of_subject(Kind::Subject)],
            issued_at: issued_at.unwrap_or_default().as_secs(),
        }
    }

    /// Whether it is over; `until` says up to when tokens of a key were issued that are.
    pub fn is_over(&self, until: impl Fn(u64) -> Option<u64>) -> bool {
        let mut keys = self.keys.into_iter().filter(|key| *key != 0);
        keys.any(|key| until(key).is_some_and(|until| self.issued_at <= until))
    }
}

/// What a logout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    keys: [u64; 2],
    /// Tokens that were issued up to then, in seconds since 1970. The issuer's clock has no finer hand: what was issued
    /// in the second of the logout is over too.
    until: u64,
}

impl Ended {
    /// What a logout token of an issuer says.
    pub fn new(issuer: &str, logout: &Logout) -> Self {
        let of =
            |kind, name: &Option<String>| name.as_deref().map_or(0, |name| key(kind, issuer, name));
        let keys = match &logout.session {
            Some(_) => [
                of(Kind::Session, &logout.session),
                of(Kind::Loose, &logout.subject),
            ],
            None => [of(Kind::Subject, &logout.subject), 0],
        };
        Self {
            keys,
            until: logout.issued_at.as_secs(),
        }
    }

    /// Each thing that it ends, and up to when.
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let until = self.until;
        let keys = self.keys.into_iter().filter(|key| *key != 0);
        keys.map(move |key| (key, until))
    }
}

/// The logouts of the process.
#[derive(Debug)]
pub struct Logouts {
    table: Mutex<Table>,
    /// Who waits until NATS has brought back a token.
    waiting: Mutex<HashMap<Bytes, Vec<oneshot::Sender<()>>>>,
    live: watch::Sender<Arc<LiveConfig>>,
    shards: OnceLock<Vec<ShardInbox>>,
    nats: NatsHandle,
    allowance: Allowance<{ endpoint::BURST }, { endpoint::INTERVAL_MS }>,
    metrics: AuthMetrics,
}

/// Why the other gateways do not hear of a logout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Untold;

impl Logouts {
    /// None yet.
    pub fn new(live: Arc<LiveConfig>, nats: NatsHandle, metrics: AuthMetrics) -> Self {
        Self {
            table: Mutex::default(),
            waiting: Mutex::default(),
            live: watch::Sender::new(live),
            shards: OnceLock::new(),
            nats,
            allowance: Allowance::default(),
            metrics,
        }
    }

    /// Goes over to another configuration.
    pub fn reload(&self, live: Arc<LiveConfig>) {
        self.live.send_replace(live);
    }

    /// Whether a login was ended. Cheap, and asked only where an issuer can end any.
    pub fn covers(&self, login: &Login) -> bool {
        self.table().covers(login)
    }

    /// Hears what other gateways were told, for as long as the process runs.
    pub async fn run(self: Arc<Self>, shards: Vec<ShardInbox>) {
        // It is run once.
        let _ = self.shards.set(shards);
        let (sender, mut heard) = mpsc::channel(HEARD_MAX);
        let subject = |live: &mut watch::Receiver<Arc<LiveConfig>>| {
            let live = live.borrow_and_update();
            live.auth
                .as_ref()
                .and_then(|auth| auth.logout_subject.clone())
        };
        let follow = self.nats.follow(self.live.subscribe(), subject, sender);
        let verify = async {
            while let Some(token) = heard.recv().await {
                self.hear(token).await;
                // Others of this thread have their turn between two signatures.
                yield_now().await;
            }
        };
        tokio::join!(follow, verify);
    }

    /// A token that NATS brings, from this gateway or another, or from who knows whom.
    async fn hear(&self, token: Bytes) {
        if let Some(waiting) = self.waiting().remove(&token) {
            for told in waiting {
                // Who no longer waits has said so to the issuer.
                let _ = told.send(());
            }
            return;
        }
        let live = self.live.borrow().clone();
        let verified = match (&live.auth, std::str::from_utf8(&token)) {
            (Some(auth), Ok(token)) => auth.verify_logout(token, None).await,
            _ => return self.metrics.logout("gateways", "TokenMalformed"),
        };
        match verified {
            Ok(ended) => {
                self.apply(ended);
                self.table().set_told(&ended);
                self.metrics.logout("gateways", "accepted");
            }
            Err(refusal) => {
                let reason = refusal.reason();
                tracing::debug!(reason, "a logout token that came by NATS is refused");
                self.metrics.logout("gateways", reason);
            }
        }
    }

    /// From here on nobody comes in with what is over, and who is in goes. The table is first: who is let in by it
    /// before is known to a shard by the time that it is told.
    fn apply(&self, ended: Ended) {
        self.table().insert(&ended, Instant::now());
        for shard in self.shards.get().into_iter().flatten() {
            shard.send(ToShard::LogOut(ended));
        }
    }

    /// Tells all gateways, and waits until NATS shows that it has.
    async fn tell_all(&self, token: Bytes) -> Result<(), Untold> {
        let live = self.live.borrow().clone();
        let subject = live
            .auth
            .as_ref()
            .and_then(|auth| auth.logout_subject.clone());
        let (told, heard) = oneshot::channel();
        self.waiting().entry(token.clone()).or_default().push(told);
        let published = match subject {
            Some(subject) => self.nats.try_publish(subject, token.clone()).is_ok(),
            None => false,
        };
        if published && matches!(timeout(ECHO_WAIT, heard).await, Ok(Ok(()))) {
            return Ok(());
        }
        let mut waiting = self.waiting();
        if let Some(others) = waiting.get_mut(&token) {
            others.retain(|told| !told.is_closed());
            if others.is_empty() {
                waiting.remove(&token);
            }
        }
        Err(Untold)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Bytes, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
