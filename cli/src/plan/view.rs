//! A [`Forecast`] as text.

use std::{fmt::Write, time::Duration};

use super::{
    diff::Change,
    effects::{Effects, Pods, Proxy, Reload, Sockets},
    forecast::Forecast,
    objects::{ObjectChange, What},
};

/// All of it.
pub(super) fn text(forecast: &Forecast) -> String {
    let (namespace, name) = &forecast.whose;
    let mut text = match &forecast.spec {
        None => format!("WsGateway {namespace}/{name} would be made\n"),
        Some(_) if forecast.has_changes() => format!("WsGateway {namespace}/{name} would change\n"),
        Some(_) if forecast.objects.is_empty() => {
            format!("WsGateway {namespace}/{name}: nothing would change\n")
        }
        Some(_) => {
            format!("WsGateway {namespace}/{name}: nothing that you may read would change\n")
        }
    };
    for note in &forecast.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    let mut objects = String::new();
    if let Some(changes) = forecast.spec.as_ref().filter(|changes| !changes.is_empty()) {
        let _ = writeln!(objects, "  ~ WsGateway {name}");
        objects.push_str(&lines(changes));
    }
    objects.extend(forecast.objects.iter().map(object));
    if !objects.is_empty() {
        let _ = write!(text, "\n{objects}");
    }
    if let Some(effects) = &forecast.effects {
        let _ = write!(text, "\n{}", self::effects(effects));
    }
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

fn lines(changes: &[Change]) -> String {
    changes.iter().fold(String::new(), |mut text, change| {
        let _ = writeln!(text, "      {change}");
        text
    })
}

fn object(object: &ObjectChange) -> String {
    let ObjectChange { kind, name, what } = object;
    let head = format!("{} {name}", kind.name());
    match what {
        What::Created(None) => format!("  + {head}\n"),
        What::Created(Some((old, changes))) => {
            format!("  + {head}, in place of {old}\n{}", lines(changes))
        }
        What::Changed(changes) => format!("  ~ {head}\n{}", lines(changes)),
        What::Renewed(why) => format!("  ~ {head}: a new certificate, since {why}\n"),
        What::Deleted => format!("  - {head}\n"),
        What::Conflict => format!(
            "  ! {head} exists and is not of this WsGateway: the operator leaves it alone (OwnershipConflict)\n"
        ),
        What::Hidden => {
            format!("  ? {head}: you may not read it, so what changes of it is not known\n")
        }
    }
}

fn effects(effects: &Effects) -> String {
    let Effects {
        pods,
        live,
        proxy,
        sockets,
    } = effects;
    let mut text = String::new();
    let mut line = |label: &str, said: &str| {
        let _ = writeln!(text, "  {label:<9} {said}");
    };
    line("gateways", &self::pods(pods));
    match live {
        Reload::Same => line("reload", "none: the live configuration is as it was"),
        Reload::Closing(routes) if routes.is_empty() => {
            line(
                "reload",
                "the gateways read the live configuration again, and close no socket for it",
            );
        }
        Reload::Closing(routes) => {
            line(
                "reload",
                "the gateways read the live configuration again, and close the sockets of",
            );
            for route in routes {
                line("", &format!("  route {}, since {}", route.name, route.why));
            }
        }
        Reload::Unknown => line("reload", "the gateways read the live configuration again"),
    }
    match proxy {
        None => {}
        Some(Proxy::Untouched) => line("proxy", "nothing is written for it"),
        Some(Proxy::Written(kinds)) => line(
            "proxy",
            &format!(
                "{} is written: nginx reloads, and its old workers close the sockets that they hold, of all its \
                 sites, after worker_shutdown_timeout",
                kinds.join(", ")
            ),
        ),
    }
    let by_proxy = match proxy {
        Some(Proxy::Written(_)) => "; by the proxy's reload, in time, all of them",
        Some(Proxy::Untouched) | None => "",
    };
    line("sockets", &format!("{}{by_proxy}", self::sockets(sockets)));
    text
}

fn pods(pods: &Pods) -> String {
    match pods {
        Pods::Stay { now, then } if now >= then => "stay".to_owned(),
        Pods::Stay { now, then } => format!("{now} → {then}: those that run stay"),
        Pods::ScaledIn { now, then } => {
            format!(
                "{now} → {then}: one after the other leaves, that with the fewest connections first"
            )
        }
        Pods::Replaced { now, then, each } => {
            let count = if now == then {
                now.to_string()
            } else {
                format!("{now} → {then}")
            };
            let all = each.saturating_mul(*then);
            format!(
                "{count}: each is replaced, one after the other, which takes at least {} ({then} × {})",
                duration(all),
                duration(*each)
            )
        }
    }
}

fn sockets(sockets: &Sockets) -> String {
    match sockets {
        Sockets::None => "none would close".to_owned(),
        Sockets::Counted { closed, open } => format!("{closed} of {open} would close"),
        Sockets::AtMost { open, why } => {
            let most = match open {
                Some(open) => format!("at most {open} would close, as the operator counted last"),
                None => "how many would close is not known".to_owned(),
            };
            format!("{most}; {why}")
        }
    }
}

fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}
