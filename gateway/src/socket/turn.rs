//! How much a connection may do before others have their turn.
//!
//! A client that sends as fast as it can would keep its shard to itself: what eight reads bring can hold 80,000 pings, or
//! compressed messages that take seconds to inflate. So a turn ends after a millisecond. Whose turn has ended with bytes
//! left waits in its shard's line, of which one gets a turn each time that everybody else has had theirs: a flood from
//! many connections costs the others no more than one from a single connection does.

use std::time::{Duration, Instant};

use super::{Connection, Surroundings};

/// How long a turn takes, but for the event or the read that it ends with.
const TURN: Duration = Duration::from_millis(1);

/// How many events pass between two looks at the clock. An honest client has fewer at once, and costs none.
const EVENTS_PER_LOOK: u32 = 64;

/// What a connection has done of its turn.
#[derive(Debug, Default)]
pub struct Turn {
    events: u32,
    began: Option<Instant>,
}

impl Turn {
    /// Something small has been done. Whether the turn is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.events += 1;
        self.events.is_multiple_of(EVENTS_PER_LOOK) && self.is_late()
    }

    /// Something that may be costly has been done. Whether the turn is over.
    pub(super) fn is_late(&mut self) -> bool {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        now.saturating_duration_since(began) >= TURN
    }
}

/// A connection that waits for its next turn. Nothing is read meanwhile.
#[derive(Debug)]
pub(super) struct Waiting {
    place: Place,
    /// The bytes that have been read already.
    pub(super) rest: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its shard has not been asked for one.
    Unknown,
    /// In line.
    InLine,
    /// At the front: its turn is now.
    Front,
}

impl Connection {
    /// Its turn has ended, with this to do.
    pub(super) fn wait_for_turn(&mut self, rest: &[u8]) {
        self.extras.get_or_insert_default().waiting = Some(Waiting {
            place: Place::Unknown,
            rest: rest.to_vec(),
        });
    }

    pub(super) fn waits_for_turn(&self) -> bool {
        self.waiting().is_some()
    }

    pub(super) fn waiting(&self) -> Option<&Waiting> {
        self.extras.as_ref()?.waiting.as_ref()
    }

    fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        self.extras.as_mut()?.waiting.as_mut()
    }

    /// Whether its shard is to put it in line. True once for each turn.
    pub fn gets_in_line(&mut self) -> bool {
        let unknown = self.waiting_mut().filter(|it| it.place == Place::Unknown);
        unknown.map(|it| it.place = Place::InLine).is_some()
    }

    /// It is at the front of the line.
    pub fn grant_turn(&mut self) {
        if let Some(waiting) = self.waiting_mut() {
            waiting.place = Place::Front;
            self.wake();
        }
    }

    /// Goes on with what its last turn has left, where it has the next one.
    pub(super) fn take_turn(&mut self, around: &mut Surroundings<'_>) {
        let at_front = self.waiting().is_some_and(|it| it.place == Place::Front);
        let extras = self.extras.as_mut().filter(|_| at_front);
        if let Some(mut waiting) = extras.and_then(|extras| extras.waiting.take()) {
            self.process(&mut waiting.rest, around);
        }
    }
}
