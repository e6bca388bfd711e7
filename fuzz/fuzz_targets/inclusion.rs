//! libFuzzer target of `kvgossip_fuzz::inclusion`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::inclusion::run(data));
