#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmbus::fuzz::frames(data));
