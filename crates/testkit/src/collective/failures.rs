//! Every rank learns of a failure; none hangs.

use std::time::Duration;

use mslite_collective::{Collective, CollectiveExt, CollectiveKind, Error, Reduction, Result};
use mslite_tensor::{DType, Tensor};

use super::exchanges::{check_in, counts};
use super::ranks::{PATIENCE, Seat, SharedProvider, case, exchange, together};
use crate::suite::{Case, Stop, Verdict, ensure, fail};

pub(super) fn cases(provider: &SharedProvider) -> Vec<Case> {
    let mut cases = vec![
        failing(provider, "failure/rank_leaves", PATIENCE, leaves, names_rank_1),
        failing(provider, "failure/rank_aborts", PATIENCE, aborts, names_rank_1),
        failing(provider, "failure/message_from_lost_rank", PATIENCE, waits_for_message, names_rank_1),
        failing(provider, "failure/rank_does_not_come", Duration::from_millis(400), stays_away, times_out),
        failing(provider, "failure/late_after_timeout", Duration::from_millis(400), comes_late, any_failure),
        case(provider, "failure/aborted_here", &[1, 2], aborted_here),
        case(provider, "refuses/sizes", &[2, 3], refuses_sizes),
        case(provider, "refuses/types", &[2], refuses_types),
        case(provider, "refuses/ranks", &[2], refuses_ranks),
    ];
    type Body = fn(&Seat) -> Result<()>;
    let mismatches: [(&str, Body); 5] = [
        ("kind", other_kind),
        ("reduction", other_reduction),
        ("dtype", other_dtype),
        ("size", other_size),
        ("root", other_root),
    ];
    for (name, body) in mismatches {
        cases.push(failing(provider, format!("mismatch/{name}"), PATIENCE, body, disagrees));
    }
    cases
}

/// A case that ends with an error at every rank; rank 1 is to blame.
fn failing(
    provider: &SharedProvider,
    name: impl Into<String>,
    timeout: Duration,
    body: fn(&Seat) -> Result<()>,
    judge: fn(usize, &Error) -> Verdict,
) -> Case {
    let provider = provider.clone();
    Case::new(name, move || {
        for size in [2, 3] {
            let answers = together(&provider, size, timeout, body)?;
            for (rank, answer) in answers {
                match answer {
                    Err(error) => judge(rank, &error)?,
                    Ok(()) if rank == 1 => {}
                    Ok(()) => return Err(Stop::Fail(format!("rank {rank} of {size} has not noticed"))),
                }
            }
        }
        Ok(())
    })
}

fn sum(group: &dyn Collective) -> Result<()> {
    group.all_reduce(&mut [1.0f32; 10], Reduction::Sum)
}

fn leaves(seat: &Seat) -> Result<()> {
    let group = seat.world()?;
    sum(&*group)?;
    if seat.rank == 1 { Ok(()) } else { sum(&*group) }
}

fn aborts(seat: &Seat) -> Result<()> {
    let group = seat.world()?;
    sum(&*group)?;
    if seat.rank == 1 {
        std::thread::sleep(Duration::from_millis(50));
        group.abort();
        return Ok(());
    }
    sum(&*group)
}

fn waits_for_message(seat: &Seat) -> Result<()> {
    let group = seat.world()?;
    sum(&*group)?;
    if seat.rank == 1 { Ok(()) } else { group.receive(&mut [0.0f32; 4], 1, 0) }
}

/// In the world, but elsewhere for longer than the others wait.
fn stays_away(seat: &Seat) -> Result<()> {
    let group = seat.world()?;
    if seat.rank == 1 {
        std::thread::sleep(Duration::from_millis(1500));
        return Ok(());
    }
    sum(&*group)
}

/// So late that the others have given up, even where they share a busy core.
fn comes_late(seat: &Seat) -> Result<()> {
    if seat.rank == 1 {
        std::thread::sleep(Duration::from_secs(3));
    }
    sum(&*seat.world()?)
}

fn names_rank_1(rank: usize, error: &Error) -> Verdict {
    let named = matches!(error, Error::PeerLost { rank: 1, .. });
    ensure(named || rank == 1, || format!("rank {rank} does not name rank 1 as lost: {error}"))
}

fn times_out(rank: usize, error: &Error) -> Verdict {
    // Who has run out of patience may leave, and be lost to the next.
    let fits = match error {
        Error::Timeout { missing, .. } => missing == &[1],
        Error::PeerLost { rank, .. } => *rank != 1,
        _ => false,
    };
    ensure(fits, || format!("rank {rank} does not say that rank 1 is missing: {error}"))
}

fn any_failure(rank: usize, error: &Error) -> Verdict {
    let fits = matches!(error, Error::Timeout { .. } | Error::PeerLost { .. });
    ensure(fits, || format!("rank {rank} reports neither a timeout nor a lost rank: {error}"))
}

fn disagrees(rank: usize, error: &Error) -> Verdict {
    let fits = matches!(error, Error::Mismatch { ranks, .. } if ranks.contains(&1));
    ensure(fits, || format!("rank {rank} does not say that rank 1 disagrees: {error}"))
}

/// Runs `usual`, or at rank 1 `other`, on 8 elements; nobody may succeed.
fn differ(seat: &Seat, usual: CollectiveKind, other: CollectiveKind) -> Result<()> {
    let group = seat.world()?;
    let kind = if seat.rank == 1 { other } else { usual };
    let (send, recv) = counts(&kind, 8, seat.size);
    let result = exchange(&*group, &kind, &float_zeros(send)?, &float_zeros(recv)?).map(|_| ());
    succeeded_alone(seat, result)
}

/// Success of rank 1 must not go unnoticed.
fn succeeded_alone(seat: &Seat, result: Result<()>) -> Result<()> {
    match result {
        Ok(()) if seat.rank == 1 => Err(Error::InvalidArgument("it has succeeded".to_owned())),
        result => result,
    }
}

fn float_zeros(count: usize) -> Result<Tensor> {
    Tensor::zeros(DType::F32, &[count]).map_err(|e| Error::InvalidArgument(e.to_string()))
}

fn other_kind(seat: &Seat) -> Result<()> {
    differ(seat, CollectiveKind::AllReduce(Reduction::Sum), CollectiveKind::AllGather)
}

fn other_reduction(seat: &Seat) -> Result<()> {
    differ(seat, CollectiveKind::AllReduce(Reduction::Sum), CollectiveKind::AllReduce(Reduction::Max))
}

fn other_root(seat: &Seat) -> Result<()> {
    differ(seat, CollectiveKind::Broadcast { root: 0 }, CollectiveKind::Broadcast { root: 1 })
}

fn other_dtype(seat: &Seat) -> Result<()> {
    let group = seat.world()?;
    let result = if seat.rank == 1 {
        group.all_reduce(&mut [1i32; 8], Reduction::Sum)
    } else {
        group.all_reduce(&mut [1f32; 8], Reduction::Sum)
    };
    succeeded_alone(seat, result)
}

fn other_size(seat: &Seat) -> Result<()> {
    let group = seat.world()?;
    let mut data = vec![1f32; if seat.rank == 1 { 9 } else { 8 }];
    let result = group.all_reduce(&mut data, Reduction::Sum);
    succeeded_alone(seat, result)
}

fn aborted_here(seat: &Seat) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    group.abort();
    let error = sum(&*group).err();
    let fits = matches!(error, Some(Error::Aborted { .. } | Error::PeerLost { .. }));
    ensure(fits, || format!("after aborting, an operation gives {error:?}"))
}

/// All ranks fail alike with `InvalidArgument`, and the group can still be used.
fn is_refused(seat: &Seat, what: &str, kind: &CollectiveKind, send: &Tensor, recv: &Tensor) -> Verdict {
    let group = seat.world().map_err(fail("making the group"))?;
    match exchange(&*group, kind, send, recv) {
        Err(Error::InvalidArgument(_)) => {}
        Err(error) => return Err(Stop::Fail(format!("{what} is refused as: {error}"))),
        Ok(_) => return Err(Stop::Fail(format!("{what} is not refused"))),
    }
    check_in(&*group, &CollectiveKind::AllReduce(Reduction::Sum), DType::F32, 5)
}

fn refuses_sizes(seat: &Seat) -> Verdict {
    let n = seat.size;
    let f = |count: usize| float_zeros(count).map_err(fail("the case"));
    is_refused(seat, "a shorter result", &CollectiveKind::AllReduce(Reduction::Sum), &f(4)?, &f(3)?)?;
    is_refused(seat, "a gathered result of one block", &CollectiveKind::AllGather, &f(4)?, &f(4)?)?;
    let scatter = CollectiveKind::ReduceScatter(Reduction::Sum);
    is_refused(seat, "a share that is too long", &scatter, &f(4 * n)?, &f(5)?)?;
    is_refused(seat, "blocks of unequal size", &CollectiveKind::AllToAll, &f(4 * n + 1)?, &f(4 * n + 1)?)
}

fn refuses_types(seat: &Seat) -> Verdict {
    let ints = Tensor::zeros(DType::I32, &[4]).map_err(fail("the case"))?;
    let floats = float_zeros(4).map_err(fail("the case"))?;
    is_refused(seat, "a result of another type", &CollectiveKind::AllReduce(Reduction::Sum), &floats, &ints)
}

fn refuses_ranks(seat: &Seat) -> Verdict {
    let f = float_zeros(4).map_err(fail("the case"))?;
    is_refused(seat, "a root outside the group", &CollectiveKind::Broadcast { root: 2 }, &f, &f)?;
    is_refused(seat, "a far root", &CollectiveKind::Broadcast { root: usize::MAX }, &f, &f)?;
    is_refused(seat, "a destination outside the group", &CollectiveKind::Send { dest: 2, tag: 0 }, &f, &f)?;
    is_refused(seat, "a source outside the group", &CollectiveKind::Receive { src: 9, tag: 0 }, &f, &f)
}
