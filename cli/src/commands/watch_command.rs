//! Execution of a command at a change.

use super::watch_told::Told;
use crate::codes;
use crate::error::{Failure, Result};
use crate::output::say;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Maximum size of a value in an environment variable, in bytes; systems allow 128 KiB per variable.
const MAX_ENV_BYTES: usize = 100 << 10;

/// Runs the command of `watch` for changes, one execution at a time.
pub(super) struct Runner {
    command: Vec<OsString>,
    failures: u64,
}

impl Runner {
    pub(super) fn new(command: &[OsString]) -> Self {
        Self { command: command.to_owned(), failures: 0 }
    }

    /// Returns the number of failed executions.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Runs the command for a change and waits for its end. A failed command is reported, and runs again at the next
    /// change; one that cannot be started is a failure.
    pub(super) async fn run(&mut self, told: &Told) -> Result<()> {
        let value = told.entry.as_ref().map(|entry| entry.value.clone());
        let mut envs: Vec<(&str, OsString)> =
            vec![("KVGOSSIP_KEY", told.key.as_str().into()), ("KVGOSSIP_EVENT", told.event.into())];
        if let Some(entry) = &told.entry {
            envs.push(("KVGOSSIP_ENTRY", entry.id.to_string().into()));
        }
        if let Some(value) =
            value.as_deref().filter(|value| value.len() <= MAX_ENV_BYTES && !value.contains(&0))
        {
            envs.push(("KVGOSSIP_VALUE", OsStr::from_bytes(value).to_owned()));
        }
        let ended = run(&self.command, &envs, value.as_deref().unwrap_or_default()).await?;
        if let Err(how) = ended {
            self.failures += 1;
            say(&format!("the command failed for {} ({}): {how}", told.key, told.event));
        }
        Ok(())
    }
}

/// Runs a command with additional environment and input, and waits. The inner error describes an unsuccessful end.
pub(super) async fn run(
    command: &[OsString],
    envs: &[(&str, OsString)],
    input: &[u8],
) -> Result<Result<(), String>> {
    let Some((program, args)) = command.split_first() else { return Ok(Ok(())) };
    let mut command = Command::new(program);
    for name in ["KVGOSSIP_KEY", "KVGOSSIP_EVENT", "KVGOSSIP_ENTRY", "KVGOSSIP_VALUE"] {
        command.env_remove(name);
    }
    command
        .args(args)
        .envs(envs.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        let text = format!("cannot run {}: {error}", program.to_string_lossy());
        Failure::new(codes::COMMAND_FAILED, text)
    })?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin.take() {
            // The command need not read its input.
            let _ = stdin.write_all(input).await;
        }
    };
    let (status, ()) = tokio::join!(child.wait(), feed);
    Ok(match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    })
}
