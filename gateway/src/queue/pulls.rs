//! What has been asked of a pull consumer and has not come yet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long the server keeps a pull. Nothing is fetched for a client that has gone without a word for
/// longer than this.
pub const PULL_EXPIRES: Duration = Duration::from_secs(5);

/// How long after a pull's end its last word is awaited, before it is taken to be lost.
const PULL_GRACE: Duration = Duration::from_secs(1);

/// How long a refusal is respected.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// The pulls that are under way.
///
/// The server says nothing when it has delivered all that a pull asked for, and a message does not say
/// which pull it came by. So the sum is exact (asked for, less what came, less what the server says that
/// ended pulls left), and how it is spread over the pulls is a guess: the oldest is served first. A pull
/// whose end is never told, since its server crashed, is forgotten after its time, with what is
/// guessed to be left of it.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    open: VecDeque<Pull>,
    next_id: u64,
    /// The first that was sent since all were lost.
    first_id: u64,
    wait_until: Option<Instant>,
}

#[derive(Debug)]
struct Pull {
    id: u64,
    left: u32,
    ends_at: Instant,
}

impl Pulls {
    /// How many messages may still come.
    pub(super) fn outstanding(&self) -> usize {
        self.open.iter().map(|pull| pull.left as usize).sum()
    }

    /// Whether a refusal is to be respected still.
    pub(super) fn is_waiting(&self) -> bool {
        self.wait_until.is_some()
    }

    /// A new pull of so many messages.
    pub(super) fn begin(&mut self, batch: u32, now: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open.push_back(Pull {
            id,
            left: batch,
            ends_at: now + PULL_EXPIRES + PULL_GRACE,
        });
        id
    }

    /// A message has come.
    pub(super) fn handle_message(&mut self) {
        self.take(1);
    }

    /// The server has ended a pull and left so many of its messages; `None` where it does not say.
    pub(super) fn handle_ended(&mut self, id: u64, left: Option<u32>) {
        if id < self.first_id {
            return;
        }
        let guess = match self.open.iter().position(|pull| pull.id == id) {
            Some(at) => self.open.remove(at).map_or(0, |pull| pull.left),
            None => 0,
        };
        let left = left.unwrap_or(guess);
        match guess.checked_sub(left) {
            // Messages that others were thought to have sent came by it: those have more left.
            Some(more) => {
                if let Some(pull) = self.open.back_mut() {
                    pull.left += more;
                }
            }
            None => self.take(left - guess),
        }
    }

    /// The server did not take a pull.
    pub(super) fn handle_refused(&mut self, id: u64, now: Instant) {
        self.handle_ended(id, None);
        self.wait_until = Some(now + REFUSED_WAIT);
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.open.front().is_some_and(|pull| pull.ends_at <= now) {
            self.open.pop_front();
        }
        if self.wait_until.is_some_and(|until| until <= now) {
            self.wait_until = None;
        }
    }

    /// When something is next due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let ends_at = self.open.front().map(|pull| pull.ends_at);
        ends_at.into_iter().chain(self.wait_until).min()
    }

    /// All are lost: the connection, or the consumer.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.first_id = self.next_id;
        self.wait_until = None;
    }

    fn take(&mut self, mut count: u32) {
        while count > 0 {
            let Some(oldest) = self.open.front_mut() else {
                return;
            };
            let taken = count.min(oldest.left);
            oldest.left -= taken;
            count -= taken;
            if oldest.left == 0 {
                self.open.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_exact_whichever_pull_a_message_came_by() {
        let now = Instant::now();
        let mut pulls = Pulls::default();
        let (first, second) = (pulls.begin(10, now), pulls.begin(6, now));
        assert_eq!(pulls.outstanding(), 16);
        for _ in 0..8 {
            pulls.handle_message();
        }
        // They were guessed to come by the first; in truth each served four.
        pulls.handle_ended(first, Some(6));
        assert_eq!(pulls.outstanding(), 2);
        pulls.handle_message();
        pulls.handle_message();
        assert_eq!(pulls.outstanding(), 0);
        pulls.handle_ended(second, Some(0));
        assert_eq!(pulls.outstanding(), 0);

        let (first, second) = (pulls.begin(4, now), pulls.begin(4, now));
        for _ in 0..4 {
            pulls.handle_message();
        }
        // All came by the second, which says nothing; the first ends untouched.
        pulls.handle_ended(first, Some(4));
        assert_eq!(pulls.outstanding(), 0);
        pulls.handle_ended(second, Some(0));
        assert_eq!(pulls.outstanding(), 0);
    }

    #[test]
    fn a_pull_whose_end_is_never_told_is_forgotten() {
        let now = Instant::now();
        let mut pulls = Pulls::default();
        let first = pulls.begin(10, now);
        pulls.handle_timeout(now + Duration::from_secs(5));
        assert_eq!(pulls.outstanding(), 10);
        pulls.handle_timeout(now + Duration::from_secs(6));
        assert_eq!(pulls.outstanding(), 0);
        pulls.handle_ended(first, Some(10));
        assert_eq!(pulls.outstanding(), 0);
        // What was sent before all was lost counts no more.
        let before = pulls.begin(3, now);
        pulls.clear();
        pulls.begin(5, now);
        pulls.handle_ended(before, Some(3));
        assert_eq!(pulls.outstanding(), 5);
    }

    #[test]
    fn a_refusal_is_respected_for_a_second() {
        let now = Instant::now();
        let mut pulls = Pulls::default();
        let id = pulls.begin(10, now);
        pulls.handle_refused(id, now);
        assert_eq!((pulls.outstanding(), pulls.is_waiting()), (0, true));
        assert_eq!(pulls.poll_timeout(), Some(now + Duration::from_secs(1)));
        pulls.handle_timeout(now + Duration::from_secs(1));
        assert!(!pulls.is_waiting());
    }
}
