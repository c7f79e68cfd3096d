//! What all clients of a run have seen.

use crate::mark;

/// Latencies that are kept; later ones are only counted.
const LATENCIES_MAX: usize = 4_000_000;

/// What all clients have seen.
#[derive(Debug)]
pub struct Tally {
    /// Connections that are open.
    pub open: usize,
    /// Connections that failed, or that the server ended.
    pub lost: usize,
    /// Connections that ended as they should.
    pub closed: u64,
    /// Frames that carried a message or a piece of one.
    pub frames: u64,
    /// Those of them that were compressed.
    pub compressed: u64,
    /// Marks, and so messages.
    pub marks: u64,
    /// Bytes of payload in frames with messages.
    pub payload_bytes: u64,
    /// Pings from the server.
    pub pings: u64,
    /// Microseconds from publication to arrival.
    pub latencies_us: Vec<u32>,
    /// Microseconds from the first SYN to the whole answer.
    pub handshakes_us: Vec<u32>,
    /// The first thing that went wrong.
    pub trouble: Option<String>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            open: 0,
            lost: 0,
            closed: 0,
            frames: 0,
            compressed: 0,
            marks: 0,
            payload_bytes: 0,
            pings: 0,
            latencies_us: Vec::new(),
            handshakes_us: Vec::new(),
            trouble: None,
        }
    }

    /// Forgets the messages that have come, so that counting starts anew.
    pub fn forget_messages(&mut self) {
        self.frames = 0;
        self.compressed = 0;
        self.marks = 0;
        self.payload_bytes = 0;
        self.latencies_us.clear();
    }

    /// Counts a message, and its latency if its stamp was read.
    pub fn mark(&mut self, stamp_ns: Option<u64>) {
        self.marks += 1;
        if let Some(stamp_ns) = stamp_ns
            && self.latencies_us.len() < LATENCIES_MAX
        {
            self.latencies_us
                .push((mark::now_ns().saturating_sub(stamp_ns) / 1000) as u32);
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}
