//! Runs the command in a directory of its own.

use crate::wait::PATIENCE;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory with test keys. Commands run in it without the environment variables that would affect them.
pub struct Desk {
    dir: TempDir,
    program: &'static str,
}

/// Result of one run of the program.
pub struct Ran {
    /// Exit code of the program.
    pub code: i32,
    /// What the program wrote to standard output.
    pub out: Vec<u8>,
    /// What the program wrote to standard error.
    pub err: String,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = String::from_utf8_lossy(&self.out);
        write!(f, "exit {}\n--- stdout\n{out}\n--- stderr\n{}", self.code, self.err)
    }
}

impl Ran {
    /// Returns standard output as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.out).expect("text")
    }

    /// Parses the output of `--output json`: one object per line.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts the exit code, and a stable code in brackets on standard error.
    #[track_caller]
    pub fn fails(self, exit: i32, code: &str) -> Self {
        let told = self.err.contains(&format!("[{code}]\n"));
        assert!(told && self.code == exit && self.err.contains("error: "), "wanted {exit} {code}: {self:#?}");
        self
    }
}

impl Desk {
    /// Creates a desk for the program at this path, `env!("CARGO_BIN_EXE_kvgossip")`. Cargo gives the path only to
    /// tests of the program's own crate.
    pub fn new(program: &'static str) -> Self {
        let desk = Self { dir: tempfile::tempdir().expect("a temporary directory"), program };
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/fixtures");
        for entry in fs::read_dir(fixtures).expect("fixtures") {
            let path = entry.expect("a fixture").path();
            let copy = desk.path(path.file_name().expect("a name"));
            fs::copy(&path, &copy).expect("a copy");
            // Of a file's mode, git keeps only whether it is executable.
            private(&copy);
        }
        desk
    }

    /// Returns the path of a file of the directory.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    /// Returns the text of a file of the directory.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect(name)
    }

    /// Returns the program with these arguments, ready to run in the directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KVGOSSIP_"))
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().expect("the command starts"))
    }

    /// Runs a command that must not wait for anything. If it still runs after a minute, it is ended and the test fails.
    pub fn run_at_once(&self, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let began = Instant::now();
        while child.try_wait().expect("a child of ours").is_none() {
            if began.elapsed() > PATIENCE {
                child.kill().expect("a child of ours");
                panic!("{args:?} waits for something: {:?}", ran(child.wait_with_output().expect("ended")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        ran(child.wait_with_output().expect("the command ends"))
    }

    /// Runs the program to its end with this standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("standard input");
        // A command that fails early does not read all of it.
        let _ = stdin.write_all(input);
        drop(stdin);
        ran(child.wait_with_output().expect("the command ends"))
    }
}

/// Repeats a command until its result satisfies `done`. Returns the last result after a minute.
pub fn until(run: impl Fn() -> Ran, done: impl Fn(&Ran) -> bool) -> Ran {
    let began = Instant::now();
    loop {
        let ran = run();
        if done(&ran) || began.elapsed() > PATIENCE {
            return ran;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Converts the output of a command that was started by other means.
pub fn ran(output: Output) -> Ran {
    let err = String::from_utf8(output.stderr).expect("errors are text");
    assert!(!err.contains("panicked"), "{err}");
    Ran { code: output.status.code().expect("no signal"), out: output.stdout, err }
}

/// Returns the permission bits of a file.
#[cfg(unix)]
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// Creates a named pipe.
#[cfg(unix)]
pub fn make_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
}

/// Sets the permission bits of a file.
#[cfg(unix)]
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of ours");
}

fn private(path: &Path) {
    #[cfg(unix)]
    set_mode(path, 0o600);
    #[cfg(not(unix))]
    let _ = path;
}

/// Accepts one connection, reads one request without a body, answers and closes.
pub fn answer_once(listener: &TcpListener, answer: &[u8]) {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).expect("a request") {
            0 => return,
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    stream.write_all(answer).expect("an answer");
}
