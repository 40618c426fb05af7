//! Operations that are started, and finished later.

mod common;

use std::sync::Barrier;

use common::{TIMEOUT, Value, blocks, equal, expected, kinds, on_ranks, tensor, values};
use mslite_collective::{Collective, CollectiveExt, CollectiveKind, CollectiveOp, Error, Reduction, World};
use mslite_tensor::{DType, HostBuffer, HostStream, Tensor};

/// One rank's part of an operation of f32 on `count` elements in each block.
struct Part {
    op: CollectiveOp,
    sends: Vec<Vec<Value>>,
    send: Tensor,
    recv: Tensor,
}

impl Part {
    fn new(group: &dyn Collective, kind: &CollectiveKind, count: usize) -> Self {
        let (n, me) = (group.group().size(), group.group().rank);
        let (send_blocks, recv_blocks) = blocks(kind, n);
        let sends: Vec<_> = (0..n as u64).map(|r| values(DType::F32, count * send_blocks, r)).collect();
        Part {
            op: CollectiveOp { kind: kind.clone(), group: group.group().name.clone() },
            send: tensor(DType::F32, &sends[me]),
            recv: Tensor::zeros(DType::F32, &[count * recv_blocks]).unwrap(),
            sends,
        }
    }

    fn start(&self, group: &dyn Collective) {
        group.start(&self.op, &HostBuffer::reading(&self.send), &HostStream).unwrap();
    }

    fn finish(mut self, group: &dyn Collective) {
        group.run(self.op.kind.clone(), &self.send, &mut self.recv).unwrap();
        let me = group.group().rank;
        if let Some(expected) = expected(DType::F32, &self.op.kind, &self.sends, me) {
            assert!(equal(DType::F32, self.recv.bytes(), &expected), "{} at rank {me}", self.op);
        }
    }
}

/// Kinds in which all members take part.
fn collectives(n: usize) -> impl Iterator<Item = CollectiveKind> {
    kinds(n).into_iter().filter(|kind| kind.tag().is_none())
}

fn all_contribute(kind: &CollectiveKind) -> bool {
    use CollectiveKind::{AllGather, AllReduce, AllToAll, Gather, Reduce, ReduceScatter};
    matches!(kind, AllGather | AllReduce(_) | AllToAll | Gather { .. } | Reduce { .. } | ReduceScatter(_))
}

#[test]
fn nobody_waits_for_who_has_started() {
    for (n, count) in [(2, 1), (3, 1), (2, 20_000)] {
        let met = Barrier::new(n);
        on_ranks(n, TIMEOUT, |world: World| {
            let group = world.everybody();
            for kind in collectives(n).filter(all_contribute) {
                let part = Part::new(&*group, &kind, count);
                met.wait();
                if world.rank() == 0 {
                    part.start(&*group);
                    // The others finish before this rank goes on.
                    met.wait();
                    part.finish(&*group);
                } else {
                    part.finish(&*group);
                    met.wait();
                }
            }
        });
    }
}

#[test]
fn what_was_started_streams_on_whatever_its_size() {
    for n in 1..=3 {
        on_ranks(n, TIMEOUT, |world: World| {
            let group = world.everybody();
            for (i, kind) in collectives(n).enumerate() {
                for count in [0, 3, 150_001] {
                    let part = Part::new(&*group, &kind, count);
                    if !(i + world.rank()).is_multiple_of(3) {
                        part.start(&*group);
                    }
                    part.finish(&*group);
                }
            }
        });
    }
}

#[test]
fn messages_go_between_start_and_finish() {
    on_ranks(2, TIMEOUT, |world: World| {
        let group = world.everybody();
        let part = Part::new(&*group, &CollectiveKind::AllGather, 5);
        part.start(&*group);
        let mut other = [0.0f32];
        match world.rank() {
            0 => group.send(&[7.0f32], 1, 3).unwrap(),
            _ => group.receive(&mut other, 0, 3).unwrap(),
        }
        assert_eq!(other[0], if world.rank() == 0 { 0.0 } else { 7.0 });
        part.finish(&*group);
    });
}

#[test]
fn another_operation_is_refused_until_the_started_one_is_finished() {
    on_ranks(2, TIMEOUT, |world: World| {
        let group = world.everybody();
        let part = Part::new(&*group, &CollectiveKind::AllReduce(Reduction::Sum), 5);
        part.start(&*group);
        let again = group.start(&part.op, &HostBuffer::reading(&part.send), &HostStream);
        assert!(matches!(again, Err(Error::InvalidArgument(_))), "{again:?}");
        let error = group.barrier().unwrap_err().to_string();
        assert!(error.contains("barrier") && error.contains("all_reduce(sum)"), "{error}");
        part.finish(&*group);
        group.barrier().unwrap();
    });
}
