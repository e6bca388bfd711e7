//! Conversion of command-line errors.

use crate::codes;
use crate::error::Failure;
use crate::text::TextFault;
use clap::error::ErrorKind;
use std::error::Error;

/// Converts a usage error of clap to the form of all other errors.
pub(crate) fn usage(error: &clap::Error) -> Failure {
    if let Some(fault) = error.source().and_then(|source| source.downcast_ref::<TextFault>()) {
        return fault.into();
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let first = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing",
        _ => lines.next().unwrap_or("the command line is wrong"),
    };
    lines.fold(Failure::new(codes::USAGE, first), Failure::note)
}
