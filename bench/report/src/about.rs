//! The machine and the programs of a run.

use std::{collections::BTreeMap, fs, thread};

use anyhow::{Context, Result};
use serde::Serialize;

/// What figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    /// How many cores there are.
    pub(crate) cores: usize,
    /// What they are called.
    pub(crate) processor: String,
    /// Memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Versions and circumstances that the run noted.
    pub(crate) notes: BTreeMap<String, String>,
}

impl About {
    /// This machine, and what was noted as `KEY=VALUE`.
    pub(crate) fn read(notes: &[String]) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
        Ok(Self {
            cores: thread::available_parallelism()?.get(),
            processor: value(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            memory_bytes: load::process::kilobytes(&meminfo, "MemTotal:").unwrap_or(0) * 1024,
            kernel: kernel.trim().to_owned(),
            notes: notes
                .iter()
                .filter_map(|note| note.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim())
}
