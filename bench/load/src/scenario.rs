//! A function for each mode: what is done to the server, step by step.

mod churn;
mod echo;
mod fanout;
pub mod hold;
mod idle;
mod meanwhile;
mod ramp;
mod storm;
mod subjects;
mod weight;

use anyhow::Result;

use crate::{
    machine::KernelMemory,
    measurement::{Measurement, Step},
    options::{Mode, Options, Target},
    process::Processes,
    tally::Tally,
};

/// Does what was asked for.
pub fn run(options: &Options) -> Result<Measurement> {
    match &options.mode {
        Mode::Idle(options) => idle::run(options),
        Mode::Fanout(options) => fanout::run(options),
        Mode::Churn(options) => churn::run(options),
        Mode::Hold(options) => hold::run(options),
        Mode::Member(_) => anyhow::bail!("a member measures nothing"),
        Mode::Echo(options) => echo::run(options),
        Mode::Weight(options) => weight::run(options),
        Mode::Ramp(options) => ramp::run(options),
        Mode::Storm(options) => storm::run(options),
        Mode::Subjects(options) => subjects::run(options),
        Mode::Meanwhile(options) => meanwhile::run(options),
    }
}

/// What is left to say of a scenario that failed.
pub fn failed(options: &Options, error: &anyhow::Error) -> Measurement {
    Measurement {
        trouble: Some(format!("{error:#}")),
        ..begin(options.mode.target())
    }
}

/// A measurement that holds nothing but names.
fn begin(target: &Target) -> Measurement {
    Measurement {
        scenario: target.scenario.clone(),
        server: target.server.clone(),
        ..Measurement::default()
    }
}

/// Notes the connections and the first trouble, which every scenario has.
fn note_connections(measurement: &mut Measurement, tally: &Tally) {
    measurement.set("open", tally.open as f64);
    measurement.set("connections_lost", tally.lost as f64);
    measurement.trouble.clone_from(&tally.trouble);
}

/// Notes the memory of the server and of the kernel as a step of this name.
fn note_step(
    measurement: &mut Measurement,
    name: &str,
    server: &Processes,
    tally: &Tally,
) -> Result<()> {
    let (resident, kernel) = (server.resident()?, KernelMemory::now()?);
    measurement.steps.push(Step {
        name: name.to_owned(),
        connections: tally.open,
        resident_bytes: resident.total,
        anonymous_bytes: resident.anonymous,
        slab_bytes: kernel.slab,
        slab_unreclaimable_bytes: kernel.slab_unreclaimable,
        tcp_buffer_bytes: kernel.tcp_buffers,
    });
    Ok(())
}

/// Notes the median and the 99th percentile of these times, and the longest.
fn note_times(measurement: &mut Measurement, name: &str, times_us: &mut [u32]) {
    times_us.sort_unstable();
    let last = times_us.len().saturating_sub(1);
    for (quantile, at) in [("p50", last / 2), ("p99", last * 99 / 100), ("max", last)] {
        if let Some(time_us) = times_us.get(at) {
            measurement.set(&format!("{name}_{quantile}_us"), f64::from(*time_us));
        }
    }
}
