//! Who waits for whom: each rank that has waited for long says so where the others can read it.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::layout::{rank, rank_slot};
use super::member::Member;

/// How long a rank waits before it says so.
const SLOW: Duration = Duration::from_secs(1);
/// After how long what a rank has said is no longer true, in milliseconds.
const FRESH: u64 = 1000;
/// Steps that are taken for the same wait, in milliseconds.
const SAME: u64 = 100;

impl Member {
    /// Notes that this rank has waited for so long for these ranks.
    pub(super) fn note_wait(
        &self,
        waited: Duration,
        whom: impl Iterator<Item = usize>,
        what: impl FnOnce() -> String,
    ) {
        if waited < SLOW {
            return;
        }
        let ranks = whom.fold(0u128, |ranks, rank| ranks | 1 << rank);
        for (word, ranks) in [ranks as u64, (ranks >> 64) as u64].into_iter().enumerate() {
            let at = rank_slot(self.rank) + rank::WAITS_FOR + 8 * word;
            self.region.wide(at).store(ranks, Ordering::Relaxed);
        }
        let (at, now) = (rank_slot(self.rank), now());
        let since = now.saturating_sub(waited.as_millis() as u64);
        let noted = self.region.wide(at + rank::WAITS_SINCE);
        if noted.load(Ordering::Relaxed).abs_diff(since) > SAME {
            let text = what();
            let len =
                (0..=text.len().min(rank::LEN - rank::WAIT)).rev().find(|&len| text.is_char_boundary(len));
            let bytes = &text.as_bytes()[..len.unwrap_or(0)];
            self.region.span(at + rank::WAIT, bytes.len()).write(bytes);
            self.region.word(at + rank::WAIT_LEN).store(bytes.len() as u32, Ordering::Relaxed);
            noted.store(since, Ordering::Relaxed);
        }
        self.region.wide(at + rank::SEEN_WAITING).store(now, Ordering::Release);
    }

    /// Who is to blame when these ranks do not come: not one that waits for others, but those, unless all wait in a circle.
    pub(super) fn to_blame(&self, missing: &[usize]) -> Vec<usize> {
        let (mut reached, mut next) = (missing.to_vec(), 0);
        while let Some(&rank) = reached.get(next) {
            let whom = if self.is_seen_waiting(rank) { self.waits_for(rank) } else { 0 };
            let new = (0..self.size).filter(|&rank| whom >> rank & 1 == 1 && !reached.contains(&rank));
            let new: Vec<usize> = new.collect();
            reached.extend(new);
            next += 1;
        }
        reached.retain(|&rank| rank != self.rank && !self.is_seen_waiting(rank));
        reached.sort_unstable();
        if reached.is_empty() { missing.to_vec() } else { reached }
    }

    /// For whom a rank has said that it waits: a bit for each rank.
    fn waits_for(&self, rank: usize) -> u128 {
        let at = rank_slot(rank) + rank::WAITS_FOR;
        let [low, high] = [at, at + 8].map(|at| u128::from(self.region.wide(at).load(Ordering::Relaxed)));
        low | high << 64
    }

    /// Whether a rank has said lately that it waits.
    fn is_seen_waiting(&self, rank: usize) -> bool {
        let seen = self.region.wide(rank_slot(rank) + rank::SEEN_WAITING).load(Ordering::Acquire);
        seen != 0 && now().saturating_sub(seen) <= FRESH
    }

    /// A line for each rank that waits: for whom, in what, since when.
    pub(super) fn waits(&self) -> String {
        let mut lines = String::new();
        for rank in (0..self.size).filter(|&rank| self.is_seen_waiting(rank)) {
            let at = rank_slot(rank);
            let seen = self.region.wide(at + rank::SEEN_WAITING).load(Ordering::Acquire);
            let since = self.region.wide(at + rank::WAITS_SINCE).load(Ordering::Relaxed);
            let len = self.region.word(at + rank::WAIT_LEN).load(Ordering::Relaxed) as usize;
            let mut text = vec![0u8; len.min(rank::LEN - rank::WAIT)];
            self.region.span(at + rank::WAIT, text.len()).read(&mut text);
            let seconds = seen.saturating_sub(since) as f64 / 1e3;
            let text = String::from_utf8_lossy(&text);
            write!(lines, "\n  rank {rank} has waited {seconds:.1} s for {text}").expect("strings take text");
        }
        lines
    }
}

/// Milliseconds of a clock that all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
