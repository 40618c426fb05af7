//! Repeated operations do not allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use mslite_collective::{CollectiveExt, CollectiveKind, Reduction, World};
use mslite_tensor::{DType, Tensor};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[allow(unsafe_code, reason = "an allocator")]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps this method's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn repeated_operations_do_not_allocate() {
    let worlds = World::threads(3, Duration::from_secs(30)).unwrap();
    let rank = |world: World| {
        let group = world.everybody();
        let send = Tensor::zeros(DType::F16, &[300_000]).unwrap();
        let mut recv = Tensor::zeros(DType::F16, &[300_000]).unwrap();
        let mut data = [1.0f32; 4000];
        let (next, previous) = ((world.rank() + 1) % 3, (world.rank() + 2) % 3);
        let start = COUNT.get();
        for _ in 0..20 {
            group.run(CollectiveKind::AllReduce(Reduction::Sum), &send, &mut recv).unwrap();
            group.run(CollectiveKind::AllToAll, &send, &mut recv).unwrap();
            group.all_reduce(&mut data, Reduction::Max).unwrap();
            group.broadcast(&mut data, 1).unwrap();
            group.send(&data, next, 0).unwrap();
            group.receive(&mut data, previous, 0).unwrap();
            group.barrier().unwrap();
        }
        COUNT.get() - start
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> = worlds.into_iter().map(|world| scope.spawn(move || rank(world))).collect();
        for rank in ranks {
            assert_eq!(rank.join().unwrap(), 0);
        }
    });
}
