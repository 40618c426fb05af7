//! Runs of the same shapes allocate nothing.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{LENGTH, WIDTH, execution, tensor, transformer};
use mslite_tensor::{DType, HostBuffer, HostStream, Tensor};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[allow(unsafe_code, reason = "counts what the system's allocator does")]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn runs_of_the_same_shapes_allocate_nothing() {
    let graph = transformer();
    for (threads, batch) in [(1, 2), (2, 2), (2, 1), (3, 5)] {
        let mut execution = execution(&graph, threads);
        let x = tensor(&[batch, LENGTH, WIDTH], 7);
        let mut y = Tensor::zeros(DType::F32, &[batch, LENGTH, WIDTH]).unwrap();
        let (x, y) = (HostBuffer::reading(&x), HostBuffer::writing(&mut y).unwrap());
        execution.enqueue(&[&x], &[&y], &HostStream).unwrap();
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for _ in 0..210 {
            execution.enqueue(&[&x], &[&y], &HostStream).unwrap();
        }
        let allocations = ALLOCATIONS.load(Ordering::SeqCst) - before;
        assert_eq!(allocations, 0, "{threads} threads, batch {batch}");
    }
}
