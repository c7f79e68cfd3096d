//! What a connection has still to be sent: a bounded queue of shared frames.

use std::{collections::VecDeque, io::IoSlice, rc::Rc};

use bytes::Bytes;

use crate::clock::Tick;

/// How many frames go into one vectored write. Beyond some 32 the cost of a frame hardly falls.
pub const FRAMES_PER_WRITE_MAX: usize = 64;

/// How many pongs wait at once. Clients that count answers send a few pings together; a flood of them
/// must not fill memory.
const PONGS_MAX: usize = 16;

/// An encoded frame as it waits in outboxes of one shard. Shared without atomics: a shard is one thread.
#[derive(Debug)]
pub struct Frame {
    /// Header and payload.
    pub bytes: Bytes,
    /// When it was queued: the write deadline runs from here.
    pub queued: Tick,
    /// What it is to the outbox.
    pub class: FrameClass,
}

/// What a frame is to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameClass {
    /// A broadcast message, which a policy may drop.
    Broadcast,
    /// An echo, a queue's message or its ping: it keeps its place and is never dropped alone.
    Ordered,
    /// A pong: it overtakes messages.
    Pong,
    /// A ping: it overtakes messages.
    Ping,
}

/// The frames that wait for one socket, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<Rc<Frame>>,
    /// How much of the front frame has been written.
    front_written: usize,
    bytes: usize,
}

/// An outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What an outbox may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Unwritten bytes.
    pub bytes_max: usize,
    /// Unwritten frames.
    pub frames_max: usize,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames that wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The unwritten bytes.
    pub fn bytes(&self) -> usize {
        self.bytes - self.front_written
    }

    /// Since when the front frame waits.
    pub fn waiting_since(&self) -> Option<Tick> {
        self.frames.front().map(|frame| frame.queued)
    }

    /// Adds a frame at the end. One that is larger than the limit is taken while nothing else waits.
    ///
    /// # Errors
    /// When it would hold more than the limits allow.
    pub fn push(&mut self, frame: Rc<Frame>, limits: OutboxLimits) -> Result<(), Full> {
        let over_bytes = self.bytes() + frame.bytes.len() > limits.bytes_max;
        if !self.is_empty() && (over_bytes || self.frames.len() >= limits.frames_max) {
            return Err(Full);
        }
        self.push_unlimited(frame);
        Ok(())
    }

    /// Adds a frame at the end whatever waits: for the close frame.
    pub fn push_unlimited(&mut self, frame: Rc<Frame>) {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
    }

    /// Drops the oldest broadcast frames until `frame` has room. Returns how many were dropped.
    ///
    /// # Errors
    /// When there is no room without dropping what may not be dropped.
    pub fn push_dropping_oldest(
        &mut self,
        frame: &Rc<Frame>,
        limits: OutboxLimits,
    ) -> Result<usize, Full> {
        let mut dropped = 0;
        while self.push(frame.clone(), limits).is_err() {
            let started = usize::from(self.front_written > 0);
            let oldest = self
                .frames
                .iter()
                .enumerate()
                .skip(started)
                .find(|(_, frame)| frame.class == FrameClass::Broadcast)
                .map(|(at, _)| at)
                .ok_or(Full)?;
            if let Some(frame) = self.frames.remove(oldest) {
                self.bytes -= frame.bytes.len();
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// Adds a ping or a pong in front of the messages, at a frame's boundary. Where many pongs wait, it
    /// takes the last one's place: only the latest ping must be answered, RFC 6455 section 5.5.3.
    pub fn push_control(&mut self, frame: Rc<Frame>) {
        let started = usize::from(self.front_written > 0);
        let mut place = started;
        let mut pongs = 0;
        for (at, waiting) in self.frames.iter_mut().enumerate().skip(started) {
            match waiting.class {
                FrameClass::Pong if frame.class == FrameClass::Pong => {
                    pongs += 1;
                    place = at + 1;
                    if pongs >= PONGS_MAX {
                        self.bytes = self.bytes - waiting.bytes.len() + frame.bytes.len();
                        *waiting = frame;
                        return;
                    }
                }
                FrameClass::Pong | FrameClass::Ping => place = at + 1,
                FrameClass::Broadcast | FrameClass::Ordered => break,
            }
        }
        self.bytes += frame.bytes.len();
        self.frames.insert(place, frame);
    }

    /// Drops every frame that has not been started, as before a close frame that says why.
    pub fn drop_unstarted(&mut self) {
        let started = usize::from(self.front_written > 0);
        self.frames.truncate(started);
        self.bytes = self.frames.iter().map(|frame| frame.bytes.len()).sum();
        if self.frames.is_empty() {
            self.free();
        }
    }

    /// The next bytes to write, for one vectored write.
    pub fn slices<'a>(&'a self, room: &mut [IoSlice<'a>; FRAMES_PER_WRITE_MAX]) -> usize {
        let mut used = 0;
        for (place, frame) in room.iter_mut().zip(&self.frames) {
            let start = if used == 0 { self.front_written } else { 0 };
            *place = IoSlice::new(frame.bytes.get(start..).unwrap_or_default());
            used += 1;
        }
        used
    }

    /// Takes note that so many bytes have been written. Once empty it holds no memory.
    pub fn advance(&mut self, written: usize) {
        let mut written = written;
        while let Some(front) = self.frames.front() {
            let rest = front.bytes.len() - self.front_written;
            if written < rest {
                self.front_written += written;
                return;
            }
            written -= rest;
            self.bytes -= front.bytes.len();
            self.front_written = 0;
            self.frames.pop_front();
        }
        self.free();
    }

    fn free(&mut self) {
        self.frames = VecDeque::new();
        self.front_written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        bytes_max: 10,
        frames_max: 4,
    };

    fn frame(text: &'static str, class: FrameClass) -> Rc<Frame> {
        let bytes = Bytes::from_static(text.as_bytes());
        Rc::new(Frame {
            bytes,
            queued: Tick::default(),
            class,
        })
    }

    fn rest(outbox: &Outbox) -> String {
        let mut room = [IoSlice::new(&[]); FRAMES_PER_WRITE_MAX];
        let used = outbox.slices(&mut room);
        room[..used]
            .iter()
            .map(|slice| std::str::from_utf8(slice).unwrap())
            .collect()
    }

    #[test]
    fn frames_leave_in_order_and_in_parts() {
        let mut outbox = Outbox::default();
        outbox
            .push(frame("abc", FrameClass::Broadcast), LIMITS)
            .unwrap();
        outbox
            .push(frame("def", FrameClass::Broadcast), LIMITS)
            .unwrap();
        outbox.advance(4);
        assert_eq!((rest(&outbox).as_str(), outbox.bytes()), ("ef", 2));
        outbox.advance(2);
        assert!(outbox.is_empty());
        assert_eq!(outbox.frames.capacity(), 0);
    }

    #[test]
    fn control_frames_overtake_messages_at_a_boundary() {
        let mut outbox = Outbox::default();
        outbox
            .push(frame("abc", FrameClass::Broadcast), LIMITS)
            .unwrap();
        outbox
            .push(frame("def", FrameClass::Broadcast), LIMITS)
            .unwrap();
        outbox.advance(1);
        outbox.push_control(frame("1", FrameClass::Pong));
        outbox.push_control(frame("!", FrameClass::Ping));
        outbox.push_control(frame("2", FrameClass::Pong));
        assert_eq!(rest(&outbox), "bc1!2def");
        assert_eq!(outbox.bytes(), 8);
        for _ in 0..100 {
            outbox.push_control(frame("3", FrameClass::Pong));
        }
        assert_eq!(
            rest(&outbox),
            format!("bc1!2{}def", "3".repeat(PONGS_MAX - 2))
        );
    }

    #[test]
    fn a_full_outbox_refuses_or_drops_its_oldest() {
        let mut outbox = Outbox::default();
        outbox
            .push(
                frame("larger than the limit", FrameClass::Broadcast),
                LIMITS,
            )
            .unwrap();
        assert_eq!(
            outbox.push(frame("x", FrameClass::Broadcast), LIMITS),
            Err(Full)
        );
        outbox.advance(1);
        assert_eq!(
            outbox.push_dropping_oldest(&frame("x", FrameClass::Broadcast), LIMITS),
            Err(Full)
        );
        let mut outbox = Outbox::default();
        for text in ["aaaa", "bbbb"] {
            outbox
                .push(frame(text, FrameClass::Broadcast), LIMITS)
                .unwrap();
        }
        assert_eq!(
            outbox.push_dropping_oldest(&frame("cccc", FrameClass::Broadcast), LIMITS),
            Ok(1)
        );
        assert_eq!(rest(&outbox), "bbbbcccc");
        outbox.push_control(frame("!", FrameClass::Ping));
        outbox.drop_unstarted();
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes(), 0);
    }
}
