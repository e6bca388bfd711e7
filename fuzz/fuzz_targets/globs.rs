//! libFuzzer target of `kvgossip_fuzz::globs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::globs::run(data));
