//! libFuzzer target of `kvgossip_fuzz::merge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::merge::run(data));
