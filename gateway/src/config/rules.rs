//! The rules between fields of the part `live`. The same hold in the `WsGateway`; a file that was written
//! by hand meets them here.

use wsgateway_crds::{
    config::{self as file, Access, FromClient, SourceKind, TokenSource},
    value::{Network, OriginPattern, Size, Template},
};

use super::ConfigError;
use crate::interest::SHARDS_MAX;

/// The routes that there may be: each request is compared with them one by one.
const ROUTES_MAX: usize = 64;

/// The NATS servers that there may be.
const SERVERS_MAX: usize = 16;

/// The issuers that there may be: a token is compared with them one by one.
const PROVIDERS_MAX: usize = 8;

/// The longest warning: each connection is sent it, and 1,024 characters may have so many bytes.
const WARNING_BYTES_MAX: usize = 4_096;

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

pub(super) fn check_limits(
    limits: &file::Limits,
    client_address: &file::ClientAddress,
    auth: Option<&file::Auth>,
) -> Result<(), ConfigError> {
    rule(auth.is_some() || limits.per_user.connections == 0, || {
        "limits.perUser needs auth: without it nobody is known".to_owned()
    })?;
    let trusted = client_address.trusted_proxies();
    let is_connection = matches!(client_address, file::ClientAddress::Connection);
    rule(is_connection || !trusted.is_empty(), || {
        "clientAddress.trustedProxies must not be empty".to_owned()
    })?;
    rule(!trusted.iter().any(Network::is_everyone), || {
        "clientAddress.trustedProxies must not hold every address: clients could say whatever address they like"
            .to_owned()
    })?;
    let first_message = limits.per_connection.first_message;
    rule(
        first_message.is_none_or(|wait| !wait.get().is_zero()),
        || "limits.perConnection.firstMessage must be longer than 0s".to_owned(),
    )
}

pub(super) fn check_auth(
    auth: Option<&file::Auth>,
    websocket: &file::WebSocket,
    routes: &[file::Route],
) -> Result<(), ConfigError> {
    let Some(auth) = auth else {
        return check_open(routes);
    };
    let providers = &auth.providers;
    rule((1..=PROVIDERS_MAX).contains(&providers.len()), || {
        format!("auth.providers must hold 1 to {PROVIDERS_MAX} issuers")
    })?;
    for (at, provider) in providers.iter().enumerate() {
        let name = &provider.name;
        for other in providers.iter().take(at) {
            rule(other.name != *name, || {
                format!("auth.providers: two issuers are named `{name}`")
            })?;
            rule(other.issuer != provider.issuer, || {
                format!(
                    "auth.providers: `{name}` and `{}` are the same issuer",
                    other.name
                )
            })?;
        }
        rule(!provider.audiences.is_empty(), || {
            format!("auth.providers[{name}].audiences must not be empty")
        })?;
    }
    rule(
        auth.logout_subject.is_some() || auth.that_log_out().next().is_none(),
        || {
            "auth.logoutSubject must be set where a provider has backchannelLogout: by it the gateways tell each other"
                .to_owned()
        },
    )?;
    if let Some(file::ExpiryWarning { before, message }) = &auth.expiry_warning {
        rule(!before.get().is_zero(), || {
            "auth.expiryWarning.before must be longer than 0s".to_owned()
        })?;
        rule((1..=WARNING_BYTES_MAX).contains(&message.len()), || {
            format!("auth.expiryWarning.message must have 1 to {WARNING_BYTES_MAX} bytes")
        })?;
    }
    rule(!auth.token_sources.is_empty(), || {
        "auth.tokenSources must not be empty".to_owned()
    })?;
    // Browsers send cookies with requests that any page makes, and ask nobody first.
    let takes_cookies = |source: &TokenSource| matches!(source, TokenSource::Cookie { .. });
    let is_open = websocket.allowed_origins.contains(&OriginPattern::Any);
    rule(
        !(is_open && auth.token_sources.iter().any(takes_cookies)),
        || {
            "auth.tokenSources must not hold Cookie while websocket.allowedOrigins holds `*`: any page could connect in \
         its visitor's name"
            .to_owned()
        },
    )?;
    routes.iter().try_for_each(check_access)
}

/// What asks for a token cannot be had without anybody who issues one.
fn check_open(routes: &[file::Route]) -> Result<(), ConfigError> {
    for route in routes {
        rule(route.authorization.is_default(), || {
            format!("routes[{}].authorization needs auth", route.name)
        })?;
        check_publish(route, "needs auth")?;
        check_no_claims(route, "there is no auth")?;
    }
    Ok(())
}

/// Nor can what comes from one be had of who needs none.
fn check_access(route: &file::Route) -> Result<(), ConfigError> {
    let file::Authorization {
        access,
        any_role,
        groups,
        scopes,
    } = &route.authorization;
    if let FromClient::Publish { authorization, .. } = &route.from_client {
        rule(authorization.access == Access::Token, || {
            format!(
                "routes[{}].fromClient.authorization.access must be Token",
                route.name
            )
        })?;
    }
    if *access == Access::Token {
        return Ok(());
    }
    rule(
        any_role.is_empty() && groups.is_empty() && scopes.is_empty(),
        || {
            format!(
                "routes[{}].authorization: whoever needs no token needs no role, group or scope",
                route.name
            )
        },
    )?;
    check_publish(route, "needs a route that asks for a token")?;
    check_no_claims(route, "the route asks for no token")
}

/// Nobody lacks for publishing what nobody can have.
fn check_publish(route: &file::Route, why: &str) -> Result<(), ConfigError> {
    let FromClient::Publish { authorization, .. } = &route.from_client else {
        return Ok(());
    };
    rule(authorization.is_default(), || {
        format!("routes[{}].fromClient.authorization {why}", route.name)
    })
}

fn check_no_claims(route: &file::Route, why: &str) -> Result<(), ConfigError> {
    let published = match &route.from_client {
        FromClient::Publish { subject, .. } => Some(subject),
        _ => None,
    };
    let sources = route
        .to_client
        .iter()
        .filter_map(|source| match &source.kind {
            SourceKind::Core { subjects, .. } => Some(subjects),
            SourceKind::Queue(_) => None,
        });
    let mut templates = published.into_iter().chain(sources.flatten());
    templates.try_for_each(|template| {
        rule(template.claim_names().next().is_none(), || {
            format!(
                "routes[{}]: `{template}` uses a claim, but {why}",
                route.name
            )
        })
    })
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
        if let FromClient::Publish { subject, .. } = &route.from_client {
            rule(!subject.has_wildcard(), || {
                format!("routes[{name}].fromClient.subject: `{subject}` may not hold a wildcard")
            })?;
            rule(!subject.has_each(), || {
                format!("routes[{name}].fromClient.subject: `{subject}` may not hold |each")
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
    Ok(())
}
