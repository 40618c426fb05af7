//! Runs of the same shapes allocate nothing.

mod common;

use common::{LENGTH, WIDTH, execution, tensor, transformer};
use mslite_tensor::{DType, HostBuffer, HostStream, Tensor};
use mslite_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[test]
fn runs_of_the_same_shapes_allocate_nothing() {
    let graph = transformer();
    for (threads, batch) in [(1, 2), (2, 2), (2, 1), (3, 5)] {
        let mut execution = execution(&graph, threads);
        let x = tensor(&[batch, LENGTH, WIDTH], 7);
        let mut y = Tensor::zeros(DType::F32, &[batch, LENGTH, WIDTH]).unwrap();
        let (x, y) = (HostBuffer::reading(&x), HostBuffer::writing(&mut y).unwrap());
        execution.enqueue(&[&x], &[&y], &HostStream).unwrap();
        // A thread that a busy machine has kept from working so far sets up its buffers when it first does.
        let windows = (0..5).map(|_| {
            let before = ALLOCATOR.allocations();
            for _ in 0..40 {
                execution.enqueue(&[&x], &[&y], &HostStream).unwrap();
            }
            ALLOCATOR.allocations() - before
        });
        assert_eq!(windows.min(), Some(0), "{threads} threads, batch {batch}");
    }
}
