//! Options of `kvgossip agent` for its log, and the start of the log.

use crate::codes;
use crate::error::{Failure, Result};
use crate::monitor;
use crate::text::TextFault;
use clap::{Args, ValueEnum};
use kvgossip_agent::gossip::Logs;
use std::io::{self, IsTerminal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Log levels, from fewest to most lines.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Options of the log.
#[derive(Clone, Debug, Args)]
pub(super) struct LogArgs {
    /// Format of the log.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Level of the log: error, warn, info, debug, trace or off; or a level and others for modules, such as
    /// info,kvgossip_agent=debug [env: KVGOSSIP_LOG].
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = filter)]
    log_level: LogFilter,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// A log filter, every part of which has a level.
#[derive(Clone, Debug)]
struct LogFilter(String);

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text))
}

/// Parses `LEVEL`, `MODULE=LEVEL`, or several separated by commas. The grammar of `tracing` would take an unknown
/// level for a module, and then log nothing.
fn filter(text: &str) -> std::result::Result<LogFilter, TextFault> {
    let fault = |reason: &str| TextFault::whole(codes::LOG_FILTER, "a filter of the log", reason, text);
    let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(fault("write error, warn, info, debug, trace or off"));
    }
    for part in &parts {
        // Values of span fields are in brackets.
        let (_, behind) = part.rsplit_once(']').unwrap_or(("", part));
        let level = behind.rsplit_once('=').map_or(behind, |(_, level)| level);
        if !is_level(level) {
            let reason = format!(
                "{level:?} is no level; levels are error, warn, info, debug, trace and off, and a module's level is \
                 written MODULE=LEVEL, such as info,kvgossip_agent=debug"
            );
            return Err(fault(&reason));
        }
    }
    let filter = parts.join(",");
    EnvFilter::try_new(&filter).map_err(|error| fault(&error.to_string()))?;
    Ok(LogFilter(filter))
}

impl LogArgs {
    /// Starts to log to standard error, and to `logs` for RPC clients that monitor.
    pub(super) fn begin(&self, logs: Option<Logs>) -> Result<()> {
        let filter = EnvFilter::try_new(&self.log_level.0)
            .map_err(|error| Failure::new(codes::LOG_FILTER, error.to_string()))?;
        // A closed standard error must not stop the agent: by default, tracing would panic.
        let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
        let log = log.with_ansi(io::stderr().is_terminal());
        let log = match self.log_format {
            LogFormat::Text => log.with_target(false).boxed(),
            LogFormat::Json => log.json().boxed(),
        };
        tracing_subscriber::registry().with(filter).with(log).with(logs.map(monitor::layer)).init();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn levels_and_modules_with_a_level_are_taken() {
        for text in [
            "error",
            "warn",
            "info",
            "debug",
            "trace",
            "off",
            "INFO",
            "info,kvgossip_agent=debug",
            "kvgossip_agent=debug",
            " warn, kvgossip_agent::http=trace",
            "info,[session{peer=a}]=debug",
        ] {
            assert!(filter(text).is_ok(), "{text:?}");
        }
    }

    /// Each of these was once taken for a module, so that nothing was logged.
    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_levels() {
        for text in [
            "warning",
            "noisy",
            "inof",
            "err",
            "3",
            "",
            ",",
            "kvgossip_agent",
            "info,kvgossip_agent",
            "kvgossip_agent=",
            "kvgossip_agent=loud",
            "[session{peer=a}]",
        ] {
            let failure = Failure::from(&filter(text).expect_err(text));
            assert_eq!(failure.code(), codes::LOG_FILTER, "{text:?}");
            for level in LEVELS {
                assert!(failure.message().contains(level), "{text:?}: {}", failure.message());
            }
        }
    }
}
