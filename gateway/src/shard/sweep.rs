//! Time for all connections of a shard: no connection has a timer of its own.

use std::{rc::Rc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Shard, State};
use crate::{clock::Tick, deflate::Codec, exchange::ConnectionKey, socket::Counts};

/// How often the sweeper runs.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);

/// In how many runs it visits every connection: each is visited every 0.8 s, so that what is due is at
/// most a second late and a run stays short.
const SWEEP_SLICES: u32 = 8;

/// Memory is given back once a quarter of the places is used at most, unless there are only so few.
const PLACES_MIN: usize = 1_024;

/// Visits connections for pings and deadlines, for as long as the shard lives.
pub(super) async fn run(shard: Rc<Shard>) {
    let mut ticks = interval(SWEEP_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = shard.now();
        let mut state = shard.state.borrow_mut();
        sweep(&shard, &mut state, now);
        shard.shed(&mut state, now);
        report(&shard, &mut state);
        shard.beat();
    }
}

fn sweep(shard: &Shard, state: &mut State, now: Tick) {
    let per_run = state.slots.div_ceil(SWEEP_SLICES);
    for _ in 0..per_run {
        let slot = state.sweep_at;
        state.sweep_at = slot + 1;
        if state.sweep_at >= state.slots {
            state.sweep_at = 0;
            give_back(state);
        }
        let Some(connection) = state.connections.get(slot as usize) else {
            continue;
        };
        let key = ConnectionKey {
            slot,
            generation: connection.generation,
        };
        state.with(shard, key, now, |connection, around| {
            connection.handle_timeout(around);
        });
    }
}

/// After a storm: without it 18,000 connections that are gone hold 6 MB.
fn give_back(state: &mut State) {
    let connections = &mut state.connections;
    let places = connections.capacity();
    if places <= PLACES_MIN || connections.len() > places / 4 {
        return;
    }
    let highest = connections.iter().next_back().map(|(slot, _)| slot as u32);
    let slots = highest.map_or(0, |slot| slot + 1);
    if slots as usize <= places / 4 {
        state.slots = slots;
        connections.shrink_to_fit();
        state.hub.shrink_to(slots);
    }
}

/// Hands what was counted here to the metrics that all shards share.
fn report(shard: &Shard, state: &mut State) {
    for route in &mut state.routes {
        let counts = std::mem::take(&mut route.counts);
        let Counts {
            received,
            received_bytes,
            sent,
            sent_bytes,
            dropped_oldest,
        } = counts;
        for (counter, count) in [
            (&route.metrics.received, received),
            (&route.metrics.received_bytes, received_bytes),
            (&route.metrics.sent, sent),
            (&route.metrics.sent_bytes, sent_bytes),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
        shard.count_dropped("DropOldest", dropped_oldest);
    }
    let Codec {
        compressor,
        inflater,
    } = &mut state.codec;
    let compressed = std::mem::take(&mut compressor.counts);
    let inflated = std::mem::take(&mut inflater.counts);
    shard.metrics.compression.add(compressed, inflated);
    let change = state.buffered_bytes.cast_signed() - state.reported_bytes.cast_signed();
    state.reported_bytes = state.buffered_bytes;
    shard.metrics.buffered_bytes.inc_by(change as i64);
}
