//! Waiting for a counter that another rank writes.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::thread::futex;
use rustix::thread::futex::Timespec;
use rustix::thread::{MembarrierCommand, membarrier};

use super::layout::WAITERS;
use super::memory::Region;
use crate::Result;

/// How often a sleeping rank looks whether its peers still live.
const TICK: Duration = Duration::from_millis(20);

/// Whether those who sleep can have this process's stores and loads take effect in order, so that it need not do so
/// itself with every store.
static IS_FENCED_BY_OTHERS: AtomicBool = AtomicBool::new(false);

/// Spares this process a fence with every store from some time on, where the system can (membarrier(2)). Asking for it
/// takes milliseconds, on a thread of its own: for those who stay.
#[cold]
pub(super) fn be_fenced_by_others() {
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

/// A counter in a region, with the number of those who sleep on it.
#[derive(Clone, Copy)]
pub(crate) struct Counter<'a> {
    value: &'a AtomicU32,
    waiters: &'a AtomicU32,
}

/// How long a rank spins before it sleeps: `yields` times `spins`, with a yield after each, since the peer may be
/// waiting for this core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    spins: u32,
    yields: u32,
}

impl Patience {
    /// For a world of `size` ranks on this machine: with more ranks than cores, spinning keeps others from
    /// working.
    pub(crate) fn new(size: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if size > cores { Patience { spins: 20, yields: 10 } } else { Patience { spins: 250, yields: 8 } }
    }
}

impl<'a> Counter<'a> {
    /// The counter at an offset.
    #[inline]
    pub(crate) fn at(region: &'a Region, offset: usize) -> Self {
        Counter { value: region.word(offset), waiters: region.word(offset + WAITERS) }
    }

    /// Its value; everything that was written before it was stored is visible.
    #[inline]
    pub(crate) fn load(self) -> u32 {
        self.value.load(Ordering::Acquire)
    }

    /// Whether it has come to `target`; counters wrap.
    #[inline]
    pub(crate) fn reached(self, target: u32) -> bool {
        self.load().wrapping_sub(target).cast_signed() >= 0
    }

    /// Stores a value and wakes those who sleep on it.
    #[inline]
    pub(crate) fn publish(self, value: u32) {
        self.value.store(value, Ordering::Release);
        // Either this sees who sleeps, or who goes to sleep sees the value.
        if !IS_FENCED_BY_OTHERS.load(Ordering::Relaxed) {
            fence(Ordering::SeqCst);
        }
        if self.waiters.load(Ordering::Relaxed) > 0 {
            // Whoever is not woken by this looks again after a tick.
            let _ = futex::wake(self.value, futex::Flags::empty(), u32::MAX >> 1);
        }
    }

    /// Waits until `ready`. About every tick `check` is told how long it has taken, and may give up.
    pub(crate) fn wait(
        self,
        patience: Patience,
        ready: impl Fn(u32) -> bool,
        mut check: impl FnMut(Duration) -> Result<()>,
    ) -> Result<()> {
        if self.spin(patience, &ready) {
            return Ok(());
        }
        let since = Instant::now();
        loop {
            let value = self.load();
            if ready(value) {
                return Ok(());
            }
            self.sleep(value);
            if ready(self.load()) {
                return Ok(());
            }
            check(since.elapsed())?;
        }
    }

    fn spin(self, patience: Patience, ready: &impl Fn(u32) -> bool) -> bool {
        for _ in 0..patience.yields {
            for _ in 0..patience.spins {
                if ready(self.load()) {
                    return true;
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        false
    }

    fn sleep(self, value: u32) {
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
        self.waiters.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Where this fails, everybody fences.
        let _ = membarrier(MembarrierCommand::GlobalExpedited);
        // An error means that the value changed, the tick passed, or a signal came: the caller looks in any case.
        let _ = futex::wait(self.value, futex::Flags::empty(), value, Some(&tick));
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}
