use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting what all threads of the process allocate.
///
/// ```
/// use mslite_testkit::CountingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// let before = ALLOCATOR.allocations();
/// let vector = vec![1, 2, 3];
/// assert_eq!(ALLOCATOR.allocations() - before, 1);
/// # drop(vector);
/// ```
#[derive(Debug, Default)]
pub struct CountingAllocator(AtomicUsize);

impl CountingAllocator {
    /// An allocator that has counted nothing yet.
    pub const fn new() -> Self {
        CountingAllocator(AtomicUsize::new(0))
    }

    /// Allocations so far; growing one in place counts, too.
    pub fn allocations(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[allow(unsafe_code, reason = "counts what the system's allocator does")]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}
