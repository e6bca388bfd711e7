//! Progress messages on standard error after the first second.

use crate::output::{printable, say};
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Time from the start of the work to the first message.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// Interval of progress messages on a terminal.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);
/// Maximum interval of progress messages on other outputs, where each takes a line; the intervals grow up to it.
const LOG_EVERY_MAX: Duration = Duration::from_secs(60);

/// Runs `work`; prints `line` if it is not done after a second.
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

/// A progress display: nothing in the first second; then one line that is overwritten on a terminal, or occasional
/// lines elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    due: Instant,
    pause: Duration,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Starts the display and its first second now.
    pub(crate) fn start() -> Self {
        let terminal = io::stderr().is_terminal();
        let pause = if terminal { TERMINAL_EVERY } else { SILENCE };
        Self { due: Instant::now() + SILENCE, pause, terminal, shown: false }
    }

    /// Prints `line` if a message is due.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        if self.terminal {
            // If standard error is closed, the message is lost.
            let _ = write!(io::stderr().lock(), "\r{}\x1b[K", printable(&line()));
        } else {
            say(&line());
            self.pause = (self.pause * 2).min(LOG_EVERY_MAX);
        }
        self.shown = true;
        self.due = now + self.pause;
    }

    /// Clears the line of the display, for other output.
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
