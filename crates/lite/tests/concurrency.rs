//! Several callers of one model, and what models keep between calls.

mod common;

use common::{case, check, context, predict};
use mslite::{Model, ModelType, Ranks};

#[test]
fn threads_share_a_model() {
    for name in ["d_gpt2_tp1_fp32", "w_dyn_batch"] {
        let Some(case) = case(name) else { return };
        let model =
            Model::build_from_file(&case.models[0], ModelType::MindIr, &context(Ranks::Alone, 2)).unwrap();
        let expected: Vec<_> = (0..case.calls.len()).map(|call| predict(&model, &case, call)).collect();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (model, case, expected) = (&model, &case, &expected);
                scope.spawn(move || {
                    for round in 0..6 {
                        let call = (thread + round) % expected.len();
                        let outputs = predict(model, case, call);
                        assert!(outputs == expected[call], "{name}: thread {thread}, call {call}");
                    }
                });
            }
        });
        check(&expected[0], &case, 0);
    }
}

#[test]
fn state_lives_between_calls_and_belongs_to_one_model() {
    let Some(case) = case("w_state_counter") else { return };
    let build =
        || Model::build_from_file(&case.models[0], ModelType::MindIr, &context(Ranks::Alone, 1)).unwrap();
    let models = [build(), build()];
    for (model, call) in [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2)] {
        check(&predict(&models[model], &case, call), &case, call);
    }
    let repeated = predict(&models[0], &case, 0);
    let first = case.calls[0].read_outputs().unwrap();
    assert!(repeated != first, "a fourth call begins where the third ended");
}
