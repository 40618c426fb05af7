//! Appending nodes to the graph that is being built.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mslite_tensor::{DType, Dim, Symbol, Tensor, TensorSpec, bf16, f16};
use smallvec::SmallVec;

use super::complex;
use super::item::Item;
use super::known::{bound_ints, count_symbol, data_symbol};
use crate::ir::op::{Binary, Loop, Op, Reduce, ReduceKind, ScatterKind, Slice, Unary};
use crate::ir::{Graph, GraphBuilder, Node, NodeId, ValueId};
use crate::{Error, Result};

/// The graph so far, and the place in the model that is being imported.
#[derive(Debug)]
pub(super) struct Emitter {
    pub(super) builder: GraphBuilder,
    pub(super) origin: Arc<str>,
    /// Operands of all nodes so far.
    pub(super) operands: usize,
    /// Tensors whose elements are extents, and the nodes that read them.
    pub(super) bound: Bound,
}

/// What has been bound to symbols.
#[derive(Debug, Default)]
pub(super) struct Bound {
    nodes: HashMap<ValueId, NodeId>,
    /// Symbols made so far.
    count: usize,
    /// What extents that follow from data are at most.
    most: HashMap<Dim, Dim>,
}

impl Bound {
    /// The symbols of a tensor's elements. What was bound in a part of the graph that has been cut out since then
    /// is not bound here.
    fn symbols(&self, graph: &Graph, value: ValueId) -> Option<Vec<Symbol>> {
        let id = *self.nodes.get(&value)?;
        let node = (id.index() < graph.nodes().len()).then(|| graph.node(id))?;
        match &node.op {
            Op::Bind(symbols) if self.is_read_by(graph, value, node.operands[0]) => Some(symbols.clone()),
            _ => None,
        }
    }

    /// Whether an operand of a bind is the value, behind a cast and a reshape.
    fn is_read_by(&self, graph: &Graph, value: ValueId, mut operand: ValueId) -> bool {
        while operand != value {
            match graph.producer(operand) {
                Some((_, Node { op: Op::Cast(_) | Op::Reshape(_), operands, .. })) => operand = operands[0],
                _ => return false,
            }
        }
        true
    }
}

/// Most operands of all nodes together: a tuple may be an operand many times.
const MAX_OPERANDS: usize = 1 << 24;

impl Emitter {
    pub(super) fn graph(&self) -> &Graph {
        self.builder.graph()
    }

    pub(super) fn unsupported(&self, what: &str, reason: impl Into<String>) -> Error {
        Error::Unsupported { what: what.to_owned(), origin: self.origin.to_string(), reason: reason.into() }
    }

    pub(super) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidModel { origin: self.origin.to_string(), reason: reason.into() }
    }

    pub(super) fn spec(&self, x: ValueId) -> &TensorSpec {
        self.builder.spec(x)
    }

    pub(super) fn dtype(&self, x: ValueId) -> DType {
        self.spec(x).dtype
    }

    /// The extents, which must be known to be so many.
    pub(super) fn dims(&self, x: ValueId) -> Result<Vec<Dim>> {
        self.spec(x).shape.dims().map(<[Dim]>::to_vec).ok_or_else(|| {
            self.unsupported(
                "a tensor of unknown rank",
                "this operation needs the number of axes; give it for the inputs (the axes of the import's options)",
            )
        })
    }

    pub(super) fn rank(&self, x: ValueId) -> Result<usize> {
        self.dims(x).map(|dims| dims.len())
    }

    /// An axis counted from 0, from one that may count from the end.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let n = i64::try_from(rank).unwrap_or(i64::MAX);
        usize::try_from(if axis < 0 { axis.saturating_add(n) } else { axis })
            .ok()
            .filter(|&a| a < rank)
            .ok_or_else(|| self.invalid(format!("axis {axis} is outside a tensor of rank {rank}")))
    }

    pub(super) fn push(&mut self, op: Op, operands: &[ValueId]) -> Result<SmallVec<[ValueId; 1]>> {
        self.operands += operands.len();
        if self.operands > MAX_OPERANDS {
            let reason = format!("its nodes have more than {MAX_OPERANDS} operands");
            return Err(self.unsupported("the model", reason));
        }
        let results = self.builder.push(op, operands, &self.origin)?;
        for &result in &results {
            self.check_dims(self.spec(result).shape.dims().unwrap_or_default())?;
        }
        Ok(results)
    }

    /// Appends an operation with one result.
    pub(super) fn op(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId> {
        match self.push(op, operands)?[..] {
            [result] => Ok(result),
            ref results => Err(self.invalid(format!("{} results where one is expected", results.len()))),
        }
    }

    /// Refuses extents that have no value even when those of the inputs are known.
    fn check_dims(&self, dims: &[Dim]) -> Result<()> {
        if dims.iter().any(Dim::is_too_large) {
            return Err(
                self.unsupported("a shape", "its extents are too complicated; export with fixed shapes")
            );
        }
        Ok(())
    }

    /// A function of one tensor. Integers are converted to f32 where the function has real results, as
    /// MindSpore does.
    pub(super) fn unary(&mut self, f: Unary, x: ValueId) -> Result<ValueId> {
        let dtype = self.dtype(x);
        if dtype.is_complex() {
            return self.complex_unary(f, x);
        }
        let x = match dtype.is_float() || self.graph().result_specs(&Op::Unary(f), &[x], "").is_ok() {
            true => x,
            false => self.cast(x, DType::F32)?,
        };
        self.op(Op::Unary(f), &[x])
    }

    pub(super) fn binary(&mut self, f: Binary, x: ValueId, y: ValueId) -> Result<ValueId> {
        if f == Binary::SquaredDifference && self.dtype(x).is_complex() {
            return self.complex_distance(x, y);
        }
        self.op(Op::Binary(f), &[x, y])
    }

    /// A copy of `x` with updates at places. Truth values are added as logic does, complex numbers by parts.
    pub(super) fn scatter(&mut self, kind: ScatterKind, operands: [ValueId; 3]) -> Result<ValueId> {
        let [x, places, updates] = operands;
        match (kind, self.dtype(x)) {
            (ScatterKind::Add, DType::Bool) => {
                let (x, updates) = (self.cast(x, DType::U8)?, self.cast(updates, DType::U8)?);
                let y = self.scatter(ScatterKind::Max, [x, places, updates])?;
                self.cast(y, DType::Bool)
            }
            (ScatterKind::Add, dtype) if dtype.is_complex() => {
                let (real, imaginary) = (self.real_part(updates)?, self.imaginary_part(updates)?);
                let (a, b) = (self.real_part(x)?, self.imaginary_part(x)?);
                let (a, b) =
                    (self.scatter(kind, [a, places, real])?, self.scatter(kind, [b, places, imaginary])?);
                self.complex(a, b)
            }
            _ => self.op(Op::ScatterNd(kind), &operands),
        }
    }

    /// `x` where the condition holds, else `y`.
    pub(super) fn select(&mut self, condition: ValueId, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.op(Op::Select, &[condition, x, y])
    }

    /// Appends a loop of so many turns over values that keep their types; the turn gets its number, an i64 of rank 0,
    /// and what is carried. The results are what the last turn gives.
    pub(super) fn turns(
        &mut self,
        count: &Dim,
        first: &[ValueId],
        turn: impl FnOnce(&mut Self, ValueId, &[ValueId]) -> Result<Vec<ValueId>>,
    ) -> Result<Vec<ValueId>> {
        let zero = self.int_scalar(0, DType::I64)?;
        let carried: Vec<ValueId> = [&[zero], first].concat();
        let mark = self.builder.mark();
        let specs: Vec<TensorSpec> = carried.iter().map(|&x| self.spec(x).clone()).collect();
        let inputs: Vec<ValueId> = (specs.into_iter().enumerate())
            .map(|(i, spec)| self.builder.input(format!("carried{i}"), spec))
            .collect();
        let next = turn(self, inputs[0], &inputs[1..])?;
        let one = self.int_scalar(1, DType::I64)?;
        let number = self.binary(Binary::Add, inputs[0], one)?;
        let count = self.dim(count, DType::I64)?;
        let again = self.binary(Binary::Less, number, count)?;
        let mut outputs = vec![again, number];
        outputs.extend(&next);
        outputs.extend(next);
        let mut nested = self.builder.cut(mark, "body");
        for value in outputs {
            let value = nested.read(self.builder.graph(), value);
            nested.output(value);
        }
        let (body, captured) = nested.finish();
        let operands = [carried.clone(), captured].concat();
        self.push(Op::Loop(Loop { body, carried: carried.len() }), &operands).map(|results| results.to_vec())
    }

    /// A function of a tensor and a number of its type.
    pub(super) fn with_scalar(&mut self, f: Binary, x: ValueId, y: f64) -> Result<ValueId> {
        let y = self.scalar(y, self.dtype(x))?;
        self.binary(f, x, y)
    }

    pub(super) fn cast(&mut self, x: ValueId, dtype: DType) -> Result<ValueId> {
        match self.dtype(x) {
            from if from == dtype => Ok(x),
            from if from.is_complex() && dtype == DType::Bool => self.with_scalar(Binary::NotEqual, x, 0.0),
            _ => self.op(Op::Cast(dtype), &[x]),
        }
    }

    pub(super) fn reshape(&mut self, x: ValueId, dims: Vec<Dim>) -> Result<ValueId> {
        self.check_dims(&dims)?;
        if self.spec(x).shape.dims() == Some(&dims) { Ok(x) } else { self.op(Op::Reshape(dims), &[x]) }
    }

    pub(super) fn broadcast(&mut self, x: ValueId, dims: Vec<Dim>) -> Result<ValueId> {
        self.check_dims(&dims)?;
        if self.spec(x).shape.dims() == Some(&dims) { Ok(x) } else { self.op(Op::Broadcast(dims), &[x]) }
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: Vec<usize>) -> Result<ValueId> {
        let identity = self.rank(x)? == perm.len() && perm.iter().copied().eq(0..perm.len());
        if identity { Ok(x) } else { self.op(Op::Transpose(perm), &[x]) }
    }

    /// `size` elements from `start` along one axis.
    pub(super) fn narrow(&mut self, x: ValueId, axis: usize, start: Dim, size: Dim) -> Result<ValueId> {
        let sizes = self.dims(x)?;
        let mut slice = whole(sizes);
        slice.starts[axis] = start;
        slice.sizes[axis] = size;
        self.slice(x, slice)
    }

    pub(super) fn slice(&mut self, x: ValueId, slice: Slice) -> Result<ValueId> {
        let whole =
            slice.steps.iter().all(|&step| step == 1) && Some(&slice.sizes[..]) == self.spec(x).shape.dims();
        if whole { Ok(x) } else { self.op(Op::Slice(slice), &[x]) }
    }

    pub(super) fn concat(&mut self, parts: &[ValueId], axis: usize) -> Result<ValueId> {
        match parts {
            [x] => Ok(*x),
            _ => self.op(Op::Concat { axis }, parts),
        }
    }

    pub(super) fn reduce(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: Vec<usize>,
        keep_dims: bool,
    ) -> Result<ValueId> {
        if self.dtype(x).is_complex() {
            return self.complex_reduce(kind, x, &axes, keep_dims);
        }
        self.op(Op::Reduce(Reduce { kind, axes, keep_dims }), &[x])
    }

    /// A constant of rank 0.
    pub(super) fn scalar(&mut self, value: f64, dtype: DType) -> Result<ValueId> {
        let tensor = scalar_tensor(value, dtype)
            .ok_or_else(|| self.unsupported("a number", format!("{value} of type {dtype} cannot be made")))?;
        Ok(self.builder.constant("", tensor))
    }

    /// A constant integer of rank 0.
    pub(super) fn int_scalar(&mut self, value: i64, dtype: DType) -> Result<ValueId> {
        if dtype == DType::I64 {
            return Ok(self.builder.constant("", Tensor::scalar(value)));
        }
        self.scalar(value as f64, dtype)
    }

    /// A vector of constants.
    pub(super) fn ints(&mut self, values: Vec<i64>) -> Result<ValueId> {
        let len = values.len();
        let tensor = Tensor::from_vec(values, &[len]).map_err(|e| self.invalid(e.to_string()))?;
        Ok(self.builder.constant("", tensor))
    }

    /// A number known in terms of extents, as a tensor of rank 0.
    pub(super) fn dim(&mut self, dim: &Dim, dtype: DType) -> Result<ValueId> {
        if let Some(n) = dim.as_fixed() {
            return self.int_scalar(n, dtype);
        }
        let x = self.op(Op::Extents(vec![dim.clone()]), &[])?;
        let x = self.reshape(x, Vec::new())?;
        self.cast(x, dtype)
    }

    /// The elements of an integer tensor as extents. Where they are not known before the run, they are read when it
    /// has come here, and are symbols. `None` for what cannot be read: floats, and many elements.
    pub(super) fn bound_ints(&mut self, x: ValueId) -> Result<Option<Vec<Dim>>> {
        loop {
            let (graph, bound) = (self.builder.graph(), &self.bound);
            match bound_ints(graph, x, &|value| bound.symbols(graph, value)) {
                Ok(dims) => return Ok(Some(dims)),
                Err(None) => return Ok(None),
                Err(Some(unknown)) => self.bind(unknown, data_symbol)?,
            };
        }
    }

    /// A tensor of one element as an extent, of which is known that it is between 0 and `most`.
    pub(super) fn bound_count(&mut self, x: ValueId, most: Dim) -> Result<Dim> {
        let symbols = self.bind(x, count_symbol)?;
        let count = Dim::symbol(&symbols[0]);
        self.limit(count.clone(), most);
        Ok(count)
    }

    /// Notes what an extent that follows from data is at most.
    pub(super) fn limit(&mut self, dim: Dim, most: Dim) {
        self.bound.most.insert(dim, most);
    }

    /// What an extent is at most, in terms of symbols that are not among `inner`.
    pub(super) fn most(&self, dim: &Dim, inner: &HashSet<&Symbol>) -> Option<Dim> {
        let mut dim = dim;
        for _ in 0..=self.bound.most.len() {
            if dim.symbols().iter().all(|symbol| !inner.contains(symbol)) {
                return Some(dim.clone());
            }
            dim = self.bound.most.get(dim)?;
        }
        None
    }

    /// The front part of a tensor along some axes, whose extents are the elements of another one.
    pub(super) fn cut_to(&mut self, x: ValueId, axes: &[usize], extents: ValueId) -> Result<ValueId> {
        let symbols = self.bind(extents, count_symbol)?;
        let mut slice = whole(self.dims(x)?);
        for (&axis, symbol) in axes.iter().zip(&symbols) {
            let room = std::mem::replace(&mut slice.sizes[axis], Dim::symbol(symbol));
            self.limit(slice.sizes[axis].clone(), room);
        }
        self.slice(x, slice)
    }

    fn bind(&mut self, x: ValueId, name: fn(usize) -> Symbol) -> Result<Vec<Symbol>> {
        let dims = self.dims(x)?;
        let len = product(&dims).as_usize().ok_or_else(|| self.invalid("extents without a number"))?;
        let symbols: Vec<Symbol> = (self.bound.count..).take(len).map(name).collect();
        self.bound.count += len;
        let ints = self.cast(x, DType::I64)?;
        let ints = self.reshape(ints, vec![Dim::from(len)])?;
        let node = NodeId::new(self.graph().nodes().len());
        self.push(Op::Bind(symbols.clone()), &[ints])?;
        self.bound.nodes.insert(x, node);
        Ok(symbols)
    }

    /// Numbers known in terms of extents, as an i64 vector.
    pub(super) fn extents(&mut self, dims: Vec<Dim>) -> Result<ValueId> {
        match dims.iter().map(Dim::as_fixed).collect() {
            Some(ints) => self.ints(ints),
            None => self.op(Op::Extents(dims), &[]),
        }
    }

    /// What stands for an item where a tensor is needed; `None` when nothing does.
    pub(super) fn tensor(&mut self, item: &Item) -> Result<Option<ValueId>> {
        Ok(Some(match item {
            Item::Tensor(x) => *x,
            Item::Int(dim) => self.dim(dim, DType::I64)?,
            Item::Float(value) => self.scalar(*value, DType::F32)?,
            Item::Bool(value) => self.builder.constant("", Tensor::scalar(*value)),
            Item::Tuple(items) => return self.vector(items),
            _ => return Ok(None),
        }))
    }

    fn vector(&mut self, items: &[Item]) -> Result<Option<ValueId>> {
        let ints = items.iter().map(|item| match item {
            Item::Int(dim) => Some(dim.clone()),
            _ => None,
        });
        if let Some(dims) = ints.collect::<Option<Vec<_>>>() {
            return self.extents(dims).map(Some);
        }
        let floats = items.iter().map(|item| match item {
            Item::Float(value) => Some(*value as f32),
            Item::Int(dim) => dim.as_fixed().map(|n| n as f32),
            _ => None,
        });
        let Some(floats) = floats.collect::<Option<Vec<f32>>>() else { return Ok(None) };
        let len = floats.len();
        let tensor = Tensor::from_vec(floats, &[len]).map_err(|e| self.invalid(e.to_string()))?;
        Ok(Some(self.builder.constant("", tensor)))
    }
}

/// The slice that takes everything.
pub(crate) fn whole(sizes: Vec<Dim>) -> Slice {
    let rank = sizes.len();
    Slice { starts: vec![Dim::from(0); rank], sizes, steps: vec![1; rank] }
}

/// Number of elements.
pub(super) fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
    dims.into_iter().fold(Dim::from(1), |n, dim| &n * dim)
}

/// A tensor of rank 0; `None` for types that numbers do not have.
pub(crate) fn scalar_tensor(value: f64, dtype: DType) -> Option<Tensor> {
    Some(match dtype {
        DType::Bool => Tensor::scalar(value != 0.0),
        DType::I8 => Tensor::scalar(value as i8),
        DType::I16 => Tensor::scalar(value as i16),
        DType::I32 => Tensor::scalar(value as i32),
        DType::I64 => Tensor::scalar(value as i64),
        DType::U8 => Tensor::scalar(value as u8),
        DType::U16 => Tensor::scalar(value as u16),
        DType::U32 => Tensor::scalar(value as u32),
        DType::U64 => Tensor::scalar(value as u64),
        DType::F16 => Tensor::scalar(f16::from_f64(value)),
        DType::BF16 => Tensor::scalar(bf16::from_f64(value)),
        DType::F32 => Tensor::scalar(value as f32),
        DType::F64 => Tensor::scalar(value),
        DType::C64 | DType::C128 => complex::scalar(value, dtype),
        _ => return None,
    })
}
