use std::time::Duration;

use crate::cancellation::name_of;

/// The largest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// What can go wrong between ranks. Ranks are world ranks.
///
/// After [`InvalidArgument`](Error::InvalidArgument) and [`Unsupported`](Error::Unsupported) nothing was
/// exchanged and the group can be used further, if all members failed alike; a caller that gives up aborts, so
/// that the others do not wait for it. After any other error the world is unusable at every rank, except that giving up a group
/// ([`Collective::abort`](crate::Collective::abort)) leaves the other groups as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rank died, left, or aborted while this rank needed it.
    #[error("rank {rank} is lost ({reason}){}", during(operation))]
    PeerLost {
        /// The lost rank.
        rank: usize,
        /// What is known about it.
        reason: String,
        /// What this rank was doing; empty if unknown.
        operation: String,
    },
    /// Ranks did not come in time.
    #[error("no answer from {} within {waited:?}{}: {detail}", ranks(missing), during(operation))]
    Timeout {
        /// The ranks that were waited for.
        missing: Vec<usize>,
        /// How long.
        waited: Duration,
        /// What was waited for; empty if unknown.
        operation: String,
        /// What the missing ranks did last; then, in a line each, which ranks wait for whom, in what, and for how long.
        detail: String,
    },
    /// Two ranks do not agree about what they do together.
    #[error("ranks {} and {} disagree: rank {} has {}, rank {} has {}", ranks[0], ranks[1], ranks[0], operations[0], ranks[1], operations[1])]
    Mismatch {
        /// The two ranks, the lower one first.
        ranks: [usize; 2],
        /// What each of them does.
        operations: [String; 2],
    },
    /// This rank has aborted before.
    #[error("this rank has aborted ({reason})")]
    Aborted {
        /// Why.
        reason: String,
    },
    /// A rank was told from outside to end: see [`Cancellation`](crate::Cancellation). All ranks get the same.
    #[error("cancelled by {by} at rank {rank}{}", during(operation))]
    Cancelled {
        /// The rank that was told.
        rank: usize,
        /// By whom or by what; a signal by its name.
        by: String,
        /// What this rank was doing; empty if unknown.
        operation: String,
    },
    /// A library of a vendor reports a failure.
    #[error("{call} fails: {reason}")]
    Library {
        /// The function of the library.
        call: String,
        /// What the library says, and what may be done.
        reason: String,
    },
    /// This implementation cannot do it.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The caller's mistake.
    #[error("{0}")]
    InvalidArgument(String),
    /// The operating system refused something.
    #[error("{what}: {reason}")]
    Io {
        /// What was tried, on which path.
        what: String,
        /// The system's reason.
        reason: String,
        /// The kind of failure.
        kind: std::io::ErrorKind,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: impl Into<String>, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        Error::Io { what: what.into(), reason: error.to_string(), kind: error.kind() }
    }

    /// That two ranks do not agree: who does what.
    pub(crate) fn mismatch(mut sides: [(usize, String); 2]) -> Self {
        sides.sort();
        let [(a, first), (b, second)] = sides;
        Error::Mismatch { ranks: [a, b], operations: [first, second] }
    }

    /// The ranks to blame, if it is known: the lost or cancelled one, the silent ones, the two that disagree.
    pub fn culprits(&self) -> Vec<usize> {
        match self {
            Error::PeerLost { rank, .. } | Error::Cancelled { rank, .. } => vec![*rank],
            Error::Timeout { missing, .. } => missing.clone(),
            Error::Mismatch { ranks, .. } => ranks.to_vec(),
            _ => Vec::new(),
        }
    }

    /// The signal that has cancelled the job, if that is the error.
    pub fn signal(&self) -> Option<i32> {
        let Error::Cancelled { by, .. } = self else { return None };
        (1..=LAST_SIGNAL).find(|&signal| name_of(signal) == *by)
    }
}

fn during(operation: &str) -> String {
    if operation.is_empty() { String::new() } else { format!(" during {operation}") }
}

/// Ranks in words.
pub(crate) fn ranks(ranks: &[usize]) -> String {
    let list: Vec<String> = ranks.iter().map(usize::to_string).collect();
    format!("{} {}", if list.len() == 1 { "rank" } else { "ranks" }, list.join(", "))
}
