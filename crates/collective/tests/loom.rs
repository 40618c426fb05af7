//! The protocol of ranks in shared memory, in the orders in which they can run:
//! `RUSTFLAGS="--cfg loom" cargo test -p mslite-collective --test loom`.
#![cfg(loom)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use loom::model::Builder;
use loom::thread;
use mslite_collective::{
    Collective, CollectiveExt, CollectiveKind, CollectiveOp, Error, Reduction, Waiting, World, note_read,
    note_write,
};
use mslite_tensor::{Buffer, DType, HostSpan, HostStream};

/// Elements of a buffer: as many bytes as go from buffer to buffer, and some more.
const MANY: usize = 136;
/// Elements that go through three chunks, in two parts if they are reduced.
const SOME: usize = 100;
/// Elements that fit the line of a slot.
const FEW: usize = 4;

/// One rank. Its buffers are made before the model has threads, and stay, so that nothing else comes to be where they
/// were.
struct Rank {
    world: World,
    group: Arc<dyn Collective>,
    send: Vec<f32>,
    recv: Vec<f32>,
}

impl Rank {
    fn new(world: World) -> Self {
        let (group, ranks) = (world.everybody(), world.size());
        Rank { world, group, send: vec![0.0; MANY], recv: vec![0.0; MANY * ranks] }
    }

    fn rank(&self) -> usize {
        self.world.rank()
    }

    /// What rank `rank` sends in operation `round`.
    fn value(rank: usize, round: usize) -> f32 {
        (round * 10 + rank + 1) as f32
    }

    fn sum(&self, round: usize) -> f32 {
        (0..self.world.size()).map(|rank| Rank::value(rank, round)).sum()
    }

    fn fill(&mut self, count: usize, round: usize) {
        let value = Rank::value(self.rank(), round);
        note_write(self.send.as_ptr().cast(), count * size_of::<f32>());
        self.send[..count].fill(value);
    }

    fn all_reduce(&mut self, count: usize, round: usize) {
        self.fill(count, round);
        self.group.all_reduce(&mut self.send[..count], Reduction::Sum).unwrap();
        equals(&self.send[..count], self.sum(round));
    }

    fn start_all_reduce(&mut self, count: usize, round: usize) {
        self.fill(count, round);
        let group = self.group.group().name.clone();
        let op = CollectiveOp { kind: CollectiveKind::AllReduce(Reduction::Sum), group };
        let buffer = View::of(&mut self.send[..count]);
        self.group.start(&op, &buffer, &HostStream).unwrap();
        self.group.enqueue(&op, &buffer, &buffer, &HostStream).unwrap();
        equals(&self.send[..count], self.sum(round));
    }

    fn all_gather(&mut self, count: usize, round: usize) {
        let ranks = self.world.size();
        self.fill(count, round);
        self.group.all_gather(&self.send[..count], &mut self.recv[..count * ranks]).unwrap();
        for (rank, block) in self.recv[..count * ranks].chunks(count).enumerate() {
            equals(block, Rank::value(rank, round));
        }
    }

    fn broadcast(&mut self, count: usize, root: usize, round: usize) {
        self.fill(count, round);
        self.group.broadcast(&mut self.send[..count], root).unwrap();
        equals(&self.send[..count], Rank::value(root, round));
    }

    fn send(&mut self, dest: usize, count: usize, round: usize) {
        self.fill(count, round);
        self.group.send(&self.send[..count], dest, 0).unwrap();
    }

    fn receive(&mut self, src: usize, count: usize, round: usize) {
        self.group.receive(&mut self.recv[..count], src, 0).unwrap();
        equals(&self.recv[..count], Rank::value(src, round));
    }
}

/// A slice that stays where it is.
#[derive(Debug)]
struct View {
    dims: [usize; 1],
    span: HostSpan,
}

impl View {
    fn of(slice: &mut [f32]) -> Self {
        let (dims, len) = ([slice.len()], size_of_val(slice));
        View { dims, span: HostSpan { ptr: NonNull::from(slice).cast(), len } }
    }
}

impl Buffer for View {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        Some(self.span)
    }
}

fn equals(values: &[f32], expected: f32) {
    note_read(values.as_ptr().cast(), size_of_val(values));
    assert!(values.iter().all(|&value| value == expected), "{values:?} are not {expected}");
}

/// Never over, as time stands still.
const TIMEOUT: Duration = Duration::from_secs(1);

/// All orders with at most so many switches away from a rank that could go on.
fn builder(switches: usize) -> Builder {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.max_branches = 100_000;
    model
}

fn check(waiting: Waiting, ranks: usize, switches: usize, run: fn(&mut Rank)) {
    waiting.set();
    builder(switches).check(move || {
        let worlds = World::threads(ranks, TIMEOUT).unwrap();
        let mut ranks: Vec<_> = worlds.into_iter().map(Rank::new).collect();
        let mut first = ranks.remove(0);
        let spawn = |mut rank| {
            thread::spawn(move || {
                run(&mut rank);
                rank
            })
        };
        let others: Vec<_> = ranks.into_iter().map(spawn).collect();
        run(&mut first);
        // Nobody leaves before all are done.
        let _others: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
    });
}

/// Two ranks that spin, and then such that sleep, with so many switches.
fn check_waiting(switches: usize, run: fn(&mut Rank)) {
    check(Waiting::Spins, 2, 1, run);
    check(Waiting::Sleeps, 2, switches, run);
}

#[test]
fn small_sums_in_the_line_of_a_slot() {
    check(Waiting::Spins, 2, 2, |rank| (0..3).for_each(|round| rank.all_reduce(FEW, round)));
    check_waiting(3, |rank| (0..6).for_each(|round| rank.all_reduce(FEW, round)));
}

#[test]
fn slots_are_used_again() {
    check_waiting(3, |rank| (0..2).for_each(|round| rank.all_gather(SOME, round)));
}

#[test]
fn sums_in_two_parts() {
    check(Waiting::Spins, 2, 1, |rank| rank.all_reduce(SOME * 3 / 5, 0));
    check(Waiting::Sleeps, 2, 2, |rank| (0..2).for_each(|round| rank.all_reduce(SOME, round)));
}

#[test]
fn sums_from_buffer_to_buffer() {
    check_waiting(2, |rank| (0..3).for_each(|round| rank.all_reduce(MANY, round)));
}

#[test]
fn kinds_take_turns() {
    check_waiting(3, |rank| {
        rank.all_gather(MANY, 0);
        rank.group.barrier().unwrap();
        rank.broadcast(MANY, 1, 1);
        rank.all_reduce(FEW, 2);
    });
}

#[test]
fn one_rank_starts_where_the_other_tells_its_buffers() {
    check_waiting(3, |rank| {
        rank.all_reduce(FEW, 0);
        for round in 1..3 {
            if rank.rank() == 0 { rank.start_all_reduce(MANY, round) } else { rank.all_reduce(MANY, round) }
        }
    });
}

#[test]
fn all_ranks_start() {
    check_waiting(3, |rank| (0..2).for_each(|round| rank.start_all_reduce(SOME, round)));
}

#[test]
fn messages_fill_the_ring() {
    check_waiting(2, |rank| if rank.rank() == 0 { rank.send(1, 8, 0) } else { rank.receive(0, 8, 0) });
}

#[test]
fn messages_cross() {
    check(Waiting::Sleeps, 2, 2, |rank| {
        let other = 1 - rank.rank();
        rank.send(other, 2, 0);
        rank.receive(other, 2, 0);
    });
}

#[test]
fn groups_are_opened_at_the_same_time() {
    check_waiting(3, |rank| {
        rank.group = rank.world.group("pair", &[1, 0]).unwrap();
        rank.group.barrier().unwrap();
    });
}

#[test]
fn three_ranks() {
    check(Waiting::Spins, 3, 0, |rank| rank.all_reduce(FEW, 0));
    check(Waiting::Sleeps, 3, 1, |rank| (0..2).for_each(|round| rank.all_reduce(FEW, round)));
    check(Waiting::Sleeps, 3, 2, |rank| rank.all_reduce(FEW, 0));
    check(Waiting::Sleeps, 3, 0, |rank| rank.all_reduce(SOME / 2, 0));
    check(Waiting::Sleeps, 3, 1, |rank| rank.all_reduce(MANY, 0));
}

#[test]
fn one_gives_up() {
    check(Waiting::Ticks, 2, 2, |rank| {
        if rank.rank() == 0 {
            return rank.world.abort("enough");
        }
        match rank.group.barrier() {
            Err(Error::PeerLost { rank: 0, reason, .. }) => assert_eq!(reason, "enough"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn one_leaves_when_it_has_done_its_part() {
    Waiting::Ticks.set();
    builder(2).check(|| {
        let mut worlds = World::threads(2, TIMEOUT).unwrap();
        let other = worlds.remove(1);
        let other = thread::spawn(move || other.everybody().barrier().unwrap());
        worlds.remove(0).everybody().barrier().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn one_does_something_else() {
    check(Waiting::Ticks, 2, 2, |rank| {
        let mut data = [0.0f32; 4];
        let error = match rank.rank() {
            0 => rank.group.barrier(),
            _ => rank.group.all_reduce(&mut data, Reduction::Sum),
        };
        match error {
            Err(Error::Mismatch { operations: [a, b], .. }) => {
                assert!(a.contains("barrier") && b.contains("all_reduce"), "{a}, {b}");
            }
            other => panic!("{other:?}"),
        }
    });
}
