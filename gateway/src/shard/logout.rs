//! Connections whose session has been ended.

use std::collections::HashMap;

use super::Shard;
use crate::{logout::Ended, session::CloseCause, socket::Connection};

impl Shard {
    /// Closes what these logouts end: one look at all connections, however many logouts there are.
    pub(super) fn log_out(&self, ended: &[Ended]) {
        if ended.is_empty() {
            return;
        }
        let mut ends: HashMap<u64, u64> = HashMap::new();
        for (key, until) in ended.iter().flat_map(Ended::entries) {
            let known = ends.entry(key).or_default();
            *known = until.max(*known);
        }
        let is_over = |connection: &Connection| {
            let login = connection.login();
            login.is_some_and(|login| login.is_over(|key| ends.get(&key).copied()))
        };
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let connections = state.connections.iter();
        let over: Vec<_> = connections
            .filter(|(_, connection)| is_over(connection))
            .map(|(slot, connection)| connection.key(slot as u32))
            .collect();
        for key in over {
            state.with(self, key, now, |connection, _| {
                connection.close(CloseCause::LoggedOut, "", now);
            });
        }
    }
}
