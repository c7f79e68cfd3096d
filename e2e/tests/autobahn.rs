//! The Autobahn test suite: 517 cases of RFC 6455 and RFC 7692, against `/echo` as `bench/gateway.yaml` has it.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::Deserialize;
use wsgateway_e2e::{
    directory::Directory,
    gateway::Gateway,
    nats::NatsServer,
    needs,
    process::{Process, command},
    program::Program,
};

/// How many cases there are.
const CASES: usize = 517;

/// How many run at once. Most of a case is one connection that waits for its echo.
const PARALLEL: &str = "4";

/// Two minutes on two quiet cores.
const AT_LAST: Duration = Duration::from_secs(1_800);

/// What kosoku says of a case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    /// How the gateway did what the case is about.
    behavior: String,
    /// How it closed then.
    behavior_close: String,
}

impl Verdict {
    fn is_good(&self) -> bool {
        [&self.behavior, &self.behavior_close]
            .iter()
            .all(|verdict| ["OK", "INFORMATIONAL"].contains(&verdict.as_str()))
    }
}

/// The part `live` of the file that measurements are made with. In it the gateway pings so seldom that no case sees
/// it: a slow machine takes longer than half a minute for the longest, and a ping that comes meanwhile fails them.
fn live_of_bench() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/gateway.yaml");
    let text = fs::read_to_string(file).unwrap();
    let (_, live) = text.split_once("live:\n").unwrap();
    let lines = live.lines().map(|line| line.get(2..).unwrap_or_default());
    let live = lines.collect::<Vec<_>>().join("\n");
    let often = "pingPeriod: 30s, pongWait: 60s";
    assert!(live.contains(often));
    live.replace(often, "pingPeriod: 1h, pongWait: 2h")
}

#[test]
fn every_case_is_ok_or_informational() {
    needs!(NatsServer, Kosoku);
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), &live_of_bench());
    let reports = Directory::make();
    let mut kosoku = Process::start(
        "kosoku",
        command(Program::Kosoku.expect())
            .args(["-p", PARALLEL, "-o"])
            .arg(reports.path())
            .arg(format!("ws://{}/echo", gateway.address())),
    );
    let status = kosoku.exit(AT_LAST);
    let index = fs::read_to_string(reports.path().join("index.json"))
        .unwrap_or_else(|error| panic!("{error}: {}", kosoku.last_lines()));
    let index: BTreeMap<String, BTreeMap<String, Verdict>> = serde_json::from_str(&index).unwrap();
    let verdicts: Vec<_> = index.into_values().flatten().collect();
    let bad: Vec<_> = verdicts.iter().filter(|(_, v)| !v.is_good()).collect();
    assert!(bad.is_empty(), "{} of {CASES}: {bad:#?}", bad.len());
    assert!(status.success(), "{}", kosoku.last_lines());
    assert_eq!(verdicts.len(), CASES);
}
