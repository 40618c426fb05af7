use mslite_collective::{Collective, CollectiveExt, CollectiveKind, CollectiveOp, Error, Reduction};
use mslite_tensor::{DType, Tensor};

use super::ranks::{Seat, SharedProvider, case, exchange};
use crate::generate::Generator;
use crate::reference;
use crate::suite::{Case, Stop, Verdict, ensure, fail};
use crate::{Tolerance, compare};

const SIZES: &[usize] = &[1, 2, 3, 4];

/// Elements of a block: none, one, odd, and more than a cache line or a page.
const BLOCKS: [usize; 4] = [0, 1, 64, 517];

pub(super) fn cases(provider: &SharedProvider) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, kind) in kinds() {
        for dtype in DType::ALL {
            if kind.reduction() == Some(Reduction::Mean) && dtype == DType::Bool {
                continue;
            }
            let kind = kind.clone();
            cases.push(case(provider, format!("{name}/{dtype}"), SIZES, move |seat| {
                BLOCKS.iter().try_for_each(|&block| check(seat, &kind, dtype, block))
            }));
        }
        cases.push(case(provider, format!("{name}/large"), &[3], move |seat| {
            check(seat, &kind, DType::F32, 20_021)
        }));
    }
    cases.push(case(provider, "all_reduce/in_place", SIZES, in_place));
    cases.push(case(provider, "unused_buffers/any_size", SIZES, unused_buffers));
    cases.push(case(provider, "max/nan", &[2, 3], nan_is_kept));
    cases.push(case(provider, "sum/accumulates_in_f32", &[4], accumulates_in_f32));
    cases.push(case(provider, "group/description", SIZES, description));
    cases
}

/// Every kind that is an operation of a whole group.
pub(super) fn kinds() -> Vec<(String, CollectiveKind)> {
    let mut kinds = vec![
        ("all_gather".to_owned(), CollectiveKind::AllGather),
        ("broadcast".to_owned(), CollectiveKind::Broadcast { root: usize::MAX }),
        ("gather".to_owned(), CollectiveKind::Gather { root: usize::MAX }),
        ("scatter".to_owned(), CollectiveKind::Scatter { root: usize::MAX }),
        ("all_to_all".to_owned(), CollectiveKind::AllToAll),
    ];
    for reduction in Reduction::ALL {
        kinds.push((format!("all_reduce_{reduction}"), CollectiveKind::AllReduce(reduction)));
        kinds.push((format!("reduce_scatter_{reduction}"), CollectiveKind::ReduceScatter(reduction)));
        let kind = CollectiveKind::Reduce { root: usize::MAX, reduction };
        kinds.push((format!("reduce_{reduction}"), kind));
    }
    kinds
}

/// The kind with a root in place of the open one.
pub(super) fn rooted(kind: &CollectiveKind, root: usize) -> CollectiveKind {
    match *kind {
        CollectiveKind::Broadcast { .. } => CollectiveKind::Broadcast { root },
        CollectiveKind::Gather { .. } => CollectiveKind::Gather { root },
        CollectiveKind::Scatter { .. } => CollectiveKind::Scatter { root },
        CollectiveKind::Reduce { reduction, .. } => CollectiveKind::Reduce { root, reduction },
        ref other => other.clone(),
    }
}

/// Elements that go in and come out, from those of a block.
pub(super) fn counts(kind: &CollectiveKind, block: usize, size: usize) -> (usize, usize) {
    match kind {
        CollectiveKind::AllGather | CollectiveKind::Gather { .. } => (block, block * size),
        CollectiveKind::ReduceScatter(_) | CollectiveKind::Scatter { .. } => (block * size, block),
        CollectiveKind::AllToAll => (block * size, block * size),
        _ => (block, block),
    }
}

fn check(seat: &Seat, kind: &CollectiveKind, dtype: DType, block: usize) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    for root in [0, seat.size - 1] {
        check_in(&*group, &rooted(kind, root), dtype, block)?;
        if rooted(kind, root) == *kind {
            break;
        }
    }
    Ok(())
}

/// What a rank contributes to operation `number` of a group.
pub(super) fn contribution(dtype: DType, count: usize, rank: usize, number: u64) -> Tensor {
    let low = if dtype.is_unsigned_int() { 0.0 } else { -5.0 };
    Generator::new(1000 * number + rank as u64).tensor(dtype, &[count], low, 6.0)
}

/// Runs one operation in a group and compares what comes back.
pub(super) fn check_in(group: &dyn Collective, kind: &CollectiveKind, dtype: DType, block: usize) -> Verdict {
    let (rank, size) = (group.group().rank, group.group().size());
    let op = CollectiveOp::new(kind.clone(), group.group().name.clone());
    if !group.supports(&op) {
        return Err(Stop::Skip(format!("{kind} is not supported")));
    }
    let (send, recv) = counts(kind, block, size);
    let sends: Vec<Tensor> = (0..size).map(|rank| contribution(dtype, send, rank, 1)).collect();
    let untouched = contribution(dtype, recv, rank, 2);
    let result = exchange(group, kind, &sends[rank], &untouched);
    let at = |reason: String| Stop::Fail(format!("{kind} of {block} {dtype}: {reason}"));
    match reference::exchange(kind, &sends) {
        Ok(expected) => {
            let actual = result.map_err(|error| match error {
                Error::Unsupported(reason) => Stop::Skip(reason),
                error => at(error.to_string()),
            })?;
            let expected = expected[rank].as_ref().unwrap_or(&untouched);
            let moves = kind.reduction().is_none();
            let tolerance = if moves { Tolerance::EXACT } else { Tolerance::of(dtype).times(2.0) };
            compare(&actual, expected, tolerance).map_err(|mismatch| at(mismatch.to_string()))
        }
        Err(_) => match result {
            Err(Error::InvalidArgument(_) | Error::Unsupported(_)) => Ok(()),
            Err(error) => Err(at(format!("it is refused as {error}"))),
            Ok(_) => Err(at("it is not defined and not refused".to_owned())),
        },
    }
}

fn in_place(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let mut data: Vec<i64> = (0..1031).map(|i| i * (seat.rank as i64 + 1)).collect();
    group.all_reduce(&mut data, Reduction::Sum).map_err(fail("all_reduce"))?;
    let factor: i64 = (1..=seat.size as i64).sum();
    let wrong = data.iter().enumerate().find(|&(i, &v)| v != i as i64 * factor);
    ensure(wrong.is_none(), || format!("element {wrong:?} is not the sum over {} ranks", seat.size))
}

/// What an operation does not use at a rank may be of any size and type, and stays as it is.
fn unused_buffers(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let root = seat.size - 1;
    let is_root = seat.rank == root;
    let odd = || contribution(DType::I16, 7, seat.rank, 3);
    let data = |count: usize, rank: usize| contribution(DType::F32, count, rank, 1);
    let reduction = Reduction::Sum;
    let kinds = [
        (CollectiveKind::Broadcast { root }, is_root, true),
        (CollectiveKind::Scatter { root }, is_root, true),
        (CollectiveKind::Gather { root }, true, is_root),
        (CollectiveKind::Reduce { root, reduction }, true, is_root),
        (CollectiveKind::Barrier, false, false),
    ];
    for (kind, sends, receives) in kinds {
        let (send_count, recv_count) = counts(&kind, 5, seat.size);
        let send = if sends { data(send_count, seat.rank) } else { odd() };
        let recv = if receives { data(recv_count, seat.rank) } else { odd() };
        let actual = exchange(&*group, &kind, &send, &recv).map_err(fail(&kind.to_string()))?;
        let all: Vec<Tensor> = (0..seat.size).map(|rank| data(send_count, rank)).collect();
        let expected = reference::exchange(&kind, &all).map_err(fail("the reference"))?;
        let expected = expected[seat.rank].as_ref().filter(|_| receives).unwrap_or(&recv);
        compare(&actual, expected, Tolerance::of(DType::F32)).map_err(fail(&kind.to_string()))?;
    }
    Ok(())
}

fn nan_is_kept(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    for reduction in [Reduction::Max, Reduction::Min, Reduction::Sum] {
        let mut data = [1.0f32, if seat.rank == seat.size - 1 { f32::NAN } else { 2.0 }, 3.0];
        group.all_reduce(&mut data, reduction).map_err(fail("all_reduce"))?;
        let right = !data[0].is_nan() && data[1].is_nan() && !data[2].is_nan();
        ensure(right, || format!("the {reduction} with a NaN is {data:?}"))?;
    }
    Ok(())
}

/// 2048 + 1 + 1 + 1 in steps of f16 stays 2048.
fn accumulates_in_f32(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let own = if seat.rank == 0 { 2048.0 } else { 1.0 };
    let mut data = [mslite_tensor::f16::from_f32(own)];
    group.all_reduce(&mut data, Reduction::Sum).map_err(fail("all_reduce"))?;
    ensure(data[0].to_f32() == 2052.0, || {
        format!("2048 + 1 + 1 + 1 is {}, not 2051 rounded to 2052", data[0])
    })
}

fn description(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    let all: Vec<usize> = (0..seat.size).collect();
    let described = group.group();
    let right = described.ranks == all && described.rank == seat.rank && described.name.is_world();
    ensure(right, || format!("rank {} of {} is described as {described:?}", seat.rank, seat.size))
}
