//! What collectives give, by definition.

use mslite_collective::{CollectiveKind, Reduction};
use mslite_tensor::{DType, Tensor};

use super::array::{Array, Scalar, complex, float, int};

/// What each rank receives from a collective; `None` where it receives nothing.
///
/// `sends` holds what each rank of the group contributes, in the order of the ranks; the blocks lie along axis 0.
///
/// # Errors
/// A sentence, for sizes that do not fit, for reductions that the type does not have, and for messages between
/// two ranks (which are not an operation of the group).
pub fn exchange(kind: &CollectiveKind, sends: &[Tensor]) -> Result<Vec<Option<Tensor>>, String> {
    let sends = sends.iter().map(Array::from_tensor).collect::<Result<Vec<_>, _>>()?;
    let received = exchange_arrays(kind, &sends.iter().collect::<Vec<_>>())?;
    Ok(received.into_iter().map(|array| array.map(|array| array.to_tensor())).collect())
}

pub(super) fn exchange_arrays(kind: &CollectiveKind, sends: &[&Array]) -> Result<Vec<Option<Array>>, String> {
    let size = sends.len();
    let everyone = |array: Array| vec![Some(array); size];
    let only = |root: usize, array: Array| (0..size).map(|r| (r == root).then(|| array.clone())).collect();
    match *kind {
        CollectiveKind::AllReduce(reduction) => Ok(everyone(reduced(reduction, sends)?)),
        CollectiveKind::AllGather => Ok(everyone(joined(sends)?)),
        CollectiveKind::ReduceScatter(reduction) => {
            let total = reduced(reduction, sends)?;
            (0..size).map(|rank| block(&total, rank, size).map(Some)).collect()
        }
        CollectiveKind::Broadcast { root } => Ok(everyone(sends[root].clone())),
        CollectiveKind::Reduce { root, reduction } => Ok(only(root, reduced(reduction, sends)?)),
        CollectiveKind::Gather { root } => Ok(only(root, joined(sends)?)),
        CollectiveKind::Scatter { root } => {
            (0..size).map(|rank| block(sends[root], rank, size).map(Some)).collect()
        }
        CollectiveKind::AllToAll => (0..size)
            .map(|rank| {
                let blocks = sends.iter().map(|x| block(x, rank, size)).collect::<Result<Vec<_>, _>>()?;
                joined(&blocks.iter().collect::<Vec<_>>()).map(Some)
            })
            .collect(),
        CollectiveKind::Barrier => Ok(vec![None; size]),
        ref other => Err(format!("{other} is not an operation of the whole group")),
    }
}

/// Block `rank` of `size` along axis 0.
fn block(x: &Array, rank: usize, size: usize) -> Result<Array, String> {
    let rows = x.dims.first().filter(|&&n| n % size == 0).ok_or("it has no equal blocks")? / size;
    let mut dims = x.dims.clone();
    dims[0] = rows;
    let count = x.values.len() / size;
    Ok(Array::new(x.dtype, &dims, x.values[rank * count..(rank + 1) * count].to_vec()))
}

fn joined(blocks: &[&Array]) -> Result<Array, String> {
    let first = blocks.first().ok_or("nothing to join")?;
    let mut dims = first.dims.clone();
    *dims.first_mut().ok_or("a tensor of rank 0 has no blocks")? *= blocks.len();
    Ok(Array::new(first.dtype, &dims, blocks.iter().flat_map(|b| b.values.iter().copied()).collect()))
}

fn reduced(reduction: Reduction, sends: &[&Array]) -> Result<Array, String> {
    let first = sends.first().ok_or("nothing to reduce")?;
    // Undefined for no elements, too.
    combined(reduction, vec![Scalar::Int(1)], first.dtype)?;
    let values = (0..first.values.len())
        .map(|i| combined(reduction, sends.iter().map(|x| x.values[i]).collect(), first.dtype))
        .collect::<Result<_, _>>()?;
    Ok(Array::new(first.dtype, &first.dims, values))
}

/// One element of all ranks.
fn combined(reduction: Reduction, values: Vec<Scalar>, dtype: DType) -> Result<Scalar, String> {
    let undefined = || format!("{dtype} has no {reduction}");
    let count = values.len();
    if dtype == DType::Bool {
        return match reduction {
            Reduction::Sum | Reduction::Max => Ok(Scalar::from(values.iter().any(|&v| int(v) != 0))),
            Reduction::Prod | Reduction::Min => Ok(Scalar::from(values.iter().all(|&v| int(v) != 0))),
            _ => Err(undefined()),
        };
    }
    if dtype.is_complex() {
        let mut values = values.into_iter().map(complex);
        return match reduction {
            Reduction::Sum => Ok(Scalar::Complex(values.sum())),
            Reduction::Prod => Ok(Scalar::Complex(values.product())),
            Reduction::Mean => {
                Ok(Scalar::Complex(values.by_ref().sum::<mslite_tensor::Complex<f64>>() / count as f64))
            }
            _ => Err(undefined()),
        };
    }
    if dtype.is_float() {
        return float_combined(reduction, &values.into_iter().map(float).collect::<Vec<_>>())
            .map(Scalar::Float)
            .ok_or_else(undefined);
    }
    let values = values.into_iter().map(int);
    Ok(Scalar::Int(match reduction {
        Reduction::Sum => values.sum(),
        Reduction::Prod => values.fold(1, i128::wrapping_mul),
        Reduction::Max => values.max().ok_or_else(undefined)?,
        Reduction::Min => values.min().ok_or_else(undefined)?,
        Reduction::Mean => values.sum::<i128>() / count as i128,
        _ => return Err(undefined()),
    }))
}

fn float_combined(reduction: Reduction, values: &[f64]) -> Option<f64> {
    let is_nan = values.iter().any(|v| v.is_nan());
    Some(match reduction {
        Reduction::Sum => values.iter().sum(),
        Reduction::Prod => values.iter().product(),
        Reduction::Mean => values.iter().sum::<f64>() / values.len() as f64,
        Reduction::Max | Reduction::Min if is_nan => f64::NAN,
        Reduction::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduction::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: [i32; 4]) -> Tensor {
        Tensor::from_vec(values.to_vec(), &[4]).unwrap()
    }

    fn run(kind: CollectiveKind) -> Vec<Option<Vec<i32>>> {
        let sends = [rows([1, 2, 3, 4]), rows([50, -60, 70, 80])];
        let received = exchange(&kind, &sends).unwrap();
        received.into_iter().map(|t| t.map(|t| t.to_vec().unwrap())).collect()
    }

    #[test]
    fn groups_exchange_by_definition() {
        let sum = Some(vec![51, -58, 73, 84]);
        assert_eq!(run(CollectiveKind::AllReduce(Reduction::Sum)), [sum.clone(), sum]);
        let halves = [Some(vec![25, -29]), Some(vec![36, 42])];
        assert_eq!(run(CollectiveKind::ReduceScatter(Reduction::Mean)), halves);
        assert_eq!(run(CollectiveKind::AllToAll), [Some(vec![1, 2, 50, -60]), Some(vec![3, 4, 70, 80])]);
        assert_eq!(run(CollectiveKind::Scatter { root: 1 }), [Some(vec![50, -60]), Some(vec![70, 80])]);
        assert_eq!(run(CollectiveKind::Gather { root: 1 }), [None, Some(vec![1, 2, 3, 4, 50, -60, 70, 80])]);
        let min = Reduction::Min;
        let kind = CollectiveKind::Reduce { root: 0, reduction: min };
        assert_eq!(run(kind), [Some(vec![1, -60, 3, 4]), None]);
        assert_eq!(run(CollectiveKind::Barrier), [None, None]);
    }

    #[test]
    fn truth_values_are_or_and_and() {
        let sends = [
            Tensor::from_vec(vec![true, true, false], &[3]).unwrap(),
            Tensor::from_vec(vec![true, false, false], &[3]).unwrap(),
        ];
        let any = exchange(&CollectiveKind::AllReduce(Reduction::Sum), &sends).unwrap();
        assert_eq!(any[0].as_ref().unwrap().to_vec::<bool>().unwrap(), [true, true, false]);
        let all = exchange(&CollectiveKind::AllReduce(Reduction::Prod), &sends).unwrap();
        assert_eq!(all[1].as_ref().unwrap().to_vec::<bool>().unwrap(), [true, false, false]);
        assert!(exchange(&CollectiveKind::AllReduce(Reduction::Mean), &sends).is_err());
    }
}
