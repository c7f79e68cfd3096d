//! What a client is held to by itself, where its route has it so.

use super::{Connection, Extras, Surroundings};
use crate::{
    admission::Places,
    rate::Meter,
    session::{CloseCause, Event},
};

impl Connection {
    /// The same, with its places among those of its address and its user, and held to rates from now on.
    #[must_use]
    pub fn with_limits(mut self, places: Places, meter: Option<Meter>) -> Self {
        if !places.is_empty() || meter.is_some() {
            self.extras = Some(Box::new(Extras {
                places: (!places.is_empty()).then(|| Box::new(places)),
                meter: meter.map(Box::new),
                ..self.extras.map(|extras| *extras).unwrap_or_default()
            }));
        }
        self
    }

    /// Its route's rates have changed.
    pub fn handle_new_rates(&mut self, around: &Surroundings<'_>) {
        let (rates, now) = (&around.route.rates, around.now);
        if rates.is_none() {
            if let Some(extras) = &mut self.extras {
                extras.meter = None;
            }
            return;
        }
        match &mut self.extras.get_or_insert_default().meter {
            Some(meter) => meter.handle_new_rates(rates, now),
            meter => *meter = Some(Box::new(Meter::of_open(rates, now))),
        }
    }

    pub(super) fn meter(&mut self) -> Option<&mut Meter> {
        self.extras.as_mut()?.meter.as_deref_mut()
    }

    /// Counts what came off the wire, and closes where it is too much.
    pub(super) fn meter_bytes(&mut self, bytes: usize, around: &Surroundings<'_>) {
        let (rates, now) = (&around.route.rates, around.now);
        let meter = self.meter();
        if meter.is_some_and(|meter| !meter.take_bytes(bytes, rates, now)) {
            self.close(CloseCause::TooManyBytes, "", now);
        }
    }

    /// Counts a frame, and closes where it is one too many: then nothing comes of it. Each frame is one event.
    pub(super) fn meter_frame(&mut self, event: &Event<'_>, around: &Surroundings<'_>) -> bool {
        let (rates, now) = (&around.route.rates, around.now);
        let Some(meter) = self.meter() else {
            return true;
        };
        let may_pass = match event {
            Event::Message(..) => {
                meter.handle_message();
                meter.take_frame(rates, now)
            }
            Event::Fragment | Event::Answer(_) => meter.take_frame(rates, now),
            Event::Pong(_) => meter.take_pong(rates, now),
            Event::PeerClosed(_) | Event::Violation(_) => true,
        };
        if !may_pass {
            self.close(CloseCause::TooManyMessages, "", now);
        }
        may_pass
    }
}
