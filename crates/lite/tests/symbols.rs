//! Models that use an input only through its shape.

mod common;

use common::{context, inputs, models};
use mslite::{Model, ModelType, Ranks};
use mslite_testkit::{Tolerance, assert_close, npz};

#[test]
fn an_input_may_matter_by_its_shape_alone() {
    let Some(folder) = models() else { return };
    for name in ["Zeros", "ArangeOp", "MintArange", "RangeOp"] {
        let path = folder.join(format!("format/ops/{name}.mindir"));
        let model = Model::build_from_file(path, ModelType::MindIr, &context(Ranks::Alone, 1)).unwrap();
        let arrays = folder.join(format!("format/ops/{name}.npz"));
        let inputs = inputs(&model, npz::read_numbered(&arrays, "in_").unwrap());
        let outputs = model.predict(&inputs).unwrap();
        let expected = npz::read_numbered(&arrays, "out_").unwrap();
        assert_eq!(outputs.len(), expected.len(), "{name}");
        for (output, expected) in outputs.iter().zip(&expected) {
            assert_close(output.data().unwrap(), expected, Tolerance::EXACT);
        }
    }
}
