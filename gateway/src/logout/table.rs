//! What was ended, for as long as tokens of it may hold.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Ended, Login};

/// How long a logout is remembered. Access tokens that live longer than a day would come in again.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// How many are remembered: some 5 MB. Beyond it the oldest are forgotten, whose tokens have expired first.
const ENTRIES_MAX: usize = 65_536;

/// What was ended. Only what an issuer has signed gets in here.
#[derive(Debug, Default)]
pub(super) struct Table {
    ends: HashMap<u64, End>,
    /// In the order in which they came; a key stands here again for each newer logout of it.
    order: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct End {
    /// Tokens that were issued up to then are over.
    until: u64,
    since: Instant,
    /// Whether all gateways have been told.
    is_told: bool,
}

impl Table {
    /// Remembers a logout.
    pub(super) fn insert(&mut self, ended: &Ended, now: Instant) {
        for (key, until) in ended.entries() {
            if self.ends.get(&key).is_some_and(|end| end.until >= until) {
                continue;
            }
            let end = End {
                until,
                since: now,
                is_told: false,
            };
            self.ends.insert(key, end);
            self.order.push_back((now, key));
        }
        while let Some((since, key)) = self.order.front().copied() {
            let is_old = now.saturating_duration_since(since) >= REMEMBERED;
            if !is_old && self.order.len() <= ENTRIES_MAX {
                break;
            }
            self.order.pop_front();
            if self.ends.get(&key).is_some_and(|end| end.since == since) {
                self.ends.remove(&key);
            }
        }
    }

    /// Whether a login is over.
    pub(super) fn covers(&self, login: &Login) -> bool {
        login.is_over(|key| self.ends.get(&key).map(|end| end.until))
    }

    /// All gateways have been told of it.
    pub(super) fn set_told(&mut self, ended: &Ended) {
        for (key, until) in ended.entries() {
            if let Some(end) = self.ends.get_mut(&key).filter(|end| end.until == until) {
                end.is_told = true;
            }
        }
    }

    /// Whether they have, of this or of a later one.
    pub(super) fn is_told(&self, ended: &Ended) -> bool {
        ended.entries().all(|(key, until)| {
            let end = self.ends.get(&key);
            end.is_some_and(|end| end.is_told && end.until >= until)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logout::{Kind, key};

    const ISSUER: &str = "https://sso.example.com";

    fn login(session: Option<&str>, subject: &str, issued_at: u64) -> Login {
        let first = session.map_or(key(Kind::Loose, ISSUER, subject), |session| {
            key(Kind::Session, ISSUER, session)
        });
        Login {
            keys: [first, key(Kind::Subject, ISSUER, subject)],
            issued_at,
        }
    }

    fn ended(session: Option<&str>, subject: Option<&str>, at: u64) -> Ended {
        Ended::new(
            ISSUER,
            &wsgateway_auth::Logout {
                session: session.map(str::to_owned),
                subject: subject.map(str::to_owned),
                issued_at: Duration::from_secs(at),
            },
        )
    }

    #[test]
    fn a_logout_ends_what_it_names_and_what_cannot_be_told_from_it() {
        let now = Instant::now();
        let check = |ended: Ended, login: Login, expected: bool| {
            let mut table = Table::default();
            table.insert(&ended, now);
            assert_eq!(table.covers(&login), expected, "{ended:?} {login:?}");
        };
        let session = ended(Some("s"), Some("ann"), 100);
        check(session, login(Some("s"), "ann", 100), true);
        check(session, login(Some("s"), "ann", 0), true);
        check(session, login(Some("s"), "ann", 101), false);
        check(session, login(Some("t"), "ann", 100), false);
        // Of which session it is, its token does not say.
        check(session, login(None, "ann", 100), true);
        check(session, login(None, "bob", 100), false);
        let all = ended(None, Some("ann"), 100);
        check(all, login(Some("s"), "ann", 99), true);
        check(all, login(None, "ann", 99), true);
        check(all, login(Some("s"), "ann", 101), false);
        check(all, login(Some("s"), "bob", 99), false);
        // A session that is called as a subject is.
        check(all, login(Some("ann"), "bob", 99), false);
        check(
            ended(Some("s"), None, 100),
            login(Some("s"), "ann", 1),
            true,
        );
        check(ended(Some("s"), None, 100), login(None, "ann", 1), false);
    }

    #[test]
    fn a_later_logout_counts_and_old_ones_are_forgotten() {
        let mut table = Table::default();
        let start = Instant::now();
        table.insert(&ended(None, Some("ann"), 100), start);
        table.set_told(&ended(None, Some("ann"), 100));
        assert!(table.is_told(&ended(None, Some("ann"), 90)));
        let later = ended(None, Some("ann"), 200);
        table.insert(&later, start + REMEMBERED / 2);
        assert!(!table.is_told(&later));
        // An old one that comes again takes nothing back.
        table.insert(&ended(None, Some("ann"), 100), start + REMEMBERED / 2);
        table.insert(&ended(None, Some("bob"), 1), start + REMEMBERED);
        assert!(table.covers(&login(None, "ann", 200)));
        table.insert(&ended(None, Some("eve"), 1), start + REMEMBERED * 2);
        assert!(!table.covers(&login(None, "ann", 200)));
        assert_eq!(table.ends.len(), 1);
        for number in 0..ENTRIES_MAX as u64 + 10 {
            let session = number.to_string();
            table.insert(&ended(Some(&session), None, 1), start + REMEMBERED * 2);
        }
        assert_eq!(
            (table.ends.len(), table.order.len()),
            (ENTRIES_MAX, ENTRIES_MAX)
        );
        assert!(!table.covers(&login(Some("0"), "x", 1)));
    }
}
