//! What comes out of a scenario.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a scenario found out about a server: a line of output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Measurement {
    /// The scenario, as `fanout-1000-16`.
    pub scenario: String,
    /// The server, as `gateway`.
    pub server: String,
    /// The figures, each with its unit at the end of its name.
    pub figures: BTreeMap<String, f64>,
    /// Memory step by step, where the scenario looks at that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The first thing that went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Memory at one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// What has happened until now.
    pub name: String,
    /// Open connections.
    pub connections: usize,
    /// The server's resident memory, in bytes.
    pub resident_bytes: u64,
    /// That part of it which is heap and stacks.
    pub anonymous_bytes: u64,
    /// The kernel's slab caches, for both ends of the connections.
    pub slab_bytes: u64,
    /// Those that cannot be reclaimed.
    pub slab_unreclaimable_bytes: u64,
    /// TCP buffers, for both ends.
    pub tcp_buffer_bytes: u64,
}

impl Measurement {
    /// Adds a figure.
    pub fn set(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }
}
