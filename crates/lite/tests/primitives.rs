//! Networks of few primitives, exported and run by MindSpore (`primitives/export.py`).

mod common;

use common::replay_folder;

#[test]
fn results_are_those_of_mindspore() {
    let calls = replay_folder("primitives");
    assert!(calls >= 60, "{calls}");
}
