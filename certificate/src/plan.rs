//! What is due for a self-signed certificate and its authority. All that is known stands in what was kept.
//!
//! An authority ends too, and whoever trusts it must have got the next one before that signs anything. With leaves of
//! life L and an authority that ends at E, times go by as follows:
//!
//! ```text
//!              E − 2L                  E − L                   E
//! signs          old                     new
//! is trusted     old, new                new, old                new
//!                AuthorityAnnounced      AuthorityRotated        AuthorityRetired
//! ```
//!
//! So for a leaf's lifetime both are trusted before the new one signs, and for another one after it does. The change
//! comes at the middle of the new one's begin and the old one's end, which both certificates say. Where nobody looked
//! for so long that less than 2L is left, the same rule halves what there is. Where an authority has ended, or cannot
//! be read, there is nothing to announce any more: a new one signs at once, and clients must be told.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use crate::{AUTHORITY_LIFE, Authority, CLOCK_SKEW, Chain, Lifetime, MakeError, Pair, Pem};

/// Longer leaves shorten the announcement instead of having each authority announced as soon as it is made.
const ANNOUNCEMENT_MAX: Duration = Duration::from_secs(AUTHORITY_LIFE.as_secs() / 2);

/// A certificate and a key as they were found. Nothing is known of them yet.
#[derive(Debug, Clone, Copy)]
pub struct KeptPair<'a> {
    /// The certificate.
    pub certificate: Pem<'a>,
    /// Its key.
    pub key: Pem<'a>,
}

/// What was found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept<'a> {
    /// The authority that signs.
    pub current: Option<KeptPair<'a>>,
    /// The authority that will.
    pub next: Option<KeptPair<'a>>,
    /// The certificate of the authority that did.
    pub previous: Option<Pem<'a>>,
    /// The leaf.
    pub leaf: Option<KeptPair<'a>>,
}

/// What there shall be.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// What a new authority is called.
    pub authority: &'a str,
    /// The leaf's names, at least one.
    pub names: BTreeSet<String>,
    /// The leaf's life.
    pub lifetime: Lifetime,
}

/// What there is to keep from now on: the very texts that were found, where nothing was due.
#[derive(Debug)]
pub struct Plan {
    /// The authority that signs.
    pub current: Pair,
    /// The authority that will.
    pub next: Option<Pair>,
    /// The certificate of the authority that did.
    pub previous: Option<String>,
    /// The leaf.
    pub leaf: Pair,
    /// What clients must trust, PEM: first the one that signs.
    pub trust: String,
    /// What was due; empty where nothing was.
    pub changes: Vec<Change>,
    /// The leaf's end.
    pub not_after: SystemTime,
    /// When something will be due.
    pub due: SystemTime,
}

/// What was due, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was no certificate.
    Issued,
    /// It nears its end.
    Renewed,
    /// Other names are asked for.
    NamesChanged,
    /// Another life is asked for.
    DurationChanged,
    /// What was found cannot be read, or is not of this authority, or somebody else wrote it.
    Repaired,
    /// The authority nears its end: the next is trusted from now on, and does not sign yet.
    AuthorityAnnounced,
    /// The next authority signs from now on.
    AuthorityRotated,
    /// The authority was lost, or has ended: clients must trust another one at once.
    AuthorityReplaced,
    /// An authority that has ended is trusted no more.
    AuthorityRetired,
}

impl Change {
    /// A stable word for it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Issued => "CertificateIssued",
            Self::Renewed => "CertificateRenewed",
            Self::NamesChanged => "CertificateNamesChanged",
            Self::DurationChanged => "CertificateDurationChanged",
            Self::Repaired => "CertificateRepaired",
            Self::AuthorityAnnounced => "AuthorityAnnounced",
            Self::AuthorityRotated => "AuthorityRotated",
            Self::AuthorityReplaced => "AuthorityReplaced",
            Self::AuthorityRetired => "AuthorityRetired",
        }
    }

    /// A sentence for it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Issued => "There was no certificate; one is issued.",
            Self::Renewed => "The certificate neared its end; a new one is issued.",
            Self::NamesChanged => "A certificate for the new host names is issued.",
            Self::DurationChanged => "A certificate with the new duration is issued.",
            Self::Repaired => "The certificate was damaged or edited; a new one is issued.",
            Self::AuthorityAnnounced => {
                "The authority nears its end: ca.crt carries the next one too. It will sign once the middle of the \
                 time that is left has passed; clients must trust it by then."
            }
            Self::AuthorityRotated => {
                "The next authority signs from now on. ca.crt carries the old one too, until it ends."
            }
            Self::AuthorityReplaced => {
                "The authority was lost, damaged or has ended, and is replaced: clients must trust the new ca.crt now."
            }
            Self::AuthorityRetired => "The old authority has ended and is no longer in ca.crt.",
        }
    }

    /// Whether clients must act at once, or lose their connections.
    pub fn is_warning(self) -> bool {
        matches!(self, Self::AuthorityReplaced)
    }
}

/// What is due now. The same again gives the same texts and no change.
pub fn plan(kept: Kept<'_>, wanted: &Wanted<'_>, now: SystemTime) -> Result<Plan, MakeError> {
    let now = whole_seconds(now); // As certificates count, so that what is read equals what was asked for.
    let (authorities, mut changes) = Authorities::of(kept, wanted, now)?;
    let current = &authorities.current;
    let (leaf, chain) = match kept_leaf(kept.leaf, current, wanted, now) {
        Ok(kept) => kept,
        Err(change) => {
            let is_signer_new = changes.iter().any(|change| {
                matches!(change, Change::AuthorityRotated | Change::AuthorityReplaced)
            });
            // With another authority the leaf is another one too; that needs no word of its own.
            if !(is_signer_new && change == Change::Repaired) {
                changes.push(change);
            }
            let life = Duration::from_secs(wanted.lifetime.life.as_secs());
            let leaf = current.issue(&wanted.names, life, now)?;
            let chain = Chain::read(Pem {
                name: "the new certificate",
                bytes: leaf.certificate.as_bytes(),
            });
            let chain = chain.map_err(|_| MakeError::unreadable())?;
            (leaf, chain)
        }
    };
    let due = authorities.due(wanted.lifetime);
    let due = renewal(&chain, current, wanted.lifetime).map_or(due, |renewal| renewal.min(due));
    let trust = authorities.trust();
    Ok(Plan {
        not_after: chain.not_after,
        current: authorities.current.pair().clone(),
        next: authorities.next.map(|next| next.pair().clone()),
        previous: authorities.previous.map(|previous| previous.pem()),
        leaf,
        trust,
        changes,
        due,
    })
}

/// The authorities from now on.
struct Authorities {
    current: Authority,
    next: Option<Authority>,
    previous: Option<Chain>,
}

impl Authorities {
    fn of(
        kept: Kept<'_>,
        wanted: &Wanted<'_>,
        now: SystemTime,
    ) -> Result<(Self, Vec<Change>), MakeError> {
        let usable = |pair: KeptPair<'_>| {
            let authority = Authority::read(pair.certificate, pair.key).ok()?;
            is_valid(authority.chain(), now).then_some(authority)
        };
        let trusted = |pem| {
            let chain = Chain::read(pem).ok()?;
            (chain.is_authority && is_valid(&chain, now)).then_some(chain)
        };
        let make = || Authority::make(wanted.authority, now);
        let mut changes = Vec::new();
        let mut previous = kept.previous.and_then(trusted);
        let (current, next) = match (kept.current.and_then(usable), kept.next.and_then(usable)) {
            (Some(current), Some(next)) if now >= rotation(&current, &next) => {
                changes.push(Change::AuthorityRotated);
                previous = Some(current.chain().clone());
                (next, None)
            }
            (Some(current), None) if now >= announcement(&current, wanted.lifetime) => {
                changes.push(Change::AuthorityAnnounced);
                (current, Some(make()?))
            }
            (Some(current), next) => (current, next),
            (None, Some(next)) => {
                changes.push(Change::AuthorityRotated);
                // It has ended, or is damaged; then its leaf is still shown for a moment.
                let lost = kept.current.map(|pair| pair.certificate);
                previous = lost.and_then(trusted).or(previous);
                (next, None)
            }
            (None, None) => {
                // The lost one is trusted no more: nobody knows who has its key.
                if kept.current.is_some() || kept.leaf.is_some() {
                    changes.push(Change::AuthorityReplaced);
                }
                (make()?, None)
            }
        };
        if kept.previous.is_some() && previous.is_none() {
            changes.push(Change::AuthorityRetired);
        }
        let authorities = Self {
            current,
            next,
            previous,
        };
        Ok((authorities, changes))
    }

    /// When something will be due for them.
    fn due(&self, lifetime: Lifetime) -> SystemTime {
        let change = self.next.as_ref().map_or_else(
            || announcement(&self.current, lifetime),
            |next| rotation(&self.current, next),
        );
        let retirement = self.previous.as_ref().map(|previous| previous.not_after);
        retirement.map_or(change, |retirement| retirement.min(change))
    }

    fn trust(&self) -> String {
        let next = self.next.as_ref().map(Authority::chain);
        [Some(self.current.chain()), next, self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(Chain::pem)
            .collect()
    }
}

/// A time that lies at the end is past it: what ends now is of no use any more.
fn is_valid(chain: &Chain, now: SystemTime) -> bool {
    chain.not_before <= now && now < chain.not_after
}

/// When the next authority is made.
fn announcement(current: &Authority, lifetime: Lifetime) -> SystemTime {
    current.chain().not_after - (2 * lifetime.life).min(ANNOUNCEMENT_MAX)
}

/// When the next authority signs.
fn rotation(current: &Authority, next: &Authority) -> SystemTime {
    let begin = next.chain().not_before + CLOCK_SKEW;
    let left = current.chain().not_after.duration_since(begin);
    begin + left.unwrap_or_default() / 2
}

/// When the leaf is due. A leaf that ends with its authority is not: that authority can give nothing longer, and the
/// next one takes over before.
fn renewal(leaf: &Chain, current: &Authority, lifetime: Lifetime) -> Option<SystemTime> {
    (leaf.not_after < current.chain().not_after).then(|| leaf.not_after - lifetime.renew_before)
}

/// The leaf that was found, or why another one is due.
fn kept_leaf(
    kept: Option<KeptPair<'_>>,
    current: &Authority,
    wanted: &Wanted<'_>,
    now: SystemTime,
) -> Result<(Pair, Chain), Change> {
    let kept = kept.ok_or(Change::Issued)?;
    let chain = Chain::read(kept.certificate).map_err(|_| Change::Repaired)?;
    chain.check_key(kept.key).map_err(|_| Change::Repaired)?;
    let is_ours = chain.is_single()
        && !chain.is_authority
        && chain.not_before <= now
        && chain.is_signed_by(current.chain());
    if !is_ours {
        return Err(Change::Repaired);
    }
    if chain.names != wanted.names {
        return Err(Change::NamesChanged);
    }
    let life = Duration::from_secs(wanted.lifetime.life.as_secs());
    let end = (chain.not_before + CLOCK_SKEW + life).min(current.chain().not_after);
    if chain.not_after != end {
        return Err(Change::DurationChanged);
    }
    if renewal(&chain, current, wanted.lifetime).is_some_and(|renewal| now >= renewal) {
        return Err(Change::Renewed);
    }
    let pair = Pair {
        certificate: String::from_utf8_lossy(kept.certificate.bytes).into_owned(),
        key: String::from_utf8_lossy(kept.key.bytes).into_owned(),
    };
    Ok((pair, chain))
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests;
