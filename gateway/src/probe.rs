//! The operator's question whether clients can come in: a handshake that offers
//! [`wsgateway.probe.v1`](wsgateway_crds::report::PROBE_SUBPROTOCOL) on the path of any route.
//!
//! What it proves is the way in, so it needs neither NATS nor a permission, subscribes to nothing and takes no place
//! among the connections. Anybody may ask, so all that it costs has a limit: how often it is answered, how long it
//! lives, and what it holds.

use std::{
    io::{self, IoSlice},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    clock::Tick,
    deflate::Inflater,
    session::{CloseCause, Event, Session, SessionLimits, close_frame},
    stream::Stream,
};

/// Probes that are answered in a burst, by the whole process.
const BURST: u64 = 20;

/// How often one is answered in the long run. An operator asks once a minute, and every other second at most.
const INTERVAL_MS: u64 = 200;

/// How long a probe lives. The handshake is all that it is for.
const LIFETIME: Duration = Duration::from_secs(5);

/// How much of it is read at once: several times the largest control frame.
const READ_BYTES: usize = 512;

/// Probes are not among the connections that descriptors are set aside for. So many may be open at once.
pub const OPEN_MAX: u64 = BURST + LIFETIME.as_millis() as u64 / INTERVAL_MS;

/// It is not pinged, and no message of it is taken.
const LIMITS: SessionLimits = SessionLimits {
    ping_period: LIFETIME,
    pong_wait: LIFETIME,
    write_wait: LIFETIME,
    message_bytes_max: 0,
};

/// How many probes, or other things, may still be answered now: a bucket of `BURST` that one is added to every
/// `INTERVAL_MS`. It holds when the bucket will be full.
#[derive(Debug, Default)]
pub struct Allowance<
    const BURST: u64 = { self::BURST },
    const INTERVAL_MS: u64 = { self::INTERVAL_MS },
>(AtomicU64);

impl<const BURST: u64, const INTERVAL_MS: u64> Allowance<BURST, INTERVAL_MS> {
    /// Takes one, at a time since any fixed moment.
    ///
    /// # Errors
    /// The time until there is one again, where there is none.
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let latest = now.saturating_add((BURST - 1) * INTERVAL_MS);
        let take = |full_at: u64| {
            let is_there = full_at <= latest;
            is_there.then(|| full_at.max(now).saturating_add(INTERVAL_MS))
        };
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(_) => Ok(()),
            Err(full_at) => Err(Duration::from_millis(full_at - latest)),
        }
    }
}

/// Answers pings, and the close frame, for as long as a probe lives. `leftover` came behind its head.
pub async fn serve(mut stream: Stream, leftover: &[u8]) {
    if timeout(LIFETIME, converse(&mut stream, leftover))
        .await
        .is_err()
    {
        // Who takes nothing is not waited for.
        let _ = stream.try_write(&[IoSlice::new(&close_frame(1000, "ProbeOver"))]);
    }
}

async fn converse(stream: &mut Stream, leftover: &[u8]) -> io::Result<()> {
    let mut session = Session::new(Tick::default(), &LIMITS, 0);
    let mut buffer = vec![0; READ_BYTES];
    let mut input = leftover.to_vec();
    let mut was_discarding = false;
    loop {
        let answer = answer(&mut session, &mut input);
        stream.write_all(&answer).await?;
        stream.flush().await?;
        if session.is_closed() {
            return stream.shutdown().await;
        }
        if session.is_discarding() && !was_discarding {
            was_discarding = true;
            stream.shutdown().await?;
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        input = buffer.get(..count).unwrap_or_default().to_vec();
    }
}

/// What is to be sent for what came.
fn answer(session: &mut Session, mut input: &mut [u8]) -> Vec<u8> {
    let now = Tick::default();
    // Nothing is made for it: no compression is agreed on with a probe.
    let mut inflater = Inflater::default();
    let mut answer = Vec::new();
    while let Some(event) = session.handle_input(&mut input, &LIMITS, &mut inflater, now) {
        let cause = match event {
            Event::Answer(frame) | Event::PeerClosed(frame) => {
                answer.extend_from_slice(&frame);
                continue;
            }
            Event::Pong(_) | Event::Fragment => continue,
            Event::Message(..) | Event::Violation(CloseCause::MessageTooBig) => {
                CloseCause::ProbeMessage
            }
            Event::Violation(cause) => cause,
        };
        let frame = session.close(cause, "", now);
        answer.extend_from_slice(&frame.unwrap_or_default());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_and_then_one_at_a_time() {
        let allowance = <Allowance>::default();
        let at = Duration::from_millis;
        for taken in 0..BURST {
            assert_eq!(allowance.take(at(1_000)), Ok(()), "after {taken}");
        }
        assert_eq!(allowance.take(at(1_000)), Err(at(INTERVAL_MS)));
        assert_eq!(allowance.take(at(1_150)), Err(at(INTERVAL_MS - 150)));
        assert_eq!(allowance.take(at(1_000 + INTERVAL_MS)), Ok(()));
        assert!(allowance.take(at(1_000 + INTERVAL_MS)).is_err());
        // However long nobody asks, there are no more than a burst.
        for _ in 0..BURST {
            assert_eq!(allowance.take(at(1_000_000)), Ok(()));
        }
        assert!(allowance.take(at(1_000_000)).is_err());
    }

    #[test]
    fn a_probe_gets_pongs_and_close_frames_and_may_say_nothing() {
        // Masked with zeros, which leave the payload as it is.
        for (frames, expected) in [
            (&b"\x89\x82\0\0\0\0hi"[..], &b"\x8a\x02hi"[..]),
            (b"\x8a\x81\0\0\0\0x", b""),
            (b"\x88\x82\0\0\0\0\x03\xe8", b"\x88\x02\x03\xe8"),
            (b"\x81\x82\0\0\0\0hi", b"\x88\x0e\x03\xebProbeMessage"),
            (b"\x82\x80\0\0\0\0", b"\x88\x0e\x03\xebProbeMessage"),
            (b"\x81\x02hi", b"\x88\x0f\x03\xeaProtocolError"),
        ] {
            let mut session = Session::new(Tick::default(), &LIMITS, 0);
            let answer = answer(&mut session, &mut frames.to_vec());
            assert_eq!(answer, expected, "{frames:?}");
        }
    }
}
