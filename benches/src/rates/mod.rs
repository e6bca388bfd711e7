//! Rates of real agents compared with the bare cost of the operations they depend on, measured in alternating turns of
//! one run.

pub mod fresh;
pub mod puts;
mod rig;

use anyhow::{Context, Result};
use serde::Serialize;
use std::time::Instant;

/// Result of one side in one turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Side {
    /// Operations per second.
    pub rate: f64,
    /// CPU time per operation in microseconds, of the whole process: both agents and the clients.
    pub cpu_us: f64,
}

/// Results of both sides in one turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Turn {
    /// Result of the bare operation.
    pub bare: Side,
    /// Result of the agent.
    pub agent: Side,
}

impl Turn {
    /// Returns the agent's rate divided by the bare rate.
    pub fn ratio(&self) -> f64 {
        self.agent.rate / self.bare.rate
    }

    /// Returns the bare CPU time divided by the agent's. Other load on the machine hardly affects it.
    pub fn cpu_ratio(&self) -> f64 {
        self.bare.cpu_us / self.agent.cpu_us
    }
}

/// Results of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Rates {
    /// Name of the measurement.
    pub name: &'static str,
    /// Minimum acceptable ratio.
    pub target: f64,
    /// Results of the turns in order.
    pub turns: Vec<Turn>,
}

impl Rates {
    /// Returns the median ratio.
    pub fn median(&self) -> f64 {
        let mut ratios: Vec<f64> = self.turns.iter().map(Turn::ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Runs `work`, which performs `count` operations, and returns the rate and the CPU time per operation.
fn measured(count: usize, work: impl FnOnce() -> Result<()>) -> Result<Side> {
    let (began, cpu) = (Instant::now(), cpu_us()?);
    work()?;
    let took = began.elapsed().as_secs_f64();
    Ok(Side { rate: count as f64 / took, cpu_us: (cpu_us()? - cpu) / count as f64 })
}

/// Returns the CPU time of this process in microseconds, with a resolution of 10 ms (proc_pid_stat(5), fields 14 and
/// 15; a tick has been 10 ms on every Linux of the last decades).
fn cpu_us() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("the name ends with a bracket")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 * 10_000.0)
}
