//! libFuzzer target of `kvgossip_fuzz::session_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::session_frames::run(data));
