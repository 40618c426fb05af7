use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// Calls `is_done` until it is; between calls, `check` is told how long it has taken, and may end the wait.
pub(crate) fn wait_until(
    is_done: &mut dyn FnMut() -> Result<bool>,
    check: &dyn Fn(Duration) -> Result<()>,
) -> Result<()> {
    let since = Instant::now();
    while !is_done()? {
        let waited = since.elapsed();
        check(waited)?;
        match waited {
            // Most operations end here.
            _ if waited < Duration::from_micros(50) => std::hint::spin_loop(),
            _ if waited < Duration::from_millis(2) => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(200)),
        }
    }
    Ok(())
}
