//! Who holds the lease: free of IO, time is an argument.
//!
//! The clocks of other machines are never compared. What counts is how long, by this machine's clock, the
//! record has stood unchanged, as client-go does it.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

use crate::args::LeaseConfig;

/// What the API server said of the lease.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// There is none.
    Missing,
    /// There it is.
    Lease(Box<Lease>),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Create the lease; then tell [`Election::wrote`].
    Create(Box<Lease>),
    /// Replace the lease, which must still have its resource version; then tell [`Election::wrote`].
    Replace(Box<Lease>),
    /// Look again after this time: somebody else holds it.
    Wait(Duration),
}

/// One operator's view of the lease.
#[derive(Debug)]
pub(super) struct Election {
    config: LeaseConfig,
    observed: Option<Observed>,
    /// When the last renewal that succeeded was sent.
    renewed: Option<Instant>,
}

/// A record, and since when it has stood.
#[derive(Debug)]
struct Observed {
    resource_version: Option<String>,
    at: Instant,
}

impl Election {
    pub(super) fn new(config: LeaseConfig) -> Self {
        Self {
            config,
            observed: None,
            renewed: None,
        }
    }

    /// What to do about the lease as it was just read.
    pub(super) fn step(&mut self, seen: Seen, now: Instant) -> Step {
        let lease = match seen {
            Seen::Missing => {
                self.observed = None;
                return Step::Create(Box::new(self.fresh()));
            }
            Seen::Lease(lease) => lease,
        };
        let at = self.observe(&lease, now);
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.config.identity && !holder.is_empty() {
            self.renewed = None;
            let end = at + self.patience(&spec);
            if end > now {
                return Step::Wait((end - now).min(self.standby_period()));
            }
        }
        Step::Replace(Box::new(self.taken(*lease, spec)))
    }

    /// A write succeeded that was begun at `sent`; `lease` is the answer. It counts from when it was sent:
    /// others count from when they read it, which is later.
    pub(super) fn wrote(&mut self, lease: &Lease, sent: Instant) {
        self.observe(lease, sent);
        self.renewed = Some(sent);
    }

    /// What to write to keep the lease, without reading it first.
    pub(super) fn renewal(&self, last: &Lease) -> Lease {
        self.taken(last.clone(), last.spec.clone().unwrap_or_default())
    }

    /// What to write to give the lease away at once, if it is ours.
    pub(super) fn release(&self, last: &Lease) -> Option<Lease> {
        let spec = last.spec.clone()?;
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return None;
        }
        let mut lease = last.clone();
        lease.metadata.managed_fields = None;
        lease.spec = Some(LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        });
        Some(lease)
    }

    /// Until when this operator may work without having renewed; `None` while it may not.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.renewed? + self.config.renew_deadline)
    }

    /// How often a standby looks: twice as often as a leader renews, so that a release is noticed well
    /// within the time in which a renewal would have been due.
    pub(super) fn standby_period(&self) -> Duration {
        self.config.retry_period / 2
    }

    /// Since when the record has stood.
    fn observe(&mut self, lease: &Lease, now: Instant) -> Instant {
        let version = &lease.metadata.resource_version;
        if let Some(observed) = &self.observed
            && observed.resource_version == *version
        {
            return observed.at;
        }
        self.observed = Some(Observed {
            resource_version: version.clone(),
            at: now,
        });
        now
    }

    /// How long the holder is waited for: what it said itself, since it renews by that.
    fn patience(&self, spec: &LeaseSpec) -> Duration {
        match spec.lease_duration_seconds {
            Some(seconds @ 1..) => Duration::from_secs(u64::from(seconds.unsigned_abs())),
            _ => self.config.duration,
        }
    }

    fn fresh(&self) -> Lease {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let mut lease = self.taken(lease, LeaseSpec::default());
        if let Some(spec) = &mut lease.spec {
            spec.lease_transitions = Some(0);
        }
        lease
    }

    /// The lease with this operator as its holder, from now.
    fn taken(&self, mut lease: Lease, spec: LeaseSpec) -> Lease {
        let now = MicroTime(Timestamp::now());
        let is_ours = spec.holder_identity.as_deref() == Some(&self.config.identity);
        let transitions = spec.lease_transitions.unwrap_or(0);
        lease.metadata.managed_fields = None;
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.duration.as_secs()).ok(),
            acquire_time: match spec.acquire_time {
                Some(since) if is_ours => Some(since),
                _ => Some(now.clone()),
            },
            renew_time: Some(now),
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..spec
        });
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn election(identity: &str) -> Election {
        Election::new(LeaseConfig {
            namespace: "system".to_owned(),
            name: "operator".to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        })
    }

    fn lease(holder: &str, version: u32, seconds: i32) -> Seen {
        Seen::Lease(Box::new(Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(seconds),
                lease_transitions: Some(4),
                // Somebody's clock is wrong by decades, which must not matter.
                renew_time: Some(MicroTime(Timestamp::from_second(0).unwrap())),
                ..LeaseSpec::default()
            }),
        }))
    }

    /// What one sees, by the second, and what that leads to: `take`, or to wait for that many ms.
    fn check(rows: &[(u64, Seen, Result<(), u64>)]) {
        let mut election = election("me");
        let start = Instant::now();
        for (second, seen, expected) in rows {
            let now = start + Duration::from_secs(*second);
            let step = election.step(seen.clone(), now);
            let found = match &step {
                Step::Wait(wait) => Err(u64::try_from(wait.as_millis()).unwrap()),
                Step::Create(lease) | Step::Replace(lease) => {
                    let spec = lease.spec.as_ref().unwrap();
                    assert_eq!(spec.holder_identity.as_deref(), Some("me"));
                    Ok(())
                }
            };
            assert_eq!(found, *expected, "after {second} s: {step:?}");
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_missing_released_or_silent() {
        check(&[(0, Seen::Missing, Ok(()))]);
        check(&[(0, lease("", 1, 15), Ok(()))]);
        check(&[(0, lease("me", 1, 15), Ok(()))]);
        check(&[
            (0, lease("other", 1, 15), Err(1_000)),
            (14, lease("other", 1, 15), Err(1_000)),
            (15, lease("other", 1, 15), Ok(())),
        ]);
        check(&[
            (0, lease("other", 1, 15), Err(1_000)),
            (1, lease("", 2, 1), Ok(())),
        ]);
    }

    #[test]
    fn each_change_of_the_record_counts_anew_and_the_holder_says_how_long() {
        check(&[
            (0, lease("other", 1, 15), Err(1_000)),
            (14, lease("other", 2, 15), Err(1_000)),
            (28, lease("other", 2, 15), Err(1_000)),
            (29, lease("other", 2, 15), Ok(())),
        ]);
        check(&[
            (0, lease("other", 1, 60), Err(1_000)),
            (59, lease("other", 1, 60), Err(1_000)),
            (60, lease("other", 1, 60), Ok(())),
        ]);
        check(&[
            (0, lease("other", 1, 0), Err(1_000)),
            (15, lease("other", 1, 0), Ok(())),
        ]);
    }

    #[test]
    fn the_deadline_runs_from_when_a_renewal_was_sent_and_ends_with_another_holder() {
        let mut election = election("me");
        let sent = Instant::now();
        assert_eq!(election.deadline(), None);
        let Seen::Lease(ours) = lease("me", 1, 15) else {
            unreachable!()
        };
        election.wrote(&ours, sent);
        assert_eq!(election.deadline(), Some(sent + Duration::from_secs(10)));
        election.step(lease("other", 2, 15), sent);
        assert_eq!(election.deadline(), None);
    }

    #[test]
    fn transitions_are_counted_and_a_release_is_for_our_own() {
        let election = election("me");
        let Seen::Lease(others) = lease("other", 1, 15) else {
            unreachable!()
        };
        assert_eq!(election.release(&others), None);
        let ours = election.renewal(&others);
        assert_eq!(ours.spec.as_ref().unwrap().lease_transitions, Some(5));
        let renewed = election.renewal(&ours);
        let spec = renewed.spec.as_ref().unwrap();
        assert_eq!(spec.lease_transitions, Some(5));
        assert_eq!(spec.acquire_time, ours.spec.as_ref().unwrap().acquire_time);
        let released = election.release(&renewed).unwrap().spec.unwrap();
        assert_eq!(
            (released.holder_identity, released.lease_transitions),
            (None, Some(5))
        );
    }
}
