use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{Attention, Packed};
use mslite_tensor::{DType, Tensor};

use super::run::GraphCase;
use crate::Tolerance;
use crate::generate::Generator;

pub(super) fn cases() -> Vec<GraphCase> {
    let mut cases = Vec::new();
    ropes(&mut cases);
    attentions(&mut cases);
    cases
}

fn ropes(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(31);
    let shapes: [(&[usize], &[usize], &[usize]); 5] = [
        (&[2, 3, 5, 8], &[5, 8], &[1, 1, 5, 8]),
        (&[2, 5, 3, 8], &[5, 1, 8], &[2, 5, 1, 8]),
        (&[1, 6], &[6], &[1, 6]),
        (&[3, 2], &[3, 2], &[1, 2]),
        (&[0, 4], &[4], &[4]),
    ];
    let pieces: [(&[usize], &[usize], &[usize]); 2] =
        [(&[2, 5, 24], &[5, 8], &[2, 5, 8]), (&[3, 8], &[2], &[3, 2])];
    for (x, cos, sin) in shapes.into_iter().chain(pieces) {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let name = format!("rope/{dtype}/{x:?}_by_{cos:?}_{sin:?}");
            let operands = [x, cos, sin].map(|dims| generator.tensor(dtype, dims, -1.0, 1.0));
            let tolerance = Tolerance::of(dtype).times(4.0);
            cases.push(GraphCase::op(name, Op::Rope, operands.to_vec()).tolerance(tolerance));
        }
    }
}

/// Batch, heads of query and key, lengths of query and key, widths of key and value.
type Sizes = [usize; 7];

fn attentions(cases: &mut Vec<GraphCase>) {
    let sizes: [Sizes; 6] = [
        [1, 1, 1, 1, 1, 1, 1],
        [2, 4, 4, 5, 7, 8, 6],
        [1, 6, 2, 3, 4, 2, 5],
        [2, 4, 2, 1, 33, 16, 16],
        [1, 2, 1, 140, 9, 4, 4],
        [0, 2, 2, 3, 3, 2, 2],
    ];
    for sizes in sizes {
        for heads in [[1; 4], [2; 4], [2, 1, 2, 1], [1, 2, 1, 2]] {
            attention(cases, sizes, heads, DType::F32, None);
        }
        attention(cases, sizes, [2; 4], DType::F16, None);
        attention(cases, sizes, [1, 2, 2, 2], DType::BF16, None);
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        packed(cases, dtype, false);
        packed(cases, dtype, true);
    }
    for dims in [&[5, 7][..], &[1, 7], &[5, 1], &[2, 1, 1, 7], &[2, 4, 5, 7], &[4, 1, 7], &[]] {
        for mask in [DType::F32, DType::Bool] {
            attention(cases, [2, 4, 2, 5, 7, 8, 6], [2, 1, 1, 2], DType::F32, Some((mask, dims)));
        }
    }
}

/// Heads of query, key and value in the columns of one tensor, or of tensors of their own.
fn packed(cases: &mut Vec<GraphCase>, dtype: DType, result: bool) {
    let mut generator = Generator::new(33);
    let at = |start: usize, heads: usize, width: usize| Some(Packed { start, heads, width });
    let result = result.then_some(Packed { start: 0, heads: 4, width: 6 });
    let mut push = |name: &str, operands: Vec<Tensor>, heads: [usize; 3], packed: [Option<Packed>; 3]| {
        let [q, k, v] = packed;
        let op =
            Attention { heads: [heads[0], heads[1], heads[2], 2], scale: 0.5, packed: [q, k, v, result] };
        let name = format!("attention/packed/{dtype}/{name}_{}", result.is_some());
        cases.push(
            GraphCase::op(name, Op::Attention(op), operands).tolerance(Tolerance::of(dtype).times(8.0)),
        );
    };
    let mut tensor = |dims: &[usize]| generator.tensor(dtype, dims, -1.0, 1.0);
    let joined = tensor(&[2, 5, 60]);
    let parts = [at(0, 4, 8), at(32, 2, 8), at(48, 2, 6)];
    push("joined", vec![joined.clone(), joined.clone(), joined], [2; 3], parts);
    let row = tensor(&[2, 1, 60]);
    push("row", vec![row.clone(), row.clone(), row], [2; 3], parts);
    let operands = vec![tensor(&[2, 5, 35]), tensor(&[2, 2, 7, 8]), tensor(&[2, 7, 14])];
    push("apart", operands, [2, 1, 2], [at(3, 4, 8), None, at(1, 2, 6)]);
}

fn attention(
    cases: &mut Vec<GraphCase>,
    [batch, n, shared, rows, columns, width, out]: Sizes,
    heads: [usize; 4],
    dtype: DType,
    mask: Option<(DType, &[usize])>,
) {
    let mut generator = Generator::new(32);
    let mut tensor = |at: usize, heads: usize, length: usize, width: usize| {
        let mut dims = [batch, heads, length, width];
        dims.swap(1, at);
        generator.tensor(dtype, &dims, -1.0, 1.0)
    };
    let mut operands = vec![
        tensor(heads[0], n, rows, width),
        tensor(heads[1], shared, columns, width),
        tensor(heads[2], shared, columns, out),
    ];
    operands.extend(mask.map(|(dtype, dims)| generator.tensor(dtype, dims, -2.0, 2.0)));
    let masked = mask.map_or(String::new(), |(dtype, dims)| format!("_masked_by_{dtype}{dims:?}"));
    let sizes = format!("{batch}x{n}/{shared}_{rows}x{columns}_{width}/{out}");
    let name = format!("attention/{dtype}/{sizes}_heads{heads:?}{masked}");
    let op = Op::Attention(Attention { heads, scale: 0.5, packed: [None; 4] });
    cases.push(GraphCase::op(name, op, operands).tolerance(Tolerance::of(dtype).times(8.0)));
}
