//! libFuzzer target of `kvgossip_fuzz::facts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::facts::run(data));
