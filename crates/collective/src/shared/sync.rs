//! Words that several ranks read and write, and waiting for them. Built with `--cfg loom`, they are those of the model
//! checker loom, which tries the orders in which ranks can run and what they can see, and reports accesses of the same
//! bytes that nothing orders.
#![allow(unsafe_code, reason = "memory shared between processes cannot be borrowed")]

#[cfg(loom)]
pub(crate) use checked::*;
#[cfg(loom)]
pub use checked::{Waiting, note_read, note_write};
#[cfg(not(loom))]
pub(crate) use real::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use std::hint::spin_loop;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};
    pub(crate) use std::thread::yield_now;
    use std::time::Duration;
    pub(crate) use std::time::Instant;

    use rustix::thread::futex;
    use rustix::thread::futex::{Flags, Timespec};
    use rustix::thread::{MembarrierCommand, membarrier};

    /// A number, for which the model checker takes a smaller one.
    pub(crate) const fn sized(real: usize, _checked: usize) -> usize {
        real
    }

    /// How often to look for something before one sleeps, for which the model checker has a number of its own.
    pub(crate) fn patience(real: usize) -> usize {
        real
    }

    /// The word at an address.
    ///
    /// # Safety
    /// It is aligned, stays valid for as long as the result is used, and is only accessed through such results.
    #[inline]
    pub(crate) unsafe fn word<'a>(address: *mut u32) -> &'a AtomicU32 {
        // SAFETY: the caller's.
        unsafe { AtomicU32::from_ptr(address) }
    }

    /// The same for a word of 64 bits.
    ///
    /// # Safety
    /// As [`word`].
    #[inline]
    pub(crate) unsafe fn wide<'a>(address: *mut u64) -> &'a AtomicU64 {
        // SAFETY: the caller's.
        unsafe { AtomicU64::from_ptr(address) }
    }

    /// Whether those who sleep can have this process's stores and loads take effect in order, so that it need not do so
    /// itself with every store.
    static IS_FENCED_BY_OTHERS: AtomicBool = AtomicBool::new(false);

    /// Spares this process a fence with every store from some time on, where the system can (membarrier(2)). Asking for
    /// it takes milliseconds, on a thread of its own: for those who stay.
    #[cold]
    pub(crate) fn be_fenced_by_others() {
        static ASK: Once = Once::new();
        ASK.call_once(|| {
            let ask = || {
                let is_ready = membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
                IS_FENCED_BY_OTHERS.store(is_ready, Ordering::Relaxed);
            };
            // Without a thread, there will be fences.
            let _ = std::thread::Builder::new().name("mslite-fences".to_owned()).spawn(ask);
        });
    }

    /// Between storing a word and looking whether somebody sleeps on it.
    #[inline]
    pub(crate) fn light_fence() {
        match IS_FENCED_BY_OTHERS.load(Ordering::Relaxed) {
            true => compiler_fence(Ordering::SeqCst),
            false => fence(Ordering::SeqCst),
        }
    }

    /// Between saying that one sleeps on a word and looking at it for the last time.
    pub(crate) fn heavy_fence() {
        fence(Ordering::SeqCst);
        // Where this fails, everybody fences.
        let _ = membarrier(MembarrierCommand::GlobalExpedited);
    }

    /// Sleeps until the word is woken, or has another value, or the time, below a second, is over.
    pub(crate) fn sleep(word: &AtomicU32, value: u32, time: Duration) {
        let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        // An error means that the value changed, the time passed, or a signal came: the caller looks in any case.
        let _ = futex::wait(word, Flags::empty(), value, Some(&time));
    }

    /// Wakes all who sleep on the word.
    pub(crate) fn wake(word: &AtomicU32) {
        // Whoever is not woken by this looks again when its time is over.
        let _ = futex::wake(word, Flags::empty(), u32::MAX >> 1);
    }

    /// Bytes are read.
    #[inline(always)]
    pub(crate) fn note_read(_: *const u8, _: usize) {}

    /// Bytes are written.
    #[inline(always)]
    pub(crate) fn note_write(_: *const u8, _: usize) {}
}

#[cfg(loom)]
mod checked {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::ops::Range;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
    use loom::sync::atomic::{Ordering, fence};
    use loom::sync::{Condvar, Mutex as Lock};
    pub(crate) use loom::thread::yield_now;

    /// How ranks wait in the models of this thread.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Waiting {
        /// They spin, without fences, which order more in loom than they need to.
        Spins,
        /// They spin and sleep until others have run, then look around.
        Ticks,
        /// They spin and sleep until they are woken, so that a wake-up that is lost is a deadlock.
        Sleeps,
    }

    thread_local! {
        static WAITING: Cell<Waiting> = const { Cell::new(Waiting::Spins) };
    }

    impl Waiting {
        /// Has ranks wait so from now on.
        pub fn set(self) {
            WAITING.set(self);
        }
    }

    pub(crate) fn patience(_real: usize) -> usize {
        if WAITING.get() == Waiting::Spins { usize::MAX } else { 1 }
    }

    /// Time stands still.
    #[derive(Clone, Copy)]
    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn now() -> Self {
            Instant
        }

        pub(crate) fn elapsed(self) -> Duration {
            Duration::ZERO
        }
    }

    pub(crate) const fn sized(_real: usize, checked: usize) -> usize {
        checked
    }

    /// Loom's objects of one execution. All are made when the first is used, before there are threads: making one is an
    /// access, too. Addresses take them as they come.
    struct Objects {
        words: Pool<AtomicU32>,
        wide: Pool<AtomicU64>,
        beds: Pool<Bed>,
        granules: Pool<UnsafeCell<()>>,
    }

    /// Where ranks sleep that wait for a word.
    #[derive(Default)]
    struct Bed {
        lock: Lock<()>,
        woken: Condvar,
    }

    struct Pool<T> {
        all: Vec<T>,
        taken: Mutex<HashMap<usize, usize>>,
    }

    impl<T: Default> Pool<T> {
        fn new(size: usize) -> Self {
            Pool { all: (0..size).map(|_| T::default()).collect(), taken: Mutex::default() }
        }

        fn at(&self, address: usize) -> &T {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let next = taken.len();
            self.all.get(*taken.entry(address).or_insert(next)).expect("the pool is large enough")
        }
    }

    loom::lazy_static! {
        static ref OBJECTS: Objects = Objects {
            words: Pool::new(80),
            wide: Pool::new(10),
            beds: Pool::new(30),
            granules: Pool::new(400),
        };
    }

    pub(crate) unsafe fn word<'a>(address: *mut u32) -> &'a AtomicU32 {
        OBJECTS.words.at(address.addr())
    }

    pub(crate) unsafe fn wide<'a>(address: *mut u64) -> &'a AtomicU64 {
        OBJECTS.wide.at(address.addr())
    }

    pub(crate) fn be_fenced_by_others() {}

    pub(crate) fn light_fence() {
        if WAITING.get() == Waiting::Sleeps {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn heavy_fence() {
        light_fence();
    }

    fn bed(word: &AtomicU32) -> &'static Bed {
        OBJECTS.beds.at(std::ptr::from_ref(word).addr())
    }

    pub(crate) fn sleep(word: &AtomicU32, value: u32, _: Duration) {
        if WAITING.get() == Waiting::Ticks {
            return yield_now();
        }
        let bed = bed(word);
        let guard = bed.lock.lock().expect("nobody panics with it");
        if word.load(Ordering::Relaxed) == value {
            drop(bed.woken.wait(guard));
        }
    }

    pub(crate) fn wake(word: &AtomicU32) {
        if WAITING.get() == Waiting::Sleeps {
            let bed = bed(word);
            let _guard = bed.lock.lock().expect("nobody panics with it");
            bed.woken.notify_all();
        }
    }

    /// Of so many bytes, the first has a cell that stands for them; no two buffers, nor pieces of a ring, share one.
    const GRANULE: usize = 16;

    fn granules(address: *const u8, len: usize) -> Range<usize> {
        address.addr().div_ceil(GRANULE)..(address.addr() + len).div_ceil(GRANULE)
    }

    /// Bytes are read, in a model.
    pub fn note_read(address: *const u8, len: usize) {
        granules(address, len).for_each(|granule| OBJECTS.granules.at(granule).with(|_| ()));
    }

    /// Bytes are written, in a model.
    pub fn note_write(address: *const u8, len: usize) {
        granules(address, len).for_each(|granule| OBJECTS.granules.at(granule).with_mut(|_| ()));
    }
}
