//! Failures of commands: message and exit code.

use crate::codes;
use crate::format::{Format, printable};
pub(crate) use kvgossip_api::codes::Exit;
use kvgossip_api::codes::advice;
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

/// Failure of a command, and the format to report it in.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    format: Format,
}

#[derive(Debug)]
enum Kind {
    /// A failure that is reported on standard error.
    Told(Told),
    /// Standard output was closed by its reader. This is not an error and not reported.
    ClosedPipe,
}

#[derive(Debug, Serialize)]
struct Told {
    code: String,
    message: String,
    exit: u8,
    /// Further lines of the report: a marked place in a text, a counterexample, a remedy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Result of a command or of a part of one.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Creates a failure with a stable code that the catalogue has; the code decides the exit code.
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        let exit = codes::exit(&code).unwrap_or(Exit::Error);
        Self::with_exit(code, message, exit)
    }

    /// Creates a failure with the catalogue's advice in a line below.
    pub(crate) fn advised(code: &str, message: impl Into<String>) -> Self {
        let failure = Self::new(code, message);
        match advice(code) {
            Some(advice) => failure.note(advice),
            None => failure,
        }
    }

    /// Creates a failure whose code this program may not know.
    pub(crate) fn with_exit(code: impl Into<String>, message: impl Into<String>, exit: Exit) -> Self {
        let told = Told { code: code.into(), message: message.into(), exit: exit as u8, notes: Vec::new() };
        Self { kind: Kind::Told(told), format: Format::Text }
    }

    /// Returns the stable code; empty for a closed pipe.
    pub(crate) fn code(&self) -> &str {
        match &self.kind {
            Kind::Told(told) => &told.code,
            Kind::ClosedPipe => "",
        }
    }

    /// Returns the message of the failure, one line.
    pub(crate) fn message(&self) -> &str {
        match &self.kind {
            Kind::Told(told) => &told.message,
            Kind::ClosedPipe => "standard output was closed",
        }
    }

    /// Replaces the exit code of the failure.
    pub(crate) fn ending_with(mut self, exit: Exit) -> Self {
        if let Kind::Told(told) = &mut self.kind {
            told.exit = exit as u8;
        }
        self
    }

    /// Adds a further line to the report.
    pub(crate) fn note(mut self, line: impl Into<String>) -> Self {
        if let Kind::Told(told) = &mut self.kind {
            told.notes.push(line.into());
        }
        self
    }

    /// Sets the format in which the failure is reported.
    pub(crate) fn in_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Converts an error of writing to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { kind: Kind::ClosedPipe, format: Format::Text }
        } else {
            Self::new(codes::FILE_WRITE, format!("cannot write to standard output: {error}"))
        }
    }

    /// Reports the failure on standard error; returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let Kind::Told(told) = self.kind else {
            return Exit::Ok.into();
        };
        let text = match self.format {
            Format::Json => serde_json::to_string(&told).unwrap_or_default() + "\n",
            Format::Text => told.text(),
        };
        // If standard error is closed, the message is lost.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        ExitCode::from(told.exit)
    }
}

impl Told {
    fn text(&self) -> String {
        let mut text = format!("error: {} [{}]\n", printable(&self.message), printable(&self.code));
        for line in &self.notes {
            text.push_str(&printable(line));
            text.push('\n');
        }
        text
    }
}

/// Runs work that catches panics itself and reports them as errors; suppresses the standard panic message meanwhile.
pub(crate) fn without_words_on_panic<T>(work: impl FnOnce() -> T) -> T {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = work();
    std::panic::set_hook(usual);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_code_behind_the_message_and_hides_control_characters() {
        let failure = Failure::new(codes::FILE_READ, "a\u{1b}[31mb\nc").note("  there");
        let Kind::Told(told) = failure.kind else { panic!("something to tell") };
        assert_eq!(told.text(), "error: a\u{fffd}[31mb\u{fffd}c [file.unreadable]\n  there\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.report(), Exit::Ok.into());
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).code(), codes::FILE_WRITE);
    }
}
