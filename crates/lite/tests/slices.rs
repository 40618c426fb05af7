//! Networks that MindSpore's parallel front end sliced in ways that the larger corpus lacks.

mod common;

use std::path::Path;

use common::{check, context, on_ranks, predict};
use mslite::{Model, ModelType};
use mslite_testkit::cases;

#[test]
fn slices_give_what_the_whole_network_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slices");
    for entry in std::fs::read_dir(folder).unwrap() {
        let case = cases::read(&entry.unwrap().path()).unwrap();
        on_ranks(case.ranks, |rank, ranks| {
            let context = context(ranks, 1);
            let model = Model::build_from_file(&case.models[rank], ModelType::MindIr, &context).unwrap();
            check(&predict(&model, &case, 0), &case, 0);
        });
    }
}
