//! A user's session is ended in Keycloak, which tells the gateways by their back channel.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use wsgateway_e2e::{
    keycloak::{Keycloak, LogoutToken},
    local::Local,
    socket::{Endpoint, RawSocket, Received, bearer},
    wait::SOON,
};

/// Connections of each user. Each comes from a network of its own, since `ip_hash` keys those.
const SOCKETS: u8 = 24;

/// How often a session is ended. What else the machine does can only add to the time that one takes.
const ROUNDS: u32 = 3;

pub(crate) fn closes_sockets_on_all_workers(local: &Local, keycloak: &Keycloak) {
    let url = format!(
        "http://localhost:{}/.wsgateway/backchannel-logout/keycloak",
        local.http().port()
    );
    keycloak.announce_logouts_to(&url, LogoutToken::OfSession);
    let mut staying = open_all(local, &keycloak.token("bob"));
    let took: Vec<_> = (0..ROUNDS).map(|_| end_session(local, keycloak)).collect();
    println!("from a logout in Keycloak to the last of {SOCKETS} sockets on 3 workers: {took:?}");
    assert!(
        took.iter().min().unwrap() < &Duration::from_secs(1),
        "{took:?}"
    );
    // Of several sessions that end at once Keycloak tells a client of one alone (its issue 22914), unless it is to tell
    // whose they were and no more.
    keycloak.announce_logouts_to(&url, LogoutToken::OfUser);
    let tokens = [keycloak.token("ann"), keycloak.token("ann")];
    let mut sockets = tokens.each_ref().map(|token| open_all(local, token));
    keycloak.log_out(&tokens[0])();
    for socket in sockets.iter_mut().flatten() {
        assert_eq!(socket.closed(3 * SOON), Some(4401));
    }
    for socket in &mut staying {
        assert_eq!(socket.receive(Duration::from_millis(10)), Received::Nothing);
    }
}

fn end_session(local: &Local, keycloak: &Keycloak) -> Duration {
    let token = keycloak.token("ann");
    let mut sockets = open_all(local, &token);
    let metrics = local.metrics();
    let open = metrics
        .series("wsgateway_connections")
        .filter(|(labels, count)| labels["route"] == "own" && *count > 0.5);
    assert_eq!(open.count(), 3, "each worker has some");
    let tell = keycloak.end_session(&token);
    let (mut told, mut last) = (Instant::now(), Instant::now());
    std::thread::scope(|scope| {
        let closed = scope.spawn(|| {
            for socket in &mut sockets {
                assert_eq!(socket.closed(3 * SOON), Some(4401));
            }
            Instant::now()
        });
        told = tell();
        last = closed.join().unwrap_or_else(|_| {
            let metrics = local.metrics();
            let logouts: Vec<_> = metrics.series("wsgateway_auth_logouts_total").collect();
            panic!("some were not closed; logout tokens: {logouts:?}")
        });
    });
    let mut socket = RawSocket::connect(local.http());
    let answer = socket.upgrade("/own", &bearer(&token));
    assert_eq!(
        (answer.status, answer.header("wsgateway-reason")),
        (401, Some("LoggedOut"))
    );
    last - told
}

fn open_all(local: &Local, token: &str) -> Vec<RawSocket> {
    let open = |network: u8| {
        let from = Endpoint {
            address: Some(IpAddr::V4(Ipv4Addr::new(127, 0, network, 1))),
            receive_bytes: None,
        };
        RawSocket::open_with(from, local.http(), "/own", &bearer(token))
    };
    (1..=SOCKETS).map(open).collect()
}
