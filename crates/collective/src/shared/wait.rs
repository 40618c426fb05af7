//! Waiting for a counter that another rank writes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layout::WAITERS;
use super::memory::Region;
use super::sync::{self, AtomicU32, Instant};
use crate::Result;

/// How often a sleeping rank looks whether its peers still live.
const TICK: Duration = Duration::from_millis(20);

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
    spins: usize,
    yields: usize,
}

impl Patience {
    /// For a world of `size` ranks on this machine: with more ranks than cores, spinning keeps others from
    /// working.
    pub(crate) fn new(size: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let [spins, yields] = if size > cores { [2, 10] } else { [250, 8] };
        Patience { spins: sync::patience(spins), yields: sync::patience(yields) }
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

    /// Stores a value and wakes those who sleep on it.
    #[inline]
    pub(crate) fn publish(self, value: u32) {
        self.value.store(value, Ordering::Release);
        // Either this sees who sleeps, or who goes to sleep sees the value.
        sync::light_fence();
        if self.waiters.load(Ordering::Relaxed) > 0 {
            sync::wake(self.value);
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
                sync::spin_loop();
            }
            sync::yield_now();
        }
        false
    }

    fn sleep(self, value: u32) {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        sync::heavy_fence();
        sync::sleep(self.value, value, TICK);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}
