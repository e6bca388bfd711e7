//! Log lines of the application, for clients that monitor them.

use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;

/// Maximum number of recent lines that a new monitor receives at once.
pub const RECENT_LINES: usize = 256;
/// Maximum length of a log line in bytes; longer lines are cut.
pub const MAX_LINE_BYTES: usize = 4096;

/// Severity of a log line, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the usual ones")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// Parses a level as written by clients, such as `warn`, in upper or lower case; `None` if it is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "TRACE" => Self::Trace,
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "WARN" => Self::Warn,
            "ERR" | "ERROR" => Self::Error,
            _ => return None,
        })
    }
}

/// Log that passes each line on to all its listeners. Clones are handles of one log.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    recent: VecDeque<(Level, Arc<str>)>,
    listeners: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    least: Level,
    sender: mpsc::Sender<Arc<str>>,
    lost: u64,
}

impl Listener {
    /// Sends a line to the listener if it is severe enough and fits. Returns whether the listener still exists.
    fn offer(&mut self, level: Level, line: &Arc<str>) -> bool {
        if level < self.least {
            return !self.sender.is_closed();
        }
        if self.lost > 0 {
            let note = format!("[WARN] {} lines of the log were lost: they were not read in time", self.lost);
            match self.sender.try_send(note.into()) {
                Ok(()) => self.lost = 0,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.lost += 1;
                    return true;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
        }
        match self.sender.try_send(line.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Logs {
    /// Publishes a line, without its line end. It never waits, and logs nothing itself.
    pub fn publish(&self, level: Level, line: &str) {
        let line: Arc<str> = cut(line).into();
        let mut inner = self.inner.lock();
        inner.listeners.retain_mut(|listener| listener.offer(level, &line));
        if inner.recent.len() >= RECENT_LINES {
            inner.recent.pop_front();
        }
        inner.recent.push_back((level, line));
    }

    /// Subscribes to lines of at least this severity: the most recent ones, then later ones. Lines that do not
    /// fit the queue are dropped; their number is reported once there is room.
    pub fn subscribe(&self, least: Level, capacity: usize) -> mpsc::Receiver<Arc<str>> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let mut inner = self.inner.lock();
        let wanted: Vec<_> = inner.recent.iter().filter(|(level, _)| *level >= least).collect();
        for (_, line) in wanted.iter().skip(wanted.len().saturating_sub(capacity)) {
            // The channel has room for that many.
            let _ = sender.try_send(line.clone());
        }
        inner.listeners.push(Listener { least, sender, lost: 0 });
        receiver
    }
}

fn cut(line: &str) -> &str {
    let end = (0..=line.len().min(MAX_LINE_BYTES)).rev().find(|at| line.is_char_boundary(*at));
    &line[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(receiver: &mut mpsc::Receiver<Arc<str>>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|line| line.to_string()).collect()
    }

    #[test]
    fn listeners_get_the_last_lines_and_those_of_their_level() {
        let logs = Logs::default();
        for n in 0..RECENT_LINES + 2 {
            logs.publish(Level::Info, &n.to_string());
        }
        logs.publish(Level::Debug, "detail");
        let (mut all, mut grave) = (logs.subscribe(Level::Trace, 512), logs.subscribe(Level::Warn, 512));
        let seen = read(&mut all);
        assert_eq!(
            (seen.len(), seen[0].as_str(), seen[RECENT_LINES - 1].as_str()),
            (RECENT_LINES, "3", "detail")
        );
        logs.publish(Level::Error, "bad");
        logs.publish(Level::Info, "good");
        assert_eq!(
            (read(&mut all), read(&mut grave)),
            (vec!["bad".into(), "good".into()], vec!["bad".to_owned()])
        );
        assert_eq!(read(&mut logs.subscribe(Level::Info, 2)), ["bad", "good"]);
    }

    #[test]
    fn a_slow_listener_is_told_how_much_it_missed_and_one_that_went_is_forgotten() {
        let logs = Logs::default();
        let mut slow = logs.subscribe(Level::Info, 2);
        drop(logs.subscribe(Level::Error, 2));
        for n in 0..5 {
            logs.publish(Level::Info, &n.to_string());
        }
        assert_eq!(logs.inner.lock().listeners.len(), 1);
        assert_eq!(read(&mut slow), ["0", "1"]);
        logs.publish(Level::Info, "5");
        let seen = read(&mut slow);
        assert!(seen.len() == 2 && seen[0].contains("3 lines") && seen[1] == "5", "{seen:?}");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(MAX_LINE_BYTES)).len(), MAX_LINE_BYTES);
        assert_eq!(cut(&format!("x{}", "ä".repeat(MAX_LINE_BYTES))).len(), MAX_LINE_BYTES - 1);
        assert_eq!(cut("short"), "short");
        assert_eq!(Level::parse("err"), Level::parse("ERROR"));
        assert_eq!(Level::parse("loud"), None);
    }
}
