//! Certificates, for who runs a `WsGateway` on a machine and for who runs it in a cluster. Free of IO: texts in,
//! texts out, and time is an argument.
//!
//! ```text
//! chain       what somebody wrote: certificates and their key, read
//! inspection  whether clients would accept it
//! authority   an authority, and the leaves that it signs
//! plan        what is due for a self-signed certificate, also through a change of its authority
//! ```

mod authority;
mod chain;
mod inspection;
mod plan;

use std::time::Duration;

pub use authority::{Authority, MakeError, Pair};
pub use chain::{Chain, Fault, Pem};
pub use inspection::{Facts, inspect};
pub use plan::{Change, Kept, KeptPair, Plan, Wanted, plan};

/// A day, in which lives are counted.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The life of an authority: a person should have to trust it once.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());

/// Certificates begin this much before now, for clients whose clock is behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// The life and the renewal of a leaf where nothing else is said: renewed at two thirds.
pub const LEAF: Lifetime = Lifetime {
    life: Duration::from_secs(90 * DAY.as_secs()),
    renew_before: Duration::from_secs(30 * DAY.as_secs()),
};

/// How long a leaf lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From now to its end.
    pub life: Duration,
    /// How long before its end it is renewed.
    pub renew_before: Duration,
}
