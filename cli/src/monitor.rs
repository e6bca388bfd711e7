//! The agent's log for `serf monitor`: the lines of standard error, in the form of Serf's.

use jiff::Timestamp;
use kvgossip_agent::gossip::{Level, Logs};
use std::io;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

/// Returns a layer that passes every event to the clients that monitor the log.
pub(crate) fn layer<S>(logs: Logs) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(Lines(logs))
}

struct Lines(Logs);

/// A log line under construction.
struct Line<'a> {
    logs: &'a Logs,
    level: tracing::Level,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { logs: &self.0, level: tracing::Level::INFO }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { logs: &self.0, level: *meta.level() }
    }
}

impl io::Write for Line<'_> {
    /// Receives a whole event per call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (level, name) = match self.level {
            tracing::Level::ERROR => (Level::Error, "ERR"),
            tracing::Level::WARN => (Level::Warn, "WARN"),
            tracing::Level::INFO => (Level::Info, "INFO"),
            tracing::Level::DEBUG => (Level::Debug, "DEBUG"),
            tracing::Level::TRACE => (Level::Trace, "TRACE"),
        };
        let time = Timestamp::now().strftime("%Y/%m/%d %H:%M:%S");
        let text = String::from_utf8_lossy(event);
        self.logs.publish(level, &format!("{time} [{name}] kvgossip: {}", text.trim()));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn events_become_lines_of_their_level() {
        let logs = Logs::default();
        let subscriber = tracing_subscriber::registry().with(layer(logs.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(name = "a", "a member has failed");
            tracing::debug!("detail");
        });
        let lines = |level| {
            let mut lines = logs.subscribe(level, 8);
            std::iter::from_fn(move || lines.try_recv().ok()).map(|line| line.to_string()).collect::<Vec<_>>()
        };
        let grave = lines(Level::Info);
        assert!(
            grave.len() == 1 && grave[0].ends_with(" [WARN] kvgossip: a member has failed name=\"a\""),
            "{grave:?}"
        );
        // A date such as 2026/11/22 12:00:00 comes first.
        assert_eq!(grave[0].find(" [WARN]"), Some(19), "{grave:?}");
        assert!(lines(Level::Debug)[1].ends_with("[DEBUG] kvgossip: detail"));
    }
}
