//! The first failure of a world or a group, for all its ranks to read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layout::MAX_RANKS;
use super::memory::Region;
use crate::{Error, Result};

/// A place in a region that takes one error.
#[derive(Clone, Copy)]
pub(crate) struct FailureRecord<'a> {
    region: &'a Region,
    at: usize,
}

const EMPTY: u32 = 0;
const BEING_WRITTEN: u32 = 1;
const WRITTEN: u32 = 2;

const PEER_LOST: u32 = 1;
const TIMEOUT: u32 = 2;
const MISMATCH: u32 = 3;
const CANCELLED: u32 = 4;

const STATE: usize = 0;
const KIND: usize = 4;
const REPORTER: usize = 8;
const CULPRITS: usize = 16;
const MILLIS: usize = 32;
const TEXTS: [usize; 2] = [64, 64 + 4 + TEXT];
const TEXT: usize = 1400;

impl<'a> FailureRecord<'a> {
    /// The record at an offset.
    pub(crate) fn at(region: &'a Region, at: usize) -> Self {
        FailureRecord { region, at }
    }

    /// Writes an error that rank `reporter` found, unless there is one already or it concerns nobody else.
    pub(crate) fn set(self, error: &Error, reporter: usize) {
        let (kind, millis, texts) = match error {
            Error::PeerLost { reason, .. } => (PEER_LOST, 0, [reason.as_str(), ""]),
            Error::Cancelled { by, .. } => (CANCELLED, 0, [by.as_str(), ""]),
            Error::Timeout { waited, detail, .. } => {
                (TIMEOUT, waited.as_millis() as u64, [detail.as_str(), ""])
            }
            Error::Mismatch { operations: [first, second], .. } => {
                (MISMATCH, 0, [first.as_str(), second.as_str()])
            }
            _ => return,
        };
        let state = self.region.word(self.at + STATE);
        if state.compare_exchange(EMPTY, BEING_WRITTEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        self.region.word(self.at + KIND).store(kind, Ordering::Relaxed);
        self.region.word(self.at + REPORTER).store(reporter as u32, Ordering::Relaxed);
        for rank in error.culprits() {
            let word = self.region.wide(self.at + CULPRITS + rank / 64 * 8);
            word.fetch_or(1 << (rank % 64), Ordering::Relaxed);
        }
        self.region.wide(self.at + MILLIS).store(millis, Ordering::Relaxed);
        for (at, text) in TEXTS.into_iter().zip(texts) {
            self.write_text(self.at + at, text);
        }
        state.store(WRITTEN, Ordering::Release);
    }

    /// Whether nobody has written an error.
    pub(crate) fn is_empty(self) -> bool {
        self.region.word(self.at + STATE).load(Ordering::Acquire) == EMPTY
    }

    /// The error as rank `reader` sees it during `operation`, if there is one.
    #[inline]
    pub(crate) fn check(self, reader: usize, operation: &dyn Fn() -> String) -> Result<()> {
        if self.region.word(self.at + STATE).load(Ordering::Acquire) != WRITTEN {
            return Ok(());
        }
        Err(self.read(reader, operation()))
    }

    fn read(self, reader: usize, operation: String) -> Error {
        let culprits = self.culprits();
        let reporter = self.region.word(self.at + REPORTER).load(Ordering::Relaxed) as usize;
        let [first, second] = TEXTS.map(|at| self.read_text(self.at + at));
        match (self.region.word(self.at + KIND).load(Ordering::Relaxed), culprits.as_slice()) {
            (PEER_LOST, [rank]) if *rank == reader && reporter == reader => Error::Aborted { reason: first },
            (PEER_LOST, [rank]) => Error::PeerLost { rank: *rank, reason: first, operation },
            (CANCELLED, [rank]) => Error::Cancelled { rank: *rank, by: first, operation },
            (MISMATCH, [a, b]) => Error::Mismatch { ranks: [*a, *b], operations: [first, second] },
            // Two threads of a rank.
            (MISMATCH, [a]) => Error::Mismatch { ranks: [*a, *a], operations: [first, second] },
            (TIMEOUT, _) => Error::Timeout {
                missing: culprits,
                waited: Duration::from_millis(self.region.wide(self.at + MILLIS).load(Ordering::Relaxed)),
                operation,
                detail: if reporter == reader {
                    first
                } else {
                    format!("{first} (found by rank {reporter})")
                },
            },
            _ => Error::PeerLost { rank: reporter, reason: "its report is damaged".into(), operation },
        }
    }

    fn culprits(self) -> Vec<usize> {
        let bit = |rank: &usize| {
            let word = self.region.wide(self.at + CULPRITS + rank / 64 * 8).load(Ordering::Relaxed);
            word >> (rank % 64) & 1 == 1
        };
        (0..MAX_RANKS).filter(bit).collect()
    }

    fn write_text(self, at: usize, text: &str) {
        let len = (0..=TEXT.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.region.word(at).store(len as u32, Ordering::Relaxed);
        self.region.span(at + 4, len).write(&text.as_bytes()[..len]);
    }

    fn read_text(self, at: usize) -> String {
        let len = (self.region.word(at).load(Ordering::Relaxed) as usize).min(TEXT);
        let mut bytes = vec![0u8; len];
        self.region.span(at + 4, len).read(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_stays_and_reads_back() {
        let region = Region::nameless(4096).unwrap();
        let record = FailureRecord::at(&region, 1024);
        assert_eq!(record.check(0, &String::new), Ok(()));
        record.set(&Error::InvalidArgument("mine".into()), 0);
        assert_eq!(record.check(0, &String::new), Ok(()));
        let mismatch =
            Error::Mismatch { ranks: [1, 127], operations: ["é".repeat(1000), "barrier".to_owned()] };
        record.set(&mismatch, 1);
        record.set(&Error::PeerLost { rank: 3, reason: "dead".into(), operation: String::new() }, 2);
        let Err(Error::Mismatch { ranks: [1, 127], operations }) = record.check(0, &String::new) else {
            panic!("another error");
        };
        assert_eq!(operations, ["é".repeat(700), "barrier".to_owned()]);
    }

    #[test]
    fn who_is_cancelled_reads_what_the_others_read() {
        let region = Region::nameless(4096).unwrap();
        let record = FailureRecord::at(&region, 0);
        let cancelled = |operation: String| Error::Cancelled { rank: 1, by: "SIGTERM".to_owned(), operation };
        record.set(&cancelled(String::new()), 1);
        for reader in [0, 1] {
            assert_eq!(record.check(reader, &|| "barrier".into()), Err(cancelled("barrier".into())));
        }
    }

    #[test]
    fn who_aborts_is_told_so() {
        let region = Region::nameless(4096).unwrap();
        let record = FailureRecord::at(&region, 0);
        record.set(&Error::PeerLost { rank: 2, reason: "enough".into(), operation: String::new() }, 2);
        assert_eq!(record.check(2, &String::new), Err(Error::Aborted { reason: "enough".into() }));
        let operation = || "barrier".to_owned();
        let lost = Error::PeerLost { rank: 2, reason: "enough".into(), operation: operation() };
        assert_eq!(record.check(0, &operation), Err(lost));
    }
}
