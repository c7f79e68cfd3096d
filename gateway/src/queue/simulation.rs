//! A work queue with clients that come, stall and die, against a model of the server.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::*;
use crate::{
    exchange::{ConnectionKey, ShardId},
    frame::PreparedFrame,
};

/// xorshift64*: small, seeded, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[derive(Debug, Clone, Copy)]
enum Stored {
    Ready { deliveries: u64 },
    Pending { deliveries: u64, until: Instant },
    Acked,
    Dead(#[expect(dead_code, reason = "shown when a test fails")] DeadReason),
}

/// The stream, its consumer, and the way to the gateway.
struct Server {
    messages: BTreeMap<u64, Stored>,
    pulls: VecDeque<(u64, u32, Instant)>,
    wire: VecDeque<(u64, u64)>,
    ack_wait: Duration,
}

impl Server {
    fn advance(&mut self, now: Instant) -> Vec<(u64, u32)> {
        for stored in self.messages.values_mut() {
            if let Stored::Pending { deliveries, until } = *stored
                && until <= now
            {
                *stored = Stored::Ready { deliveries };
            }
        }
        let mut ended = Vec::new();
        self.pulls.retain(|(id, left, ends_at)| {
            let is_over = *ends_at <= now;
            if is_over {
                ended.push((*id, *left));
            }
            !is_over
        });
        let ready: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, stored)| matches!(stored, Stored::Ready { .. }))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in ready {
            // Waiting pulls are served in turn.
            let Some((id, left, ends_at)) = self.pulls.pop_front() else {
                break;
            };
            if left > 1 {
                self.pulls.push_back((id, left - 1, ends_at));
            }
            let Some(Stored::Ready { deliveries }) = self.messages.get(&sequence).copied() else {
                continue;
            };
            let deliveries = deliveries + 1;
            let until = now + self.ack_wait;
            self.messages
                .insert(sequence, Stored::Pending { deliveries, until });
            self.wire.push_back((sequence, deliveries));
        }
        ended
    }

    fn outstanding(&self) -> usize {
        self.pulls
            .iter()
            .map(|(_, left, _)| *left as usize)
            .sum::<usize>()
            + self.wire.len()
    }
}

#[derive(Default)]
struct Peer {
    received: VecDeque<(u32, u64, bool)>,
    sent: u32,
    is_stalled: bool,
}

struct World {
    random: Random,
    now: Instant,
    server: Server,
    dispatcher: Dispatcher,
    peers: HashMap<ClientId, Peer>,
    next_client: u32,
    poison: HashSet<u64>,
    undeliverable: HashSet<u64>,
    credit: usize,
    is_open: bool,
    is_exact: bool,
    alone_violations: usize,
}

fn reply(sequence: u64, deliveries: u64) -> Box<str> {
    format!("{sequence}/{deliveries}").into()
}

fn sequence_of(reply: &str) -> u64 {
    reply.split_once('/').unwrap().0.parse().unwrap()
}

impl World {
    fn new(seed: u64, count: u64, limits: QueueLimits) -> Self {
        let mut dispatcher = Dispatcher::new(limits);
        dispatcher.handle_open(PULL_BATCH_MAX);
        Self {
            random: Random(seed.wrapping_mul(2).wrapping_add(0x9E37_79B9)),
            now: Instant::now(),
            server: Server {
                messages: (1..=count)
                    .map(|n| (n, Stored::Ready { deliveries: 0 }))
                    .collect(),
                pulls: VecDeque::new(),
                wire: VecDeque::new(),
                ack_wait: limits.ack_wait,
            },
            dispatcher,
            peers: HashMap::new(),
            next_client: 0,
            poison: HashSet::new(),
            undeliverable: HashSet::new(),
            credit: limits.credit as usize,
            is_open: true,
            is_exact: true,
            alone_violations: 0,
        }
    }

    fn join(&mut self) {
        let key = ConnectionKey {
            slot: self.next_client,
            generation: 0,
        };
        let id = ClientId {
            shard: ShardId(0),
            key,
        };
        self.next_client += 1;
        self.peers.insert(id, Peer::default());
        self.dispatcher.handle_join(id, self.now);
        self.settle();
    }

    fn leave(&mut self, id: ClientId) {
        self.peers.remove(&id);
        self.dispatcher.handle_leave(id, self.now);
        self.settle();
    }

    fn any_peer(&mut self) -> Option<ClientId> {
        let mut ids: Vec<_> = self.peers.keys().copied().collect();
        ids.sort_by_key(|id| id.key.slot);
        if ids.is_empty() {
            return None;
        }
        let at = self.random.below(ids.len() as u64) as usize;
        Some(ids[at])
    }

    /// A client works on what it got: it dies of poison, and acknowledges the rest, mostly in bulk.
    fn work(&mut self, id: ClientId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.is_stalled || peer.received.is_empty() {
            return;
        }
        let count = 1 + self.random.below(peer.received.len() as u64) as usize;
        let mut last = None;
        for _ in 0..count {
            let (counter, sequence, _) = peer.received.pop_front().unwrap();
            if self.poison.contains(&sequence) {
                return self.leave(id);
            }
            last = Some(counter);
        }
        if let Some(counter) = last {
            if self.random.one_in(10) {
                // Forged: never sent.
                self.dispatcher
                    .handle_receipt(id, counter.wrapping_add(1_000_000), self.now);
            }
            self.dispatcher.handle_receipt(id, counter, self.now);
        }
        self.settle();
    }

    fn read_wire(&mut self) {
        while let Some((sequence, deliveries)) = self.server.wire.pop_front() {
            let message = Message {
                sequence,
                deliveries,
                reply: reply(sequence, deliveries),
                subject: "jobs".into(),
                headers: None,
                frame: PreparedFrame::new(reply(sequence, deliveries).as_bytes()),
            };
            self.dispatcher.handle_message(message, self.now);
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.dispatcher.poll_output(self.now) {
            match output {
                Output::Deliver {
                    client,
                    counter,
                    is_redelivery,
                    frame,
                } => {
                    self.receive(client, counter, is_redelivery, &frame);
                }
                Output::Ack(reply) => {
                    self.server
                        .messages
                        .insert(sequence_of(&reply), Stored::Acked);
                }
                Output::Nak(reply) => {
                    let sequence = sequence_of(&reply);
                    if let Some(Stored::Pending { deliveries, .. }) =
                        self.server.messages.get(&sequence).copied()
                    {
                        self.server
                            .messages
                            .insert(sequence, Stored::Ready { deliveries });
                    }
                }
                Output::Dead { message, reason } => {
                    if !matches!(self.server.messages[&message.sequence], Stored::Acked) {
                        self.server
                            .messages
                            .insert(message.sequence, Stored::Dead(reason));
                    }
                    self.dispatcher.handle_dead();
                }
                Output::Pull { id, batch } => {
                    assert!(self.is_open && !self.peers.is_empty(), "pulled for nobody");
                    let held: usize = self.peers.values().map(|peer| peer.received.len()).sum();
                    let free = self.peers.len() * self.credit - held;
                    let outstanding = self.server.outstanding() + batch as usize;
                    assert!(
                        !self.is_exact || outstanding <= free,
                        "{outstanding} > {free}"
                    );
                    self.server
                        .pulls
                        .push_back((id, batch, self.now + PULL_EXPIRES));
                }
                Output::CancelPulls => {
                    assert!(self.peers.is_empty(), "cancelled with clients");
                    self.server.pulls.clear();
                    self.read_wire();
                    self.dispatcher.handle_cancelled();
                }
            }
        }
    }

    fn receive(&mut self, id: ClientId, counter: u32, is_redelivery: bool, frame: &PreparedFrame) {
        let text = std::str::from_utf8(frame.payload()).unwrap();
        let sequence = sequence_of(text);
        let Some(peer) = self.peers.get_mut(&id) else {
            panic!("given to one that has gone")
        };
        peer.sent += 1;
        assert_eq!(counter, peer.sent, "counters have no gap");
        let is_beside = !peer.received.is_empty();
        let is_after_failed = peer
            .received
            .iter()
            .any(|(_, _, is_redelivery)| *is_redelivery);
        if is_beside && (is_redelivery || is_after_failed) {
            self.alone_violations += 1;
        }
        let has_it = peer.received.iter().any(|(_, known, _)| *known == sequence);
        assert!(!has_it, "the same message twice at once");
        if self.undeliverable.contains(&sequence) {
            self.dispatcher.handle_undeliverable(id, counter, self.now);
            return;
        }
        peer.received.push_back((counter, sequence, is_redelivery));
        assert!(peer.received.len() <= self.credit, "more than the credit");
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for (id, left) in self.server.advance(self.now) {
            self.read_wire();
            self.dispatcher.handle_pull_ended(id, Some(left));
        }
        if self.is_open {
            self.read_wire();
        } else {
            self.server.wire.clear();
        }
        if self
            .dispatcher
            .poll_timeout()
            .is_some_and(|at| at <= self.now)
        {
            self.dispatcher.handle_timeout(self.now);
        }
        self.settle();
    }

    fn set_open(&mut self, is_open: bool) {
        self.is_open = is_open;
        if is_open {
            self.dispatcher.handle_open(PULL_BATCH_MAX);
        } else {
            self.server.pulls.clear();
            self.server.wire.clear();
            self.dispatcher.handle_lost();
        }
        self.settle();
    }

    fn finish(&mut self) {
        for _ in 0..200_000 {
            let is_over = |stored: &Stored| matches!(stored, Stored::Acked | Stored::Dead(_));
            if self.server.messages.values().all(is_over) {
                return;
            }
            while self.peers.len() < 3 {
                self.join();
            }
            for peer in self.peers.values_mut() {
                peer.is_stalled = false;
            }
            if let Some(id) = self.any_peer() {
                self.work(id);
            }
            self.pass(7);
        }
        let left: Vec<_> = self
            .server
            .messages
            .iter()
            .filter(|(_, stored)| !matches!(stored, Stored::Acked | Stored::Dead(_)))
            .collect();
        panic!("unfinished: {left:?} {:?}", self.dispatcher);
    }
}

fn limits(credit: u32, max_deliver: u32) -> QueueLimits {
    QueueLimits {
        credit,
        ack_wait: Duration::from_secs(30),
        max_deliver,
    }
}

#[test]
fn poison_ends_in_the_dead_letters_and_takes_no_neighbour_with_it() {
    for seed in 1..60 {
        let mut world = World::new(seed, 400, limits(1 + (seed % 16) as u32, 4));
        world.poison = (1..=400).filter(|n| n % 37 == 0).collect();
        world.undeliverable = (1..=400).filter(|n| n % 53 == 0).collect();
        for _ in 0..3_000 {
            match world.random.below(20) {
                0 if world.peers.len() < 12 => world.join(),
                // One that holds nothing: to die with a message is a failure of that message.
                1 => {
                    if let Some(id) = world.any_peer()
                        && world.peers[&id].received.is_empty()
                    {
                        world.leave(id);
                    }
                }
                2..=14 => {
                    if let Some(id) = world.any_peer() {
                        world.work(id);
                    }
                }
                _ => {
                    let ms = world.random.below(30);
                    world.pass(ms);
                }
            }
            if world.peers.is_empty() {
                world.join();
            }
        }
        world.finish();
        assert_eq!(world.alone_violations, 0, "seed {seed}");
        for (sequence, stored) in &world.server.messages {
            let expected_dead =
                world.poison.contains(sequence) || world.undeliverable.contains(sequence);
            let is_dead = matches!(stored, Stored::Dead(_));
            assert_eq!(
                is_dead, expected_dead,
                "seed {seed}, message {sequence}: {stored:?}"
            );
        }
    }
}

#[test]
fn with_stalls_outages_and_empty_times_every_message_is_dealt_with() {
    for seed in 1..60 {
        let mut world = World::new(seed, 300, limits(1 + (seed % 9) as u32, 5));
        world.is_exact = false;
        world.poison = (1..=300).filter(|n| n % 41 == 0).collect();
        for _ in 0..3_000 {
            match world.random.below(40) {
                0 | 1 if world.peers.len() < 8 => world.join(),
                2 | 3 => {
                    if let Some(id) = world.any_peer() {
                        world.leave(id);
                    }
                }
                4 => {
                    if let Some(peer) = world.any_peer().and_then(|id| world.peers.get_mut(&id)) {
                        peer.is_stalled = true;
                    }
                }
                5 => {
                    let is_open = !world.is_open;
                    world.set_open(is_open);
                }
                6..=28 => {
                    if let Some(id) = world.any_peer() {
                        world.work(id);
                    }
                }
                29 => world.pass(7_000),
                _ => {
                    let ms = world.random.below(50);
                    world.pass(ms);
                }
            }
        }
        world.set_open(true);
        world.finish();
        for sequence in &world.poison {
            let stored = world.server.messages[sequence];
            assert!(matches!(stored, Stored::Dead(_)), "seed {seed}: {stored:?}");
        }
        let ids: Vec<_> = world.peers.keys().copied().collect();
        for id in ids {
            world.leave(id);
        }
        world.pass(100);
        world.settle();
        assert!(world.dispatcher.is_at_rest(), "{:?}", world.dispatcher);
        assert_eq!((world.dispatcher.in_flight, world.dispatcher.bytes), (0, 0));
    }
}
