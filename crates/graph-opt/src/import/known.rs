//! Integer tensors whose elements are known, at least in terms of extents: shape arithmetic done with tensors.

use mslite_tensor::{DType, Dim, Symbol, Tensor};

use crate::Graph;
use crate::ir::op::{Binary, Gather, Op, Slice};
use crate::ir::{Def, Node, ValueId};

/// Most elements that are traced.
const MAX_ELEMENTS: usize = 1024;

/// Most nodes that are looked at for one question.
const FUEL: usize = 256;

/// Most elements that are read while the model runs, to be extents.
const MAX_BOUND: usize = 64;

/// The elements of an integer or bool tensor in row-major order, if they are known.
pub(super) fn known_ints(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    Tracer { graph, fuel: FUEL, bound: &|_| None, unknown: None }.elements(value)
}

/// As [`known_ints`], where also the elements of tensors that have been bound to symbols are known; else the tensor
/// that must be bound, if that helps.
pub(super) fn bound_ints(
    graph: &Graph,
    value: ValueId,
    bound: &dyn Fn(ValueId) -> Option<Vec<Symbol>>,
) -> Result<Vec<Dim>, Option<ValueId>> {
    let mut tracer = Tracer { graph, fuel: FUEL, bound, unknown: None };
    tracer.elements(value).ok_or(tracer.unknown)
}

/// How the symbols begin that are read from tensors of the model: nothing is known of their numbers.
const FROM_DATA: &str = "data.";

/// A name for the n-th number that is read from a tensor.
pub(super) fn data_symbol(n: usize) -> Symbol {
    format!("{FROM_DATA}{n}").into()
}

/// A name for the n-th number that counts something.
pub(super) fn count_symbol(n: usize) -> Symbol {
    format!("count.{n}").into()
}

/// Whether a number may be negative or beyond an extent, as it comes from a tensor.
pub(super) fn is_from_data(dim: &Dim) -> bool {
    dim.symbols().iter().any(|symbol| symbol.starts_with(FROM_DATA))
}

/// The number that a constant of one element holds.
pub(super) fn known_float(graph: &Graph, value: ValueId) -> Option<f64> {
    let tensor = &graph.constant(value)?.tensor;
    if tensor.num_elements() != 1 {
        return None;
    }
    match tensor.dtype() {
        DType::F16 => Some(tensor.to_vec::<mslite_tensor::f16>().ok()?[0].to_f64()),
        DType::BF16 => Some(tensor.to_vec::<mslite_tensor::bf16>().ok()?[0].to_f64()),
        DType::F32 => Some(f64::from(tensor.to_vec::<f32>().ok()?[0])),
        DType::F64 => Some(tensor.to_vec::<f64>().ok()?[0]),
        _ => tensor_ints(tensor).map(|ints| ints[0] as f64),
    }
}

/// The elements of a small integer or bool tensor.
pub(super) fn tensor_ints(tensor: &Tensor) -> Option<Vec<i64>> {
    fn widen<T: mslite_tensor::Element + Into<i64>>(tensor: &Tensor) -> Option<Vec<i64>> {
        Some(tensor.to_vec::<T>().ok()?.into_iter().map(Into::into).collect())
    }
    if tensor.num_elements() > MAX_ELEMENTS {
        return None;
    }
    match tensor.dtype() {
        DType::Bool => widen::<bool>(tensor),
        DType::I8 => widen::<i8>(tensor),
        DType::I16 => widen::<i16>(tensor),
        DType::I32 => widen::<i32>(tensor),
        DType::I64 => widen::<i64>(tensor),
        DType::U8 => widen::<u8>(tensor),
        DType::U16 => widen::<u16>(tensor),
        DType::U32 => widen::<u32>(tensor),
        _ => None,
    }
}

struct Tracer<'g> {
    graph: &'g Graph,
    fuel: usize,
    /// Symbols of what has been bound.
    bound: &'g dyn Fn(ValueId) -> Option<Vec<Symbol>>,
    /// A tensor whose elements are not known.
    unknown: Option<ValueId>,
}

impl Tracer<'_> {
    fn elements(&mut self, value: ValueId) -> Option<Vec<Dim>> {
        self.fuel = self.fuel.checked_sub(1)?;
        let graph = self.graph;
        let elements = match &graph.value(value).def {
            Def::Constant(constant) => {
                Some(tensor_ints(&constant.tensor)?.into_iter().map(Dim::from).collect())
            }
            Def::Node(node, 0) => self.computed(graph.node(*node)),
            _ => None,
        };
        elements.or_else(|| self.read(value)).filter(|elements| elements.len() <= MAX_ELEMENTS)
    }

    /// The symbols of a tensor that is not computed from others in a way that is traced.
    fn read(&mut self, value: ValueId) -> Option<Vec<Dim>> {
        if self.unknown.is_some() || !is_bindable(self.graph, value) {
            return None;
        }
        match (self.bound)(value) {
            Some(symbols) => Some(symbols.iter().map(|symbol| Dim::symbol(symbol)).collect()),
            None => {
                self.unknown = Some(value);
                None
            }
        }
    }

    fn computed(&mut self, node: &Node) -> Option<Vec<Dim>> {
        let result = self.graph.spec(node.results[0]);
        match &node.op {
            Op::Extents(dims) => Some(dims.clone()),
            Op::Reshape(_) => self.elements(node.operands[0]),
            Op::Cast(dtype) if dtype.is_int() => self.elements(node.operands[0]),
            Op::Concat { .. } if result.shape.rank() == Some(1) => {
                let parts: Option<Vec<_>> = node.operands.iter().map(|&x| self.elements(x)).collect();
                Some(parts?.concat())
            }
            Op::Slice(slice) => sliced(&self.elements(node.operands[0])?, slice),
            Op::Gather(Gather { axis: 0, batch_dims: 0 }) if self.rank(node.operands[0]) == Some(1) => {
                let (x, at) = (self.elements(node.operands[0])?, self.elements(node.operands[1])?);
                at.iter().map(|i| x.get(index(i.as_fixed()?, x.len())?).cloned()).collect()
            }
            Op::Binary(f) if result.dtype.is_int() => {
                let (x, y) = (self.elements(node.operands[0])?, self.elements(node.operands[1])?);
                zip(&x, &y, |a, b| arithmetic(*f, a, b))
            }
            _ => None,
        }
    }

    fn rank(&self, value: ValueId) -> Option<usize> {
        self.graph.spec(value).shape.rank()
    }
}

fn is_bindable(graph: &Graph, value: ValueId) -> bool {
    let spec = graph.spec(value);
    let count = spec.shape.as_fixed().map(|dims| dims.iter().product::<usize>());
    let is_integer = (spec.dtype.is_int() && spec.dtype != DType::U64) || spec.dtype == DType::Bool;
    is_integer && count.is_some_and(|count| (1..=MAX_BOUND).contains(&count))
}

fn index(i: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if i < 0 { i + len } else { i }).ok()
}

fn sliced(x: &[Dim], slice: &Slice) -> Option<Vec<Dim>> {
    let ([start], [size], [step]) = (&slice.starts[..], &slice.sizes[..], &slice.steps[..]) else {
        return None;
    };
    let (start, size) = (start.as_fixed()?, size.as_usize()?);
    let at = |i: usize| usize::try_from(start.checked_add(i64::try_from(i).ok()?.checked_mul(*step)?)?).ok();
    (0..size.min(MAX_ELEMENTS)).map(|i| x.get(at(i)?).cloned()).collect()
}

fn zip(x: &[Dim], y: &[Dim], f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
    match (x, y) {
        (_, [b]) => x.iter().map(|a| f(a, b)).collect(),
        ([a], _) => y.iter().map(|b| f(a, b)).collect(),
        _ if x.len() == y.len() => x.iter().zip(y).map(|(a, b)| f(a, b)).collect(),
        _ => None,
    }
}

/// Integer arithmetic, as far as extents have it.
pub(super) fn arithmetic(f: Binary, a: &Dim, b: &Dim) -> Option<Dim> {
    let dim = match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::FloorDiv if b.as_fixed() != Some(0) => a.floor_div(b),
        Binary::TruncDiv => Dim::from(a.as_fixed()?.checked_div(b.as_fixed()?)?),
        Binary::FloorMod if b.as_fixed() != Some(0) => a - &(&a.floor_div(b) * b),
        Binary::Maximum => a.maximum(b),
        Binary::Minimum => minimum(a, b),
        _ => return None,
    };
    (!dim.is_too_large()).then_some(dim)
}

/// The smaller of two.
pub(super) fn minimum(a: &Dim, b: &Dim) -> Dim {
    &(a + b) - &a.maximum(b)
}
