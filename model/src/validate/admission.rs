//! What clients are held to by their address, by their user and each by itself, and where their address is found.

use std::ops::RangeInclusive;

use wsgateway_crds::{
    config,
    v1alpha1::{ClientAddress, ClientAddressType, PerAddress, PerConnection, PerUser},
    value::{Network, Size},
};

use super::{findings::Findings, live::WAIT};

/// What one client may send in a second.
const BYTES: RangeInclusive<Size> = Size::from_bytes(0)..=Size::from_bytes(1 << 40);

pub(super) fn per_address(spec: PerAddress) -> config::PerAddress {
    let PerAddress {
        connections,
        handshakes_per_second,
    } = spec;
    config::PerAddress {
        connections,
        handshakes_per_second,
    }
}

pub(super) fn per_user(spec: PerUser) -> config::PerUser {
    let PerUser { connections } = spec;
    config::PerUser { connections }
}

pub(super) fn per_connection(
    spec: PerConnection,
    findings: &mut Findings<'_>,
) -> Option<config::PerConnection> {
    let PerConnection {
        messages_per_second,
        bytes_per_second,
        first_message,
    } = spec;
    let at = "spec.limits.perConnection";
    let bytes = findings.size(&format!("{at}.bytesPerSecond"), &bytes_per_second, &BYTES);
    let first_message = first_message
        .map(|text| {
            findings
                .duration(&format!("{at}.firstMessage"), &text, &WAIT)
                .ok_or(())
        })
        .transpose();
    Some(config::PerConnection {
        messages_per_second,
        bytes_per_second: bytes?,
        first_message: first_message.ok()?,
    })
}

pub(super) fn client_address(
    spec: ClientAddress,
    findings: &mut Findings<'_>,
) -> Option<config::ClientAddress> {
    let ClientAddress {
        type_,
        trusted_proxies,
    } = spec;
    let at = "spec.exposure.clientAddress.trustedProxies";
    let trusted_proxies: Vec<Network> =
        findings.parse_all(at, &trusted_proxies, "InvalidNetwork")?;
    for (index, network) in trusted_proxies.iter().enumerate() {
        if network.is_everyone() {
            findings.refuse(
                &format!("{at}[{index}]"),
                "TrustsEveryone",
                "must not hold every address: clients could say whatever address they like",
            );
        }
    }
    Some(match type_ {
        ClientAddressType::Connection => config::ClientAddress::Connection,
        ClientAddressType::XForwardedFor => {
            config::ClientAddress::XForwardedFor { trusted_proxies }
        }
        ClientAddressType::ProxyProtocol => {
            config::ClientAddress::ProxyProtocol { trusted_proxies }
        }
    })
}
