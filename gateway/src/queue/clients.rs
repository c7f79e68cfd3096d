//! The clients of a queue: what each holds, and who is next.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Instant,
};

use super::Message;
use crate::exchange::ClientId;

/// A message that a client holds.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) message: Message,
    /// When it was given to the client.
    pub(super) since: Instant,
    /// The server has delivered it anew: this copy is not ours to give back.
    pub(super) is_superseded: bool,
}

/// What a client may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It holds nothing: it may be given anything.
    Idle,
    /// It holds something and has credit: it may be given what has not failed before.
    Open,
    /// It gets nothing more until it holds nothing, since a message waits to travel alone.
    Reserved,
    /// Its credit is used up, or it holds a message that travels alone.
    Closed,
}

/// Whether a client holds a message that travels alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    No,
    /// The message's counter.
    Yes(u32),
    /// It has held it for so long that the server has delivered it anew. It is no longer waited for.
    Overdue,
}

#[derive(Debug)]
struct Client {
    /// The counter before the first slot's.
    base: u32,
    /// What was sent and not acknowledged, by counter. `None`: it could not be given to the client.
    slots: VecDeque<Option<InFlight>>,
    alone: Alone,
    is_reserved: bool,
    place: Place,
    /// Its turn among those of the same place.
    turn: u64,
    /// How much of its credit counts as free.
    free: usize,
}

/// All clients, in the order of their turns.
#[derive(Debug)]
pub(super) struct Clients {
    credit: usize,
    by_id: HashMap<ClientId, Client>,
    idle: BTreeMap<u64, ClientId>,
    open: BTreeMap<u64, ClientId>,
    reserved: BTreeMap<u64, ClientId>,
    next_turn: u64,
    free: usize,
    isolated: usize,
}

impl Clients {
    pub(super) fn new(credit: u32) -> Self {
        Self {
            credit: credit.max(1) as usize,
            by_id: HashMap::new(),
            idle: BTreeMap::new(),
            open: BTreeMap::new(),
            reserved: BTreeMap::new(),
            next_turn: 0,
            free: 0,
            isolated: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<ClientId> {
        self.by_id.keys().copied().collect()
    }

    /// The credit that may be pulled for.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// How many clients hold a message that travels alone, and are waited for.
    pub(super) fn isolated(&self) -> usize {
        self.isolated
    }

    /// How many are to hold nothing, since a message waits to travel alone.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Whether it is new.
    pub(super) fn join(&mut self, id: ClientId) -> bool {
        if self.by_id.contains_key(&id) {
            return false;
        }
        let client = Client {
            base: 0,
            slots: VecDeque::new(),
            alone: Alone::No,
            is_reserved: false,
            place: Place::Closed,
            turn: 0,
            free: 0,
        };
        self.by_id.insert(id, client);
        self.settle(id);
        true
    }

    /// What it held, in order.
    pub(super) fn leave(&mut self, id: ClientId) -> Option<VecDeque<Option<InFlight>>> {
        self.unplace(id);
        let client = self.by_id.remove(&id)?;
        self.isolated -= usize::from(matches!(client.alone, Alone::Yes(_)));
        Some(client.slots)
    }

    /// Who has waited longest of those that hold nothing.
    pub(super) fn next_idle(&self) -> Option<ClientId> {
        self.idle.first_key_value().map(|(_, id)| *id)
    }

    /// Whose turn it is: those that hold nothing first.
    pub(super) fn next_open(&self) -> Option<ClientId> {
        self.next_idle()
            .or_else(|| self.open.first_key_value().map(|(_, id)| *id))
    }

    /// Gives a message to a client, whose turn is then over. The counter comes back.
    pub(super) fn give(&mut self, id: ClientId, message: Message, now: Instant) -> Option<u32> {
        let alone = message.travels_alone();
        self.unplace(id);
        let client = self.by_id.get_mut(&id)?;
        client.slots.push_back(Some(InFlight {
            message,
            since: now,
            is_superseded: false,
        }));
        let counter = client.last_counter();
        if alone {
            client.alone = Alone::Yes(counter);
            self.isolated += 1;
        }
        self.settle(id);
        Some(counter)
    }

    /// Takes off what a client has acknowledged. `None` for a counter that was never sent.
    pub(super) fn receive(
        &mut self,
        id: ClientId,
        counter: u32,
    ) -> Option<VecDeque<Option<InFlight>>> {
        let client = self.by_id.get_mut(&id)?;
        // Counters wrap after four billion messages.
        let count = counter.wrapping_sub(client.base) as usize;
        if count > client.slots.len() {
            return None;
        }
        let rest = client.slots.split_off(count);
        let received = std::mem::replace(&mut client.slots, rest);
        client.base = counter;
        self.settle(id);
        Some(received)
    }

    /// Takes one message back from a client that cannot be given it.
    pub(super) fn take(&mut self, id: ClientId, counter: u32) -> Option<InFlight> {
        let client = self.by_id.get_mut(&id)?;
        let taken = client.slot_mut(counter)?.take();
        while let Some(None) = client.slots.front() {
            client.slots.pop_front();
            client.base = client.base.wrapping_add(1);
        }
        self.settle(id);
        taken
    }

    /// The server has delivered anew what a client holds.
    pub(super) fn supersede(&mut self, id: ClientId, counter: u32) {
        let slot = self
            .by_id
            .get_mut(&id)
            .and_then(|client| client.slot_mut(counter));
        if let Some(Some(in_flight)) = slot {
            in_flight.is_superseded = true;
        }
        self.stop_waiting(id, counter);
    }

    /// A client has held the message that travels alone for too long to be waited for.
    pub(super) fn stop_waiting(&mut self, id: ClientId, counter: u32) {
        let Some(client) = self.by_id.get_mut(&id) else {
            return;
        };
        if client.alone == Alone::Yes(counter) {
            client.alone = Alone::Overdue;
            self.isolated -= 1;
        }
    }

    /// Reserves a client for a message that travels alone. `false` where none is left.
    pub(super) fn reserve(&mut self) -> bool {
        let Some((_, &id)) = self.open.first_key_value() else {
            return false;
        };
        self.set_reserved(id, true);
        true
    }

    /// Ends a reservation, since nothing waits for it any more.
    pub(super) fn release(&mut self) -> bool {
        let Some((_, &id)) = self.reserved.first_key_value() else {
            return false;
        };
        self.set_reserved(id, false);
        true
    }

    fn set_reserved(&mut self, id: ClientId, is_reserved: bool) {
        if let Some(client) = self.by_id.get_mut(&id) {
            client.is_reserved = is_reserved;
            self.settle(id);
        }
    }

    /// Puts a client where it belongs now. Within a place it keeps its turn.
    fn settle(&mut self, id: ClientId) {
        let Some(client) = self.by_id.get_mut(&id) else {
            return;
        };
        if client.slots.is_empty() {
            self.isolated -= usize::from(matches!(client.alone, Alone::Yes(_)));
            (client.alone, client.is_reserved) = (Alone::No, false);
        }
        let left = self.credit.saturating_sub(client.slots.len());
        let place = match (client.alone, client.is_reserved) {
            (Alone::No, _) if client.slots.is_empty() => Place::Idle,
            (Alone::No, true) => Place::Reserved,
            (Alone::No, false) if left > 0 => Place::Open,
            _ => Place::Closed,
        };
        if place != client.place {
            self.unplace(id);
            let turn = self.next_turn;
            self.next_turn += 1;
            self.ring(place).map(|ring| ring.insert(turn, id));
            if let Some(client) = self.by_id.get_mut(&id) {
                (client.place, client.turn) = (place, turn);
            }
        }
        let free = if matches!(place, Place::Idle | Place::Open) {
            left
        } else {
            0
        };
        if let Some(client) = self.by_id.get_mut(&id) {
            self.free = self.free + free - client.free;
            client.free = free;
        }
    }

    fn unplace(&mut self, id: ClientId) {
        let Some(client) = self.by_id.get_mut(&id) else {
            return;
        };
        let (place, turn) = (client.place, client.turn);
        client.place = Place::Closed;
        self.free -= std::mem::take(&mut client.free);
        if let Some(ring) = self.ring(place) {
            ring.remove(&turn);
        }
    }

    fn ring(&mut self, place: Place) -> Option<&mut BTreeMap<u64, ClientId>> {
        match place {
            Place::Idle => Some(&mut self.idle),
            Place::Open => Some(&mut self.open),
            Place::Reserved => Some(&mut self.reserved),
            Place::Closed => None,
        }
    }
}

impl Client {
    fn last_counter(&self) -> u32 {
        self.base
            .wrapping_add(u32::try_from(self.slots.len()).unwrap_or(u32::MAX))
    }

    fn slot_mut(&mut self, counter: u32) -> Option<&mut Option<InFlight>> {
        let at = counter.wrapping_sub(self.base).checked_sub(1)?;
        self.slots.get_mut(at as usize)
    }
}
