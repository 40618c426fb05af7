//! Networks whose input has any number of axes, exported and run by MindSpore (`open_rank/export.py`).

mod common;

use std::path::Path;

use common::{context, replay_folder};
use mslite::{Model, ModelType, Ranks, Tensor};
use mslite_tensor::{DType, Tensor as Data};

#[test]
fn results_are_those_of_mindspore() {
    let calls = replay_folder("open_rank");
    assert!(calls >= 10, "{calls}");
}

#[test]
fn the_graph_is_there_when_the_axes_are_known() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/open_rank/dense.mindir");
    let model = Model::build_from_file(path, ModelType::MindIr, &context(Ranks::Alone, 1)).unwrap();
    assert!(model.graph().is_none() && model.plan().is_none());
    let mut inputs = model.inputs();
    assert_eq!(inputs[0].shape(), [-2]);
    assert_eq!(model.outputs()[0].shape(), [-2]);
    let error = model.resize(&mut inputs, &[&[2, 5]]).unwrap_err().to_string();
    assert!(error.contains("Dense"), "{error}");
    model.resize(&mut inputs, &[&[2, 4]]).unwrap();
    assert_eq!((inputs[0].shape(), model.outputs()[0].shape()), (&[2, 4][..], &[-1, 3][..]));
    let outputs = model.predict(&[Tensor::new("x", Data::zeros(DType::F32, &[3, 2, 4]).unwrap())]).unwrap();
    assert_eq!(outputs[0].shape(), [3, 2, 3]);
}
