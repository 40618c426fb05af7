//! Waiting for messages: MPI is asked again and again, since only then it makes progress.

use std::time::{Duration, Instant};

use crate::Result;

/// How often a rank that waits looks at the clock, and what others have to say.
const TICK: Duration = Duration::from_millis(1);

/// The longest time between two questions.
const LONGEST_SLEEP: Duration = Duration::from_micros(500);

/// Something that others have to do.
pub(super) trait Awaited {
    /// Whether all of it is done.
    fn is_done(&mut self) -> Result<bool>;

    /// World ranks that have not done their part.
    fn missing(&mut self) -> Result<Vec<usize>>;
}

/// How often a rank asks at once, and then with a yield in between, before it sleeps between questions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    spins: u32,
    yields: u32,
}

impl Patience {
    /// For so many ranks on this host: with more ranks than cores, spinning keeps others from working.
    pub(super) fn new(ranks: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if ranks > cores {
            Patience { spins: 10, yields: 200 }
        } else {
            Patience { spins: 500, yields: 1000 }
        }
    }

    /// Waits until it is done. About every tick `look` is told how long it has taken, and may give up.
    pub(super) fn wait(
        self,
        what: &mut dyn Awaited,
        mut look: impl FnMut(&mut dyn Awaited, Duration) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..self.spins {
            if what.is_done()? {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let since = Instant::now();
        let mut next_look = since + TICK;
        let mut turn = 0u32;
        loop {
            if what.is_done()? {
                return Ok(());
            }
            match turn.checked_sub(self.yields) {
                None => std::thread::yield_now(),
                Some(sleeps) => {
                    std::thread::sleep(LONGEST_SLEEP.min(Duration::from_micros(u64::from(sleeps))))
                }
            }
            if Instant::now() >= next_look {
                look(what, since.elapsed())?;
                next_look = Instant::now() + TICK;
            }
            turn = turn.saturating_add(1);
        }
    }
}
