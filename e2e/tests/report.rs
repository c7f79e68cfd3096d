//! What a gateway says of itself at `/status`: which files it runs, which it refused, and whether it reaches NATS.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::path::Path;

use wsgateway_e2e::{
    directory::Directory,
    gateway::Gateway,
    http,
    nats::NatsServer,
    needs,
    process::command,
    row::row,
    socket::RawSocket,
    volume::Volume,
    wait::{SOON, until, until_true},
};

const LIVE: &str = "routes: [{name: echo, path: /echo, fromClient: {type: Echo}}]";

/// Of the file that a path leads to now, by another implementation than ours.
fn hash(file: &Path) -> String {
    let output = command("sha256sum").arg("--").arg(file).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line[..16].to_owned()
}

fn status(gateway: &Gateway) -> String {
    let response = http::get(gateway.admin(), "/status");
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    response.text()
}

/// The text of a member whose value is a string. A name that comes twice means the first.
fn text(json: &str, name: &str) -> Option<String> {
    let (_, value) = json.split_once(&format!("\"{name}\":\""))?;
    Some(value.split('"').next().unwrap().to_owned())
}

/// Awaits that the member is of this value, and returns the whole.
fn await_text(gateway: &Gateway, name: &str, value: &str) -> String {
    let what = format!("{name} is {value}");
    until(&what, SOON, || {
        let json = status(gateway);
        (text(&json, name).as_deref() == Some(value)).then_some(json)
    })
}

#[test]
fn the_status_names_the_file_that_runs_and_the_one_that_was_refused() {
    needs!(NatsServer);
    let nats = NatsServer::start();
    let mut gateway = Gateway::start(&nats.url(), LIVE);
    let boot = hash(&gateway.file());
    row("at the start", || {
        let json = status(&gateway);
        assert_eq!(text(&json, "bootHash"), Some(boot.clone()));
        assert_eq!(text(&json, "liveHash"), Some(boot.clone()));
        assert!(!json.contains("rejected"), "{json}");
        assert_eq!(text(&json, "version").as_deref(), Some("0.1.0"));
        assert!(
            json.contains("\"connections\":0,\"draining\":false"),
            "{json}"
        );
    });
    row("another file", || {
        gateway.reload(&format!("limits: {{connections: 9}}\n{LIVE}"));
        let json = await_text(&gateway, "liveHash", &hash(&gateway.file()));
        assert_eq!(
            text(&json, "bootHash").as_deref(),
            Some(boot.as_str()),
            "that is of the start"
        );
    });
    let good = hash(&gateway.file());
    for (reason, live, message) in [
        ("Malformed", LIVE.replace("Echo", "Ecco"), "Ecco"),
        (
            "Contradictory",
            format!("websocket: {{pingPeriod: 60s}}\n{LIVE}"),
            "pongWait",
        ),
    ] {
        row(reason, || {
            gateway.reload(&live);
            let json = await_text(&gateway, "reason", reason);
            assert_eq!(text(&json, "liveHash").as_deref(), Some(good.as_str()));
            assert_eq!(text(&json, "hash"), Some(hash(&gateway.file())));
            assert!(text(&json, "message").unwrap().contains(message), "{json}");
        });
    }
    row("no file", || {
        std::fs::remove_file(gateway.file()).unwrap();
        let json = await_text(&gateway, "reason", "Unreadable");
        assert_eq!(text(&json, "liveHash").as_deref(), Some(good.as_str()));
        assert_eq!(text(&json, "hash"), None);
    });
    row("back to what runs", || {
        gateway.reload(&format!("limits: {{connections: 9}}\n{LIVE}"));
        until_true("nothing is refused any more", SOON, || {
            !status(&gateway).contains("rejected")
        });
        assert_eq!(hash(&gateway.file()), good);
    });
    row("the same in other words", || {
        gateway.reload(&format!("limits: {{connections: 9}} # nine\n{LIVE}"));
        await_text(&gateway, "liveHash", &hash(&gateway.file()));
    });
}

#[test]
fn a_config_map_volume_that_is_swapped_is_reloaded() {
    needs!(NatsServer);
    let nats = NatsServer::start();
    let live = |path: &str| {
        let route = format!("{{name: echo, path: {path}, fromClient: {{type: Echo}}}}");
        format!("websocket: {{}}\nlimits: {{}}\ndrain: {{}}\nroutes: [{route}]\n")
    };
    let mut volume = Volume::with("live.yaml", &live("/first"));
    let file = volume.path("live.yaml");
    let gateway = Gateway::with_live_file(&nats.url(), &file);
    let is_there = |path: &str| {
        RawSocket::connect(gateway.address())
            .upgrade(path, "")
            .status
            == 101
    };
    assert!(is_there("/first"));
    let json = status(&gateway);
    assert_eq!(text(&json, "liveHash"), Some(hash(&file)));
    assert_eq!(text(&json, "bootHash"), Some(hash(&gateway.file())));
    // More than once: the folder that `..data` means is another one each time.
    for path in ["/second", "/third"] {
        volume.update("live.yaml", &live(path));
        await_text(&gateway, "liveHash", &hash(&file));
        // Both threads have it by now, whichever of them accepts.
        assert!((0..8).all(|_| is_there(path)) && !is_there("/first"));
    }
    let before = hash(&file);
    volume.update("live.yaml", "routes: none");
    let json = await_text(&gateway, "reason", "Malformed");
    assert_eq!(text(&json, "liveHash"), Some(before));
    assert_eq!(text(&json, "hash"), Some(hash(&file)));
}

#[test]
fn connections_are_counted_and_a_lost_nats_has_a_reason() {
    needs!(NatsServer);
    let mut nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), LIVE);
    let sockets = [(); 3].map(|()| RawSocket::open(gateway.address(), "/echo"));
    until_true("three are counted", SOON, || {
        status(&gateway).contains("\"connections\":3,")
    });
    drop(sockets);
    until_true("none is counted", SOON, || {
        status(&gateway).contains("\"connections\":0,")
    });
    let is_connected = || status(&gateway).contains("\"nats\":{\"connected\":true}");
    assert!(is_connected());
    nats.kill();
    let json = await_text(&gateway, "reason", "Unreachable");
    assert!(json.contains("\"nats\":{\"connected\":false,"), "{json}");
    nats.restart();
    until_true("it is back, and no reason is left", SOON, is_connected);
}

#[test]
fn credentials_that_nats_refuses_are_named() {
    needs!(NatsServer);
    let nats = NatsServer::configured("authorization { token: right }");
    let directory = Directory::make();
    let token = directory.write("token", "wrong");
    let boot = format!(
        "nats: {{servers: [\"{}\"], credentials: {{type: Token, file: {}}}}}",
        nats.url(),
        token.display()
    );
    let gateway = Gateway::launch(&boot, LIVE);
    until_true("it listens", SOON, || {
        http::try_get(gateway.admin(), "/status").is_ok()
    });
    await_text(&gateway, "reason", "Unauthorized");
    std::fs::remove_file(&token).unwrap();
    let json = await_text(&gateway, "reason", "NatsFileUnreadable");
    assert!(json.contains("token"), "{json}");
    directory.write("token", "right");
    until_true("it is connected", SOON, || {
        status(&gateway).contains("\"nats\":{\"connected\":true}")
    });
}
