//! The times of random worlds, in microseconds.

/// One second in microseconds.
pub const SECOND: u64 = 1_000_000;

/// Time of a correct clock, in microseconds.
pub const NOW: u64 = 10_000 * SECOND;

/// Final time of all clocks, in microseconds: no entry is early any more.
pub const LATE: u64 = 2 * NOW;

/// Possible times of the replicas' clocks before, in microseconds.
pub const CLOCKS: [u64; 5] = [NOW, NOW, NOW - 200 * SECOND, NOW + 200 * SECOND, NOW + 600 * SECOND];

/// Times at which shown values are compared, in microseconds.
pub const LOOKS: [u64; 4] = [1_035 * SECOND, NOW, NOW + 61 * SECOND, LATE];
