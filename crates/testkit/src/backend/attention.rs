use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::Attention;
use mslite_tensor::DType;

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
    for (x, cos, sin) in shapes {
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
    for dims in [&[5, 7][..], &[1, 7], &[5, 1], &[2, 1, 1, 7], &[2, 4, 5, 7], &[4, 1, 7], &[]] {
        for mask in [DType::F32, DType::Bool] {
            attention(cases, [2, 4, 2, 5, 7, 8, 6], [2, 1, 1, 2], DType::F32, Some((mask, dims)));
        }
    }
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
    let op = Op::Attention(Attention { heads, scale: 0.5 });
    cases.push(GraphCase::op(name, op, operands).tolerance(Tolerance::of(dtype).times(8.0)));
}
