//! A word on standard error when something takes longer than a second.

use crate::output::say;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a command stays silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

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
