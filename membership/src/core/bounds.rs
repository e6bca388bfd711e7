//! Allowed ranges of a member's timings.

use std::time::Duration;

use super::{ConfigError, Timing};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Formats a duration as a whole number of the largest of d, h, m, s and ms that divides it.
fn text(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(1000 * u128::from(DAY), "d"), (1000 * u128::from(HOUR), "h"), (60_000, "m"), (1000, "s")];
    match units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if time.subsec_nanos().is_multiple_of(1_000_000) => format!("{ms}ms"),
        None => format!("{time:?}"),
    }
}

impl Timing {
    /// Rejects timings with which a member would flood others, or fail to find them: [`ConfigError::Timing`],
    /// or [`ConfigError::ProbeTimeout`] if the probe timeout is not shorter than the probe interval.
    pub fn check(&self) -> Result<(), ConfigError> {
        let durations = [
            ("probe interval", self.probe_interval, ms(10), s(600)),
            ("probe timeout", self.probe_timeout, ms(1), s(600)),
            ("gossip interval", self.gossip_interval, ms(10), s(60)),
            ("push/pull interval", self.push_pull_interval, s(1), s(DAY)),
            ("reconnect interval", self.reconnect_interval, ms(100), s(DAY)),
            ("reconnect timeout", self.reconnect_timeout, s(1), s(3650 * DAY)),
            ("tombstone timeout", self.tombstone_timeout, s(1), s(3650 * DAY)),
            ("broadcast timeout", self.broadcast_timeout, ms(100), s(600)),
            ("stream timeout", self.stream_timeout, ms(100), s(600)),
        ];
        if let Some((what, given, least, most)) =
            durations.into_iter().find(|(_, given, least, most)| !(*least..=*most).contains(given))
        {
            let [given, least, most] = [given, least, most].map(text);
            return Err(ConfigError::Timing { what, given, least, most });
        }
        let counts = [
            ("suspicion multiplier", self.suspicion_mult, 100),
            ("retransmit multiplier", self.retransmit_mult, 100),
            ("number of gossip nodes", u32::try_from(self.gossip_fanout).unwrap_or(u32::MAX), 64),
        ];
        if let Some((what, given, most)) =
            counts.into_iter().find(|(_, given, most)| !(1..=*most).contains(given))
        {
            let [given, least, most] = [given, 1, most].map(|count| count.to_string());
            return Err(ConfigError::Timing { what, given, least, most });
        }
        if self.probe_timeout >= self.probe_interval {
            return Err(ConfigError::ProbeTimeout);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_have_bounds() {
        for profile in [Timing::lan(), Timing::wan(), Timing::local()] {
            assert_eq!(profile.check(), Ok(()));
        }
        let lan = Timing::lan;
        for (wrong, said) in [
            (
                Timing { probe_interval: ms(9), ..lan() },
                "the probe interval cannot be 9ms; 10ms to 10m are allowed",
            ),
            (Timing { probe_timeout: s(1), ..lan() }, "shorter than the probe interval"),
            (
                Timing { probe_timeout: Duration::ZERO, ..lan() },
                "the probe timeout cannot be 0ms; 1ms to 10m",
            ),
            (Timing { gossip_interval: s(61), ..lan() }, "the gossip interval cannot be 61s; 10ms to 1m"),
            (
                Timing { push_pull_interval: ms(999), ..lan() },
                "the push/pull interval cannot be 999ms; 1s to 1d",
            ),
            (Timing { reconnect_interval: Duration::MAX, ..lan() }, "the reconnect interval"),
            (
                Timing { reconnect_timeout: s(3651 * DAY), ..lan() },
                "the reconnect timeout cannot be 3651d; 1s to 3650d",
            ),
            (
                Timing { tombstone_timeout: Duration::from_micros(1500), ..lan() },
                "cannot be 1.5ms; 1s to 3650d",
            ),
            (
                Timing { broadcast_timeout: s(601), ..lan() },
                "the broadcast timeout cannot be 601s; 100ms to 10m",
            ),
            (Timing { suspicion_mult: 101, ..lan() }, "the suspicion multiplier cannot be 101; 1 to 100"),
            (Timing { retransmit_mult: 0, ..lan() }, "the retransmit multiplier cannot be 0; 1 to 100"),
            (Timing { gossip_fanout: 65, ..lan() }, "the number of gossip nodes cannot be 65; 1 to 64"),
        ] {
            let refused = wrong.check().expect_err(said).to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
