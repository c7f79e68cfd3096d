//! Subject → subscribers, for the connections of one shard. Free of IO.
//!
//! Messages come by the pattern of the subscription that brought them, so finding the subscribers is one
//! look-up, whatever wildcards the pattern holds.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;
use wsgateway_crds::value::{patterns_overlap, subject_matches};

/// The subscribers of one shard.
#[derive(Debug, Default)]
pub struct Hub {
    by_pattern: HashMap<Arc<str>, u32>,
    patterns: Slab<PatternEntry>,
    /// The subscriptions of each connection, by its slot.
    connections: Vec<Subscriptions>,
}

#[derive(Debug)]
struct PatternEntry {
    pattern: Arc<str>,
    subscribers: Vec<Subscriber>,
    /// Handshakes that are about to subscribe.
    holds: u32,
    /// Messages of this pattern reach the shard: a new subscriber need not wait.
    is_known: bool,
}

impl PatternEntry {
    fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.holds == 0
    }
}

/// One connection's subscription to one pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    /// The connection's slot.
    pub slot: u32,
    /// Which of its route's subjects.
    pub subject: u16,
    /// Whether another of the connection's patterns may mean the same message.
    pub overlaps: bool,
}

/// Where a connection stands in the lists of its patterns. Most have one subject; none allocates for it.
#[derive(Debug, Default)]
enum Subscriptions {
    #[default]
    None,
    One(Place),
    Many(Box<[Place]>),
}

#[derive(Debug, Clone, Copy)]
struct Place {
    pattern: u32,
    at: u32,
}

impl Subscriptions {
    fn places(&self) -> &[Place] {
        match self {
            Self::None => &[],
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }

    fn places_mut(&mut self) -> &mut [Place] {
        match self {
            Self::None => &mut [],
            Self::One(place) => std::slice::from_mut(place),
            Self::Many(places) => places,
        }
    }
}

impl Hub {
    /// Keeps patterns for a handshake that will subscribe to them once it is answered. Returns those that
    /// nobody had before.
    pub fn hold(&mut self, patterns: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut new = Vec::new();
        for pattern in patterns {
            let index = self.pattern_index(pattern, &mut new);
            if let Some(entry) = self.patterns.get_mut(index as usize) {
                entry.holds += 1;
            }
        }
        new
    }

    /// Ends a handshake's hold, whatever came of it. Returns the patterns that nobody has any more.
    pub fn release(&mut self, patterns: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut lost = Vec::new();
        for pattern in patterns {
            let Some(index) = self.by_pattern.get(pattern).copied() else {
                continue;
            };
            if let Some(entry) = self.patterns.get_mut(index as usize) {
                entry.holds = entry.holds.saturating_sub(1);
            }
            lost.extend(self.remove_unused(index));
        }
        lost
    }

    /// Whether messages of a pattern are known to reach the shard.
    pub fn is_known(&self, pattern: &str) -> bool {
        self.entry(pattern).is_some_and(|entry| entry.is_known)
    }

    /// Messages of a pattern reach the shard from now on.
    pub fn set_known(&mut self, pattern: &str) {
        let index = self.by_pattern.get(pattern).copied();
        if let Some(entry) = index.and_then(|index| self.patterns.get_mut(index as usize)) {
            entry.is_known = true;
        }
    }

    /// Gives back memory of connections and patterns that are gone. From this slot on there are none.
    pub fn shrink_to(&mut self, slots: u32) {
        self.connections.truncate(slots as usize);
        self.connections.shrink_to_fit();
        self.patterns.shrink_to_fit();
        self.by_pattern.shrink_to_fit();
    }

    /// Subscribes a connection to its patterns, which its handshake holds; `patterns[i]` is of its
    /// route's subject `subjects[i]`. A pattern that stands twice counts once.
    pub fn subscribe(&mut self, slot: u32, patterns: &[Arc<str>], subjects: &[u16]) {
        let mut places: Vec<Place> = Vec::with_capacity(patterns.len());
        for (subject, pattern) in patterns.iter().enumerate() {
            let others = || {
                patterns
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != subject)
            };
            if others().any(|(other, text)| other < subject && text == pattern) {
                continue;
            }
            let overlaps =
                others().any(|(_, text)| text != pattern && patterns_overlap(text, pattern));
            let Some(index) = self.by_pattern.get(pattern).copied() else {
                continue;
            };
            let Some(entry) = self.patterns.get_mut(index as usize) else {
                continue;
            };
            places.push(Place {
                pattern: index,
                at: entry.subscribers.len() as u32,
            });
            entry.subscribers.push(Subscriber {
                slot,
                subject: subjects.get(subject).copied().unwrap_or_default(),
                overlaps,
            });
        }
        let subscriptions = match places.as_slice() {
            [] => Subscriptions::None,
            [place] => Subscriptions::One(*place),
            _ => Subscriptions::Many(places.into_boxed_slice()),
        };
        let at = slot as usize;
        if self.connections.len() <= at {
            self.connections.resize_with(at + 1, Subscriptions::default);
        }
        if let Some(place) = self.connections.get_mut(at) {
            *place = subscriptions;
        }
    }

    fn pattern_index(&mut self, pattern: &Arc<str>, new: &mut Vec<Arc<str>>) -> u32 {
        if let Some(index) = self.by_pattern.get(pattern) {
            return *index;
        }
        let entry = PatternEntry {
            pattern: pattern.clone(),
            subscribers: Vec::new(),
            holds: 0,
            is_known: false,
        };
        let index = self.patterns.insert(entry) as u32;
        self.by_pattern.insert(pattern.clone(), index);
        new.push(pattern.clone());
        index
    }

    /// Forgets a connection. Returns the patterns that have lost their last subscriber.
    pub fn unsubscribe(&mut self, slot: u32) -> Vec<Arc<str>> {
        let Some(subscriptions) = self.connections.get_mut(slot as usize) else {
            return Vec::new();
        };
        let subscriptions = std::mem::take(subscriptions);
        let mut lost = Vec::new();
        for place in subscriptions.places() {
            let Some(entry) = self.patterns.get_mut(place.pattern as usize) else {
                continue;
            };
            if entry.subscribers.get(place.at as usize).is_some() {
                entry.subscribers.swap_remove(place.at as usize);
            }
            if let Some(moved) = entry.subscribers.get(place.at as usize).copied() {
                let from = entry.subscribers.len() as u32;
                self.correct_place(moved.slot, place.pattern, from, place.at);
            }
            lost.extend(self.remove_unused(place.pattern));
        }
        lost
    }

    fn remove_unused(&mut self, index: u32) -> Option<Arc<str>> {
        self.patterns
            .get(index as usize)
            .filter(|entry| entry.is_unused())?;
        let entry = self.patterns.remove(index as usize);
        self.by_pattern.remove(&entry.pattern);
        Some(entry.pattern)
    }

    fn entry(&self, pattern: &str) -> Option<&PatternEntry> {
        let index = self.by_pattern.get(pattern)?;
        self.patterns.get(*index as usize)
    }

    /// The subscriber that stood last in a list has moved to where another left.
    fn correct_place(&mut self, slot: u32, pattern: u32, from: u32, to: u32) {
        let Some(subscriptions) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let place = subscriptions
            .places_mut()
            .iter_mut()
            .find(|place| place.pattern == pattern && place.at == from);
        if let Some(place) = place {
            place.at = to;
        }
    }

    /// The subscribers of a pattern.
    pub fn subscribers(&self, pattern: &str) -> &[Subscriber] {
        self.entry(pattern).map_or(&[], |entry| &entry.subscribers)
    }

    /// Whether a subscriber gets this message by this pattern. Where several of a connection's patterns
    /// mean a subject, NATS brings the message once for each; the first of them in order delivers it.
    pub fn delivers(&self, subscriber: Subscriber, pattern: &str, subject: &str) -> bool {
        if !subscriber.overlaps {
            return true;
        }
        let Some(subscriptions) = self.connections.get(subscriber.slot as usize) else {
            return false;
        };
        subscriptions
            .places()
            .iter()
            .filter_map(|place| self.patterns.get(place.pattern as usize))
            .find(|entry| subject_matches(&entry.pattern, subject))
            .is_none_or(|entry| &*entry.pattern == pattern)
    }

    /// How many patterns have subscribers.
    #[cfg(test)]
    fn patterns(&self) -> usize {
        self.patterns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Arc<str>> {
        texts.iter().map(|text| Arc::from(*text)).collect()
    }

    /// As a handshake does it. Returns the patterns that nobody had before.
    fn subscribe(hub: &mut Hub, slot: u32, texts: &[&str]) -> Vec<Arc<str>> {
        let patterns = patterns(texts);
        let new = hub.hold(&patterns);
        let subjects: Vec<_> = (0..patterns.len() as u16).collect();
        hub.subscribe(slot, &patterns, &subjects);
        assert_eq!(hub.release(&patterns), []);
        new
    }

    fn slots(hub: &Hub, pattern: &str) -> Vec<u32> {
        let mut slots: Vec<_> = hub.subscribers(pattern).iter().map(|s| s.slot).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn the_first_subscriber_and_the_last_are_told_apart() {
        let mut hub = Hub::default();
        assert_eq!(subscribe(&mut hub, 0, &["a", "b"]), patterns(&["a", "b"]));
        assert_eq!(subscribe(&mut hub, 1, &["a"]), patterns(&[]));
        assert_eq!(hub.unsubscribe(0), patterns(&["b"]));
        assert_eq!(slots(&hub, "a"), [1]);
        assert_eq!(hub.unsubscribe(1), patterns(&["a"]));
        assert_eq!(hub.unsubscribe(1), patterns(&[]));
        assert_eq!(hub.patterns(), 0);
    }

    #[test]
    fn a_handshake_holds_its_patterns_until_it_is_answered_or_breaks_off() {
        let mut hub = Hub::default();
        let held = patterns(&["a", "b"]);
        assert_eq!(hub.hold(&held), held);
        assert_eq!(hub.hold(&held), []);
        assert!(!hub.is_known("a"));
        hub.set_known("a");
        assert!(hub.is_known("a"));
        assert_eq!(hub.release(&held), []);
        assert_eq!(hub.release(&held), held);
        assert!(!hub.is_known("a"));
    }

    #[test]
    fn places_stay_right_however_connections_come_and_go() {
        let mut hub = Hub::default();
        let mut open: Vec<u32> = Vec::new();
        let mut random = 12_345_u32;
        for _ in 0..2_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = (random >> 8) % 50;
            if open.contains(&slot) {
                hub.unsubscribe(slot);
                open.retain(|other| *other != slot);
            } else {
                let sets: [&[&str]; 3] = [&["a"], &["a", "b", "c"], &["b", "b", "a.>"]];
                subscribe(&mut hub, slot, sets[slot as usize % 3]);
                open.push(slot);
            }
            let with_a: Vec<u32> = {
                let mut slots: Vec<_> = open.iter().copied().filter(|s| s % 3 != 2).collect();
                slots.sort_unstable();
                slots
            };
            assert_eq!(slots(&hub, "a"), with_a);
        }
        for slot in open {
            hub.unsubscribe(slot);
        }
        assert_eq!(hub.patterns(), 0);
    }

    #[test]
    fn a_message_that_several_patterns_mean_is_delivered_once() {
        let mut hub = Hub::default();
        subscribe(&mut hub, 0, &["a.>", "a.b", "c"]);
        let by = |pattern: &str, subject: &str| {
            hub.subscribers(pattern)
                .iter()
                .filter(|s| hub.delivers(**s, pattern, subject))
                .count()
        };
        assert_eq!((by("a.>", "a.b"), by("a.b", "a.b")), (1, 0));
        assert_eq!(by("a.>", "a.x"), 1);
        assert_eq!(by("c", "c"), 1);
    }
}
