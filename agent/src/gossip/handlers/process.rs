//! Execution of a shell command with bounded output.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Number of bytes kept from the end of a command's output, as many as with Serf's agents.
const MAX_OUTPUT: usize = 8 * 1024;

/// A shell command to run, with its environment variables and its standard input.
pub(super) struct Run<'a> {
    pub(super) command: &'a str,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) input: Vec<u8>,
}

/// The exit status of a command, and the ends of its two outputs.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Tail,
    pub(super) errors: Tail,
}

/// The end of one output of a command, at most [`MAX_OUTPUT`] bytes.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) bytes: Vec<u8>,
    /// Number of bytes that the command wrote before those kept in `bytes`.
    pub(super) lost: u64,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let over = self.bytes.len().saturating_sub(MAX_OUTPUT);
        self.bytes.drain(..over);
        self.lost += over as u64;
    }

    async fn read(mut from: impl AsyncRead + Unpin) -> io::Result<Self> {
        let (mut tail, mut buffer) = (Self::default(), [0; 4096]);
        loop {
            match from.read(&mut buffer).await? {
                0 => return Ok(tail),
                count => tail.push(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Returns the output, escaped for a log line.
    pub(super) fn printable(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim_end().escape_debug().to_string()
    }
}

impl Run<'_> {
    /// Runs the command until it has ended and both its outputs are closed. Kills it when the future is dropped.
    pub(super) async fn ended(self) -> io::Result<Ended> {
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(self.command)
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("the command has no pipes"));
        };
        let write = async move {
            // The command need not read its input.
            let _ = stdin.write_all(&self.input).await;
            drop(stdin);
        };
        let ((), output, errors, status) =
            tokio::join!(write, Tail::read(stdout), Tail::read(stderr), child.wait());
        Ok(Ended { status: status?, output: output?, errors: errors? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(command: &str, input: &[u8]) -> Ended {
        let environment = vec![("SERF_EVENT".into(), "user".into())];
        Run { command, environment, input: input.to_vec() }.ended().await.expect("it runs")
    }

    #[tokio::test]
    async fn a_command_reads_writes_and_ends_as_it_likes() {
        let ended = run("printf '%s ' \"$SERF_EVENT\"; cat; echo oh >&2; exit 3", b"payload").await;
        assert_eq!((ended.status.code(), &*ended.output.bytes), (Some(3), &b"user payload"[..]));
        assert_eq!(ended.errors.printable(), "oh");
        let ended = run("exec 0<&-; echo done", &[b'x'; 1 << 20]).await;
        assert_eq!((ended.status.success(), &*ended.output.bytes), (true, &b"done\n"[..]));
    }

    #[tokio::test]
    async fn the_end_of_what_is_written_is_kept() {
        let ended = run("head -c 100000 /dev/zero | tr '\\0' a; printf end", b"").await;
        assert_eq!(ended.output.bytes.len(), MAX_OUTPUT);
        assert!(ended.output.bytes.ends_with(b"aend"));
        assert_eq!(ended.output.lost, 100_003 - MAX_OUTPUT as u64);
    }
}
