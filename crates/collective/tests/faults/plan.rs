//! What a job does and what befalls it, drawn from a seed: parent and ranks draw the same.

use std::time::Duration;

use mslite_collective::{CollectiveKind, Reduction};

/// How long a rank waits for another.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// What befalls one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// It is killed, at any moment of its life.
    Kill,
    /// It is stopped, at any moment of its life.
    Stop,
    /// It sleeps, but less than the timeout.
    Slow,
    /// It exits, with code 0 and without leaving the world.
    Exit,
    Panic,
    /// Its process aborts.
    Abort,
    /// It says that it cannot go on.
    GiveUp,
    /// It gets no more memory, and says so.
    NoMemory,
    /// It cannot map the memory of the world.
    NoRoom,
    /// It does something else than the others.
    Mismatch,
}

impl Fault {
    pub(crate) const ALL: [Fault; 10] = [
        Fault::Kill,
        Fault::Stop,
        Fault::Slow,
        Fault::Exit,
        Fault::Panic,
        Fault::Abort,
        Fault::GiveUp,
        Fault::NoMemory,
        Fault::NoRoom,
        Fault::Mismatch,
    ];
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What it was drawn from.
    pub(crate) seed: u64,
    pub(crate) number: u64,
    pub(crate) size: usize,
    pub(crate) victim: usize,
    pub(crate) fault: Fault,
    /// The step of the victim before which it strikes; signals come at a time instead.
    pub(crate) step: u64,
    /// After the start of the processes.
    pub(crate) delay: Duration,
    /// Ranks of the groups besides that of all.
    pub(crate) groups: Vec<Vec<usize>>,
    /// Whether the ranks meet in `/dev/shm`, rather than in a folder of temporary files.
    pub(crate) is_in_memory: bool,
}

/// What some ranks do together.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Index into the groups of the plan; `None` is everybody.
    pub(crate) group: Option<usize>,
    pub(crate) what: What,
    /// Elements of a block.
    pub(crate) count: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Collective(CollectiveKind),
    /// Everybody sends a message to the next one and takes one from the one before.
    Ring {
        tag: i64,
    },
}

impl Plan {
    /// The `number`th plan of a seed; faults take turns.
    pub(crate) fn draw(seed: u64, number: u64) -> Plan {
        let mut random = Random::of(seed, number);
        let size = 2 + random.below(3) as usize;
        let group = |random: &mut Random| -> Vec<usize> {
            let mut ranks: Vec<usize> = (0..size).collect();
            ranks.rotate_left(random.below(size as u64) as usize);
            ranks.truncate(2 + random.below(size as u64 - 1) as usize);
            ranks
        };
        Plan {
            seed,
            number,
            size,
            victim: random.below(size as u64) as usize,
            fault: Fault::ALL[number as usize % Fault::ALL.len()],
            step: random.up_to_bits(8),
            delay: Duration::from_micros(random.below([10_000, 150_000][number as usize / 10 % 2])),
            groups: (0..random.below(3)).map(|_| group(&mut random)).collect(),
            is_in_memory: random.below(2) == 0,
        }
    }

    /// What is done at a step.
    pub(crate) fn step(&self, number: u64) -> Step {
        let mut random = Random::of(Random::of(self.seed, self.number).next(), number);
        let choice = random.below(self.groups.len() as u64 + 2) as usize;
        let group = (choice < self.groups.len()).then_some(choice);
        let members = group.map_or(self.size, |group| self.groups[group].len());
        let (root, reduction) = (random.below(members as u64) as usize, Reduction::Sum);
        let kind = match random.below(10) {
            0 | 1 => CollectiveKind::AllReduce(reduction),
            2 => CollectiveKind::AllGather,
            3 => CollectiveKind::ReduceScatter(reduction),
            4 => CollectiveKind::Broadcast { root },
            5 => CollectiveKind::Reduce { root, reduction },
            6 => CollectiveKind::Gather { root },
            7 => CollectiveKind::AllToAll,
            8 => CollectiveKind::Barrier,
            _ => {
                let tag = random.below(3) as i64;
                return Step { group, what: What::Ring { tag }, count: random.below(200) as usize };
            }
        };
        let count = random.up_to_bits(17) as usize;
        Step { group, what: What::Collective(kind), count }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    /// The `number`th generator of a seed.
    fn of(seed: u64, number: u64) -> Self {
        Random(Random(seed ^ number.rotate_left(32)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number of so many bits at most, small ones as likely as large ones.
    fn up_to_bits(&mut self, most: u64) -> u64 {
        let bits = self.below(most + 1);
        self.below(1 << bits)
    }
}
