//! What a client is sent: broadcasts, messages of queues, and all that its socket did not take at once.

use std::{
    io::{self, IoSlice},
    mem,
    rc::Rc,
    task::{Context, Poll},
};

use wsgateway_crds::config::SlowConsumer;

use super::{Connection, End, Surroundings, frame, inbound::receipt};
use crate::{
    clock::Tick,
    exchange::QueueId,
    frame::{encode, header::Opcode},
    outbox::{FRAMES_PER_WRITE_MAX, Frame, FrameClass, Full},
    session::CloseCause,
};

impl Connection {
    /// Queues a queue's message. The ping that asks for its receipt follows by `ask_receipt`.
    pub fn deliver(
        &mut self,
        queue: QueueId,
        counter: u32,
        message: Rc<Frame>,
        around: &mut Surroundings<'_>,
    ) {
        if !self.is_open() {
            return;
        }
        let extras = self.extras.get_or_insert_default();
        if let Some(progress) = extras.queues.iter_mut().find(|p| p.queue == queue) {
            progress.sent = counter;
        }
        around.counts.sent += 1;
        around.counts.sent_bytes += message.bytes.len() as u64;
        if self.outbox.push(message, around.outbox).is_err() {
            self.close(CloseCause::SlowConsumer, "", around.now);
        }
    }

    /// Queues the ping whose pong acknowledges all messages of a queue up to a counter.
    pub fn ask_receipt(&mut self, queue: QueueId, counter: u32, now: Tick) {
        if self.is_open() {
            if let Some(meter) = self.meter() {
                meter.expect_pong();
            }
            let bytes = encode(Opcode::Ping, receipt(queue, counter).as_bytes());
            self.outbox
                .push_unlimited(frame(bytes, now, FrameClass::Ordered));
        }
    }

    /// Gives broadcast frames to a client whose outbox is empty in one write, without queueing them;
    /// `slices` are the frames' bytes, `total` their sum. To one that is behind they are queued.
    pub fn send(
        &mut self,
        frames: &[Rc<Frame>],
        slices: &[IoSlice<'_>],
        total: usize,
        policy: SlowConsumer,
        around: &mut Surroundings<'_>,
    ) {
        if !self.is_open() {
            return;
        }
        around.counts.sent += frames.len() as u64;
        around.counts.sent_bytes += total as u64;
        if !self.outbox.is_empty() {
            for frame in frames {
                self.push(frame, policy, around);
            }
            return;
        }
        let written = match self.stream.try_write(slices) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return self.end(End::Lost),
        };
        if written < total {
            self.keep_rest(frames, written, policy, around);
        }
        if written < total || self.stream.is_pending() {
            self.stream.note_pending(around.now);
            self.waker.wake_by_ref();
        }
    }

    fn keep_rest(
        &mut self,
        frames: &[Rc<Frame>],
        written: usize,
        policy: SlowConsumer,
        around: &mut Surroundings<'_>,
    ) {
        let mut written = written;
        for frame in frames {
            if written >= frame.bytes.len() {
                written -= frame.bytes.len();
            } else if self.outbox.is_empty() {
                self.outbox.push_unlimited(frame.clone());
                self.outbox.advance(mem::take(&mut written));
            } else {
                self.push(frame, policy, around);
            }
        }
    }

    /// Queues a broadcast frame for a later flush. What has gathered since the last is written first
    /// where it fills a write, so that a burst does not look like a client that is behind.
    pub fn queue(
        &mut self,
        frame: &Rc<Frame>,
        policy: SlowConsumer,
        around: &mut Surroundings<'_>,
    ) {
        if self.outbox.len() >= FRAMES_PER_WRITE_MAX {
            self.flush();
        }
        around.counts.sent += 1;
        around.counts.sent_bytes += frame.bytes.len() as u64;
        self.push(frame, policy, around);
    }

    fn push(&mut self, frame: &Rc<Frame>, policy: SlowConsumer, around: &mut Surroundings<'_>) {
        if !self.is_open() {
            return;
        }
        let pushed = match policy {
            SlowConsumer::Disconnect => self.outbox.push(frame.clone(), around.outbox).map(|()| 0),
            SlowConsumer::DropOldest => self.outbox.push_dropping_oldest(frame, around.outbox),
        };
        match pushed {
            Ok(dropped) => around.counts.dropped_oldest += dropped as u64,
            Err(Full) => self.close(CloseCause::SlowConsumer, "", around.now),
        }
    }

    /// Whether nothing waits to be written.
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty() && !self.stream.is_pending()
    }

    /// Writes what waits, as far as the socket takes it; its task does the rest once it takes more.
    pub fn flush(&mut self) {
        match self.write_out() {
            Ok(()) if self.is_drained() && !self.session.is_closed() => {}
            Ok(()) => self.waker.wake_by_ref(),
            Err(_) => self.end(self.lost()),
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        while let Some(since) = self.outbox.waiting_since() {
            let mut room = [IoSlice::new(&[]); FRAMES_PER_WRITE_MAX];
            let used = self.outbox.slices(&mut room);
            match self.stream.try_write(room.get(..used).unwrap_or_default()) {
                Ok(written) => {
                    self.stream.note_pending(since);
                    self.outbox.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.stream.try_flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes what waits, and asks to be woken where something is left.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none() {
            if let Err(_broken) = self.write_out() {
                self.ended = Some(self.lost());
                return;
            }
            if self.is_drained() {
                return;
            }
            match self.stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.ended = Some(self.lost()),
                Poll::Pending => return,
            }
        }
    }
}
