//! What happened to clients, and what it comes to.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// What happened to a client, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Its number.
    pub client: usize,
    /// What.
    pub event: Event,
}

/// What may happen to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is connected.
    Opened,
    /// It was cut off.
    Closed {
        /// As a browser would tell: 1006 without a close frame.
        code: u16,
        /// The text of the close frame.
        reason: String,
    },
    /// It could not connect: the status and the gateway's reason, or the error.
    Refused(String),
}

/// What happened to clients, in order.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// These entries, which are in order.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// What happened to some of them.
    #[must_use]
    pub fn of(&self, is_one: impl Fn(usize) -> bool) -> Self {
        let entries = self.entries.iter().filter(|entry| is_one(entry.client));
        Self::new(entries.cloned().collect())
    }

    /// How often clients were closed with which code and first word of the reason.
    pub fn closes(&self) -> BTreeMap<(u16, String), usize> {
        let mut closes = BTreeMap::new();
        for entry in &self.entries {
            if let Event::Closed { code, reason } = &entry.event {
                // What follows is for this client alone.
                let word = reason.split(' ').next().unwrap_or_default();
                *closes.entry((*code, word.to_owned())).or_default() += 1;
            }
        }
        closes
    }

    /// How often clients could not connect, and why.
    pub fn refusals(&self) -> BTreeMap<String, usize> {
        let mut refusals = BTreeMap::new();
        for entry in &self.entries {
            if let Event::Refused(why) = &entry.event {
                *refusals.entry(why.clone()).or_default() += 1;
            }
        }
        refusals
    }

    /// From being cut off to being connected again: each such time of each client, the shortest first.
    pub fn downtimes(&self) -> Vec<Duration> {
        let mut cut_off = BTreeMap::new();
        let mut downtimes = Vec::new();
        for entry in &self.entries {
            match entry.event {
                Event::Closed { .. } => _ = cut_off.insert(entry.client, entry.at),
                Event::Opened => {
                    let since = cut_off.remove(&entry.client);
                    downtimes.extend(since.map(|since| entry.at - since));
                }
                Event::Refused(_) => {}
            }
        }
        downtimes.sort_unstable();
        downtimes
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut closes = self.closes().into_iter().peekable();
        if closes.peek().is_none() {
            f.write_str("nobody closed")?;
        }
        for (at, ((code, word), count)) in closes.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{count} × {code} {word}")?;
        }
        for (why, count) in self.refusals() {
            write!(f, ", refused {count} × {why}")?;
        }
        let downtimes = self.downtimes();
        if let (Some(median), Some(max)) = (downtimes.get(downtimes.len() / 2), downtimes.last()) {
            let (median, max) = (median.as_millis(), max.as_millis());
            write!(f, "; away for {median} ms (median), {max} ms (longest)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_told_in_a_line() {
        let begin = Instant::now();
        let entry = |ms, client, event| Entry {
            at: begin + Duration::from_millis(ms),
            client,
            event,
        };
        let closed = |code, reason: &str| Event::Closed {
            code,
            reason: reason.to_owned(),
        };
        let history = History::new(vec![
            entry(0, 0, Event::Opened),
            entry(0, 1, Event::Opened),
            entry(10, 0, closed(1012, "Draining retryAfterMs=7")),
            entry(11, 1, closed(1012, "Draining retryAfterMs=9")),
            entry(15, 0, Event::Refused("503".to_owned())),
            entry(21, 1, Event::Opened),
            entry(50, 0, Event::Opened),
        ]);
        assert_eq!(
            history.to_string(),
            "2 × 1012 Draining, refused 1 × 503; away for 40 ms (median), 40 ms (longest)"
        );
        let second = history.of(|client| client == 1);
        assert_eq!(second.downtimes(), [Duration::from_millis(10)]);
        assert_eq!(second.refusals(), BTreeMap::new());
        assert_eq!(History::default().to_string(), "nobody closed");
    }
}
