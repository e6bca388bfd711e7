//! libFuzzer target of `kvgossip_fuzz::gossip::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvgossip_fuzz::gossip::names(data));
