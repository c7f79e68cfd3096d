//! `spec.rollout`: how gateways are replaced and removed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule};

/// How gateways are replaced and removed.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// How long a gateway that is told to end still takes connections, until every proxy has heard of it.
    /// Default `5s`. Example: `propagation: 10s`
    #[schemars(schema_with = "schema::duration")]
    pub propagation: String,
    /// How it then closes its clients. Example: `drain: {period: 2m, maxPerSecond: 100}`
    pub drain: Drain,
}

/// How a gateway closes its clients before it ends.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// Over how long the clients are closed, each with 1012. Default `30s`. Example: `period: 2m`
    #[schemars(schema_with = "schema::duration")]
    pub period: String,
    /// How many are closed in a second at most, so that they do not come back all at once. Where the period is
    /// too short for that, the period wins. Default 200. Example: `maxPerSecond: 100`
    #[schemars(range(min = 1, max = 100_000))]
    pub max_per_second: u32,
    /// After what time a client is told to come back, at random between two bounds.
    /// Example: `retryAfter: {min: 1s, max: 60s}`
    pub retry_after: RetryAfter,
}

/// After what time a client is told to come back.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::no_longer(
    "min",
    "max",
    "retryAfter.min must not be longer than retryAfter.max"
))]
pub struct RetryAfter {
    /// The least. Not longer than max. Default `1s`. Example: `min: 2s`
    #[schemars(schema_with = "schema::duration")]
    pub min: String,
    /// The longest. Default `15s`. Example: `max: 60s`
    #[schemars(schema_with = "schema::duration")]
    pub max: String,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            propagation: "5s".to_owned(),
            drain: Drain::default(),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            period: "30s".to_owned(),
            max_per_second: 200,
            retry_after: RetryAfter::default(),
        }
    }
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self {
            min: "1s".to_owned(),
            max: "15s".to_owned(),
        }
    }
}
