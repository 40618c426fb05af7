//! Exchanges of various lengths between two ranks (`exchange/export.py`), against results written here.

mod common;

use std::path::Path;

use common::{context, inputs, on_ranks};
use mslite::{Model, ModelType};
use mslite_tensor::Tensor as Data;

/// What each of two ranks gets, which gives the numbers 10, 11, .. or 20, 21, ..
fn exchanged(name: &str, lengths: [usize; 2]) -> Vec<Vec<f32>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchange");
    on_ranks(2, |rank, ranks| {
        let path = folder.join(format!("{name}_rank{rank}.mindir"));
        let model = Model::build_from_file(path, ModelType::MindIr, &context(ranks, 1)).unwrap();
        let numbers = (0..lengths[rank]).map(|i| (10 * (rank + 1) + i) as f32).collect();
        let data = Data::from_vec(numbers, &[lengths[rank]]).unwrap();
        let outputs = model.predict(&inputs(&model, vec![data])).unwrap();
        outputs[0].data().unwrap().to_vec().unwrap()
    })
}

#[test]
fn neighbours_get_what_the_other_gives() {
    assert_eq!(exchanged("neighbors", [2, 3]), [vec![20.0, 21.0, 22.0], vec![10.0, 11.0]]);
}

#[test]
fn all_give_parts_of_various_lengths_to_all() {
    // Rank 0 keeps one and gives two; rank 1 gives two and keeps one.
    assert_eq!(exchanged("all_to_all_v", [3, 3]), [[10.0, 20.0, 21.0], [11.0, 12.0, 22.0]]);
    // Rank 0 keeps one and gives two; rank 1 gives three and keeps none.
    let expected = [vec![10.0, 20.0, 21.0, 22.0], vec![11.0, 12.0]];
    assert_eq!(exchanged("all_to_all_vc", [3, 3]), expected);
}

#[test]
fn sums_are_divided_into_parts_of_various_lengths() {
    assert_eq!(exchanged("reduce_scatter_v", [4, 4]), [vec![30.0, 32.0, 34.0], vec![36.0]]);
}
