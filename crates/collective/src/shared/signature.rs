use std::fmt;

use mslite_tensor::DType;

use crate::{CollectiveKind, Reduction};

/// What a member says that it does, for the others to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) action: Action,
    pub(crate) dtype: DType,
    /// Elements of a block.
    pub(crate) count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// An operation of the public kind.
    Collective(CollectiveKind),
    /// Everybody gets everybody's bytes.
    Exchange,
}

/// A signature in shared memory; the last word is the number of the operation and how it was begun.
pub(crate) type Encoded = [u64; 5];

const LAST_WORD: usize = 4;

/// How a member has begun an operation: two bits above its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Copied,
    Started,
    Elsewhere,
}

const NUMBER_BITS: u32 = 62;

impl Signature {
    pub(crate) fn new(kind: &CollectiveKind, dtype: DType, count: usize) -> Self {
        Signature { action: Action::Collective(kind.clone()), dtype, count }
    }

    pub(crate) fn exchange() -> Self {
        Signature { action: Action::Exchange, dtype: DType::U8, count: 0 }
    }

    pub(crate) fn encode(&self, number: u64) -> Encoded {
        let (code, kind) = match &self.action {
            Action::Exchange => (0, None),
            Action::Collective(kind) => (code(kind), Some(kind)),
        };
        let reduction = kind.and_then(CollectiveKind::reduction).map_or(0, |reduction| reduction as u64);
        let peer = kind.and_then(CollectiveKind::peer).unwrap_or(0) as u64;
        let tag = kind.and_then(CollectiveKind::tag).unwrap_or(0).cast_unsigned();
        [code | reduction << 8 | (self.dtype as u64) << 16, peer, tag, self.count as u64, number]
    }

    /// The same words, begun in some manner.
    pub(super) fn with_manner(mut words: Encoded, manner: Manner) -> Encoded {
        words[LAST_WORD] |= (manner as u64) << NUMBER_BITS;
        words
    }

    /// The number of the operation.
    pub(super) fn number(words: &Encoded) -> u64 {
        words[LAST_WORD] & ((1 << NUMBER_BITS) - 1)
    }

    /// How an operation was begun.
    pub(super) fn manner(words: &Encoded) -> Manner {
        match words[LAST_WORD] >> NUMBER_BITS {
            0 => Manner::Copied,
            1 => Manner::Started,
            _ => Manner::Elsewhere,
        }
    }

    /// Whether two members do the same.
    pub(super) fn agree(mine: &Encoded, theirs: &Encoded) -> bool {
        mine[..LAST_WORD] == theirs[..LAST_WORD] && Signature::number(mine) == Signature::number(theirs)
    }

    pub(crate) fn decode(words: &Encoded) -> Option<Self> {
        let byte = |shift: u32| (words[0] >> shift & 0xff) as usize;
        let dtype = *DType::ALL.get(byte(16))?;
        let reduction = *Reduction::ALL.get(byte(8))?;
        let action = match byte(0) {
            0 => Action::Exchange,
            code => Action::Collective(kind(code, reduction, words[1] as usize, words[2].cast_signed())?),
        };
        Some(Signature { action, dtype, count: words[3] as usize })
    }
}

fn code(kind: &CollectiveKind) -> u64 {
    match kind {
        CollectiveKind::AllReduce(_) => 1,
        CollectiveKind::AllGather => 2,
        CollectiveKind::ReduceScatter(_) => 3,
        CollectiveKind::Broadcast { .. } => 4,
        CollectiveKind::Reduce { .. } => 5,
        CollectiveKind::Gather { .. } => 6,
        CollectiveKind::Scatter { .. } => 7,
        CollectiveKind::AllToAll => 8,
        CollectiveKind::Send { .. } => 9,
        CollectiveKind::Receive { .. } => 10,
        CollectiveKind::Barrier => 11,
    }
}

fn kind(code: usize, reduction: Reduction, peer: usize, tag: i64) -> Option<CollectiveKind> {
    Some(match code {
        1 => CollectiveKind::AllReduce(reduction),
        2 => CollectiveKind::AllGather,
        3 => CollectiveKind::ReduceScatter(reduction),
        4 => CollectiveKind::Broadcast { root: peer },
        5 => CollectiveKind::Reduce { root: peer, reduction },
        6 => CollectiveKind::Gather { root: peer },
        7 => CollectiveKind::Scatter { root: peer },
        8 => CollectiveKind::AllToAll,
        9 => CollectiveKind::Send { dest: peer, tag },
        10 => CollectiveKind::Receive { src: peer, tag },
        11 => CollectiveKind::Barrier,
        _ => return None,
    })
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Exchange => f.write_str("exchange"),
            Action::Collective(CollectiveKind::Barrier) => f.write_str("barrier"),
            Action::Collective(kind) => write!(f, "{kind} of {}[{}]", self.dtype, self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_survive_shared_memory() {
        for text in [
            "all_reduce(min)",
            "all_gather",
            "reduce_scatter(mean)",
            "broadcast(root=3)",
            "reduce(prod, root=1)",
            "gather(root=2)",
            "scatter(root=2)",
            "all_to_all",
            "send(dest=1, tag=-5)",
            "receive(src=7, tag=5)",
            "barrier",
        ] {
            for dtype in DType::ALL {
                let signature = Signature::new(&text.parse().unwrap(), dtype, 77);
                assert_eq!(Signature::decode(&signature.encode(3)), Some(signature));
            }
        }
        assert_eq!(Signature::decode(&Signature::exchange().encode(0)), Some(Signature::exchange()));
        assert_eq!(Signature::decode(&[12, 0, 0, 0, 0]), None);
    }
}
