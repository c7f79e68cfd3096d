//! Where nginx listens: checked by binding, before anything is started.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use wsgateway_model::{Gateway, gateway::Tls};

use super::{
    LocalError, port,
    settings::{Addresses, Settings},
};

/// Where nginx listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Plain.
    pub http: Vec<SocketAddr>,
    /// With TLS.
    pub https: Vec<SocketAddr>,
}

impl Sockets {
    /// The addresses that the settings and the manifest ask for. Those that are not among `held`, on which nginx
    /// listens already, must be free.
    pub fn claim(settings: &Settings, gateway: &Gateway, held: &Self) -> Result<Self, LocalError> {
        let http = addresses(settings, settings.http_port, "--http-port", &held.http)?;
        // Who gives a certificate wants it used.
        let has_tls = settings.certificate.is_some() || gateway.tls != Tls::None;
        if has_tls && settings.http_port == settings.https_port {
            return Err(port::PortError::Same(settings.http_port).into());
        }
        let https = if has_tls {
            addresses(settings, settings.https_port, "--https-port", &held.https)?
        } else {
            Vec::new()
        };
        Ok(Self { http, https })
    }

    /// An address at which this machine reaches the plain listener.
    pub fn to_ask(&self) -> Option<SocketAddr> {
        let mut address = *self
            .http
            .iter()
            .find(|a| a.ip().is_loopback())
            .or(self.http.first())?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Some(address)
    }
}

/// The addresses with this port, each of which can be listened on.
fn addresses(
    settings: &Settings,
    port: u16,
    flag: &'static str,
    held: &[SocketAddr],
) -> Result<Vec<SocketAddr>, LocalError> {
    let mut usable = Vec::new();
    for ip in settings.listen.all() {
        let address = SocketAddr::new(ip, port);
        if held.contains(&address) || port::check(address, flag)? {
            usable.push(address);
        } else if settings.listen != Addresses::Loopback {
            return Err(LocalError::NoAddress(ip));
        }
    }
    Ok(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_is_asked_where_this_machine_reaches_it() {
        for (listen, ask) in [
            (vec!["127.0.0.1:1", "[::1]:1"], "127.0.0.1:1"),
            (vec!["10.0.0.1:1", "[::1]:1"], "[::1]:1"),
            (vec!["0.0.0.0:1"], "127.0.0.1:1"),
            (vec!["[::]:1"], "[::1]:1"),
            (vec!["10.0.0.1:1"], "10.0.0.1:1"),
        ] {
            let http = listen
                .iter()
                .map(|address| address.parse().unwrap())
                .collect();
            let sockets = Sockets {
                http,
                https: Vec::new(),
            };
            assert_eq!(sockets.to_ask().unwrap().to_string(), ask);
        }
    }
}
