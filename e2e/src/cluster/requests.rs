//! What the API server was asked, by its own count.

use std::{collections::BTreeMap, fmt};

use kube::Client;

use crate::http::Metrics;

/// The verbs that change something.
const MUTATING: [&str; 6] = [
    "POST",
    "PUT",
    "PATCH",
    "APPLY",
    "DELETE",
    "DELETECOLLECTION",
];

/// How often each kind of request came since the API server began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<Request, u64>);

/// A kind of request. The API server does not count by who asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Such as `GET`, `LIST`, `WATCH` and `APPLY`.
    pub verb: String,
    /// The API group, empty for the core.
    pub group: String,
    /// Such as `deployments`, or `deployments/status`.
    pub resource: String,
    /// The status code.
    pub code: String,
}

impl Requests {
    /// Asks the API server.
    pub async fn count(client: &Client) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let page = client.request_text(request).await.unwrap();
        let mut requests = Self::default();
        for (labels, value) in Metrics::parse(&page).series("apiserver_request_total") {
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let resource = match label("subresource") {
                sub if sub.is_empty() => label("resource"),
                sub => format!("{}/{sub}", label("resource")),
            };
            let request = Request {
                verb: label("verb"),
                group: label("group"),
                resource,
                code: label("code"),
            };
            *requests.0.entry(request).or_default() += value as u64;
        }
        requests
    }

    /// Those that came after `earlier` was counted.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = self.0.iter().filter_map(|(request, &count)| {
            let before = earlier.0.get(request).copied().unwrap_or_default();
            let new = count.saturating_sub(before);
            (new > 0).then(|| (request.clone(), new))
        });
        Self(new.collect())
    }

    /// Those that `wanted` picks.
    #[must_use]
    pub fn filter(&self, wanted: impl Fn(&Request) -> bool) -> Self {
        let some = self.0.iter().filter(|(request, _)| wanted(request));
        Self(
            some.map(|(request, &count)| (request.clone(), count))
                .collect(),
        )
    }

    /// Those that change something, without the leases that programs renew by the clock.
    #[must_use]
    pub fn mutating(&self) -> Self {
        self.filter(|request| {
            MUTATING.contains(&request.verb.as_str()) && request.resource != "leases"
        })
    }

    /// How many there are of each verb.
    pub fn by_verb(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for (request, count) in &self.0 {
            *counts.entry(request.verb.as_str()).or_default() += count;
        }
        counts
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// A line for each kind of request.
impl fmt::Display for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (request, count) in &self.0 {
            let Request {
                verb,
                group,
                resource,
                code,
            } = request;
            writeln!(formatter, "{count:6} {verb} {group}/{resource} {code}")?;
        }
        Ok(())
    }
}
