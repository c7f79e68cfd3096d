//! Sessions that their issuer ends (OpenID Connect Back-Channel Logout 1.0).
//!
//! ```text
//! issuer ──POST──▶ endpoint ──▶ verified ──▶ this process: table, shards
//!                                  └──▶ NATS ──▶ every gateway, each of which verifies the token itself
//! ```
//!
//! A gateway that begins to listen asks the others for what was told of late, so that one which starts or was cut off
//! knows it too. What travels is the logout token as the issuer signed it, so that whoever may publish on the subject can end
//! nobody's session. A connection keeps two numbers and a time for this, and none where its issuer cannot end sessions.

mod endpoint;
mod recent;
mod table;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::yield_now,
    time::{sleep, timeout},
};
use wsgateway_auth::{Claims, Logout};

pub use self::endpoint::{answer, provider};
use self::{
    recent::{AGE_MAX, Recent},
    table::Table,
};
use crate::{
    auth::{AuthMetrics, part},
    config::LiveConfig,
    exchange::{ShardInbox, ToShard},
    nats::NatsHandle,
    probe::Allowance,
};

/// Logout tokens from NATS that may wait to be verified. More wait in the subscription.
const HEARD_MAX: usize = 256;

/// How long NATS may take to bring back what was published, which shows that every gateway on it gets it.
const ECHO_WAIT: Duration = Duration::from_secs(2);

/// What a gateway publishes that begins to listen, or comes back: the others say again what it may have missed.
const QUESTION: &[u8] = b"?";

/// Within which time one of them does so, and the others hear that they need not.
const ANSWER_SPREAD: Duration = Duration::from_millis(500);

/// How often one does. Who asks meanwhile is answered then.
const ANSWER_INTERVAL: Duration = Duration::from_secs(2);

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
    recent: Mutex<Recent>,
    /// Somebody wants to hear what is recent.
    asked: Notify,
    /// Who waits until NATS has brought back a token.
    waiting: Mutex<HashMap<Bytes, Vec<oneshot::Sender<()>>>>,
    live: watch::Sender<Arc<LiveConfig>>,
    shards: OnceLock<Vec<ShardInbox>>,
    nats: NatsHandle,
    allowance: Allowance<{ endpoint::BURST }, { endpoint::INTERVAL_MS }>,
    bodies: Semaphore,
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
            recent: Mutex::default(),
            asked: Notify::new(),
            waiting: Mutex::default(),
            live: watch::Sender::new(live),
            shards: OnceLock::new(),
            nats,
            allowance: Allowance::default(),
            bodies: Semaphore::new(endpoint::BODIES_MAX),
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
        let live = self.live.subscribe();
        let follow = self.nats.follow(live, subject, QUESTION, sender);
        let verify = async {
            while let Some(token) = heard.recv().await {
                self.hear(token).await;
                // Others of this thread have their turn between two signatures.
                yield_now().await;
            }
        };
        tokio::join!(follow, verify, self.answer_questions());
    }

    /// A token that NATS brings, from this gateway or another, or from who knows whom.
    async fn hear(&self, token: Bytes) {
        if token == QUESTION {
            self.asked.notify_one();
            return;
        }
        let is_known = self.recent().is_known(&token, Instant::now());
        if let Some(waiting) = self.waiting().remove(&token) {
            for told in waiting {
                // Who no longer waits has said so to the issuer.
                let _ = told.send(());
            }
            return;
        }
        if is_known {
            return;
        }
        let live = self.live.borrow().clone();
        let verified = match (&live.auth, std::str::from_utf8(&token)) {
            (Some(auth), Ok(token)) => auth.verify_logout(token, None, AGE_MAX).await,
            _ => return self.metrics.logout("gateways", "TokenMalformed"),
        };
        match verified {
            Ok(ended) => {
                self.apply(ended, token);
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

    /// Says again what is recent to those who ask, unless others have done so first.
    async fn answer_questions(&self) {
        loop {
            self.asked.notified().await;
            let asked = Instant::now();
            sleep(part(ANSWER_SPREAD)).await;
            let live = self.live.borrow().clone();
            let subject = live
                .auth
                .as_ref()
                .and_then(|auth| auth.logout_subject.clone());
            let tokens = self.recent().untold_since(asked);
            for (subject, token) in subject.into_iter().cycle().zip(tokens) {
                // Where there is no room now, others tell the rest, or the next who asks hears it.
                if self.nats.try_publish(subject, token).is_err() {
                    break;
                }
            }
            sleep(ANSWER_INTERVAL).await;
        }
    }

    /// From here on nobody comes in with what is over, and who is in goes. The table is first: who is let in by it
    /// before is known to a shard by the time that it is told.
    fn apply(&self, ended: Ended, token: Bytes) {
        let now = Instant::now();
        self.recent().keep(token, now);
        self.table().insert(&ended, now);
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

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Bytes, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
