//! What is measured.

use std::fmt;
use std::str::FromStr;

use mslite::DType;
use mslite_collective::{CollectiveKind, Reduction};

/// The root of operations that have one.
pub(super) const ROOT: usize = 0;

/// Something that ranks do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    AllReduce,
    AllGather,
    ReduceScatter,
    Broadcast,
    Reduce,
    Gather,
    Scatter,
    AllToAll,
    /// A message from rank 0 to rank 1 and one back; one way counts.
    PingPong,
    Barrier,
}

const NAMES: [(Operation, &str); 10] = [
    (Operation::AllReduce, "all_reduce"),
    (Operation::AllGather, "all_gather"),
    (Operation::ReduceScatter, "reduce_scatter"),
    (Operation::Broadcast, "broadcast"),
    (Operation::Reduce, "reduce"),
    (Operation::Gather, "gather"),
    (Operation::Scatter, "scatter"),
    (Operation::AllToAll, "all_to_all"),
    (Operation::PingPong, "ping_pong"),
    (Operation::Barrier, "barrier"),
];

impl Operation {
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(operation, _)| *operation == self).map_or("", |(_, name)| name)
    }

    /// Blocks of `send` and `recv`, for so many ranks.
    pub(super) fn blocks(self, ranks: usize) -> (usize, usize) {
        match self {
            Operation::AllGather | Operation::Gather => (1, ranks),
            Operation::ReduceScatter | Operation::Scatter => (ranks, 1),
            Operation::AllToAll => (ranks, ranks),
            Operation::Barrier => (0, 0),
            _ => (1, 1),
        }
    }

    /// What one rank does, step by step.
    pub(super) fn steps(self, rank: usize, reduction: Reduction) -> Vec<CollectiveKind> {
        let (root, tag) = (ROOT, 0);
        vec![match self {
            Operation::AllReduce => CollectiveKind::AllReduce(reduction),
            Operation::AllGather => CollectiveKind::AllGather,
            Operation::ReduceScatter => CollectiveKind::ReduceScatter(reduction),
            Operation::Broadcast => CollectiveKind::Broadcast { root },
            Operation::Reduce => CollectiveKind::Reduce { root, reduction },
            Operation::Gather => CollectiveKind::Gather { root },
            Operation::Scatter => CollectiveKind::Scatter { root },
            Operation::AllToAll => CollectiveKind::AllToAll,
            Operation::Barrier => CollectiveKind::Barrier,
            Operation::PingPong => {
                let ways = [CollectiveKind::Send { dest: 1, tag }, CollectiveKind::Receive { src: 1, tag }];
                let back = [CollectiveKind::Receive { src: 0, tag }, CollectiveKind::Send { dest: 0, tag }];
                return match rank {
                    0 => ways.to_vec(),
                    1 => back.to_vec(),
                    _ => Vec::new(),
                };
            }
        }]
    }

    /// How many of the ranks take part.
    pub(super) fn participants(self, ranks: usize) -> usize {
        if self == Operation::PingPong { ranks.min(2) } else { ranks }
    }

    /// How many of what is reported one round of steps makes.
    pub(super) fn per_round(self) -> f64 {
        if self == Operation::PingPong { 2.0 } else { 1.0 }
    }

    /// Bytes that each rank must exchange, as part of the size: bus bandwidth is this times algorithm bandwidth,
    /// as nccl-tests define it.
    pub(super) fn bus_factor(self, ranks: usize) -> f64 {
        let ranks = ranks as f64;
        match self {
            Operation::AllReduce => 2.0 * (ranks - 1.0) / ranks,
            Operation::AllGather
            | Operation::ReduceScatter
            | Operation::Gather
            | Operation::Scatter
            | Operation::AllToAll => (ranks - 1.0) / ranks,
            _ => 1.0,
        }
    }

    pub(super) fn reduces(self) -> bool {
        matches!(self, Operation::AllReduce | Operation::ReduceScatter | Operation::Reduce)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Operation {
    type Err = String;

    /// Reads a name, with or without `_`; also MPI's `bcast`.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let wanted = if plain(text) == "bcast" { "broadcast".to_owned() } else { plain(text) };
        let found = NAMES.iter().find(|(_, name)| plain(name) == wanted);
        let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
        found.map(|(operation, _)| *operation).ok_or_else(|| format!("it is one of: {}", names.join(", ")))
    }
}

/// An operation on so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) operation: Operation,
    pub(super) ranks: usize,
    pub(super) dtype: DType,
    pub(super) reduction: Reduction,
    /// Elements of a block.
    pub(super) block: usize,
}

impl Case {
    /// Every operation on every size that has an element for each block, without what a lone rank cannot do.
    pub(super) fn all(
        operations: &[Operation],
        sizes: &[usize],
        ranks: usize,
        dtype: DType,
        reduction: Reduction,
    ) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        let has_partner = |op: &&Operation| **op != Operation::PingPong || ranks > 1;
        for &operation in operations.iter().filter(has_partner) {
            let (send, recv) = operation.blocks(ranks);
            let blocks = send.max(recv);
            let sizes = if blocks == 0 { &[0][..] } else { sizes };
            for &bytes in sizes {
                let block = bytes / dtype.size() / blocks.max(1);
                let case = Case { operation, ranks, dtype, reduction, block };
                if (block > 0 || blocks == 0) && !cases.contains(&case) {
                    cases.push(case);
                }
            }
        }
        cases
    }

    /// Elements of `send` and `recv`.
    pub(super) fn elements(&self) -> (usize, usize) {
        let (send, recv) = self.operation.blocks(self.ranks);
        (send * self.block, recv * self.block)
    }

    /// Bytes of the larger one: the size that nccl-tests print.
    pub(super) fn bytes(&self) -> usize {
        let (send, recv) = self.elements();
        send.max(recv) * self.dtype.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_benchmarks_are_understood() {
        for (operation, name) in NAMES {
            assert_eq!(name.parse(), Ok(operation));
        }
        assert_eq!("allreduce".parse(), Ok(Operation::AllReduce));
        assert_eq!("AlltoAll".parse(), Ok(Operation::AllToAll));
        assert_eq!("bcast".parse(), Ok(Operation::Broadcast));
        assert!("allreduces".parse::<Operation>().unwrap_err().contains("reduce_scatter"));
    }

    #[test]
    fn sizes_are_those_of_the_larger_buffer() {
        let all = |operation, sizes: &[usize]| {
            let cases = Case::all(&[operation], sizes, 4, DType::F32, Reduction::Sum);
            cases.iter().map(|case| (case.bytes(), case.elements())).collect::<Vec<_>>()
        };
        assert_eq!(all(Operation::AllReduce, &[4, 6, 1024]), [(4, (1, 1)), (1024, (256, 256))]);
        assert_eq!(all(Operation::AllGather, &[4, 16, 1030]), [(16, (1, 4)), (1024, (64, 256))]);
        assert_eq!(all(Operation::ReduceScatter, &[16]), [(16, (4, 1))]);
        assert_eq!(all(Operation::Barrier, &[4, 16]), [(0, (0, 0))]);
    }

    #[test]
    fn bus_factors_are_those_of_nccl_tests() {
        let factors = |ranks| NAMES.map(|(operation, _)| operation.bus_factor(ranks));
        assert_eq!(factors(2), [1.0, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 1.0]);
        assert_eq!(factors(4), [1.5, 0.75, 0.75, 1.0, 1.0, 0.75, 0.75, 0.75, 1.0, 1.0]);
    }
}
