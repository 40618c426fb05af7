use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a wait keeps its core, and then offers it to others.
const SPIN: Duration = Duration::from_micros(50);
const YIELD: Duration = Duration::from_millis(2);
/// Between looks, after that.
const PAUSE: Duration = Duration::from_micros(200);

/// Calls `is_done` until it is; between calls, `check` is told how long it has taken, and may end the wait.
pub(crate) fn wait_until(
    is_done: &mut dyn FnMut() -> Result<bool>,
    check: &dyn Fn(Duration) -> Result<()>,
) -> Result<()> {
    let since = Instant::now();
    while !is_done()? {
        let waited = since.elapsed();
        // Most operations end here.
        if waited < SPIN {
            std::hint::spin_loop();
            continue;
        }
        check(waited)?;
        if waited < YIELD { thread::yield_now() } else { thread::sleep(PAUSE) }
    }
    Ok(())
}
