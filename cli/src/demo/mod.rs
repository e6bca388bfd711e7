//! `kvgossip demo`: the main job on real agents, each step verified and explained.

mod cast;
mod fill;
mod late;
mod stage;
mod story;
mod tell;
mod wire;

use crate::codes;
use crate::connect::stopped_by_signal;
use crate::error::{Exit, Failure, Result};
use crate::text;
use clap::Args;
use std::path::PathBuf;

/// Four replicas on loopback: diverge, heal, revoke, catch up, with numbers.
///
/// The demonstration uses temporary directories and free ports of 127.0.0.1, and removes everything afterwards. The
/// exit code is 0 only if every step did what it says.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Fill the tree from this directory, one entry per file, instead of generated keys.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Number of keys to generate, 1 to 20000.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = text::within(1..=20_000u32), conflicts_with = "dir")]
    keys: u32,
}

/// Runs the demonstration.
pub(crate) fn demo(args: &DemoArgs) -> Result<Exit> {
    let items = match &args.dir {
        Some(dir) => fill::from_directory(dir).map_err(failed)?,
        None => fill::generated(args.keys),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.into()))?;
    let told = runtime.block_on(async {
        tokio::select! {
            told = story::tell(items) => told.map_err(failed),
            signal = stopped_by_signal() => Err(signal?),
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    told.map(|()| Exit::Ok)
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::new(codes::DEMO_FAILED, format!("{error:#}"))
}
