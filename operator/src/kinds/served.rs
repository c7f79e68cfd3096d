//! Which optional kinds the API server serves, asked of its discovery every few seconds.
//!
//! Discovery is open to every authenticated client, also where only Roles are granted, so no permission to
//! read `CustomResourceDefinitions` is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::Client;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::Kind;
use crate::metrics::Metrics;

/// How often the API server is asked. It is how long a new definition may go unnoticed.
pub const DISCOVERY_PERIOD: Duration = Duration::from_secs(5);

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The optional kinds that are served now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served(BTreeSet<Kind>);

impl Served {
    /// Whether the API server has this kind. Those that are not optional always count as served.
    pub fn has(&self, kind: Kind) -> bool {
        !kind.is_optional() || self.0.contains(&kind)
    }

    /// The optional kinds that are served.
    pub fn optional(&self) -> impl Iterator<Item = Kind> + '_ {
        self.0.iter().copied()
    }

    /// This set with what one group version was found to serve. `None`: it could not be asked, so what was
    /// known of it stays.
    #[must_use]
    fn with(mut self, group: &Group, found: Option<&BTreeSet<String>>) -> Self {
        let Some(found) = found else { return self };
        for kind in &group.kinds {
            if found.contains(kind.plural()) {
                self.0.insert(*kind);
            } else {
                self.0.remove(kind);
            }
        }
        self
    }
}

impl FromIterator<Kind> for Served {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Self(
            kinds
                .into_iter()
                .filter(|kind| kind.is_optional())
                .collect(),
        )
    }
}

/// The optional kinds of one group version, which one answer covers.
#[derive(Debug)]
struct Group {
    version: String,
    kinds: Vec<Kind>,
}

fn groups() -> Vec<Group> {
    let mut groups = BTreeMap::<String, Vec<Kind>>::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_optional()) {
        let version = format!("{}/{}", kind.group(), kind.version());
        groups.entry(version).or_default().push(kind);
    }
    let group = |(version, kinds)| Group { version, kinds };
    groups.into_iter().map(group).collect()
}

/// Keeps `served` true until shutdown. The first answer replaces `None`; from then on an API server that
/// does not answer changes nothing.
pub async fn discover(
    client: Client,
    served: watch::Sender<Option<Served>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let groups = groups();
    let mut period = time::interval(DISCOVERY_PERIOD);
    period.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = period.tick() => {}
        }
        let known = served.borrow().clone();
        let mut next = known.clone().unwrap_or_default();
        let mut has_answered = false;
        for group in &groups {
            let found = tokio::select! {
                () = shutdown.cancelled() => return,
                found = ask(&client, &group.version) => found,
            };
            has_answered |= found.is_some();
            next = next.with(group, found.as_ref());
        }
        if !has_answered || known.as_ref() == Some(&next) {
            continue;
        }
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_optional()) {
            metrics.kind_served(kind, next.has(kind));
        }
        let names: Vec<_> = next.optional().map(Kind::name).collect();
        tracing::info!(kinds = names.join(","), "optional kinds that are served");
        served.send_replace(Some(next));
    }
}

/// The plurals that a group version serves; none when it is not there; `None` when that is not known.
async fn ask(client: &Client, version: &str) -> Option<BTreeSet<String>> {
    let answer = time::timeout(ANSWER_TIMEOUT, client.list_api_group_resources(version)).await;
    match answer {
        Ok(Ok(list)) => Some(list.resources.into_iter().map(|one| one.name).collect()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Some(BTreeSet::new()),
        Ok(Err(error)) => {
            tracing::debug!(version, %error, "discovery has not answered");
            None
        }
        Err(_) => {
            tracing::debug!(version, "discovery has not answered in time");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(plurals: &[&str]) -> BTreeSet<String> {
        plurals.iter().map(|&plural| plural.to_owned()).collect()
    }

    #[test]
    fn an_answer_adds_and_removes_and_no_answer_keeps() {
        let groups = groups();
        let group = groups
            .iter()
            .find(|group| group.version == "monitoring.coreos.com/v1")
            .unwrap();
        let served = Served::from_iter([Kind::Certificate]);
        let served = served.with(group, Some(&found(&["podmonitors", "alertmanagers"])));
        assert_eq!(
            served,
            [Kind::Certificate, Kind::PodMonitor].into_iter().collect()
        );
        let served = served.with(group, None);
        assert!(served.has(Kind::PodMonitor));
        let served = served.with(group, Some(&found(&["prometheusrules"])));
        assert!(!served.has(Kind::PodMonitor));
        assert!(served.has(Kind::PrometheusRule));
        assert!(!served.has(Kind::ServiceMonitor));
        let served = served.with(group, Some(&BTreeSet::new()));
        assert_eq!(served, [Kind::Certificate].into_iter().collect());
    }

    #[test]
    fn what_is_not_optional_is_always_served() {
        assert!(Served::default().has(Kind::Deployment));
        assert!(!Served::default().has(Kind::HttpRoute));
    }

    #[test]
    fn one_question_covers_a_group_version() {
        let versions: Vec<_> = groups().into_iter().map(|group| group.version).collect();
        assert_eq!(
            versions,
            [
                "cert-manager.io/v1",
                "gateway.networking.k8s.io/v1",
                "gateway.nginx.org/v1alpha1",
                "keda.sh/v1alpha1",
                "monitoring.coreos.com/v1",
            ]
        );
    }
}
