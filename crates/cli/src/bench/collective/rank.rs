//! What one rank does to measure.

use std::time::{Duration, Instant};

use mslite::{DType, Error, ErrorKind, Result};
use mslite_collective::{
    Collective, CollectiveExt, CollectiveKind, CollectiveOp, Reduction, RegisteredMemory, World,
};
use mslite_tensor::{Buffer, HostBuffer, HostSpan, HostStream, Tensor};

use super::OWN_NAME;
use super::operation::{Case, Operation, ROOT};
use super::row::{Row, Sample};
use crate::fill::set_values;

/// Most repetitions of an operation in a batch.
const MAX_ITERATIONS: usize = 1_000_000;

/// How much is measured.
#[derive(Debug, Clone)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    /// In each round, for each case.
    pub(super) batches: usize,
    /// How long a batch takes, about.
    pub(super) batch: Duration,
    /// Whether results are compared with what they must be.
    pub(super) check: bool,
    pub(super) placements: Vec<Placement>,
}

/// Where buffers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Placement {
    /// In memory of the rank's own
    Private,
    /// In memory that other ranks reach, too
    Registered,
}

impl Placement {
    pub(super) const ALL: [Placement; 2] = [Placement::Private, Placement::Registered];

    /// What operations on such buffers are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Placement::Private => OWN_NAME,
            Placement::Registered => "mslite-registered",
        }
    }

    /// A buffer of zeros; `None` where the communicator has no such memory.
    fn allocate(self, group: &dyn Collective, dtype: DType, len: usize) -> Result<Option<Box<dyn Buffer>>> {
        match self {
            Placement::Private => Ok(Some(Box::new(HostBuffer::zeroed(dtype, &[len])?))),
            Placement::Registered => {
                let memory = group.allocate((len * dtype.size()).max(1))?;
                Ok(memory.map(|memory| Box::new(Registered { memory, dtype, dims: [len] }) as _))
            }
        }
    }
}

/// A buffer in registered memory.
#[derive(Debug)]
struct Registered {
    memory: RegisteredMemory,
    dtype: DType,
    dims: [usize; 1],
}

impl Buffer for Registered {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        Some(HostSpan { ptr: self.memory.span().ptr, len: self.dims[0] * self.dtype.size() })
    }
}

/// Measures all cases at this rank, in rounds; every rank gets the rows of all.
pub(super) fn measure(world: &World, cases: &[Case], effort: &Effort) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..effort.rounds {
        for case in cases {
            for &placement in &effort.placements {
                let Some(run) = Run::new(world, case, placement)? else { continue };
                let is_it = |row: &&mut Row| {
                    row.implementation == placement.name() && row.case.as_ref() == Some(case)
                };
                match rows.iter_mut().find(is_it) {
                    Some(row) => row.merge(run.measure(effort, row.iterations)?),
                    None => rows.push(run.measure(effort, None)?),
                }
            }
        }
    }
    Ok(rows)
}

/// A case at one rank, with its buffers.
struct Run<'a> {
    world: &'a World,
    case: &'a Case,
    placement: Placement,
    steps: Vec<CollectiveOp>,
    send: Box<dyn Buffer>,
    recv: Box<dyn Buffer>,
}

impl<'a> Run<'a> {
    /// `None` where there is no memory for such buffers, which is so at all ranks.
    fn new(world: &'a World, case: &'a Case, placement: Placement) -> Result<Option<Self>> {
        let group = world.everybody();
        let steps = case.operation.steps(world.rank(), case.reduction).into_iter();
        let steps: Vec<CollectiveOp> =
            steps.map(|kind| CollectiveOp::new(kind, group.group().name.clone())).collect();
        if let Some(step) = steps.iter().find(|step| !group.supports(step)) {
            return Err(Error::new(ErrorKind::Unsupported, format!("{step} is not there")));
        }
        let (send, recv) = case.elements();
        let allocate = |len: usize| placement.allocate(&*group, case.dtype, len);
        let (Some(send), Some(recv)) = (allocate(send)?, allocate(recv)?) else { return Ok(None) };
        let mut values = Tensor::zeros(case.dtype, send.dims())?;
        set_values(&mut values, |i| contribution(case, world.rank(), i))?;
        copy(world, &HostBuffer::reading(&values), &*send)?;
        Ok(Some(Run { world, case, placement, steps, send, recv }))
    }

    fn measure(&self, effort: &Effort, iterations: Option<usize>) -> Result<Row> {
        self.batch(1)?;
        let iterations = match iterations {
            Some(iterations) => iterations,
            None => self.calibrate(effort.batch)?,
        };
        let samples = (0..effort.batches).map(|_| self.sample(iterations)).collect::<Result<Vec<_>>>()?;
        let wrong = if effort.check { Some(self.wrong()?) } else { None };
        Ok(Row { iterations: Some(iterations), wrong, ..Row::new(self.placement.name(), self.case, samples) })
    }

    /// Seconds that one operation takes at each rank, when it is repeated so often.
    fn batch(&self, iterations: usize) -> Result<Vec<f64>> {
        let group = self.world.everybody();
        group.barrier()?;
        let start = Instant::now();
        self.repeat(&*group, iterations)?;
        let seconds = start.elapsed().as_secs_f64() / iterations as f64 / self.case.operation.per_round();
        let seconds = exchange(self.world, seconds)?;
        Ok(seconds[..self.case.operation.participants(self.world.size())].to_vec())
    }

    fn repeat(&self, group: &dyn Collective, iterations: usize) -> Result<()> {
        for _ in 0..iterations {
            for step in &self.steps {
                group.enqueue(step, &*self.send, &*self.recv, &HostStream)?;
            }
        }
        Ok(())
    }

    /// How often to repeat the operation so that a batch takes about this long; the same at all ranks.
    fn calibrate(&self, batch: Duration) -> Result<usize> {
        let mut iterations = 1;
        loop {
            let fitting = batch.as_secs_f64() / self.least(iterations)?;
            let fitting = (fitting as usize).clamp(1, MAX_ITERATIONS);
            if fitting <= 2 * iterations {
                return Ok(fitting);
            }
            iterations = fitting.min(8 * iterations);
        }
    }

    /// The time of an operation in the fastest of a few batches: what else the machine does only ever adds.
    fn least(&self, iterations: usize) -> Result<f64> {
        let mut least = f64::MAX;
        for _ in 0..3 {
            least = least.min(self.batch(iterations)?.into_iter().fold(1e-9, f64::max));
        }
        Ok(least)
    }

    fn sample(&self, iterations: usize) -> Result<Sample> {
        Ok(Sample::of(self.batch(iterations)?.into_iter().map(|seconds| seconds * 1e6).collect()))
    }

    /// How many elements of all ranks are not what they must be.
    fn wrong(&self) -> Result<usize> {
        let here = self.wrong_here()?;
        Ok(exchange(self.world, here as f64)?.into_iter().sum::<f64>() as usize)
    }

    fn wrong_here(&self) -> Result<usize> {
        let rank = self.world.rank();
        if !is_written(self.case, rank) {
            return Ok(0);
        }
        let mut expected = Tensor::zeros(self.case.dtype, self.recv.dims())?;
        set_values(&mut expected, |i| result(self.case, rank, i))?;
        let mut actual = Tensor::zeros(self.case.dtype, self.recv.dims())?;
        copy(self.world, &*self.recv, &HostBuffer::writing(&mut actual)?)?;
        let size = self.case.dtype.size();
        let pairs = actual.bytes().chunks(size).zip(expected.bytes().chunks(size));
        Ok(pairs.filter(|(actual, expected)| actual != expected).count())
    }
}

/// Copies a buffer, wherever it is, by a collective of this rank alone.
fn copy(world: &World, from: &dyn Buffer, to: &dyn Buffer) -> Result<()> {
    let alone = world.group("alone", &[world.rank()])?;
    let op = CollectiveOp::new(CollectiveKind::Broadcast { root: 0 }, alone.group().name.clone());
    Ok(alone.enqueue(&op, from, to, &HostStream)?)
}

/// Everybody's number, by rank.
fn exchange(world: &World, number: f64) -> Result<Vec<f64>> {
    let all = world.exchange(&number.to_ne_bytes())?;
    Ok(all.into_iter().filter_map(|bytes| Some(f64::from_ne_bytes(bytes.try_into().ok()?))).collect())
}

/// Element `i` of what a rank sends: whole numbers above 0, so small that reductions are exact.
fn contribution(case: &Case, rank: usize, i: usize) -> f64 {
    let mixed = (rank as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (i as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33;
    match (case.dtype, case.operation.reduces()) {
        (DType::Bool, _) => (number % 2) as f64,
        (_, true) => (1 + number % 2) as f64,
        (_, false) => (1 + number % 100) as f64,
    }
}

/// Whether a rank receives anything.
fn is_written(case: &Case, rank: usize) -> bool {
    match case.operation {
        Operation::Reduce | Operation::Gather => rank == ROOT,
        Operation::PingPong => rank < 2,
        _ => true,
    }
}

/// Element `i` of what a rank receives.
fn result(case: &Case, rank: usize, i: usize) -> f64 {
    let (block, own) = (i / case.block, rank * case.block);
    match case.operation {
        Operation::AllReduce | Operation::Reduce => reduced(case, i),
        Operation::ReduceScatter => reduced(case, own + i),
        Operation::AllGather | Operation::Gather => contribution(case, block, i % case.block),
        Operation::Broadcast => contribution(case, ROOT, i),
        Operation::Scatter => contribution(case, ROOT, own + i),
        Operation::AllToAll => contribution(case, block, own + i % case.block),
        Operation::PingPong => contribution(case, 1 - rank, i),
        Operation::Barrier => 0.0,
    }
}

fn reduced(case: &Case, i: usize) -> f64 {
    let combine: fn(f64, f64) -> f64 = match case.reduction {
        Reduction::Max => f64::max,
        Reduction::Min => f64::min,
        Reduction::Prod => |a, b| a * b,
        _ => |a, b| a + b,
    };
    let all = (0..case.ranks).map(|rank| contribution(case, rank, i)).reduce(combine).unwrap_or_default();
    if case.reduction == Reduction::Mean { all / case.ranks as f64 } else { all }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static EFFORT: LazyLock<Effort> = LazyLock::new(|| Effort {
        rounds: 2,
        batches: 3,
        batch: Duration::from_micros(200),
        check: true,
        placements: Placement::ALL.to_vec(),
    });

    fn on_threads(ranks: usize, cases: &[Case]) -> Vec<Vec<Row>> {
        let worlds = World::threads(ranks, Duration::from_secs(60)).unwrap();
        std::thread::scope(|scope| {
            let run = |world: World| scope.spawn(move || measure(&world, cases, &EFFORT).unwrap());
            let threads: Vec<_> = worlds.into_iter().map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_operation_is_measured_and_right() {
        let operations = [
            Operation::AllReduce,
            Operation::AllGather,
            Operation::ReduceScatter,
            Operation::Broadcast,
            Operation::Reduce,
            Operation::Gather,
            Operation::Scatter,
            Operation::AllToAll,
            Operation::PingPong,
            Operation::Barrier,
        ];
        for (ranks, dtype, reduction) in [
            (1, DType::F32, Reduction::Sum),
            (2, DType::F16, Reduction::Mean),
            (3, DType::I8, Reduction::Prod),
            (3, DType::Bool, Reduction::Max),
            (2, DType::C64, Reduction::Sum),
        ] {
            let cases = Case::all(&operations, &[400], ranks, dtype, reduction);
            for rows in on_threads(ranks, &cases) {
                assert_eq!(rows.len(), operations.len() - usize::from(ranks == 1));
                for row in rows {
                    assert_eq!((row.wrong, row.samples.len()), (Some(0), 6), "{row:?}");
                    assert!(row.samples.iter().all(|s| s.min > 0.0 && s.min <= s.max), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_there_counts_as_wrong() {
        let case = Case::all(&[Operation::AllReduce], &[40], 1, DType::F32, Reduction::Sum)[0];
        let world = World::threads(1, Duration::from_secs(60)).unwrap().remove(0);
        let run = Run::new(&world, &case, Placement::Private).unwrap().unwrap();
        assert_eq!(run.wrong().unwrap(), 10);
        run.batch(1).unwrap();
        assert_eq!(run.wrong().unwrap(), 0);
        // Threads reach each other's memory anyway.
        assert!(Run::new(&world, &case, Placement::Registered).unwrap().is_none());
    }
}
