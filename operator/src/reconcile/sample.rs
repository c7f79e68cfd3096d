//! The minute's question to the gateways. Where nothing has changed and they say nothing new, that is all of a visit: a
//! large fleet would else have all that it names read once a minute.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use wsgateway_crds::report::{ProviderReport, Report, hash};

use super::{Reconciler, lock};
use crate::{
    pods::Said,
    queue::{Outcome, Visit, a_little_early},
    status::connections_of,
    watch::Key,
};

/// How a `WsGateway` stood when all of it was last looked at.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// What its gateways said, beside how many connections they have.
    said: String,
    /// Their connections as the status has them.
    connections: Option<i64>,
    /// When all of it is to be looked at again.
    until: Instant,
}

impl Reconciler {
    /// Asks the gateways alone where that is all that is due. `None`: all of the `WsGateway` is to be looked at, and so it
    /// is the next time where that fails.
    pub(super) async fn sample(&self, key: &Key, visit: Visit) -> Option<Outcome> {
        let before = lock(&self.samples).remove(key)?;
        let left = before.until.checked_duration_since(Instant::now())?;
        if visit == Visit::Changed {
            return None;
        }
        let pods = self.context.stores.pods.of(key);
        let period = self.context.config.sample_period;
        let reports = self.reports.of(&pods, period).await;
        let is_news = said(&reports) != before.said
            || connections_of(&reports, before.connections) != before.connections;
        if is_news {
            return None;
        }
        lock(&self.samples).insert(key.clone(), before);
        Some(Outcome::Again(period.min(left)))
    }

    /// All of a `WsGateway` was looked at. It is again after this time at the latest, and its gateways are asked before.
    pub(super) fn settled(
        &self,
        key: &Key,
        reports: &BTreeMap<String, Said>,
        connections: Option<i64>,
        until: Option<Duration>,
    ) -> Outcome {
        if reports.is_empty() {
            return until.map_or(Outcome::Settled, Outcome::Again);
        }
        let resync = a_little_early(self.context.config.resync);
        let until = until.unwrap_or(resync).min(resync);
        let sample = Sample {
            said: said(reports),
            connections,
            until: Instant::now() + until,
        };
        lock(&self.samples).insert(key.clone(), sample);
        Outcome::Again(until.min(self.context.config.sample_period))
    }
}

fn said(reports: &BTreeMap<String, Said>) -> String {
    let said = reports.iter().map(|(uid, said)| {
        // Keys are fetched again and again, which is no news while they are not old.
        let timeless = |provider: &ProviderReport| ProviderReport {
            loaded: provider.loaded.filter(|_| provider.stale),
            ..provider.clone()
        };
        let rest = said.as_ref().map(|report| Report {
            connections: 0,
            auth: report.auth.iter().map(timeless).collect(),
            ..report.clone()
        });
        (uid, rest)
    });
    let said: Vec<_> = said.collect();
    hash(&format!("{said:?}"))
}
