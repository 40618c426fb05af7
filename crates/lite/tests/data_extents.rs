//! Networks in which extents follow from data, exported and run by MindSpore (`data_extents/export.py`).

mod common;

use common::replay_folder;

#[test]
fn results_are_those_of_mindspore() {
    let calls = replay_folder("data_extents");
    assert!(calls >= 40, "{calls}");
}
