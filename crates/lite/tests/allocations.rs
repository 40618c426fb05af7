//! Runs of the same shapes allocate nothing, whatever the thread.

mod common;

use std::path::Path;
use std::sync::Barrier;

use common::{case, check, context, inputs, on_ranks};
use mslite::{Model, ModelType, Ranks};
use mslite_tensor::Tensor;
use mslite_testkit::CountingAllocator;
use mslite_testkit::cases::Case;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// One test, since another one at the same time would be counted, too.
#[test]
fn predictions_of_the_same_shapes_allocate_nothing() {
    for name in ["d_gpt2_tp1_fp32", "d_block_tp2", "d_pipeline_pp2"] {
        let Some(case) = case(name) else { return };
        for threads in [1, 2] {
            let everyone = Barrier::new(case.ranks);
            let counts = on_ranks(case.ranks, |rank, ranks| {
                allocations(&case, &case.models[rank], ranks, threads, &everyone)
            });
            assert_eq!(counts, vec![0; case.ranks], "{name} on {threads} threads");
        }
    }
}

/// Windows of runs, of which the quietest counts: a thread that a busy machine has kept from working so far sets up
/// its buffers when it first does.
const WINDOWS: usize = 5;

/// Allocations of all ranks during 40 runs of each.
fn allocations(case: &Case, path: &Path, ranks: Ranks, threads: usize, everyone: &Barrier) -> usize {
    let model = Model::build_from_file(path, ModelType::MindIr, &context(ranks, threads)).unwrap();
    let inputs = inputs(&model, case.calls[0].read_inputs().unwrap());
    let first = model.predict(&inputs).unwrap();
    let zeros = |y: &mslite::Tensor| Tensor::zeros(y.dtype(), y.data().unwrap().dims()).unwrap();
    let mut outputs: Vec<Tensor> = first.iter().map(zeros).collect();
    for _ in 0..10 {
        model.predict_into(&inputs, &mut outputs).unwrap();
    }
    let mut quietest = usize::MAX;
    for _ in 0..WINDOWS {
        everyone.wait();
        let before = ALLOCATOR.allocations();
        everyone.wait();
        for _ in 0..40 {
            model.predict_into(&inputs, &mut outputs).unwrap();
        }
        everyone.wait();
        quietest = quietest.min(ALLOCATOR.allocations() - before);
    }
    everyone.wait();
    check(&outputs, case, 0);
    quietest
}
