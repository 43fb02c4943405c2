#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lwm2m_gateway_fuzz::certificate(data));
