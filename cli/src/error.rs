//! Failures of a command: what the process says and what it ends with.

use crate::codes;
pub(crate) use crate::codes::Exit;
use crate::output::{Format, printable};
use kvgossip_api::codes::advice;
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    format: Format,
}

#[derive(Debug)]
enum Kind {
    /// Something to tell.
    Told(Told),
    /// Standard output was closed by its reader, who has seen enough: nothing to tell and nothing wrong.
    ClosedPipe,
}

#[derive(Debug, Serialize)]
struct Told {
    code: String,
    message: String,
    exit: u8,
    /// Further lines: a marked place in a text, a counterexample, a way out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// A command's result.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with a stable code, which also decides the exit code.
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        let exit = codes::exit(&code).unwrap_or(Exit::Error);
        Self::with_exit(code, message, exit)
    }

    /// The same, with the catalogue's advice in a line below.
    pub(crate) fn advised(code: &str, message: impl Into<String>) -> Self {
        let failure = Self::new(code, message);
        match advice(code) {
            Some(advice) => failure.note(advice),
            None => failure,
        }
    }

    /// A failure whose code this program may not know.
    pub(crate) fn with_exit(code: impl Into<String>, message: impl Into<String>, exit: Exit) -> Self {
        let told = Told { code: code.into(), message: message.into(), exit: exit as u8, notes: Vec::new() };
        Self { kind: Kind::Told(told), format: Format::Text }
    }

    /// The stable code; empty for a closed pipe.
    pub(crate) fn code(&self) -> &str {
        match &self.kind {
            Kind::Told(told) => &told.code,
            Kind::ClosedPipe => "",
        }
    }

    /// What happened, in one line.
    pub(crate) fn message(&self) -> &str {
        match &self.kind {
            Kind::Told(told) => &told.message,
            Kind::ClosedPipe => "standard output was closed",
        }
    }

    /// With another exit code than that of its stable code.
    pub(crate) fn ending_with(mut self, exit: Exit) -> Self {
        if let Kind::Told(told) = &mut self.kind {
            told.exit = exit as u8;
        }
        self
    }

    /// A further line.
    pub(crate) fn note(mut self, line: impl Into<String>) -> Self {
        if let Kind::Told(told) = &mut self.kind {
            told.notes.push(line.into());
        }
        self
    }

    /// Says it in the format that was asked for.
    pub(crate) fn in_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Standard output cannot be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { kind: Kind::ClosedPipe, format: Format::Text }
        } else {
            Self::new(codes::FILE_WRITE, format!("cannot write to standard output: {error}"))
        }
    }

    /// Tells it on standard error and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let Kind::Told(told) = self.kind else {
            return Exit::Ok.into();
        };
        let text = match self.format {
            Format::Json => serde_json::to_string(&told).unwrap_or_default() + "\n",
            Format::Text => told.text(),
        };
        // Nobody is left to tell if standard error is closed.
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

/// Runs work whose panics are caught within, and told as errors: the usual words about them would only confuse.
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
