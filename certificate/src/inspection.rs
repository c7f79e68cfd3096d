//! Whether clients would accept a certificate that somebody else provides: the user, or cert-manager.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use crate::{Chain, DAY, Fault, Pem};

/// Who renews by hand is told so long before the end, at most.
const WARNING: Duration = Duration::from_secs(14 * DAY.as_secs());

/// … and not before so much of its life is left. cert-manager renews with a third left, so less means that it fails.
const WARNING_PART: u32 = 5;

/// What a usable certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its begin.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
    /// The host names and addresses that it is for.
    pub names: BTreeSet<String>,
}

impl Facts {
    /// When somebody should be told that nothing has renewed it.
    pub fn warn_at(&self) -> SystemTime {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        self.not_after - WARNING.min(life / WARNING_PART)
    }

    /// Whether somebody should be told now.
    pub fn expires_soon(&self, now: SystemTime) -> bool {
        now >= self.warn_at()
    }
}

/// What the certificate says, once it is sure that a proxy can use it and that clients of these hosts accept it, as
/// far as that can be seen here: whom they trust is their matter.
pub fn inspect<'a>(
    chain: Pem<'_>,
    key: Pem<'_>,
    hosts: impl IntoIterator<Item = &'a str>,
    now: SystemTime,
) -> Result<Facts, Fault> {
    let chain = Chain::read(chain)?;
    chain.check_end(now)?;
    chain.check_begin(now)?;
    chain.check_key(key)?;
    for host in hosts {
        if !chain.covers(host) {
            let names: Vec<&str> = chain.names.iter().map(String::as_str).collect();
            return Err(Fault::HostNotCovered {
                name: chain.name.clone(),
                host: host.to_owned(),
                names: if names.is_empty() {
                    "no host at all".to_owned()
                } else {
                    names.join(", ")
                },
            });
        }
    }
    Ok(Facts {
        not_before: chain.not_before,
        not_after: chain.not_after,
        names: chain.names,
    })
}

/// Whether a name of a certificate stands for a host: the same, or with a `*` in place of its first label
/// (RFC 9525, section 6.3). A host that itself begins with `*` is covered by that very name alone.
pub(crate) fn covers(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (name.strip_prefix("*."), host.split_once('.'))
    else {
        return false;
    };
    label != "*" && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, LEAF, Pair};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn pem<'a>(name: &'a str, bytes: &'a [u8]) -> Pem<'a> {
        Pem { name, bytes }
    }

    fn pair(names: &[&str], now: SystemTime) -> Pair {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let authority = Authority::make("test", now).unwrap();
        authority.issue(&names, LEAF.life, now).unwrap()
    }

    #[test]
    fn a_name_stands_for_a_host_by_rfc_9525() {
        let table = [
            ("ws.example.com", "ws.example.com", true),
            ("WS.example.com", "ws.Example.com", true),
            ("*.example.com", "ws.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.ws.example.com", false),
            ("*.example.com", "*.ws.example.com", false),
            ("*.com", "*.example.com", false),
            ("ws.example.com", "*.example.com", false),
            ("example.com", "ws.example.com", false),
        ];
        for (name, host, expected) in table {
            assert_eq!(covers(name, host), expected, "{name} for {host}");
        }
    }

    #[test]
    fn what_clients_would_refuse_is_refused_with_a_sentence() {
        let good = pair(&["*.example.com", "chat.test"], now());
        let other = pair(&["*.example.com"], now());
        let text = |bytes: &str| bytes.as_bytes().to_owned();
        let garbage_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let hosts: &[&str] = &["ws.example.com", "chat.test"];
        let crt = text(&good.certificate);
        let key = text(&good.key);
        let table = [
            (
                text("no PEM"),
                &key,
                hosts,
                now(),
                "NoCertificate: tls.crt holds no PEM certificate: there is no such section",
            ),
            (
                text(garbage_der),
                &key,
                hosts,
                now(),
                "NoCertificate: tls.crt holds no PEM certificate: ",
            ),
            (
                key.clone(),
                &key,
                hosts,
                now(),
                "NoCertificate: tls.crt holds no PEM certificate: there is no such section",
            ),
            (
                crt.clone(),
                &crt,
                hosts,
                now(),
                "NoPrivateKey: tls.key holds no usable private key in PEM: there is no such section",
            ),
            (
                crt.clone(),
                &text(&other.key),
                hosts,
                now(),
                "KeyMismatch: tls.key is not the key of the certificate in tls.crt",
            ),
            (
                crt.clone(),
                &key,
                hosts,
                now() + 91 * DAY,
                "CertificateExpired: the certificate in tls.crt has ended on Jan  2 00:00:00 2025 +00:00",
            ),
            (
                crt.clone(),
                &key,
                hosts,
                now() - DAY,
                "CertificateNotYetValid: the certificate in tls.crt begins on Oct  3 23:00:00 2024 +00:00 only",
            ),
            (
                crt.clone(),
                &key,
                &["chat.test", "example.com"],
                now(),
                "HostNotCovered: the certificate in tls.crt is not for host example.com; it is for *.example.com, chat.test",
            ),
        ];
        for (chain, key, hosts, now, expected) in table {
            let hosts = hosts.iter().copied();
            let fault =
                inspect(pem("tls.crt", &chain), pem("tls.key", key), hosts, now).unwrap_err();
            let said = format!("{}: {fault}", fault.reason());
            assert!(said.starts_with(expected), "{said}");
        }
        let facts = inspect(
            pem("tls.crt", &crt),
            pem("tls.key", &key),
            hosts.iter().copied(),
            now(),
        )
        .unwrap();
        assert_eq!(facts.not_after, now() + 90 * DAY);
        assert!(!facts.expires_soon(now() + 75 * DAY));
        assert!(facts.expires_soon(now() + 76 * DAY));
    }
}
