//! The rules between fields of the part `live`. The same hold in the `WsGateway`; a file that was written
//! by hand meets them here.

use wsgateway_crds::{
    config::{self as file, FromClient, SourceKind},
    value::{Size, Template},
};

use super::ConfigError;
use crate::interest::SHARDS_MAX;

/// The routes that there may be: each request is compared with them one by one.
const ROUTES_MAX: usize = 64;

/// The NATS servers that there may be.
const SERVERS_MAX: usize = 16;

/// The largest message that a route may allow: longer ones would be held in memory whole.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

fn rule(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Rule(sentence()))
    }
}

pub(super) fn check_boot(boot: &file::Boot) -> Result<(), ConfigError> {
    let servers = boot.nats.servers.len();
    rule((1..=SERVERS_MAX).contains(&servers), || {
        format!("nats.servers must name 1 to {SERVERS_MAX} servers")
    })?;
    let shards = boot.listen.shards.unwrap_or(1);
    rule((1..=SHARDS_MAX).contains(&shards), || {
        format!("listen.shards must be 1 to {SHARDS_MAX}")
    })
}

pub(super) fn check_websocket(websocket: &file::WebSocket) -> Result<(), ConfigError> {
    let file::WebSocket {
        ping_period,
        pong_wait,
        write_wait,
        ..
    } = websocket;
    rule(ping_period < pong_wait, || {
        format!(
            "websocket.pingPeriod ({ping_period}) must be shorter than websocket.pongWait ({pong_wait})"
        )
    })?;
    rule(write_wait < pong_wait, || {
        format!(
            "websocket.writeWait ({write_wait}) must be shorter than websocket.pongWait ({pong_wait})"
        )
    })?;
    for (name, value) in [
        ("pingPeriod", ping_period),
        ("writeWait", write_wait),
        ("handshakeTimeout", &websocket.handshake_timeout),
    ] {
        rule(!value.get().is_zero(), || {
            format!("websocket.{name} must be longer than 0s")
        })?;
    }
    Ok(())
}

pub(super) fn check_routes(routes: &[file::Route]) -> Result<(), ConfigError> {
    rule((1..=ROUTES_MAX).contains(&routes.len()), || {
        format!("routes must hold 1 to {ROUTES_MAX} routes")
    })?;
    for (at, route) in routes.iter().enumerate() {
        let name = &route.name;
        for other in routes.iter().take(at) {
            rule(other.name != *name, || {
                format!("routes: two routes are named `{name}`")
            })?;
            rule(!other.path.overlaps(&route.path), || {
                format!(
                    "routes: `{name}` and `{}` cannot be told apart by their paths",
                    other.name
                )
            })?;
        }
        let size = route.max_message_size.map_or(0, Size::bytes);
        rule(size <= MESSAGE_BYTES_MAX, || {
            format!("routes[{name}].maxMessageSize must be at most {MESSAGE_BYTES_MAX} bytes")
        })?;
        if let FromClient::Publish { subject } = &route.from_client {
            rule(!subject.has_wildcard(), || {
                format!("routes[{name}].fromClient.subject: `{subject}` may not hold a wildcard")
            })?;
            check_template(route, subject)?;
        }
        for source in &route.to_client {
            if let SourceKind::Core { subjects, .. } = &source.kind {
                subjects
                    .iter()
                    .try_for_each(|subject| check_template(route, subject))?;
            }
        }
    }
    Ok(())
}

fn check_template(route: &file::Route, template: &Template) -> Result<(), ConfigError> {
    let name = &route.name;
    for param in template.path_names() {
        rule(route.path.params().any(|known| known == param), || {
            format!(
                "routes[{name}]: `{template}` uses {{path.{param}}}, which path {} lacks",
                route.path
            )
        })?;
    }
    rule(template.claim_names().next().is_none(), || {
        format!("routes[{name}]: `{template}` uses a claim, but there is no authorization")
    })
}
