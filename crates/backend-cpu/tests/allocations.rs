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
        let before = ALLOCATOR.allocations();
        for _ in 0..210 {
            execution.enqueue(&[&x], &[&y], &HostStream).unwrap();
        }
        let allocations = ALLOCATOR.allocations() - before;
        assert_eq!(allocations, 0, "{threads} threads, batch {batch}");
    }
}
