//! Groups of some ranks, messages, and many operations in a row.

use std::time::{Duration, SystemTime};

use mslite_collective::{Collective, CollectiveExt, CollectiveKind, Reduction};
use mslite_tensor::DType;

use super::exchanges::{check_in, kinds, rooted};
use super::ranks::{Seat, SharedProvider, case};
use crate::generate::Generator;
use crate::suite::{Case, Stop, Verdict, ensure, fail};

pub(super) fn cases(provider: &SharedProvider) -> Vec<Case> {
    vec![
        case(provider, "group/pairs", &[4], pairs),
        case(provider, "group/reversed", &[3], reversed),
        case(provider, "group/of_one", &[3], of_one),
        case(provider, "group/used_from_two_threads", &[4], two_threads),
        case(provider, "message/ring", &[2, 3, 4], ring),
        case(provider, "message/order", &[2], message_order),
        case(provider, "message/tags", &[2], message_tags),
        case(provider, "message/large", &[2], large_message),
        case(provider, "sequence/random", &[2, 3, 4], random_sequence),
        case(provider, "sequence/skewed", &[3], skewed),
        case(provider, "barrier/nobody_is_early", &[4], barrier),
    ]
}

/// What all ranks refuse is left out of a sequence.
fn check_if_supported(group: &dyn Collective, kind: &CollectiveKind, dtype: DType, block: usize) -> Verdict {
    match check_in(group, kind, dtype, block) {
        Err(Stop::Skip(_)) => Ok(()),
        verdict => verdict,
    }
}

fn pairs(seat: &Seat) -> Verdict {
    let (name, ranks) = if seat.rank.is_multiple_of(2) { ("even", [0, 2]) } else { ("odd", [1, 3]) };
    let group = seat.group(name, &ranks).map_err(fail("making the group"))?;
    let world = seat.world().map_err(fail("making the world's group"))?;
    for _ in 0..5 {
        for (_, kind) in kinds() {
            check_if_supported(&*group, &rooted(&kind, 1), DType::F32, 9)?;
        }
        check_in(&*world, &CollectiveKind::AllGather, DType::I32, 4)?;
    }
    Ok(())
}

fn reversed(seat: &Seat) -> Verdict {
    let group = seat.group("reversed", &[2, 1, 0]).map_err(fail("making the group"))?;
    let mut all = [0i32; 3];
    group.all_gather(&[seat.rank as i32], &mut all).map_err(fail("all_gather"))?;
    ensure(all == [2, 1, 0], || format!("the blocks stand as {all:?}, not in the order of the group"))?;
    let mut data = [seat.rank as i32];
    group.broadcast(&mut data, 0).map_err(fail("broadcast"))?;
    ensure(data == [2], || format!("rank {} was the root, not the group's first", data[0]))
}

fn of_one(seat: &Seat) -> Verdict {
    let group = seat.group(&format!("only{}", seat.rank), &[seat.rank]).map_err(fail("making the group"))?;
    kinds().iter().try_for_each(|(_, kind)| check_if_supported(&*group, &rooted(kind, 0), DType::F32, 5))
}

/// One thread of each rank works in the world, another one in a pair: neither waits for the other.
fn two_threads(seat: &Seat) -> Verdict {
    let world = seat.world().map_err(fail("making the world's group"))?;
    let ranks = if seat.rank < 2 { [0, 1] } else { [2, 3] };
    let pair =
        seat.group(if seat.rank < 2 { "low" } else { "high" }, &ranks).map_err(fail("making the group"))?;
    std::thread::scope(|scope| {
        let sums = scope.spawn(|| {
            (0..50).try_for_each(|_| {
                check_in(&*world, &CollectiveKind::AllReduce(Reduction::Sum), DType::F32, 100)
            })
        });
        let gathers = scope
            .spawn(|| (0..50).try_for_each(|_| check_in(&*pair, &CollectiveKind::AllGather, DType::I64, 30)));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Verdict>| {
            thread.join().map_err(|_| "a thread panicked")?
        };
        join(sums)?;
        join(gathers)
    })
}

/// Everybody sends to the next rank; rank 0 begins, so that no buffering is needed.
fn ring(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let (next, previous) = ((seat.rank + 1) % seat.size, (seat.rank + seat.size - 1) % seat.size);
    let mut token = [0u32, 7];
    for round in 1..=10 {
        if seat.rank == 0 {
            token[0] += 1;
            group.send(&token, next, 0).map_err(fail("send"))?;
            group.receive(&mut token, previous, 0).map_err(fail("receive"))?;
        } else {
            group.receive(&mut token, previous, 0).map_err(fail("receive"))?;
            token[0] += 1;
            group.send(&token, next, 0).map_err(fail("send"))?;
        }
        let expected =
            if seat.rank == 0 { round * seat.size } else { (round - 1) * seat.size + seat.rank + 1 };
        ensure(token == [expected as u32, 7], || {
            format!("in round {round} the token is {token:?}, not {expected}")
        })?;
    }
    Ok(())
}

fn message_order(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    for number in 0..100i64 {
        // Messages of several lengths, none of them included.
        let length = (number % 7) as usize;
        if seat.rank == 0 {
            group.send(&vec![number; length], 1, 5).map_err(fail("send"))?;
        } else {
            let mut data = vec![-1; length];
            group.receive(&mut data, 0, 5).map_err(fail("receive"))?;
            ensure(data == vec![number; length], || format!("message {number} is {data:?}"))?;
        }
    }
    Ok(())
}

fn message_tags(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    for tag in [0, 1, -1, i64::MAX, i64::MIN] {
        let mut data = [tag];
        if seat.rank == 1 {
            group.send(&data, 0, tag).map_err(fail("send"))?;
        } else {
            data[0] = 3;
            group.receive(&mut data, 1, tag).map_err(fail("receive"))?;
        }
        ensure(data == [tag], || format!("the message with tag {tag} is {data:?}"))?;
    }
    Ok(())
}

fn large_message(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let expected: Vec<u32> = (0..300_000).collect();
    if seat.rank == 0 {
        return group.send(&expected, 1, 0).map_err(fail("send"));
    }
    let mut data = vec![0; expected.len()];
    group.receive(&mut data, 0, 0).map_err(fail("receive"))?;
    ensure(data == expected, || "the message has changed on its way".to_owned())
}

fn random_sequence(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let kinds = kinds();
    let mut generator = Generator::new(seat.size as u64);
    for number in 0..150 {
        let (_, kind) = &kinds[generator.bits() as usize % kinds.len()];
        let kind = rooted(kind, generator.bits() as usize % seat.size);
        let dtype = [DType::F32, DType::F64, DType::I64, DType::U8][generator.bits() as usize % 4];
        let block = generator.bits() as usize % 300;
        check_if_supported(&*group, &kind, dtype, block).map_err(|stop| match stop {
            Stop::Fail(reason) => format!("operation {number}: {reason}").into(),
            skip => skip,
        })?;
    }
    Ok(())
}

/// Ranks that come at different times.
fn skewed(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(((seat.rank + round) % 3) as u64 * 15));
        check_in(&*group, &CollectiveKind::AllReduce(Reduction::Sum), DType::F32, 33)?;
        check_in(&*group, &CollectiveKind::Broadcast { root: round % 3 }, DType::F32, 33)?;
    }
    Ok(())
}

/// The clock is that of the host, so that ranks may be threads or processes.
fn barrier(seat: &Seat) -> Verdict {
    let now =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let group = seat.world().map_err(fail("making the group"))?;
    for round in 1..=40 {
        let came = now();
        group.barrier().map_err(fail("barrier"))?;
        let went = now();
        let mut all = vec![0; seat.size];
        group.all_gather(&[came], &mut all).map_err(fail("all_gather"))?;
        let late = all.iter().position(|&came| came > went);
        ensure(late.is_none(), || format!("rank {late:?} came to barrier {round} after others had gone"))?;
    }
    Ok(())
}
