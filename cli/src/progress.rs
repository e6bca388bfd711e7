//! A word on standard error when something takes longer than a second.

use crate::output::{printable, say};
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a command stays silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// How often a terminal is told how far the work is.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);
/// Where there is no terminal each line takes room, so the pauses between them grow up to this.
const LOG_EVERY_MAX: Duration = Duration::from_secs(60);

/// Runs `work`; says `line` if it is not done after a second.
pub(crate) fn while_working<T>(line: &str, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, wait) = mpsc::channel::<()>();
        scope.spawn(move || {
            if wait.recv_timeout(SILENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(line);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Tells how far work in many parts is: nothing in the first second, then one line that changes on a terminal, and a line
/// now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    due: Instant,
    pause: Duration,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Begins now.
    pub(crate) fn start() -> Self {
        let terminal = io::stderr().is_terminal();
        let pause = if terminal { TERMINAL_EVERY } else { SILENCE };
        Self { due: Instant::now() + SILENCE, pause, terminal, shown: false }
    }

    /// Says `line` if it is time to.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        if self.terminal {
            // Nobody is left to tell if standard error is closed.
            let _ = write!(io::stderr().lock(), "\r{}\x1b[K", printable(&line()));
        } else {
            say(&line());
            self.pause = (self.pause * 2).min(LOG_EVERY_MAX);
        }
        self.shown = true;
        self.due = now + self.pause;
    }

    /// Clears the line, so that others can follow.
    pub(crate) fn clear(&mut self) {
        if self.terminal && self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
            self.shown = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
