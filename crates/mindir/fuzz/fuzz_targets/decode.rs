//! Any bytes are a model or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mslite_mindir::{Bytes, Model, OpenOptions};

fuzz_target!(|data: &[u8]| {
    let _ = Model::from_bytes(Bytes::copy_from_slice(data), "m.mindir", &OpenOptions::new());
});
