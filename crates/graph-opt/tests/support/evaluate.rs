//! A slow and plain evaluator for f32, i64 and bool.

use std::collections::HashMap;

use mslite_graph_opt::infer::infer;
use mslite_graph_opt::ir::Def;
use mslite_graph_opt::ir::op::*;
use mslite_graph_opt::pass::Evaluator;
use mslite_graph_opt::{Graph, ValueId};
use mslite_tensor::{DType, Dim, Tensor};

/// Runs one operation.
#[derive(Debug)]
pub(crate) struct Reference;

impl Evaluator for Reference {
    fn evaluate(&self, op: &Op, operands: &[&Tensor]) -> Option<Tensor> {
        let specs: Vec<_> = operands.iter().map(|tensor| tensor.spec()).collect();
        let result = infer(op, &specs.iter().collect::<Vec<_>>()).ok()?;
        let [spec] = result.as_slice() else { return None };
        let operands: Vec<Array> =
            operands.iter().map(|tensor| Array::read(tensor)).collect::<Option<_>>()?;
        let mut result = Array { dtype: spec.dtype, dims: spec.shape.as_fixed()?.to_vec(), data: Vec::new() };
        result.data = compute(op, &operands.iter().collect::<Vec<_>>(), &result)?;
        result.write()
    }
}

/// Outputs and next states of a graph.
pub(crate) fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut values: HashMap<ValueId, Tensor> = HashMap::new();
    for (id, value) in graph.values() {
        let tensor = match &value.def {
            Def::Input(n) => inputs[*n].clone(),
            Def::State(n) => graph.states()[*n].initial.clone(),
            Def::Constant(constant) => constant.tensor.clone(),
            _ => continue,
        };
        values.insert(id, tensor);
    }
    for (_, node) in graph.nodes() {
        let operands: Vec<&Tensor> = node.operands.iter().map(|value| &values[value]).collect();
        let result = Reference.evaluate(&node.op, &operands).unwrap_or_else(|| panic!("{:?}", node.op));
        values.insert(node.results[0], result);
    }
    graph.results().map(|value| values[&value].clone()).collect()
}

/// Whether tensors are equal to the bit, all NaN counting as one.
pub(crate) fn same(x: &Tensor, y: &Tensor) -> bool {
    match (x.to_vec::<f32>(), y.to_vec::<f32>()) {
        (Ok(a), Ok(b)) => {
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            x.dims() == y.dims() && a.iter().zip(&b).all(same)
        }
        _ => x == y,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    F(f32),
    I(i64),
    B(bool),
}
use Value::{B, F, I};

struct Array {
    dtype: DType,
    dims: Vec<usize>,
    data: Vec<Value>,
}

impl Array {
    fn read(tensor: &Tensor) -> Option<Self> {
        let data = match tensor.dtype() {
            DType::F32 => tensor.to_vec().ok()?.into_iter().map(F).collect(),
            DType::I64 => tensor.to_vec().ok()?.into_iter().map(I).collect(),
            DType::Bool => tensor.to_vec().ok()?.into_iter().map(B).collect(),
            _ => return None,
        };
        Some(Array { dtype: tensor.dtype(), dims: tensor.dims().to_vec(), data })
    }

    fn write(self) -> Option<Tensor> {
        macro_rules! vector {
            ($variant:ident) => {
                self.data
                    .iter()
                    .map(|v| if let $variant(x) = v { Some(*x) } else { None })
                    .collect::<Option<_>>()?
            };
        }
        match self.dtype {
            DType::F32 => Tensor::from_vec::<f32>(vector!(F), &self.dims).ok(),
            DType::I64 => Tensor::from_vec::<i64>(vector!(I), &self.dims).ok(),
            DType::Bool => Tensor::from_vec::<bool>(vector!(B), &self.dims).ok(),
            _ => None,
        }
    }

    /// The element at an index, of which surplus leading axes are ignored and axes of extent 1 broadcast.
    fn at(&self, index: &[usize]) -> Value {
        let index = &index[index.len() - self.dims.len()..];
        let flat = index.iter().zip(&self.dims).fold(0, |n, (&i, &d)| n * d + if d == 1 { 0 } else { i });
        self.data[flat]
    }

    fn indices(&self) -> Vec<Vec<usize>> {
        indices(&self.dims)
    }

    fn zero(&self) -> Value {
        match self.dtype {
            DType::F32 => F(0.0),
            DType::I64 => I(0),
            _ => B(false),
        }
    }
}

/// Every index of a shape, in row-major order.
fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let longer = |all: Vec<Vec<usize>>, n: &usize| {
        all.iter().flat_map(|index| (0..*n).map(|i| [&index[..], &[i]].concat())).collect()
    };
    dims.iter().fold(vec![vec![]], longer)
}

fn compute(op: &Op, operands: &[&Array], result: &Array) -> Option<Vec<Value>> {
    let all = result.indices();
    let number = |dim: &Dim| dim.as_fixed();
    match (op, operands) {
        (Op::Unary(f), [x]) => x.data.iter().map(|v| unary(*f, *v)).collect(),
        (Op::Binary(f), [x, y]) => all.iter().map(|i| binary(*f, x.at(i), y.at(i))).collect(),
        (Op::Select, [c, x, y]) => {
            Some(all.iter().map(|i| if c.at(i) == B(true) { x.at(i) } else { y.at(i) }).collect())
        }
        (Op::Cast(to), [x]) => x.data.iter().map(|v| cast(*to, *v)).collect(),
        (Op::Reduce(how), [x]) => all.iter().map(|i| reduce(how, x, i)).collect(),
        (Op::MatMul(how), [a, b, bias @ ..]) => all
            .iter()
            .map(|i| finish(product(how, a, b, i)?, bias.first().map(|b| b.at(i)), how.activation))
            .collect(),
        (Op::Conv2d(how), [x, w, bias @ ..]) => {
            let bias = |i: &[usize]| bias.first().map(|b| b.at(&i[1..2]));
            all.iter().map(|i| finish(convolve(how, x, w, i)?, bias(i), how.activation)).collect()
        }
        (Op::Reshape(_), [x]) => Some(x.data.clone()),
        (Op::Transpose(perm), [x]) => {
            let from = |i: &[usize]| {
                let mut index = vec![0; perm.len()];
                perm.iter().zip(i).for_each(|(&axis, &n)| index[axis] = n);
                x.at(&index)
            };
            Some(all.iter().map(|i| from(i)).collect())
        }
        (Op::Broadcast(_), [x]) => Some(all.iter().map(|i| x.at(i)).collect()),
        (Op::Concat { axis }, parts) => all.iter().map(|i| concat(*axis, parts, i.clone())).collect(),
        (Op::Slice(slice), [x]) => {
            let starts: Vec<i64> = slice.starts.iter().map(number).collect::<Option<_>>()?;
            let from = |i: &[usize]| {
                let axes = i.iter().zip(&starts).zip(&slice.steps);
                x.at(&axes.map(|((&i, start), step)| (start + i as i64 * step) as usize).collect::<Vec<_>>())
            };
            Some(all.iter().map(|i| from(i)).collect())
        }
        (Op::Pad(pad), [x, value]) => Some(all.iter().map(|i| padded(pad, x, value.data[0], i)).collect()),
        (Op::Extents(dims), []) => dims.iter().map(|dim| number(dim).map(I)).collect(),
        _ => None,
    }
}

fn unary(f: Unary, x: Value) -> Option<Value> {
    Some(match (f, x) {
        (Unary::Neg, F(x)) => F(-x),
        (Unary::Neg, I(x)) => I(x.wrapping_neg()),
        (Unary::Abs, F(x)) => F(x.abs()),
        (Unary::Abs, I(x)) => I(x.wrapping_abs()),
        (Unary::Relu, F(x)) => F(if x > 0.0 || x.is_nan() { x } else { 0.0 }),
        (Unary::Relu, I(x)) => I(x.max(0)),
        (Unary::Clip { low, high }, I(x)) => I(x.clamp(low as i64, high as i64)),
        (Unary::Square, F(x)) => F(x * x),
        (Unary::Square, I(x)) => I(x.wrapping_mul(x)),
        (Unary::Sqrt, F(x)) => F(x.sqrt()),
        (Unary::Exp, F(x)) => F(x.exp()),
        (Unary::Tanh, F(x)) => F(x.tanh()),
        (Unary::Floor, F(x)) => F(x.floor()),
        (Unary::Floor, I(x)) => I(x),
        (Unary::Not, B(x)) => B(!x),
        (Unary::Not, I(x)) => I(!x),
        _ => return None,
    })
}

fn binary(f: Binary, x: Value, y: Value) -> Option<Value> {
    Some(match (f, x, y) {
        (Binary::Add, F(x), F(y)) => F(x + y),
        (Binary::Add, I(x), I(y)) => I(x.wrapping_add(y)),
        (Binary::Add | Binary::Maximum | Binary::Or, B(x), B(y)) => B(x | y),
        (Binary::Sub, F(x), F(y)) => F(x - y),
        (Binary::Sub, I(x), I(y)) => I(x.wrapping_sub(y)),
        (Binary::Mul, F(x), F(y)) => F(x * y),
        (Binary::Mul, I(x), I(y)) => I(x.wrapping_mul(y)),
        (Binary::Mul | Binary::Minimum | Binary::And, B(x), B(y)) => B(x & y),
        (Binary::Div, F(x), F(y)) => F(x / y),
        (Binary::Maximum, F(x), F(y)) => F(if x.is_nan() || x > y { x } else { y }),
        (Binary::Maximum, I(x), I(y)) => I(x.max(y)),
        (Binary::Minimum, F(x), F(y)) => F(if x.is_nan() || x < y { x } else { y }),
        (Binary::Minimum, I(x), I(y)) => I(x.min(y)),
        (Binary::Less, F(x), F(y)) => B(x < y),
        (Binary::Less, I(x), I(y)) => B(x < y),
        (Binary::And, I(x), I(y)) => I(x & y),
        _ => return None,
    })
}

fn cast(to: DType, x: Value) -> Option<Value> {
    Some(match (to, x) {
        (DType::F32, F(_)) | (DType::I64, I(_)) | (DType::Bool, B(_)) => x,
        (DType::F32, I(x)) => F(x as f32),
        (DType::F32, B(x)) => F(f32::from(x)),
        (DType::I64, F(x)) => I(x as i64),
        (DType::I64, B(x)) => I(i64::from(x)),
        (DType::Bool, F(x)) => B(x != 0.0),
        (DType::Bool, I(x)) => B(x != 0),
        _ => return None,
    })
}

fn reduce(how: &Reduce, x: &Array, at: &[usize]) -> Option<Value> {
    let project = |index: &[usize]| -> Vec<usize> {
        let kept = index.iter().enumerate().filter_map(|(axis, &i)| match how.axes.contains(&axis) {
            true if how.keep_dims => Some(0),
            true => None,
            false => Some(i),
        });
        kept.collect()
    };
    let f = match how.kind {
        ReduceKind::Sum => Binary::Add,
        ReduceKind::Max => Binary::Maximum,
        _ => return None,
    };
    let mut parts = x.indices().into_iter().filter(|index| project(index) == at).map(|index| x.at(&index));
    match parts.next() {
        Some(first) => parts.try_fold(first, |sum, part| binary(f, sum, part)),
        None => Some(x.zero()),
    }
}

fn finish(sum: Value, bias: Option<Value>, activation: Option<Unary>) -> Option<Value> {
    let sum = bias.map_or(Some(sum), |bias| binary(Binary::Add, sum, bias))?;
    activation.map_or(Some(sum), |f| unary(f, sum))
}

/// One element of a matrix product.
fn product(how: &MatMul, a: &Array, b: &Array, at: &[usize]) -> Option<Value> {
    let (mut lead, mut row, mut col) = (at.to_vec(), None, None);
    if b.dims.len() > 1 {
        col = lead.pop();
    }
    if a.dims.len() > 1 {
        row = lead.pop();
    }
    let element = |x: &Array, outer: Option<usize>, k: usize, outer_first: bool| {
        let matrix = match outer {
            None => vec![k],
            Some(outer) if outer_first => vec![outer, k],
            Some(outer) => vec![k, outer],
        };
        x.at(&[&lead[..], &matrix].concat())
    };
    let axis = a.dims.len() - if row.is_some() && how.transpose_a { 2 } else { 1 };
    (0..a.dims[axis]).try_fold(a.zero(), |sum, k| {
        let x = element(a, row, k, !how.transpose_a);
        let y = element(b, col, k, how.transpose_b);
        binary(Binary::Add, sum, binary(Binary::Mul, x, y)?)
    })
}

/// One element of a convolution with one group and without dilation.
fn convolve(how: &Conv2d, x: &Array, w: &Array, at: &[usize]) -> Option<Value> {
    let Padding2d::Explicit([top, _, left, _]) = how.padding else { return None };
    let mut sum = x.zero();
    for index in indices(&w.dims[1..]) {
        let [c, i, j] = index[..] else { return None };
        let (h, v) = (at[2] * how.strides[0] + i, at[3] * how.strides[1] + j);
        if h >= top && v >= left && h - top < x.dims[2] && v - left < x.dims[3] {
            let factors = (x.at(&[at[0], c, h - top, v - left]), w.at(&[at[1], c, i, j]));
            sum = binary(Binary::Add, sum, binary(Binary::Mul, factors.0, factors.1)?)?;
        }
    }
    Some(sum)
}

fn concat(axis: usize, parts: &[&Array], mut at: Vec<usize>) -> Option<Value> {
    for part in parts {
        if at[axis] < part.dims[axis] {
            return Some(part.at(&at));
        }
        at[axis] -= part.dims[axis];
    }
    None
}

fn padded(pad: &Pad, x: &Array, value: Value, at: &[usize]) -> Value {
    let index: Option<Vec<usize>> = at
        .iter()
        .zip(&pad.low)
        .zip(&x.dims)
        .map(|((&i, low), &n)| usize::try_from(i as i64 - low).ok().filter(|&i| i < n))
        .collect();
    index.map_or(value, |index| x.at(&index))
}
