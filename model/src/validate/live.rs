//! `spec.websocket`, `spec.limits` and `spec.rollout`: what a worker reads again without a restart.

use std::ops::RangeInclusive;

use wsgateway_crds::{
    config::{self, Auth, ClientAddress, Live, Route},
    v1alpha1::{
        Compression, CompressionMode, Drain, Limits, Outbox, RetryAfter, Rollout, WebSocket,
    },
    value::{Duration, Size},
};

use super::{admission, findings::Findings};

/// Periods and deadlines of a connection. Shorter ones would cost more than they find; longer ones find nothing.
pub(super) const WAIT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);

/// How long a request head may take: long enough for a slow phone, too short to hold a socket for free.
const HANDSHAKE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);

/// How long a proxy may take to hear that a worker leaves.
const PROPAGATION: RangeInclusive<Duration> = Duration::from_millis(0)..=Duration::from_secs(600);

/// Over how long clients are closed. Beyond a day a rollout never ends.
const DRAIN: RangeInclusive<Duration> = Duration::from_millis(0)..=Duration::from_secs(86_400);

/// When a client is told to come back.
const RETRY_AFTER: RangeInclusive<Duration> = Duration::from_millis(0)..=Duration::from_secs(3_600);

/// A message: a whole one is held in memory while it arrives.
pub(super) const MESSAGE: RangeInclusive<Size> = Size::from_bytes(1)..=Size::from_bytes(64 << 20);

/// From which size on a message is compressed.
const COMPRESSED: RangeInclusive<Size> = Size::from_bytes(0)..=Size::from_bytes(64 << 20);

/// What waits for one client.
const OUTBOX: RangeInclusive<Size> = Size::from_bytes(1 << 10)..=Size::from_bytes(1 << 30);

/// What waits for all of them.
const TOTAL: RangeInclusive<Size> = Size::from_bytes(1 << 10)..=Size::from_bytes(1 << 40);

pub(super) fn live(
    websocket: WebSocket,
    limits: Limits,
    rollout: Rollout,
    (auth, routes): (Option<Auth>, Option<Vec<Route>>),
    findings: &mut Findings<'_>,
) -> Option<Live> {
    let websocket = self::websocket(websocket, findings);
    let limits = self::limits(limits, findings);
    let drain = drain(rollout, findings);
    Some(Live {
        websocket: websocket?,
        limits: limits?,
        // What exposes the gateways says it.
        client_address: ClientAddress::default(),
        drain: drain?,
        auth,
        routes: routes?,
    })
}

fn websocket(spec: WebSocket, findings: &mut Findings<'_>) -> Option<config::WebSocket> {
    let WebSocket {
        ping_period,
        pong_wait,
        write_wait,
        handshake_timeout,
        max_message_size,
        compression,
        allowed_origins,
    } = spec;
    let ping_period = findings.duration("spec.websocket.pingPeriod", &ping_period, &WAIT);
    let pong_wait = findings.duration("spec.websocket.pongWait", &pong_wait, &WAIT);
    let write_wait = findings.duration("spec.websocket.writeWait", &write_wait, &WAIT);
    let handshake_timeout = findings.duration(
        "spec.websocket.handshakeTimeout",
        &handshake_timeout,
        &HANDSHAKE,
    );
    let max_message_size =
        findings.size("spec.websocket.maxMessageSize", &max_message_size, &MESSAGE);
    let compression = self::compression("spec.websocket.compression", compression, findings);
    let allowed_origins = findings.parse_all(
        "spec.websocket.allowedOrigins",
        &allowed_origins,
        "InvalidOrigin",
    );
    Some(config::WebSocket {
        ping_period: ping_period?,
        pong_wait: pong_wait?,
        write_wait: write_wait?,
        handshake_timeout: handshake_timeout?,
        max_message_size: max_message_size?,
        compression: compression?,
        allowed_origins: allowed_origins?,
    })
}

pub(super) fn compression(
    at: &str,
    spec: Compression,
    findings: &mut Findings<'_>,
) -> Option<config::Compression> {
    let Compression { mode, min_size } = spec;
    let min_size = findings.size(&format!("{at}.minSize"), &min_size, &COMPRESSED)?;
    Some(config::Compression {
        mode: match mode {
            CompressionMode::Disabled => config::CompressionMode::Disabled,
            CompressionMode::Shared => config::CompressionMode::Shared,
        },
        min_size,
    })
}

fn limits(spec: Limits, findings: &mut Findings<'_>) -> Option<config::Limits> {
    let Limits {
        connections_per_pod,
        handshakes_per_second,
        per_address,
        per_user,
        per_connection,
        outbox,
        bytes_per_pod,
    } = spec;
    let Outbox {
        bytes_per_connection,
        messages_per_connection,
    } = outbox;
    let outbox_bytes = findings.size(
        "spec.limits.outbox.bytesPerConnection",
        &bytes_per_connection,
        &OUTBOX,
    );
    let total_bytes = bytes_per_pod
        .map(|size| {
            findings
                .size("spec.limits.bytesPerPod", &size, &TOTAL)
                .ok_or(())
        })
        .transpose();
    let per_connection = admission::per_connection(per_connection, findings);
    Some(config::Limits {
        connections: connections_per_pod,
        handshakes_per_second,
        per_address: admission::per_address(per_address),
        per_user: admission::per_user(per_user),
        per_connection: per_connection?,
        outbox_bytes: outbox_bytes?,
        outbox_messages: messages_per_connection,
        total_bytes: total_bytes.ok()?,
    })
}

fn drain(spec: Rollout, findings: &mut Findings<'_>) -> Option<config::Drain> {
    let Rollout { propagation, drain } = spec;
    let Drain {
        period,
        max_per_second,
        retry_after,
    } = drain;
    let RetryAfter { min, max } = retry_after;
    let propagation = findings.duration("spec.rollout.propagation", &propagation, &PROPAGATION);
    let period = findings.duration("spec.rollout.drain.period", &period, &DRAIN);
    let min = findings.duration("spec.rollout.drain.retryAfter.min", &min, &RETRY_AFTER);
    let max = findings.duration("spec.rollout.drain.retryAfter.max", &max, &RETRY_AFTER);
    Some(config::Drain {
        propagation: propagation?,
        period: period?,
        max_per_second,
        retry_after_min: min?,
        retry_after_max: max?,
    })
}
