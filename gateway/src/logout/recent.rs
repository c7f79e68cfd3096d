//! The logout tokens of late, so that a gateway which was not there can be told.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

/// How many bytes of tokens are kept: some 1,000 of Keycloak's. Beyond it the oldest go.
const BYTES_MAX: usize = 1 << 20;

/// For how long. An access token that is older has expired, or its issuer means it to outlive a day.
pub(super) const AGE_MAX: Duration = Duration::from_secs(86_400);

/// Tokens that were believed, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// When each was heard last.
    heard: HashMap<Bytes, Instant>,
    order: VecDeque<(Instant, Bytes)>,
    bytes: usize,
}

impl Recent {
    /// Whether a token is known, which then was heard once more.
    pub(super) fn is_known(&mut self, token: &Bytes, now: Instant) -> bool {
        self.heard
            .get_mut(token)
            .map(|heard| *heard = now)
            .is_some()
    }

    /// Keeps a token that was believed.
    pub(super) fn keep(&mut self, token: Bytes, now: Instant) {
        if self.is_known(&token, now) {
            return;
        }
        self.bytes += token.len();
        self.heard.insert(token.clone(), now);
        self.order.push_back((now, token));
        while let Some((since, token)) = self.order.front() {
            let is_old = now.saturating_duration_since(*since) >= AGE_MAX;
            if !is_old && self.bytes <= BYTES_MAX {
                break;
            }
            self.bytes -= token.len();
            self.heard.remove(token);
            self.order.pop_front();
        }
    }

    /// Those that nobody has told since a moment.
    pub(super) fn untold_since(&self, asked: Instant) -> Vec<Bytes> {
        let is_untold = |token: &&Bytes| self.heard.get(*token).is_some_and(|heard| *heard < asked);
        let tokens = self.order.iter().map(|(_, token)| token);
        tokens.filter(is_untold).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_told_meanwhile_is_not_told_again_and_old_tokens_go() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        for token in ["a", "b"] {
            recent.keep(Bytes::from(token), at(0));
            recent.keep(Bytes::from(token), at(0));
        }
        assert_eq!(recent.untold_since(at(1)), ["a", "b"]);
        assert!(recent.is_known(&Bytes::from("a"), at(2)));
        assert!(!recent.is_known(&Bytes::from("c"), at(2)));
        assert_eq!(recent.untold_since(at(1)), ["b"]);
        recent.keep(Bytes::from("c"), start + AGE_MAX);
        assert_eq!(recent.order.len(), 1);
        for number in 0..10_u8 {
            recent.keep(vec![number; BYTES_MAX / 4].into(), start + AGE_MAX);
        }
        assert_eq!(
            (recent.order.len(), recent.heard.len(), recent.bytes),
            (4, 4, BYTES_MAX)
        );
    }
}
