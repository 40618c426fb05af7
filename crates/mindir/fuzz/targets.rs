//! What is fuzzed; `fuzz_targets` runs it under libFuzzer, `tests/smoke.rs` for a few seconds without.
#![allow(dead_code, reason = "each program runs a part")]

use mslite_mindir::{Bytes, GroupFile, Key, Model, OpenOptions, Result};

fn read(bytes: Bytes) -> Result<Model> {
    Model::from_bytes(bytes, "m.mindir", &OpenOptions::new())
}

/// Any bytes are a model or an error.
pub(crate) fn decode(data: &[u8]) {
    let _ = read(Bytes::copy_from_slice(data));
}

/// Records with any header and contents; the first byte says which mode, whose magic number goes first.
pub(crate) fn decrypt(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let magic = [0xd8 + first % 3, 0x5e, 0x3a, 0x7f];
    let bytes = Bytes::from([&magic, rest].concat());
    let options = OpenOptions::new().key(Key::new(b"0123456789abcdef"));
    let _ = Model::from_bytes(bytes, "m.mindir", &options);
}

/// Any bytes are a group file or an error.
pub(crate) fn group_file(data: &[u8]) {
    let _ = GroupFile::from_bytes(Bytes::copy_from_slice(data), "groups.pb");
}

/// What can be decoded can be walked, and comes back when it is written.
pub(crate) fn typed_view(data: &[u8]) {
    let Ok(model) = read(Bytes::copy_from_slice(data)) else { return };
    let _ = model.preprocessing();
    let _ = model.summary();
    for parameter in model.parameters() {
        assert!(model.parameter(&parameter.symbol).is_some());
        let _ = parameter.tensor();
    }
    for (_, node) in model.nodes() {
        assert!(model.node(&node.symbol).is_some());
        assert!(node.inputs.iter().all(|input| model.definition(input).is_some()));
        let _ = node.ty.as_ref().map(ToString::to_string);
    }
    for collective in model.collectives() {
        let _ = (collective.group(), collective.reduction());
    }
    let written = model.to_bytes().expect("a decoded model is consistent");
    let again = read(written.clone()).expect("what is written can be read");
    // Not the models themselves: numbers that are not a number differ from themselves.
    assert_eq!(again.to_bytes().expect("so is this one"), written);
}
