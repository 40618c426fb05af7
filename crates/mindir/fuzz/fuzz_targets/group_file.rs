//! Any bytes are a group file or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mslite_mindir::{Bytes, GroupFile};

fuzz_target!(|data: &[u8]| {
    let _ = GroupFile::from_bytes(Bytes::copy_from_slice(data), "groups.pb");
});
