//! Whether the process of a rank lives.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

/// A process, told from a later one with the same number.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    started: u64,
    /// Readable once the process has ended, whoever its parent is. `None` on systems without it.
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process `pid` that started at `started`; `None` if it is gone.
    pub(crate) fn open(pid: u32, started: u64) -> Option<Self> {
        let handle = match pidfd_open(to_pid(pid)?, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return None,
            Err(_) => None,
        };
        let process = Process { pid, started, handle };
        (same_start(start_time(pid), started) && process.is_alive()).then_some(process)
    }

    /// Whether it still runs; a process that has ended but was not waited for does not.
    pub(crate) fn is_alive(&self) -> bool {
        let Some(handle) = &self.handle else {
            return self.is_alive_by_number();
        };
        let mut events = [PollFd::new(handle, PollFlags::IN)];
        !matches!(poll(&mut events, Some(&Timespec::default())), Ok(n) if n > 0)
    }

    fn is_alive_by_number(&self) -> bool {
        let exists = to_pid(self.pid).is_some_and(|pid| {
            !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
        });
        exists && same_start(start_time(self.pid), self.started) && !is_zombie(self.pid)
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Times of 0 are unknown.
fn same_start(now: u64, then: u64) -> bool {
    now == then || now == 0 || then == 0
}

/// When a process started, in clock ticks since boot; 0 if unknown.
pub(crate) fn start_time(pid: u32) -> u64 {
    stat_field(pid, 19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn is_zombie(pid: u32) -> bool {
    matches!(stat_field(pid, 0).as_deref(), Some("Z" | "X"))
}

/// A field of `/proc/PID/stat`, counted from the one after the command's name.
fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart() {
        let me = std::process::id();
        let started = start_time(me);
        assert!(started > 0);
        assert!(Process::open(me, started).is_some_and(|p| p.is_alive()));
        assert!(Process::open(me, started + 1).is_none());
        assert!(Process::open(0, 0).is_none());
    }

    #[test]
    fn an_ended_child_is_dead_before_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let process = Process::open(child.id(), start_time(child.id())).unwrap();
        let by_number = Process { handle: None, ..Process::open(child.id(), start_time(child.id())).unwrap() };
        assert!(process.is_alive() && by_number.is_alive());
        child.kill().unwrap();
        while process.is_alive() || by_number.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
