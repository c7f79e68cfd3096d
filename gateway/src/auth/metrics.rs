//! What is counted of issuers and their keys. Refused handshakes are counted with all others.

use std::{
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabel {
    provider: String,
}

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabel {
    provider: String,
    /// `loaded`, or why not.
    result: &'static str,
}

/// What came of a logout token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogoutLabel {
    /// Who brought it: `issuer`, or `gateways`, by NATS.
    from: &'static str,
    /// `accepted`, `repeated`, or why not.
    result: &'static str,
}

/// What is counted of all issuers.
#[derive(Debug, Clone, Default)]
pub struct AuthMetrics {
    fetches: Family<FetchLabel, Counter>,
    keys: Family<ProviderLabel, Gauge>,
    loaded: Family<ProviderLabel, Gauge<f64, AtomicU64>>,
    logouts: Family<LogoutLabel, Counter>,
}

impl AuthMetrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = metrics.clone();
        let registry = registry.sub_registry_with_prefix("wsgateway_auth");
        registry.register(
            "key_fetches",
            "Fetches of an issuer's keys, by what came of them",
            m.fetches,
        );
        registry.register(
            "keys",
            "Keys of an issuer that tokens are verified with",
            m.keys,
        );
        registry.register(
            "keys_loaded_timestamp_seconds",
            "When an issuer's keys were loaded last",
            m.loaded,
        );
        registry.register(
            "logouts",
            "Logout tokens, by who brought them and what came of them",
            m.logouts,
        );
        metrics
    }

    /// A logout token came.
    pub fn logout(&self, from: &'static str, result: &'static str) {
        self.logouts
            .get_or_create(&LogoutLabel { from, result })
            .inc();
    }

    pub(super) fn issuer(&self, provider: &str) -> IssuerMetrics {
        IssuerMetrics {
            provider: provider.to_owned(),
            all: self.clone(),
        }
    }
}

/// What is counted of one issuer.
#[derive(Debug)]
pub(super) struct IssuerMetrics {
    provider: String,
    all: AuthMetrics,
}

impl IssuerMetrics {
    pub(super) fn loaded(&self, keys: usize) {
        self.fetched("loaded");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.all
            .keys
            .get_or_create(&self.label())
            .set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.all
            .loaded
            .get_or_create(&self.label())
            .set(now.as_secs_f64());
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.fetched(reason);
    }

    fn fetched(&self, result: &'static str) {
        let provider = self.provider.clone();
        self.all
            .fetches
            .get_or_create(&FetchLabel { provider, result })
            .inc();
    }

    fn label(&self) -> ProviderLabel {
        ProviderLabel {
            provider: self.provider.clone(),
        }
    }

    /// The issuer is no longer configured.
    pub(super) fn forget(&self) {
        self.all.keys.remove(&self.label());
        self.all.loaded.remove(&self.label());
    }
}
