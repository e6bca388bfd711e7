//! Output and checks of the demonstration.

use crate::output;
use anyhow::bail;
use std::time::{Duration, Instant};

/// Prints a line without indentation. If standard output is closed, the demonstration continues and checks.
pub(super) fn say(text: &str) {
    let _ = output::text(&format!("{text}\n"));
}

/// Prints number and title of a step.
pub(super) fn step(number: usize, title: &str) {
    say(&format!("\n{number}. {title}"));
}

/// Prints a line of a step.
pub(super) fn line(text: impl AsRef<str>) {
    say(&format!("   {}", text.as_ref()));
}

/// Prints a check that has passed.
pub(super) fn verified(text: impl AsRef<str>) {
    say(&format!("   ok: {}", text.as_ref()));
}

/// Fails the demonstration unless `holds`.
pub(super) fn verify(holds: bool, text: impl AsRef<str>) -> anyhow::Result<()> {
    if !holds {
        bail!("this did not hold: {}", text.as_ref());
    }
    verified(text);
    Ok(())
}

/// Waits until `holds`; returns the time it took.
pub(super) async fn eventually(
    what: &str,
    limit: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    while !holds().await {
        if began.elapsed() > limit {
            bail!("after {} s still not: {what}", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(began.elapsed())
}

/// Formats a number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
