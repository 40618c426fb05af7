//! What can be decoded can be walked, and comes back when it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mslite_mindir::{Bytes, Model, OpenOptions};

fuzz_target!(|data: &[u8]| {
    let read = |bytes| Model::from_bytes(bytes, "m.mindir", &OpenOptions::new());
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
});
