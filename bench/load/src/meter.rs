//! Measures a stretch of time: what the server used, and what others took from it.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{machine, measurement::Measurement, options::Target, process::Processes};

/// A running measurement.
#[derive(Debug)]
pub struct Meter {
    server: Processes,
    /// Those who work for this run: the loader itself and the bystanders.
    ours: Processes,
    begun: Instant,
    server_cpu: Duration,
    ours_cpu: Duration,
    busy: Duration,
}

/// What was used in a stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// How long it was.
    pub wall: Duration,
    /// The server's CPU time.
    pub cpu: Duration,
    /// How many cores the loader and its bystanders kept busy on average.
    pub ours_cores: f64,
    /// How many cores others kept busy on average. Far above zero, the figures are noise.
    pub others_cores: f64,
}

impl Meter {
    /// Starts.
    pub fn start(target: &Target) -> Result<Self> {
        let server = Processes::new(&target.pids);
        let mut ours = target.bystanders.clone();
        ours.push(i32::try_from(std::process::id())?);
        let ours = Processes::new(&ours);
        Ok(Self {
            begun: Instant::now(),
            server_cpu: server.cpu()?,
            ours_cpu: ours.cpu()?,
            busy: machine::busy()?,
            server,
            ours,
        })
    }

    /// What was used since then.
    pub fn cost(&self) -> Result<Cost> {
        let wall = self.begun.elapsed();
        let cpu = self.server.cpu()?.saturating_sub(self.server_cpu);
        let ours = self.ours.cpu()?.saturating_sub(self.ours_cpu);
        let busy = machine::busy()?.saturating_sub(self.busy);
        let others = busy.saturating_sub(cpu).saturating_sub(ours);
        Ok(Cost {
            wall,
            cpu,
            ours_cores: ours.as_secs_f64() / wall.as_secs_f64(),
            others_cores: others.as_secs_f64() / wall.as_secs_f64(),
        })
    }
}

impl Cost {
    /// Notes what is the same in every scenario: the time, the rate, the CPU time for each of
    /// `count` pieces of work called `piece`, and the noise.
    pub fn note(&self, measurement: &mut Measurement, piece: &str, count: u64) {
        measurement.set("seconds", self.wall.as_secs_f64());
        measurement.set("ours_cores", self.ours_cores);
        measurement.set("others_cores", self.others_cores);
        if count > 0 {
            let count = count as f64;
            measurement.set("rate_per_s", count / self.wall.as_secs_f64());
            measurement.set(
                &format!("cpu_us_per_{piece}"),
                self.cpu.as_secs_f64() * 1e6 / count,
            );
        }
    }
}
