//! The times of random worlds, in microseconds.

/// One second in microseconds.
pub const SECOND: u64 = 1_000_000;

/// Present time of a correct clock during a run, in microseconds.
pub const NOW: u64 = 10_000 * SECOND;

/// Final time of all clocks in a run, in microseconds: no entry is early any more.
pub const LATE: u64 = 2 * NOW;

/// Possible times of the replicas' clocks before they are set to [`LATE`], in microseconds.
pub const CLOCKS: [u64; 5] = [NOW, NOW, NOW - 200 * SECOND, NOW + 200 * SECOND, NOW + 600 * SECOND];

/// Times at which the entries that readers see are compared, in microseconds.
pub const LOOKS: [u64; 4] = [1_035 * SECOND, NOW, NOW + 61 * SECOND, LATE];
