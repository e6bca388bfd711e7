//! Metrics of the process, from Linux's `/proc`; 0 on other systems.

use super::Fraction;
use super::catalog::Catalog;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unit of process times in `/proc` (`USER_HZ`), independent of the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start: Fraction,
}

impl Process {
    pub(super) fn new(catalog: &mut Catalog) -> Self {
        Self {
            cpu: catalog.add(
                ("process_cpu", "counter", Some(Unit::Seconds), &[]),
                "Time on processors, in user and system mode",
                Counter::default(),
            ),
            resident: catalog.add(
                ("process_resident_memory", "gauge", Some(Unit::Bytes), &[]),
                "Memory that is resident",
                Gauge::default(),
            ),
            open_fds: catalog.add(
                ("process_open_fds", "gauge", None, &[]),
                "Open file descriptors",
                Gauge::default(),
            ),
            max_fds: catalog.add(
                ("process_max_fds", "gauge", None, &[]),
                "Limit of open file descriptors",
                Gauge::default(),
            ),
            threads: catalog.add(("process_threads", "gauge", None, &[]), "Threads", Gauge::default()),
            start: catalog.add(
                ("process_start_time", "gauge", Some(Unit::Seconds), &[]),
                "Start time of the agent, in seconds since 1970",
                Fraction::default(),
            ),
        }
    }

    pub(super) fn refresh(&self, started_at_us: u64) {
        self.start.set(std::time::Duration::from_micros(started_at_us).as_secs_f64());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident.set(field(&status, "VmRSS:").saturating_mul(1024));
        self.threads.set(field(&status, "Threads:"));
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let seconds = cpu_seconds(&stat).unwrap_or_default();
        self.cpu.inner().store(seconds.to_bits(), Ordering::Relaxed);
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_fds.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.max_fds.set(max_fds());
    }
}

/// Returns the maximum number of open file descriptors; 0 if unknown or unlimited.
fn max_fds() -> i64 {
    field(&fs::read_to_string("/proc/self/limits").unwrap_or_default(), "Max open files")
}

/// Returns the first number after `name` at the start of a line; 0: there is none.
fn field(text: &str, name: &str) -> i64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Returns the CPU time in seconds: fields 14 and 15 of `/proc/self/stat`. Field 2, in parentheses, may contain any
/// characters. `None`: the text has another format.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nothing"), None);
        assert_eq!(field("Name:\tx\nVmRSS:\t  123 kB\n", "VmRSS:"), 123);
        assert_eq!(field("Max open files            1024   4096   files", "Max open files"), 1024);
        assert_eq!(field("", "VmRSS:"), 0);
    }
}
