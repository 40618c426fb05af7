//! Starting a rank so that it cannot outlive its launcher.
#![allow(unsafe_code, reason = "code between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the system kill the command's process when the thread that starts it ends, however that happens.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure only makes system calls; it neither allocates nor locks.
    unsafe { command.pre_exec(move || ask_for_death(parent)) };
}

fn ask_for_death(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match getppid() {
        Some(now) if now == parent => Ok(()),
        // The launcher ended before the call above.
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
