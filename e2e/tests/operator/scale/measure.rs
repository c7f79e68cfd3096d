//! What a fleet costs, and how that is told.

use std::{
    env,
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use wsgateway_e2e::{
    cluster::{ControlPlane, Requests},
    resources::{cpu_time, cpu_time_of_all, peak_resident_bytes, resident_bytes},
};

/// Reads the CPU time of the programs.
pub(super) struct Meter {
    operator: u32,
    cluster: Vec<u32>,
}

/// CPU times at a moment, or between two.
pub(super) struct Reading {
    at: Instant,
    operator: Duration,
    cluster: Duration,
    /// The test itself, which creates the fleet and runs its pods.
    test: Duration,
    machine: Duration,
    took: Duration,
}

impl Meter {
    pub(super) fn new(cluster: &ControlPlane, operator: u32) -> Self {
        Self {
            operator,
            cluster: cluster.pids(),
        }
    }

    pub(super) fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            operator: cpu_time(self.operator),
            cluster: self.cluster.iter().map(|&pid| cpu_time(pid)).sum(),
            test: cpu_time(std::process::id()),
            machine: cpu_time_of_all(),
            took: Duration::ZERO,
        }
    }

    pub(super) fn since(&self, before: &Reading) -> Reading {
        let now = self.read();
        Reading {
            at: now.at,
            operator: now.operator.saturating_sub(before.operator),
            cluster: now.cluster.saturating_sub(before.cluster),
            test: now.test.saturating_sub(before.test),
            machine: now.machine.saturating_sub(before.machine),
            took: now.at - before.at,
        }
    }
}

impl Reading {
    fn of_others(&self) -> Duration {
        self.machine
            .saturating_sub(self.operator + self.cluster + self.test)
    }

    fn cores(&self, used: Duration) -> f64 {
        used.as_secs_f64() / self.took.as_secs_f64()
    }

    fn json(&self) -> Value {
        json!({
            "seconds": self.took.as_secs_f64(),
            "operatorCpuSeconds": self.operator.as_secs_f64(),
            "operatorCores": self.cores(self.operator),
            "controlPlaneCores": self.cores(self.cluster),
            "testCores": self.cores(self.test),
            "othersCores": self.cores(self.of_others()),
        })
    }
}

/// All figures of a run.
pub(super) struct Measured {
    operator: u32,
    figures: Value,
}

impl Measured {
    /// Of an operator that has nothing to do yet.
    pub(super) fn at_rest(meter: &Meter) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        let load: Vec<&str> = load.split(' ').take(3).collect();
        let resident = resident_bytes(meter.operator);
        Self {
            operator: meter.operator,
            figures: json!({
                "loadAverageAtStart": load.join(" "),
                "atRest": {"residentBytes": resident},
            }),
        }
    }

    /// Once all of the fleet was as it should be.
    pub(super) fn settled(
        &mut self,
        reading: &Reading,
        created_after: Duration,
        settled_after: Duration,
        requests: &Requests,
    ) {
        let mut figures = reading.json();
        figures["createdAfterSeconds"] = created_after.as_secs_f64().into();
        figures["settledAfterSeconds"] = settled_after.as_secs_f64().into();
        figures["byKind"] = requests.to_string().lines().map(str::trim).collect();
        figures["requests"] = requests.total().into();
        figures["mutatingRequests"] = requests.mutating().total().into();
        self.keep("settling", figures);
    }

    /// After a while in which nothing happened.
    pub(super) fn idle(&mut self, reading: &Reading, requests: &Requests) {
        let mut figures = reading.json();
        figures["requests"] = requests.total().into();
        figures["mutatingRequests"] = requests.mutating().total().into();
        figures["byKind"] = requests.to_string().lines().map(str::trim).collect();
        self.keep("idle", figures);
    }

    fn keep(&mut self, part: &str, mut figures: Value) {
        figures["residentBytes"] = resident_bytes(self.operator).into();
        figures["peakResidentBytes"] = peak_resident_bytes(self.operator).into();
        self.figures[part] = figures;
    }

    /// The operator's memory at the end.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.figures["idle"]["residentBytes"].as_u64().unwrap()
    }

    /// For people.
    pub(super) fn table(&self, gateways: usize) -> String {
        let number = |part: &str, name: &str| self.figures[part][name].as_f64().unwrap();
        let megabytes = |part: &str, name: &str| format!("{:.1} MB", number(part, name) / 1e6);
        let seconds = |part: &str, name: &str| format!("{:.1} s", number(part, name));
        let cores = |part: &str, name: &str| format!("{:.3}", number(part, name));
        let count = |part: &str, name: &str| number(part, name).to_string();
        let rows = [
            (
                "all created after",
                seconds("settling", "createdAfterSeconds"),
            ),
            (
                "all settled after",
                seconds("settling", "settledAfterSeconds"),
            ),
            ("requests until then", count("settling", "requests")),
            (
                "of them mutating, by everybody",
                count("settling", "mutatingRequests"),
            ),
            (
                "operator's CPU time until then",
                seconds("settling", "operatorCpuSeconds"),
            ),
            (
                "cores that it kept busy",
                cores("settling", "operatorCores"),
            ),
            (
                "cores of the control plane",
                cores("settling", "controlPlaneCores"),
            ),
            (
                "cores of the test, which runs the pods",
                cores("settling", "testCores"),
            ),
            (
                "cores of what is no part of this",
                cores("settling", "othersCores"),
            ),
            (
                "operator's memory before",
                megabytes("atRest", "residentBytes"),
            ),
            ("at its peak", megabytes("settling", "peakResidentBytes")),
            ("once settled", megabytes("settling", "residentBytes")),
            ("after the idle time", megabytes("idle", "residentBytes")),
            ("idle time", seconds("idle", "seconds")),
            (
                "mutating requests in it, leases aside",
                count("idle", "mutatingRequests"),
            ),
            ("all requests in it", count("idle", "requests")),
            ("cores of the idle operator", cores("idle", "operatorCores")),
            (
                "cores of the idle control plane",
                cores("idle", "controlPlaneCores"),
            ),
            (
                "cores of what is no part of this, then",
                cores("idle", "othersCores"),
            ),
        ];
        let mut table = format!("| {gateways} WsGateways, replicas 1 | |\n|---|---|\n");
        for (what, figure) in rows {
            let _ = writeln!(table, "| {what} | {figure} |");
        }
        table
    }
}

/// Writes PATH.md and PATH.json.
pub(super) fn write_report(path: &str, gateways: usize, measured: &Measured) {
    let about = env::var("WSGATEWAY_SCALE_ABOUT").unwrap_or_default();
    let load = measured.figures["loadAverageAtStart"].as_str().unwrap();
    let page = format!(
        "# The operator with {gateways} WsGateways\n\n`make scale`; {about}; load average at the start {load}.\n\n\
         A real control plane on the same machine. Nothing runs in the pods: they are told to be ready, and the operator \
         asks each of them once a minute in vain.\n\n{}\n\
         Requests of the idle time, by the API server's own count:\n\n```\n{}\n```\n",
        measured.table(gateways),
        measured.figures["idle"]["byKind"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect::<Vec<_>>()
            .join("\n"),
    );
    fs::write(format!("{path}.md"), page).unwrap();
    let mut figures = measured.figures.clone();
    figures["gateways"] = gateways.into();
    figures["about"] = about.into();
    let text = serde_json::to_string_pretty(&figures).unwrap();
    fs::write(format!("{path}.json"), text + "\n").unwrap();
}
