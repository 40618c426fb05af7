//! Ranks as threads: every collective against a naive reference, and what must fail.

mod common;

use std::sync::Barrier;
use std::time::Duration;

use common::{TIMEOUT, blocks, equal, expected, is_defined, kinds, on_ranks, shared_tensor, tensor, values};
use mslite_collective::{
    Collective, CollectiveExt, CollectiveKind, CollectiveOp, Error, Reduction, SEND_CAPACITY, World,
};
use mslite_tensor::{Buffer, DType, HostBuffer, HostSpan, HostStream, Stream, Tensor};
use proptest::prelude::*;

/// Runs an operation at one rank and compares with the reference.
fn check(group: &dyn Collective, kind: &CollectiveKind, dtype: DType, count: usize, seed: u64) {
    let (n, me) = (group.group().size(), group.group().rank);
    let (send_blocks, recv_blocks) = blocks(kind, n);
    let sends: Vec<_> = (0..n as u64).map(|r| values(dtype, count * send_blocks, seed * 64 + r)).collect();
    let send =
        if seed.is_multiple_of(2) { tensor(dtype, &sends[me]) } else { shared_tensor(dtype, &sends[me]) };
    let mut recv = Tensor::zeros(dtype, &[count * recv_blocks]).unwrap();
    recv.bytes_mut().unwrap().fill(0xee);
    let result = group.run(kind.clone(), &send, &mut recv);
    if kind.reduction().is_some_and(|r| !is_defined(dtype, r)) {
        assert!(matches!(result, Err(Error::Unsupported(_))), "{kind} of {dtype}: {result:?}");
        return;
    }
    result.unwrap();
    let expected = expected(dtype, kind, &sends, me);
    let expected = expected.unwrap_or_else(|| vec![0xee; recv.size_bytes()]);
    assert!(equal(dtype, recv.bytes(), &expected), "{kind} of {dtype}[{count}] at rank {me} of {n}");
}

#[test]
fn every_kind_and_dtype_and_size_matches_the_reference() {
    for n in 1..=5 {
        on_ranks(n, TIMEOUT, |world| {
            let mut seed = 0;
            for kind in kinds(n) {
                for dtype in DType::ALL {
                    for count in [0, 1, 7, 1025] {
                        seed += 1;
                        check(&*world.everybody(), &kind, dtype, count, seed);
                    }
                }
            }
        });
    }
}

#[test]
fn large_operations_stream_through_the_staging_area() {
    for n in [1, 2, 3] {
        on_ranks(n, TIMEOUT, |world| {
            for (seed, kind) in kinds(n).into_iter().enumerate() {
                check(&*world.everybody(), &kind, DType::F32, 280_003, seed as u64);
            }
            check(&*world.everybody(), &CollectiveKind::AllReduce(Reduction::Sum), DType::F16, 1_000_001, 1);
        });
    }
}

#[test]
fn sub_groups_are_independent() {
    on_ranks(5, TIMEOUT, |world| {
        let rank = world.rank();
        let parity: Vec<usize> = (0..5).filter(|r| r % 2 == rank % 2).collect();
        let same_name = world.group("parity", &parity).unwrap();
        let reversed = world.group("reversed", &[4, 3, 2, 1, 0]).unwrap();
        assert_eq!((reversed.group().rank, reversed.group().world_rank()), (4 - rank, rank));
        for round in 0..20 {
            for kind in kinds(same_name.group().size()) {
                check(&*same_name, &kind, DType::I32, 33, round);
            }
            check(&*reversed, &CollectiveKind::AllGather, DType::F32, 10, round);
            if let Some(pair) = [[0, 3], [1, 2]].iter().find(|pair| pair.contains(&rank)) {
                let pair = world.group(&format!("pair{}", pair[0]), pair).unwrap();
                check(&*pair, &CollectiveKind::AllReduce(Reduction::Sum), DType::F64, 100, round);
            }
        }
    });
}

#[test]
fn all_names_of_the_world_group_mean_all_ranks() {
    on_ranks(2, TIMEOUT, |world| {
        for name in ["hccl_world_group", "nccl_world_group", "mccl_world_group"] {
            let group = world.group(name, &[]).unwrap();
            assert_eq!(group.group().size(), 2);
            let op = CollectiveOp::new(CollectiveKind::Barrier, "mccl_world_group");
            let nothing = HostBuffer::zeroed(DType::U8, &[0]).unwrap();
            assert!(group.supports(&op));
            group.enqueue(&op, &nothing, &nothing, &HostStream).unwrap();
        }
    });
}

#[test]
fn operations_work_in_place() {
    for n in [1, 2, 3, 4] {
        on_ranks(n, TIMEOUT, |world| {
            let (group, rank, count) = (world.everybody(), world.rank() as i32, 100_000);
            let mut data: Vec<i32> = (0..count).map(|i| i + rank).collect();
            group.all_reduce(&mut data, Reduction::Sum).unwrap();
            let ranks: i32 = (0..n as i32).sum();
            assert!(data.iter().zip(0..).all(|(&x, i)| x == n as i32 * i + ranks));
            let mut data = vec![rank; 77];
            group.broadcast(&mut data, n - 1).unwrap();
            assert_eq!(data, vec![n as i32 - 1; 77]);

            let gathered = HostBuffer::zeroed(DType::U8, &[n * 300_000]).unwrap();
            let mine = gathered.window(DType::U8, &[300_000], world.rank() * 300_000).unwrap();
            let one = Tensor::from_vec(vec![rank as u8 + 1; 300_000], &[300_000]).unwrap();
            let op = CollectiveOp::new(CollectiveKind::Broadcast { root: 0 }, "hccl_world_group");
            for root in 0..n {
                let op = CollectiveOp { kind: CollectiveKind::Broadcast { root }, ..op.clone() };
                let into = gathered.window(DType::U8, &[300_000], root * 300_000).unwrap();
                let from = HostBuffer::reading(&one);
                group.enqueue(&op, &from, &into, &HostStream).unwrap();
            }
            let op = CollectiveOp::new(CollectiveKind::AllGather, "hccl_world_group");
            group.enqueue(&op, &mine, &gathered, &HostStream).unwrap();
            let mut all = Tensor::zeros(DType::U8, &[n * 300_000]).unwrap();
            let copy = HostBuffer::writing(&mut all).unwrap();
            let op = CollectiveOp::new(CollectiveKind::Broadcast { root: 0 }, "hccl_world_group");
            group.enqueue(&op, &gathered, &copy, &HostStream).unwrap();
            assert!(all.bytes().iter().enumerate().all(|(i, &b)| usize::from(b) == i / 300_000 + 1));
        });
    }
}

#[test]
fn other_overlaps_are_refused() {
    on_ranks(2, TIMEOUT, |world| {
        let memory = HostBuffer::zeroed(DType::U8, &[100]).unwrap();
        let window = |start: usize, len: usize| memory.window(DType::U8, &[len], start).unwrap();
        let run = |kind, send: &dyn Buffer, recv: &dyn Buffer| {
            world.everybody().enqueue(&CollectiveOp::new(kind, "hccl_world_group"), send, recv, &HostStream)
        };
        let shifted = run(CollectiveKind::AllReduce(Reduction::Sum), &window(0, 40), &window(8, 40));
        assert!(matches!(shifted, Err(Error::InvalidArgument(_))), "{shifted:?}");
        let whole = run(CollectiveKind::AllToAll, &window(0, 40), &window(0, 40));
        assert!(matches!(whole, Err(Error::InvalidArgument(_))), "{whole:?}");
        run(CollectiveKind::AllToAll, &window(0, 40), &window(40, 40)).unwrap();
    });
}

#[test]
fn results_are_the_same_bits_at_every_rank() {
    for n in [2, 3, 4] {
        let results = on_ranks(n, TIMEOUT, |world| {
            let random = |i: usize| ((i * 7919 + world.rank() * 104_729) % 1000) as f32 * 0.001 + 1e-7;
            let mut small: Vec<f32> = (0..50).map(random).collect();
            let mut large: Vec<f32> = (0..200_000).map(random).collect();
            world.everybody().all_reduce(&mut small, Reduction::Sum).unwrap();
            world.everybody().all_reduce(&mut large, Reduction::Sum).unwrap();
            small.extend(large);
            small.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn half_precision_is_accumulated_in_single() {
    let results = on_ranks(3, TIMEOUT, |world| {
        let mut data = [mslite_tensor::f16::from_f32([2048.0, 1.0, 1.0][world.rank()])];
        world.everybody().all_reduce(&mut data, Reduction::Sum).unwrap();
        data[0].to_f32()
    });
    assert_eq!(results, [2050.0; 3]);
}

#[test]
fn nan_wins_over_numbers() {
    for reduction in [Reduction::Max, Reduction::Min, Reduction::Sum] {
        on_ranks(3, TIMEOUT, |world| {
            for nan_at in 0..3 {
                let mut data = [if world.rank() == nan_at { f32::NAN } else { 1.0 }; 3];
                world.everybody().all_reduce(&mut data, reduction).unwrap();
                assert!(data.iter().all(|x| x.is_nan()));
            }
        });
    }
}

#[test]
fn messages_match_by_tag_in_order() {
    on_ranks(2, TIMEOUT, |world| {
        let group = world.everybody();
        if world.rank() == 0 {
            for (value, tag) in [(1i32, 7), (2, 8), (3, 7), (4, -1)] {
                group.send(&[value; 1000], 1, tag).unwrap();
            }
            group.send::<f64>(&[], 1, 0).unwrap();
        } else {
            for (value, tag) in [(4i32, -1), (1, 7), (3, 7), (2, 8)] {
                let mut data = [0i32; 1000];
                group.receive(&mut data, 0, tag).unwrap();
                assert_eq!(data, [value; 1000]);
            }
            group.receive::<f64>(&mut [], 0, 0).unwrap();
        }
    });
}

#[test]
fn both_may_send_first_and_large_messages_stream() {
    on_ranks(2, TIMEOUT, |world| {
        let (group, me) = (world.everybody(), world.rank());
        for _ in 0..5 {
            let mut data = vec![0u8; SEND_CAPACITY];
            group.send(&vec![me as u8 + 1; SEND_CAPACITY], 1 - me, 0).unwrap();
            group.receive(&mut data, 1 - me, 0).unwrap();
            assert!(data.iter().all(|&b| b == 2 - me as u8));
        }
        let large: Vec<u32> = (0..1_000_003).collect();
        let mut data = vec![0u32; large.len()];
        if me == 0 {
            group.send(&large, 1, 5).unwrap();
            group.send(&large, 1, 6).unwrap();
        } else {
            group.receive(&mut data, 0, 6).unwrap();
            assert!(data == large);
            data.fill(0);
            group.receive(&mut data, 0, 5).unwrap();
            assert!(data == large);
        }
    });
}

#[test]
fn exchange_takes_any_lengths() {
    on_ranks(4, TIMEOUT, |world| {
        for base in [0, 1, 300_000] {
            let mine = vec![world.rank() as u8; base * world.rank()];
            let all = world.exchange(&mine).unwrap();
            for (rank, bytes) in all.iter().enumerate() {
                assert!(bytes.len() == base * rank && bytes.iter().all(|&b| usize::from(b) == rank));
            }
        }
    });
}

#[test]
fn mismatches_are_errors_at_all_ranks() {
    let other_at_2 = |kind: CollectiveKind, dtype: DType, count: usize| {
        on_ranks(3, TIMEOUT, |world| {
            let (kind, dtype, count) = match world.rank() {
                2 => (kind.clone(), dtype, count),
                _ => (CollectiveKind::AllReduce(Reduction::Sum), DType::F32, 8),
            };
            let send = Tensor::zeros(dtype, &[count]).unwrap();
            let mut recv = Tensor::zeros(dtype, &[count]).unwrap();
            world.everybody().run(kind, &send, &mut recv)
        })
    };
    for results in [
        other_at_2(CollectiveKind::AllReduce(Reduction::Max), DType::F32, 8),
        other_at_2(CollectiveKind::AllReduce(Reduction::Sum), DType::I32, 8),
        other_at_2(CollectiveKind::AllReduce(Reduction::Sum), DType::F32, 9),
        other_at_2(CollectiveKind::AllReduce(Reduction::Sum), DType::F32, 1_000_000),
        other_at_2(CollectiveKind::Broadcast { root: 2 }, DType::F32, 8),
        other_at_2(CollectiveKind::Barrier, DType::F32, 8),
    ] {
        for result in results {
            let Err(Error::Mismatch { ranks, operations }) = result else { panic!("{result:?}") };
            assert_eq!(ranks[1], 2, "{operations:?}");
            assert!(operations[0].contains("all_reduce(sum) of f32[8]"), "{operations:?}");
        }
    }
}

#[test]
fn mismatched_messages_and_groups_are_errors() {
    let results = on_ranks(2, TIMEOUT, |world| {
        let group = world.everybody();
        match world.rank() {
            0 => group.send(&[1.0f32; 4], 1, 0).and_then(|()| group.barrier()),
            _ => group.receive(&mut [0f32; 5], 0, 0).and_then(|()| group.barrier()),
        }
    });
    assert!(results.iter().all(|r| matches!(r, Err(Error::Mismatch { ranks: [0, 1], .. }))), "{results:?}");

    let results = on_ranks(3, TIMEOUT, |world| {
        let ranks = if world.rank() == 0 { [0, 1, 2] } else { [2, 1, 0] };
        world.group("g", &ranks).and_then(|group| group.barrier())
    });
    assert!(results.iter().all(|r| matches!(r, Err(Error::Mismatch { .. }))), "{results:?}");
}

#[test]
fn bad_arguments_are_refused_before_anything_is_exchanged() {
    on_ranks(2, TIMEOUT, |world| {
        let group = world.everybody();
        let tensor = |dtype, n: usize| Tensor::zeros(dtype, &[n]).unwrap();
        let refused = |kind: CollectiveKind, send: Tensor, mut recv: Tensor| {
            let result = group.run(kind, &send, &mut recv);
            assert!(matches!(result, Err(Error::InvalidArgument(_))), "{result:?}");
        };
        let sum = || CollectiveKind::AllReduce(Reduction::Sum);
        refused(sum(), tensor(DType::F32, 4), tensor(DType::F32, 5));
        refused(sum(), tensor(DType::F32, 4), tensor(DType::I32, 4));
        refused(CollectiveKind::AllGather, tensor(DType::F32, 4), tensor(DType::F32, 4));
        refused(CollectiveKind::AllToAll, tensor(DType::F32, 3), tensor(DType::F32, 3));
        refused(CollectiveKind::Broadcast { root: 2 }, tensor(DType::F32, 3), tensor(DType::F32, 3));
        for ranks in [&[][..], &[0], &[0, 1, 1], &[0, 1, 2]] {
            let result = world.group("bad", if world.rank() == 0 && ranks == [0] { &[1] } else { ranks });
            assert!(matches!(result, Err(Error::InvalidArgument(_))), "{result:?}");
        }
        let op = CollectiveOp::new(CollectiveKind::Barrier, "another");
        let nothing = HostBuffer::zeroed(DType::U8, &[0]).unwrap();
        assert!(!group.supports(&op));
        let result = group.enqueue(&op, &nothing, &nothing, &HostStream);
        assert!(matches!(result, Err(Error::InvalidArgument(_))));
        group.barrier().unwrap();
    });
    for size in [0, 1000] {
        assert!(matches!(World::threads(size, TIMEOUT), Err(Error::InvalidArgument(_))));
    }
}

#[derive(Debug)]
struct Device;

impl Buffer for Device {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn dims(&self) -> &[usize] {
        &[0]
    }

    fn host(&self) -> Option<HostSpan> {
        None
    }
}

impl Stream for Device {
    fn synchronize(&self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn device_memory_and_streams_are_unsupported() {
    on_ranks(1, TIMEOUT, |world| {
        let op = CollectiveOp::new(CollectiveKind::AllGather, "hccl_world_group");
        let host = HostBuffer::zeroed(DType::F32, &[0]).unwrap();
        let group = world.everybody();
        for result in
            [group.enqueue(&op, &Device, &host, &HostStream), group.enqueue(&op, &host, &host, &Device)]
        {
            assert!(matches!(result, Err(Error::Unsupported(_))), "{result:?}");
        }
    });
}

#[test]
fn abort_reaches_everybody() {
    let results = on_ranks(3, TIMEOUT, |world| {
        let group = world.everybody();
        group.barrier().unwrap();
        if world.rank() == 1 {
            world.abort("out of paper");
        }
        [group.barrier(), world.group("later", &[0, 1, 2]).map(drop)]
    });
    for (rank, result) in results.iter().enumerate().flat_map(|(i, r)| r.iter().map(move |r| (i, r))) {
        match result {
            Err(Error::Aborted { reason }) if rank == 1 => assert_eq!(reason, "out of paper"),
            Err(Error::PeerLost { rank: 1, reason, .. }) if rank != 1 => assert_eq!(reason, "out of paper"),
            _ => panic!("rank {rank}: {result:?}"),
        }
    }
}

#[test]
fn cancellation_ends_the_waits_of_all_ranks() {
    let from_a_thread: fn(&World) = |world| world.cancellation().cancel("the user");
    let from_a_handler: fn(&World) = |world| world.cancellation().signal(15);
    for (cancel, by) in [(from_a_thread, "the user"), (from_a_handler, "SIGTERM")] {
        let results = on_ranks(3, TIMEOUT, |world| {
            let group = world.everybody();
            group.barrier().unwrap();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| match world.rank() {
                    0 => group.receive(&mut [0u8; 4], 2, 0),
                    1 => world.group("later", &[0, 1, 2]).and_then(|group| group.barrier()),
                    _ => group.barrier(),
                });
                if world.rank() == 1 {
                    std::thread::sleep(Duration::from_millis(50));
                    cancel(&world);
                }
                [waiting.join().unwrap(), group.barrier()]
            })
        });
        for (rank, result) in results.iter().enumerate().flat_map(|(i, r)| r.iter().map(move |r| (i, r))) {
            match result {
                Err(Error::Cancelled { rank: 1, by: named, .. }) => assert_eq!(named, by),
                _ => panic!("rank {rank}: {result:?}"),
            }
        }
    }
}

#[test]
fn a_rank_that_computes_is_cancelled_for_the_others() {
    let done = Barrier::new(2);
    let results = on_ranks(2, TIMEOUT, |world| {
        let group = world.everybody();
        if world.rank() == 0 {
            let result = group.barrier();
            done.wait();
            return result;
        }
        std::thread::scope(|scope| scope.spawn(|| world.cancellation().cancel("the user")).join()).unwrap();
        // Exchanges nothing until the other one has ended.
        done.wait();
        group.barrier()
    });
    for result in results {
        let error = result.unwrap_err();
        assert_eq!((error.culprits(), error.to_string().contains("the user")), (vec![1], true), "{error}");
    }
}

#[test]
fn worlds_split_by_color_and_key() {
    on_ranks(5, TIMEOUT, |world| {
        let me = world.rank();
        let color = [Some(u64::MAX), Some(3), None, Some(u64::MAX), Some(3)][me];
        let key = [0, 0, 0, i64::MIN, 0][me];
        let part = world.split("parts", color, key).unwrap();
        let expected: Option<&[usize]> = [Some(&[3, 0][..]), Some(&[1, 4]), None][[0, 1, 2, 0, 1][me]];
        assert_eq!(part.as_ref().map(|part| part.group().ranks.as_slice()), expected);
        if let Some(part) = part {
            let mut all = [0u32; 2];
            part.all_gather(&[me as u32], &mut all).unwrap();
            assert_eq!(all.map(|rank| rank as usize), expected.unwrap());
            let again = world.group("parts", expected.unwrap()).unwrap();
            assert_eq!(again.group(), part.group());
        }
    });
}

#[test]
fn giving_up_a_group_leaves_the_others() {
    on_ranks(2, TIMEOUT, |world| {
        let group = world.group("pair", &[0, 1]).unwrap();
        if world.rank() == 1 {
            group.abort();
            assert!(matches!(group.barrier(), Err(Error::Aborted { .. })));
        } else {
            assert!(matches!(group.barrier(), Err(Error::PeerLost { rank: 1, .. })));
        }
        world.everybody().barrier().unwrap();
    });
}

#[test]
fn who_has_given_up_has_its_buffers_back() {
    // Large enough that a rank is likely to be at it when it is cancelled.
    const LEN: usize = 1 << 20;
    for turn in 0..40u64 {
        on_ranks(3, TIMEOUT, |world| {
            let canceller = world.cancellation().clone();
            let delay = Duration::from_micros(37 * turn);
            let timer = (world.rank() == turn as usize % 3).then(|| {
                std::thread::spawn(move || {
                    std::thread::sleep(delay);
                    canceller.cancel("the test");
                })
            });
            let send = Tensor::zeros(DType::F32, &[LEN]).unwrap();
            let mut recv = Tensor::zeros(DType::F32, &[LEN]).unwrap();
            let group = world.everybody();
            while group.run(CollectiveKind::AllReduce(Reduction::Sum), &send, &mut recv).is_ok() {}
            recv.bytes_mut().unwrap().fill(0xa5);
            std::thread::sleep(Duration::from_millis(3));
            assert!(recv.bytes_mut().unwrap().iter().all(|&byte| byte == 0xa5), "turn {turn}");
            timer.into_iter().for_each(|timer| timer.join().unwrap());
        });
    }
}

#[test]
fn a_rank_that_leaves_or_panics_is_lost() {
    let results = on_ranks(3, TIMEOUT, |world| match world.rank() {
        2 => Ok(()),
        _ => world.everybody().all_reduce(&mut [1.0f32], Reduction::Sum),
    });
    for result in &results[..2] {
        assert!(matches!(result, Err(Error::PeerLost { rank: 2, .. })), "{result:?}");
    }
    let worlds = World::threads(2, TIMEOUT).unwrap();
    let mut threads = worlds.into_iter().map(|world| {
        std::thread::spawn(move || {
            assert!(world.rank() != 1, "a rank fails");
            world.everybody().receive(&mut [0u8; 4], 1, 0)
        })
    });
    let (receiver, panicking) = (threads.next().unwrap(), threads.next().unwrap());
    assert!(panicking.join().is_err());
    let result = receiver.join().unwrap();
    assert!(
        matches!(result, Err(Error::PeerLost { rank: 1, ref reason, .. }) if reason.contains("panicked")),
        "{result:?}"
    );
}

#[test]
fn a_silent_rank_is_named_with_what_it_did_last() {
    let done = Barrier::new(3);
    let results = on_ranks(3, Duration::from_millis(300), |world| {
        let group = world.everybody();
        group.all_reduce(&mut [1i8; 3], Reduction::Max).unwrap();
        let result = if world.rank() == 1 { Ok(()) } else { group.barrier() };
        done.wait();
        result
    });
    for rank in [0, 2] {
        let Err(Error::Timeout { missing, operation, detail, .. }) = &results[rank] else {
            panic!("{:?}", results[rank]);
        };
        assert_eq!(missing, &[1]);
        assert!(
            operation.contains("barrier") && detail.contains("all_reduce(max) of i8[3]"),
            "{}",
            results[rank].as_ref().unwrap_err()
        );
    }
}

#[test]
fn several_threads_of_a_rank_take_turns_and_groups_do_not_wait_for_each_other() {
    on_ranks(2, TIMEOUT, |world| {
        std::thread::scope(|scope| {
            for i in 0..4 {
                let group = world.group(&format!("g{i}"), &[0, 1]).unwrap();
                scope.spawn(move || {
                    (0..200).for_each(|s| check(&*group, &CollectiveKind::AllGather, DType::I16, 50, s))
                });
            }
            let both = world.everybody();
            let me = world.rank();
            let receiving = std::sync::Arc::clone(&both);
            scope.spawn(move || {
                for i in 0..100u32 {
                    let mut data = [0; 5000];
                    receiving.receive(&mut data, 1 - me, 0).unwrap();
                    assert_eq!(data, [i; 5000]);
                }
            });
            (0..100u32).for_each(|i| both.send(&[i; 5000], 1 - me, 0).unwrap());
        });
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_match_the_reference(
        n in 1usize..=5,
        sequence in prop::collection::vec((0usize..20, 0usize..15, 0usize..3000, 1u64..1000, any::<bool>()), 1..30),
    ) {
        on_ranks(n, TIMEOUT, |world| {
            let reversed: Vec<usize> = (0..n).rev().collect();
            for &(kind, dtype, count, seed, everybody) in &sequence {
                let group = if everybody { world.everybody() } else { world.group("r", &reversed).unwrap() };
                check(&*group, &kinds(n)[kind], DType::ALL[dtype], count, seed);
            }
            // Operations that are not defined do not wait for anybody, and who leaves takes its groups along.
            world.everybody().barrier().unwrap();
        });
    }
}

#[test]
fn who_waits_for_a_silent_rank_in_another_group_is_not_blamed() {
    let done = Barrier::new(3);
    let results = on_ranks(3, Duration::from_secs(4), |world| {
        let [pair, other] = [[0, 1], [1, 2]];
        let result = match world.rank() {
            // Its time is over before that of rank 1, for which it waits.
            0 => world.group("pair", &pair).and_then(|pair| pair.barrier()),
            1 => {
                std::thread::sleep(Duration::from_secs(1));
                world.group("other", &other).and_then(|other| other.barrier())
            }
            _ => Ok(()),
        };
        done.wait();
        result
    });
    for result in &results[..2] {
        assert!(matches!(result, Err(Error::Timeout { missing, .. }) if *missing == [2]), "{result:?}");
    }
}

#[test]
fn a_meter_counts_the_operations_of_all_groups() {
    let worlds = World::threads(3, TIMEOUT).unwrap();
    let work = |world: World| {
        // A group that is there already is counted from now on, and stays the same.
        let ranks = [2, 0, 1];
        world.group("r", &ranks).unwrap().barrier().unwrap();
        let (world, meter) = world.metered();
        assert_eq!((meter.operations(), meter.time()), (0, Duration::ZERO));
        let mut data = [world.rank() as f32; 4];
        world.everybody().all_reduce(&mut data, Reduction::Sum).unwrap();
        assert_eq!(data, [3.0; 4]);
        let (one, time) = (meter.operations(), meter.time());
        world.group("r", &ranks).unwrap().barrier().unwrap();
        let color = (world.rank() == 2) as u64;
        let part = world.split("part", Some(color), 0).unwrap().unwrap();
        part.barrier().unwrap();
        assert_eq!((part.group().size(), one, meter.operations()), (2 - color as usize, 1, 3));
        assert!(Duration::ZERO < time && time < meter.time());
        assert!(part.broadcast(&mut data, 7).is_err());
        assert_eq!(meter.operations(), 4);
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> = worlds.into_iter().map(|world| scope.spawn(move || work(world))).collect();
        ranks.into_iter().for_each(|rank| rank.join().unwrap());
    });
}

#[test]
fn a_timeout_says_who_waits_for_whom() {
    let results = on_ranks(3, Duration::from_secs(3), |world| match world.rank() {
        // Waits for rank 0, which waits for rank 2, which does not come.
        1 => world.group("pair", &[0, 1]).and_then(|pair| pair.barrier()),
        0 => world.everybody().barrier(),
        _ => {
            std::thread::sleep(Duration::from_secs(4));
            Ok(())
        }
    });
    for result in &results[..2] {
        let Err(error @ Error::Timeout { .. }) = result else { panic!("{result:?}") };
        let text = error.to_string();
        assert!(text.contains("s for rank 0 in barrier in group \"pair\""), "{text}");
        assert!(text.contains("s for ranks 1, 2 in barrier in group \"hccl_world_group\""), "{text}");
    }
}
