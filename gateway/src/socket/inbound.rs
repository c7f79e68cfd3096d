//! What becomes of a client's bytes: messages, receipts, and what has to wait for room.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use wsgateway_crds::config::FromClient;

use super::{Connection, Surroundings, frame};
use crate::{
    exchange::{QueueId, ToNats},
    frame::payload::{MessageKind, Payload},
    nats::PublishError,
    outbox::{Frame, FrameClass, Full},
    session::{CloseCause, Event},
};

/// What could not go on, with the input behind it. Nothing is read meanwhile.
#[derive(Debug)]
pub(super) struct Stalled {
    what: Stall,
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Stall {
    /// An echo for which the outbox has no room.
    Echo(Rc<Frame>),
    /// A message that NATS has no room for.
    Publish(Arc<str>, Bytes),
}

impl Connection {
    pub(super) fn process(&mut self, input: &mut [u8], around: &mut Surroundings<'_>) {
        let mut input = input;
        while let Some(event) = self.session.handle_input(
            &mut input,
            &around.route.session,
            &mut around.codec.inflater,
            around.now,
        ) {
            let is_costly =
                matches!(&event, Event::Message(_, payload) if payload.was_compressed());
            if !self.meter_frame(&event, around) {
                continue;
            }
            match event {
                Event::Message(kind, payload) => self.handle_message(kind, payload, around),
                Event::Fragment => {}
                Event::Pong(payload) => self.handle_receipt(payload.as_slice(), around),
                Event::Answer(bytes) => {
                    self.outbox
                        .push_control(frame(bytes, around.now, FrameClass::Pong));
                }
                Event::PeerClosed(bytes) => {
                    self.outbox
                        .push_unlimited(frame(bytes, around.now, FrameClass::Ordered));
                }
                Event::Violation(cause) => self.close(cause, "", around.now),
            }
            if let Some(stalled) = self.extras.as_mut().and_then(|e| e.stalled.as_mut()) {
                stalled.rest = input.to_vec();
                return;
            }
            let is_over = around.turn.is_over() || is_costly && around.turn.is_late();
            if is_over && !input.is_empty() {
                self.wait_for_turn(input);
                return;
            }
        }
    }

    fn handle_message(
        &mut self,
        kind: MessageKind,
        payload: Payload<'_>,
        around: &mut Surroundings<'_>,
    ) {
        around.counts.received += 1;
        around.counts.received_bytes += payload.as_slice().len() as u64;
        match &around.route.from_client {
            FromClient::Echo => {
                let bytes = self.echo_frame(kind, payload, around);
                self.echo(frame(bytes, around.now, FrameClass::Ordered), around);
            }
            FromClient::Publish { .. } if self.may_not_publish() => {
                self.close(CloseCause::PublishDenied, "", around.now);
            }
            FromClient::Publish { .. } => {
                let subject = self
                    .extras
                    .as_ref()
                    .and_then(|extras| extras.publish.clone());
                if let Some(subject) = subject.or_else(|| around.route.publish_fixed.clone()) {
                    self.publish(subject, payload.into_bytes(), around);
                }
            }
            FromClient::Discard => {}
            FromClient::Reject => self.close(CloseCause::MessageRejected, "", around.now),
        }
    }

    fn may_not_publish(&self) -> bool {
        self.extras
            .as_ref()
            .is_some_and(|extras| extras.may_not_publish)
    }

    /// A message as it goes back: compressed where it came so, else where compressing it pays.
    fn echo_frame(
        &self,
        kind: MessageKind,
        payload: Payload<'_>,
        around: &mut Surroundings<'_>,
    ) -> Bytes {
        let compressor = &mut around.codec.compressor;
        let (opcode, bytes) = (kind.opcode(), payload.as_slice());
        let compressed = match self.compression(around.route) {
            Some(to) if payload.was_compressed() => {
                compressor.compress_always(opcode, bytes, to.window)
            }
            Some(to) if bytes.len() >= to.payload_bytes_min => {
                compressor.compress(opcode, bytes, to.window)
            }
            _ => None,
        };
        compressed.unwrap_or_else(|| payload.into_frame(opcode))
    }

    fn echo(&mut self, echo: Rc<Frame>, around: &mut Surroundings<'_>) {
        match self.outbox.push(echo.clone(), around.outbox) {
            Ok(()) => {
                around.counts.sent += 1;
                around.counts.sent_bytes += echo.bytes.len() as u64;
            }
            Err(Full) => self.stall(Stall::Echo(echo), around),
        }
    }

    fn publish(&mut self, subject: Arc<str>, payload: Bytes, around: &mut Surroundings<'_>) {
        match around.nats.try_publish(subject, payload) {
            Ok(()) => {}
            Err(PublishError::Full(subject, payload)) => {
                self.stall(Stall::Publish(subject, payload), around);
            }
            Err(PublishError::TooLarge) => self.close(CloseCause::MessageTooBig, "", around.now),
            Err(PublishError::Disconnected) => {
                self.close(CloseCause::NatsUnavailable, "", around.now);
            }
        }
    }

    fn stall(&mut self, what: Stall, around: &Surroundings<'_>) {
        if let Some(meter) = self.meter() {
            meter.pause(&around.route.rates, around.now);
        }
        let extras = self.extras.get_or_insert_default();
        extras.stalled = Some(Stalled {
            what,
            rest: Vec::new(),
        });
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.extras
            .as_ref()
            .is_some_and(|extras| extras.stalled.is_some())
    }

    /// Whether it waits for room in NATS, and so must be woken when there is some.
    pub fn waits_to_publish(&self) -> bool {
        let stalled = self
            .extras
            .as_ref()
            .and_then(|extras| extras.stalled.as_ref());
        stalled.is_some_and(|stalled| matches!(stalled.what, Stall::Publish(..)))
    }

    /// Whether a stalled echo has room now.
    pub(super) fn can_resume(&self, around: &Surroundings<'_>) -> bool {
        let stalled = self
            .extras
            .as_ref()
            .and_then(|extras| extras.stalled.as_ref());
        stalled.is_some_and(|stalled| match &stalled.what {
            Stall::Echo(echo) => {
                self.outbox.is_empty()
                    || self.outbox.bytes() + echo.bytes.len() <= around.outbox.bytes_max / 2
            }
            Stall::Publish(..) => false,
        })
    }

    /// Goes on with what was stalled, and with the input behind it.
    pub(super) fn resume(&mut self, around: &mut Surroundings<'_>) {
        let Some(extras) = &mut self.extras else {
            return;
        };
        let Some(Stalled { what, mut rest }) = extras.stalled.take() else {
            return;
        };
        if let Some(meter) = self.meter() {
            meter.resume(&around.route.rates, around.now);
        }
        if self.session.is_open() {
            match what {
                Stall::Echo(echo) => self.echo(echo, around),
                Stall::Publish(subject, payload) => self.publish(subject, payload, around),
            }
        }
        match self
            .extras
            .as_mut()
            .and_then(|extras| extras.stalled.as_mut())
        {
            Some(stalled) => stalled.rest = rest,
            None => self.process(&mut rest, around),
        }
    }

    /// A pong that answers a queue's ping says that all up to a counter has been received.
    fn handle_receipt(&mut self, payload: &[u8], around: &mut Surroundings<'_>) {
        let Some(extras) = &mut self.extras else {
            return;
        };
        let Some((queue, counter)) = parse_receipt(payload) else {
            return;
        };
        let known = extras
            .queues
            .iter_mut()
            .find(|progress| progress.queue == queue);
        let Some(progress) = known else { return };
        // What was never sent cannot have been received.
        if progress.received < counter && counter <= progress.sent {
            progress.received = counter;
            around.nats.send(ToNats::QueueReceipt {
                queue,
                client: around.client,
                counter,
            });
        }
    }
}

impl Stalled {
    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let what = match &self.what {
            Stall::Echo(echo) => echo.bytes.len(),
            Stall::Publish(_, payload) => payload.len(),
        };
        what + self.rest.len()
    }
}

/// The payload of the ping that asks for a receipt.
pub(super) fn receipt(queue: QueueId, counter: u32) -> String {
    format!("q{}.{counter}", queue.0)
}

fn parse_receipt(payload: &[u8]) -> Option<(QueueId, u32)> {
    let text = std::str::from_utf8(payload).ok()?.strip_prefix('q')?;
    let (queue, counter) = text.split_once('.')?;
    Some((QueueId(queue.parse().ok()?), counter.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let text = receipt(QueueId(3), 4_000_000_000);
        assert_eq!(
            parse_receipt(text.as_bytes()),
            Some((QueueId(3), 4_000_000_000))
        );
        for payload in [&b""[..], b"q", b"q1", b"1.2", b"q1.2.3", b"q-1.2", b"\xff"] {
            assert_eq!(parse_receipt(payload), None, "{payload:?}");
        }
    }
}
