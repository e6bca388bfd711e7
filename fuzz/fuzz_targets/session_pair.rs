//! libFuzzer target of `kvgossip_fuzz::session_pair`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::session_pair::run(data));
