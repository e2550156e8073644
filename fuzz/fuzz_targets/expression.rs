#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kapell::fuzzing::expression(data));
