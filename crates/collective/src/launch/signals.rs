//! Signals to the launcher, as something to poll.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

/// The signals that end a job.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Readable ends of pipes to which arriving signals are written.
#[derive(Debug)]
pub(super) struct Signals {
    pipes: Vec<(Signal, UnixStream)>,
    registered: Vec<SigId>,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let mut signals = Signals { pipes: Vec::new(), registered: Vec::new() };
        for signal in ENDING {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            write.set_nonblocking(true)?;
            signals.registered.push(pipe::register(signal.as_raw(), write)?);
            signals.pipes.push((signal, read));
        }
        Ok(signals)
    }

    /// The signal that has arrived, if one has.
    pub(super) fn take(&mut self) -> Option<Signal> {
        let arrived = |(signal, pipe): &mut (Signal, UnixStream)| {
            matches!(pipe.read(&mut [0u8; 16]), Ok(n) if n > 0).then_some(*signal)
        };
        self.pipes.iter_mut().find_map(arrived)
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|(_, pipe)| pipe.as_fd())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}
