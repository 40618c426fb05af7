//! What ranks tell each other besides data: that they leave, that something has failed, which groups they form.

use std::time::Duration;

use crate::Error;

/// Most bytes of a text.
const TEXT: usize = 440;

/// Something that a rank tells others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// It ends, or gives up: who needs it later waits in vain.
    Left {
        /// Why, in words.
        reason: String,
    },
    /// An operation failed, and with it the world, or one group.
    Failed {
        /// The group, or [`WORLD`].
        scope: u64,
        /// What happened.
        error: Error,
    },
    /// It is a member of a group.
    Opened {
        /// Name of the group.
        name: String,
        /// World ranks of the members.
        ranks: Vec<usize>,
    },
    /// It has been waiting for long.
    Waits {
        /// In what, and for whom.
        text: String,
    },
}

/// The scope of failures that concern all groups.
pub(super) const WORLD: u64 = 0;

/// Most bytes of a notice in a world of so many ranks.
pub(super) fn capacity(size: usize) -> usize {
    64 + 2 * (8 + TEXT) + 8 * size
}

impl Notice {
    /// Its bytes, after the number of the world that it concerns.
    pub(super) fn encode(&self, world: u64) -> Vec<u8> {
        let mut out = Writer(world.to_le_bytes().into());
        match self {
            Notice::Left { reason } => out.number(0).text(reason),
            Notice::Failed { scope, error } => out.number(1).number(*scope).error(error),
            Notice::Opened { name, ranks } => out.number(2).text(name).ranks(ranks),
            Notice::Waits { text } => out.number(3).text(text),
        };
        out.0
    }

    /// What another rank has encoded; `None` for what is damaged, or concerns another world.
    pub(super) fn decode(bytes: &[u8], world: u64) -> Option<Self> {
        let mut input = Reader(bytes);
        if input.number()? != world {
            return None;
        }
        Some(match input.number()? {
            0 => Notice::Left { reason: input.text()? },
            1 => Notice::Failed { scope: input.number()?, error: input.error()? },
            2 => Notice::Opened { name: input.text()?, ranks: input.ranks()? },
            3 => Notice::Waits { text: input.text()? },
            _ => return None,
        })
    }
}

/// A text as it arrives at others.
pub(super) fn shortened(text: &str) -> &str {
    let len = (0..=TEXT.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..len]
}

/// Whether an error is one that the other ranks learn of.
pub(super) fn concerns_others(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerLost { .. } | Error::Cancelled { .. } | Error::Timeout { .. } | Error::Mismatch { .. }
    )
}

/// The error that rank `reporter` has found, as rank `reader` sees it during `operation`.
pub(super) fn seen_by(error: &Error, reporter: usize, reader: usize, operation: String) -> Error {
    match error.clone() {
        Error::PeerLost { rank, reason, .. } if rank == reader && reporter == reader => {
            Error::Aborted { reason }
        }
        Error::PeerLost { rank, reason, .. } => Error::PeerLost { rank, reason, operation },
        Error::Cancelled { rank, by, .. } => Error::Cancelled { rank, by, operation },
        Error::Timeout { missing, waited, detail, .. } => {
            let by = if reporter == reader { String::new() } else { format!(" (found by rank {reporter})") };
            Error::Timeout { missing, waited, operation, detail: detail + &by }
        }
        other => other,
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        let text = shortened(text);
        self.number(text.len() as u64).0.extend(text.as_bytes());
        self
    }

    fn ranks(&mut self, ranks: &[usize]) -> &mut Self {
        self.number(ranks.len() as u64);
        ranks.iter().for_each(|&rank| self.0.extend((rank as u32).to_le_bytes()));
        self
    }

    fn error(&mut self, error: &Error) -> &mut Self {
        match error {
            Error::PeerLost { rank, reason, .. } => self.number(0).number(*rank as u64).text(reason),
            Error::Timeout { missing, waited, detail, .. } => {
                self.number(1).ranks(missing).number(waited.as_millis() as u64).text(detail)
            }
            Error::Mismatch { ranks, operations: [first, second] } => {
                self.number(2).ranks(ranks).text(first).text(second)
            }
            Error::Cancelled { rank, by, .. } => self.number(3).number(*rank as u64).text(by),
            other => self.number(0).number(0).text(&other.to_string()),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn ranks(&mut self) -> Option<Vec<usize>> {
        let len = usize::try_from(self.number()?).ok()?.checked_mul(4)?;
        let (ranks, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(ranks.as_chunks().0.iter().map(|&rank| u32::from_le_bytes(rank) as usize).collect())
    }

    fn error(&mut self) -> Option<Error> {
        Some(match self.number()? {
            0 => {
                let (rank, reason) = (usize::try_from(self.number()?).ok()?, self.text()?);
                Error::PeerLost { rank, reason, operation: String::new() }
            }
            1 => Error::Timeout {
                missing: self.ranks()?,
                waited: Duration::from_millis(self.number()?),
                operation: String::new(),
                detail: self.text()?,
            },
            2 => Error::Mismatch {
                ranks: self.ranks()?.try_into().ok()?,
                operations: [self.text()?, self.text()?],
            },
            3 => {
                let (rank, by) = (usize::try_from(self.number()?).ok()?, self.text()?);
                Error::Cancelled { rank, by, operation: String::new() }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors() -> [Error; 4] {
        let (reason, operation) = ("dead".to_owned(), String::new());
        let waited = Duration::from_millis(700);
        [
            Error::PeerLost { rank: 3, reason, operation: operation.clone() },
            Error::Timeout { missing: vec![1, 200], waited, operation, detail: "é".to_owned() },
            Error::Mismatch { ranks: [0, 2], operations: ["barrier".to_owned(), "all_gather".to_owned()] },
            Error::Cancelled { rank: 1, by: "SIGTERM".to_owned(), operation: String::new() },
        ]
    }

    #[test]
    fn notices_survive_their_way() {
        let failed = errors().map(|error| Notice::Failed { scope: 7, error });
        let others = [
            Notice::Left { reason: "it has left the world".to_owned() },
            Notice::Opened { name: "pair".to_owned(), ranks: vec![4, 0] },
            Notice::Waits { text: String::new() },
        ];
        for notice in failed.into_iter().chain(others) {
            let bytes = notice.encode(9);
            assert!(bytes.len() <= capacity(8));
            assert_eq!(Notice::decode(&bytes, 9), Some(notice.clone()));
            assert_eq!(Notice::decode(&bytes, 8), None);
            for len in 0..bytes.len() {
                assert_eq!(Notice::decode(&bytes[..len], 9), None);
            }
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let notice = Notice::Left { reason: "é".repeat(10_000) };
        let Some(Notice::Left { reason }) = Notice::decode(&notice.encode(0), 0) else {
            panic!("another notice");
        };
        assert_eq!(reason, "é".repeat(220));
    }

    #[test]
    fn who_aborts_is_told_so() {
        let [lost, late, ..] = errors();
        assert_eq!(seen_by(&lost, 3, 3, "barrier".into()), Error::Aborted { reason: "dead".into() });
        let Error::PeerLost { operation, .. } = seen_by(&lost, 3, 0, "barrier".into()) else {
            panic!("another error");
        };
        assert_eq!(operation, "barrier");
        assert!(seen_by(&late, 2, 0, String::new()).to_string().contains("found by rank 2"));
    }
}
