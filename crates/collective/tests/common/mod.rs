//! A naive reference for every collective, and ranks as threads.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use mslite_collective::{CollectiveKind, Reduction, World};
use mslite_tensor::{Bytes, DType, Tensor, bf16, f16};

/// An element: real and imaginary part, small enough to be exact in every type.
pub(crate) type Value = (i64, i64);

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a function at each rank of a world of threads, and gives the results by rank.
pub(crate) fn on_ranks<R: Send>(size: usize, timeout: Duration, run: impl Fn(World) -> R + Sync) -> Vec<R> {
    let worlds = World::threads(size, timeout).unwrap();
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = worlds.into_iter().map(|world| scope.spawn(move || run(world))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Numbers that repeat in every run.
pub(crate) fn value(dtype: DType, seed: u64) -> Value {
    let mix = |x: u64| (x ^ (x >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let number = |salt: u64| (mix(mix(seed * 2 + salt)) % 7) as i64;
    match dtype {
        DType::Bool => (number(0) & 1, 0),
        _ if dtype.is_unsigned_int() => (number(0), 0),
        _ if dtype.is_complex() => (number(0) - 3, number(1) - 3),
        _ => (number(0) - 3, 0),
    }
}

pub(crate) fn values(dtype: DType, count: usize, seed: u64) -> Vec<Value> {
    (0..count as u64).map(|i| value(dtype, seed.wrapping_mul(1_000_003).wrapping_add(i))).collect()
}

pub(crate) fn tensor(dtype: DType, values: &[Value]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|&v| encode(dtype, v, 1)).collect();
    let mut tensor = Tensor::zeros(dtype, &[values.len()]).unwrap();
    tensor.bytes_mut().unwrap().copy_from_slice(&bytes);
    tensor
}

pub(crate) fn shared_tensor(dtype: DType, values: &[Value]) -> Tensor {
    // One byte off, so that nothing is aligned.
    let mut bytes = vec![0xff];
    bytes.extend(values.iter().flat_map(|&v| encode(dtype, v, 1)));
    Tensor::from_bytes(dtype, &[values.len()], Bytes::from(bytes).slice(1..)).unwrap()
}

/// The bytes of `value / divisor`.
fn encode(dtype: DType, (re, im): Value, divisor: i64) -> Vec<u8> {
    let single = |x: i64| x as f32 / divisor as f32;
    let double = |x: i64| x as f64 / divisor as f64;
    match dtype {
        DType::Bool => vec![(re != 0) as u8],
        DType::I8 => ((re / divisor) as i8).to_ne_bytes().into(),
        DType::I16 => ((re / divisor) as i16).to_ne_bytes().into(),
        DType::I32 => ((re / divisor) as i32).to_ne_bytes().into(),
        DType::I64 => (re / divisor).to_ne_bytes().into(),
        DType::U8 => ((re / divisor) as u8).to_ne_bytes().into(),
        DType::U16 => ((re / divisor) as u16).to_ne_bytes().into(),
        DType::U32 => ((re / divisor) as u32).to_ne_bytes().into(),
        DType::U64 => ((re / divisor) as u64).to_ne_bytes().into(),
        DType::F16 => f16::from_f32(single(re)).to_ne_bytes().into(),
        DType::BF16 => bf16::from_f32(single(re)).to_ne_bytes().into(),
        DType::F32 => single(re).to_ne_bytes().into(),
        DType::F64 => double(re).to_ne_bytes().into(),
        DType::C64 => [single(re).to_ne_bytes(), single(im).to_ne_bytes()].concat(),
        DType::C128 => [double(re).to_ne_bytes(), double(im).to_ne_bytes()].concat(),
        _ => panic!("another dtype"),
    }
}

/// Whether two results are equal: by bytes, except that zeros have no sign.
pub(crate) fn equal(dtype: DType, actual: &[u8], expected: &[u8]) -> bool {
    let size = if dtype.is_complex() { dtype.size() / 2 } else { dtype.size() };
    let is_zero = |x: &[u8]| {
        let (high, low) = x.split_last().unwrap();
        high & 0x7f == 0 && low.iter().all(|&b| b == 0)
    };
    let has_signed_zero = dtype.is_float() || dtype.is_complex();
    actual.len() == expected.len()
        && actual
            .chunks(size)
            .zip(expected.chunks(size))
            .all(|(a, e)| a == e || (has_signed_zero && is_zero(a) && is_zero(e)))
}

pub(crate) fn is_defined(dtype: DType, reduction: Reduction) -> bool {
    match reduction {
        Reduction::Max | Reduction::Min => !dtype.is_complex(),
        Reduction::Mean => dtype != DType::Bool,
        _ => true,
    }
}

fn reduced(dtype: DType, reduction: Reduction, contributions: &[&[Value]]) -> Vec<u8> {
    let combine = |a: Value, b: Value| match reduction {
        Reduction::Max => (a.0.max(b.0), 0),
        Reduction::Min => (a.0.min(b.0), 0),
        Reduction::Prod => (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0),
        _ => (a.0 + b.0, a.1 + b.1),
    };
    let divisor = if reduction == Reduction::Mean { contributions.len() as i64 } else { 1 };
    let element = |i: usize| contributions.iter().map(|c| c[i]).reduce(combine).unwrap();
    (0..contributions[0].len()).flat_map(|i| encode(dtype, element(i), divisor)).collect()
}

/// Blocks of `send` and `recv` at a rank.
pub(crate) fn blocks(kind: &CollectiveKind, n: usize) -> (usize, usize) {
    match kind {
        CollectiveKind::AllGather | CollectiveKind::Gather { .. } => (1, n),
        CollectiveKind::ReduceScatter(_) | CollectiveKind::Scatter { .. } => (n, 1),
        CollectiveKind::AllToAll => (n, n),
        _ => (1, 1),
    }
}

/// What `rank` receives, given what everybody sends; `None` where `recv` is not written.
pub(crate) fn expected(dtype: DType, kind: &CollectiveKind, sends: &[Vec<Value>], rank: usize) -> Option<Vec<u8>> {
    let n = sends.len();
    let bytes = |values: &[Value]| values.iter().flat_map(|&v| encode(dtype, v, 1)).collect::<Vec<u8>>();
    let block = |values: &[Value], i: usize| {
        let len = values.len() / n;
        values[i * len..(i + 1) * len].to_vec()
    };
    let all: Vec<&[Value]> = sends.iter().map(Vec::as_slice).collect();
    match *kind {
        CollectiveKind::AllReduce(reduction) => Some(reduced(dtype, reduction, &all)),
        CollectiveKind::Reduce { root, reduction } => {
            (rank == root).then(|| reduced(dtype, reduction, &all))
        }
        CollectiveKind::ReduceScatter(reduction) => {
            let mine: Vec<Vec<Value>> = sends.iter().map(|s| block(s, rank)).collect();
            let mine: Vec<&[Value]> = mine.iter().map(Vec::as_slice).collect();
            Some(reduced(dtype, reduction, &mine))
        }
        CollectiveKind::AllGather => Some(bytes(&sends.concat())),
        CollectiveKind::Gather { root } => (rank == root).then(|| bytes(&sends.concat())),
        CollectiveKind::Broadcast { root } => Some(bytes(&sends[root])),
        CollectiveKind::Scatter { root } => Some(bytes(&block(&sends[root], rank))),
        CollectiveKind::AllToAll => {
            Some(sends.iter().flat_map(|s| bytes(&block(s, rank))).collect())
        }
        _ => None,
    }
}

/// Every kind that moves data among all members.
pub(crate) fn kinds(n: usize) -> Vec<CollectiveKind> {
    let root = n / 2;
    let mut kinds = vec![
        CollectiveKind::AllGather,
        CollectiveKind::AllToAll,
        CollectiveKind::Broadcast { root },
        CollectiveKind::Gather { root },
        CollectiveKind::Scatter { root },
    ];
    for reduction in Reduction::ALL {
        kinds.push(CollectiveKind::AllReduce(reduction));
        kinds.push(CollectiveKind::ReduceScatter(reduction));
        kinds.push(CollectiveKind::Reduce { root, reduction });
    }
    kinds
}
