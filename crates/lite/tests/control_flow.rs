//! Networks whose path depends on data, exported and run by MindSpore (`control_flow/export.py`).

mod common;

use std::path::Path;

use mslite::{Context, Model, ModelType, Ranks};
use mslite_graph_opt::Op;

use common::replay_folder;

#[test]
fn the_path_is_that_of_mindspore() {
    let calls = replay_folder("control_flow");
    assert!(calls >= 40, "{calls}");
}

/// What follows an `if` stands once in the graph, not once on each way.
#[test]
fn ways_meet_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_flow/manyifs.mindir");
    let mut context = Context::new();
    context.ranks = Ranks::Alone;
    let model = Model::build_from_file(path, ModelType::MindIr, &context).unwrap();
    let branches =
        model.graph().unwrap().nodes_within().filter(|(_, node)| matches!(node.op, Op::If(_))).count();
    assert_eq!(branches, 12);
}
