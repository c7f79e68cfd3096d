//! The line of connections whose turn has ended with bytes left: one of them gets the next turn each time that everybody
//! else has had theirs.

use std::rc::Rc;

use tokio::task::yield_now;

use super::Shard;

/// Grants turns as long as the shard runs.
pub(super) async fn run(shard: Rc<Shard>) {
    loop {
        let next = shard.state.borrow_mut().line.pop_front();
        let Some(key) = next else {
            shard.line_grows.notified().await;
            continue;
        };
        if let Some(connection) = shard.state.borrow_mut().connection(key) {
            connection.grant_turn();
        }
        // What is ready comes first, and what sockets have brought meanwhile.
        yield_now().await;
    }
}
