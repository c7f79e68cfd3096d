//! Who comes in, and how many: handshakes a second, and connections of one address and of one user, over all shards.
//!
//! Nothing here costs anything where it is not configured: no table has an entry, and no connection a field. What is
//! counted is given back by a [`Places`], which lives as long as the connection.

mod address;
pub mod proxy_protocol;
mod tally;
mod throttle;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use hyper::HeaderMap;
use wsgateway_crds::config;

pub use self::address::{Block, ClientAddress};
use self::{
    tally::{Place, Taken, Tally},
    throttle::Throttle,
};
use crate::config::LiveConfig;

/// How many handshakes and connections there may be. Of every number 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Handshakes a second.
    pub handshakes_per_second: u32,
    /// Open connections of one address, and handshakes a second.
    pub per_address: config::PerAddress,
    /// Open connections of one user.
    pub per_user: config::PerUser,
}

/// What has been let in, in the whole process.
#[derive(Debug, Default)]
pub struct Admissions {
    handshakes: Throttle,
    addresses: Arc<Tally<Block>>,
    users: Arc<Tally<User>>,
    /// Keys the hashes that stand for users, so that nobody can choose two names with one.
    user_key: RandomState,
}

/// A user, by a keyed hash of issuer and subject: a table of names would hold what anybody may choose the length of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct User(u64);

/// A client before its request. Where its address is known already it has its place from here on, so that connections
/// which never say what they want are counted, too.
#[derive(Debug)]
pub struct Arrival {
    peer: IpAddr,
    admitted: Option<Result<Places, AdmissionRefusal>>,
}

/// A connection's places among those of its address and of its user, given back when dropped.
#[derive(Debug, Default)]
pub struct Places {
    address: Option<Place<Block>>,
    user: Option<Place<User>>,
}

impl Places {
    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.address.is_none() && self.user.is_none()
    }
}

/// Why a client is not let in now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefusal {
    /// The process takes up no more handshakes at this moment.
    #[error("too many handshakes at once")]
    TooManyHandshakes,
    /// The address has as many connections as it may.
    #[error("your address has as many connections as it may have")]
    TooManyFromAddress,
    /// The address begins handshakes faster than it may.
    #[error("your address connects too often; come back in {} ms", .0.as_millis())]
    TooOftenFromAddress(Duration),
    /// The user has as many connections as it may.
    #[error("you have as many connections as you may have")]
    TooManyForUser,
}

/// When a client may come back that has to wait for another connection to end, in seconds.
const FULL_RETRY_AFTER_SECS: u64 = 10;

/// Over how many seconds those come back whom the process had no time for: told alike, they would come alike.
const BUSY_RETRY_AFTER_SECS_MAX: u64 = 5;

impl AdmissionRefusal {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooManyHandshakes => "TooManyHandshakes",
            Self::TooManyFromAddress | Self::TooOftenFromAddress(_) => "TooManyFromAddress",
            Self::TooManyForUser => "TooManyForUser",
        }
    }

    /// When to come back, in seconds.
    pub fn retry_after_secs(&self) -> u64 {
        match self {
            Self::TooManyHandshakes => {
                1 + RandomState::new().hash_one(()) % BUSY_RETRY_AFTER_SECS_MAX
            }
            Self::TooOftenFromAddress(wait) => {
                u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
            }
            Self::TooManyFromAddress | Self::TooManyForUser => FULL_RETRY_AFTER_SECS,
        }
    }
}

impl Arrival {
    /// One from this address, as far as the connection tells. `now` is the time since any fixed moment.
    pub fn new(peer: IpAddr, admissions: &Admissions, live: &LiveConfig, now: Duration) -> Self {
        let is_known = live.client_address.is_known_before_request(peer);
        let admit = || admissions.admit_address(&live.admission, || peer, now);
        Self {
            peer,
            admitted: is_known.then(admit),
        }
    }

    /// Why it is refused, where it is already. It is told so once its request is there.
    pub fn refusal(&self) -> Option<&AdmissionRefusal> {
        self.admitted.as_ref()?.as_ref().err()
    }

    /// Its place, now that its request is there.
    ///
    /// # Errors
    /// When its address has had its share.
    pub fn admit(
        self,
        headers: &HeaderMap,
        admissions: &Admissions,
        live: &LiveConfig,
        now: Duration,
    ) -> Result<Places, AdmissionRefusal> {
        let address = || live.client_address.of_request(self.peer, headers);
        let admit = || admissions.admit_address(&live.admission, address, now);
        self.admitted.unwrap_or_else(admit)
    }
}

impl Admissions {
    /// Takes up a handshake of an address. `now` is the time since any fixed moment. Comes with its place, where
    /// connections are counted.
    ///
    /// # Errors
    /// When the address has had its share.
    pub fn admit_address(
        &self,
        limits: &AdmissionLimits,
        address: impl FnOnce() -> IpAddr,
        now: Duration,
    ) -> Result<Places, AdmissionRefusal> {
        let limits = limits.per_address;
        if limits == config::PerAddress::default() {
            return Ok(Places::default());
        }
        let block = Block::of(address());
        match self.addresses.enter(block, limits, now) {
            Ok(address) => Ok(Places {
                address,
                user: None,
            }),
            Err(Taken::Full) => Err(AdmissionRefusal::TooManyFromAddress),
            Err(Taken::TooOften(wait)) => Err(AdmissionRefusal::TooOftenFromAddress(wait)),
        }
    }

    /// Takes up a handshake.
    ///
    /// # Errors
    /// When there have been as many within the last second as there may.
    pub fn admit_handshake(
        &self,
        limits: &AdmissionLimits,
        now: Duration,
    ) -> Result<(), AdmissionRefusal> {
        match limits.handshakes_per_second {
            0 => Ok(()),
            per_second => {
                let taken = self.handshakes.take(now, per_second);
                taken.map_err(|_wait| AdmissionRefusal::TooManyHandshakes)
            }
        }
    }

    /// Lets a user in, known by its issuer and what that calls it.
    ///
    /// # Errors
    /// When it has as many connections as it may.
    pub fn admit_user(
        &self,
        limits: &AdmissionLimits,
        name: impl FnOnce() -> (String, String),
        places: &mut Places,
    ) -> Result<(), AdmissionRefusal> {
        if limits.per_user.connections == 0 {
            return Ok(());
        }
        let user = User(self.user_key.hash_one(name()));
        let limits = config::PerAddress {
            connections: limits.per_user.connections,
            handshakes_per_second: 0,
        };
        let entered = self.users.enter(user, limits, Duration::ZERO);
        places.user = entered.map_err(|_full| AdmissionRefusal::TooManyForUser)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn address(text: &str) -> impl FnOnce() -> IpAddr {
        let address = text.parse().unwrap();
        move || address
    }

    #[test]
    fn places_are_given_back_and_those_of_others_stay() {
        let admissions = Admissions::default();
        let limits = AdmissionLimits {
            per_address: config::PerAddress {
                connections: 2,
                handshakes_per_second: 0,
            },
            per_user: config::PerUser { connections: 1 },
            ..AdmissionLimits::default()
        };
        let enter = |from: &str, issuer: &str, name: &str| {
            let mut places = admissions.admit_address(&limits, address(from), NOW)?;
            let name = || (issuer.to_owned(), name.to_owned());
            admissions.admit_user(&limits, name, &mut places)?;
            Ok::<_, AdmissionRefusal>(places)
        };
        let full = AdmissionRefusal::TooManyFromAddress;
        let first = enter("192.0.2.1", "i", "ann").unwrap();
        // Who is refused as a user keeps no place as an address.
        for _ in 0..3 {
            let refused = enter("192.0.2.1", "i", "ann").unwrap_err();
            assert_eq!(refused, AdmissionRefusal::TooManyForUser);
        }
        let _second = enter("192.0.2.1", "i", "bob").unwrap();
        assert_eq!(enter("192.0.2.1", "i", "cid").unwrap_err(), full);
        let _other_address = enter("192.0.2.2", "i", "cid").unwrap();
        let _other_issuer = enter("192.0.2.2", "j", "ann").unwrap();
        drop(first);
        let _first_again = enter("192.0.2.1", "i", "ann").unwrap();
        // One house, one count.
        let _v6 = [
            enter("2001:db8:1:2::1", "i", "eve").unwrap(),
            enter("2001:db8:1:2:ffff::", "i", "fay").unwrap(),
        ];
        assert_eq!(enter("2001:db8:1:2:3::", "i", "gus").unwrap_err(), full);
        enter("2001:db8:1:3::1", "i", "gus").unwrap();
    }

    #[test]
    fn who_is_refused_hears_when_to_come_back() {
        for (refusal, seconds) in [
            (AdmissionRefusal::TooManyHandshakes, 1..=5),
            (AdmissionRefusal::TooManyFromAddress, 10..=10),
            (AdmissionRefusal::TooManyForUser, 10..=10),
            (
                AdmissionRefusal::TooOftenFromAddress(Duration::from_millis(1)),
                1..=1,
            ),
        ] {
            assert!(seconds.contains(&refusal.retry_after_secs()), "{refusal:?}");
        }
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let admissions = Admissions::default();
        let limits = AdmissionLimits::default();
        let unasked = || unreachable!("nobody asks for it");
        let mut places = admissions.admit_address(&limits, unasked, NOW).unwrap();
        let unasked = || unreachable!("nobody asks for it");
        admissions
            .admit_user(&limits, unasked, &mut places)
            .unwrap();
        admissions.admit_handshake(&limits, NOW).unwrap();
        assert!(places.is_empty());
    }
}
