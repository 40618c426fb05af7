//! Records with any header and contents; the first byte says which mode, whose magic number goes first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mslite_mindir::{Bytes, Key, Model, OpenOptions};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let magic = [0xd8 + first % 3, 0x5e, 0x3a, 0x7f];
    let bytes = Bytes::from([&magic, rest].concat());
    let options = OpenOptions::new().key(Key::new(b"0123456789abcdef"));
    let _ = Model::from_bytes(bytes, "m.mindir", &options);
});
