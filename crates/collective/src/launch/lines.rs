//! What a rank prints, line by line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes after which a line is passed on before its end has come.
const LONGEST: usize = 1 << 20;

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Stdout,
    Stderr,
}

/// A pipe from a rank.
#[derive(Debug)]
pub(super) struct Lines {
    pipe: File,
    target: Target,
    mark: Vec<u8>,
    pending: Vec<u8>,
}

impl Lines {
    pub(super) fn new(pipe: OwnedFd, target: Target, rank: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let mark = format!("[rank {rank}] ").into_bytes();
        Ok(Lines { pipe: pipe.into(), target, mark, pending: Vec::new() })
    }

    /// Passes on what has come, up to a limit so that one rank does not keep the others waiting; whether more can
    /// come.
    pub(super) fn forward(&mut self) -> io::Result<bool> {
        let mut bytes = [0u8; 1 << 16];
        for _ in 0..16 {
            match self.pipe.read(&mut bytes) {
                Ok(0) => {
                    self.end_line();
                    self.flush(self.pending.len())?;
                    return Ok(false);
                }
                Ok(n) => self.pending.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            }
            if self.pending.len() > LONGEST {
                self.end_line();
            }
            let complete = self.pending.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            self.flush(complete)?;
        }
        Ok(true)
    }

    fn end_line(&mut self) {
        if self.pending.last().is_some_and(|&b| b != b'\n') {
            self.pending.push(b'\n');
        }
    }

    fn flush(&mut self, len: usize) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let mut out = Vec::with_capacity(len + self.mark.len());
        for line in self.pending[..len].split_inclusive(|&b| b == b'\n') {
            out.extend_from_slice(&self.mark);
            out.extend_from_slice(line);
        }
        self.pending.drain(..len);
        match self.target {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&out).and_then(|()| stdout.flush())
            }
            Target::Stderr => io::stderr().lock().write_all(&out),
        }
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
