//! Extents as arguments: numbers where they are known, else arithmetic on the extents of tensors.

use std::collections::HashMap;

use mslite_mindir::{DataType, Symbol, Type};
use mslite_tensor::{Dim, DimStep, Shape};

use super::writer::{Arg, Item, Lifted, Writer};
use crate::Result;

/// Where extents are to be had.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// Where they are, by the names of unknown extents.
    sources: HashMap<mslite_tensor::Symbol, Source>,
    /// The nodes that give the extents of a tensor.
    shapes: HashMap<Symbol, Symbol>,
    /// The nodes that compute an extent.
    computed: HashMap<Dim, Symbol>,
}

/// Where an unknown extent is.
#[derive(Debug, Clone)]
enum Source {
    /// That of a tensor of so many axes along one of them.
    Axis(Symbol, usize, usize),
    /// An element of a tuple.
    Element(Symbol, usize),
    /// A number.
    Number(Symbol),
}

impl Extents {
    /// Notes the extents that a tensor has.
    pub(super) fn note(&mut self, symbol: &Symbol, shape: &Shape) {
        let dims = shape.dims().unwrap_or_default();
        for (axis, dim) in dims.iter().enumerate().filter(|(_, dim)| dim.as_fixed().is_none()) {
            if let [name] = &dim.symbols()[..]
                && *dim == Dim::symbol(name)
            {
                let source = || Source::Axis(symbol.clone(), axis, dims.len());
                self.sources.entry(name.clone()).or_insert_with(source);
            }
        }
    }

    /// Whether an extent can be computed.
    pub(super) fn knows(&self, dim: &Dim) -> bool {
        dim.symbols().iter().all(|name| self.sources.contains_key(name))
    }
}

impl Writer<'_> {
    /// Extents as one argument.
    pub(super) fn extents(&mut self, dims: &[Dim]) -> Result<Arg> {
        if let Some(numbers) = dims.iter().map(Dim::as_fixed).collect::<Option<Vec<i64>>>() {
            return Ok(numbers.as_slice().into());
        }
        let elements: Vec<Symbol> = dims.iter().map(|dim| self.extent(dim)).collect::<Result<_>>()?;
        let ty = Type::tuple(vec![number(); dims.len()]);
        Ok(self.make_tuple(elements, Some(ty)).into())
    }

    /// One extent, as a number.
    pub(super) fn extent(&mut self, dim: &Dim) -> Result<Symbol> {
        if let Some(symbol) = self.extents.computed.get(dim) {
            return Ok(symbol.clone());
        }
        let symbol = dim.compute(&mut |step| self.step(step))?;
        self.extents.computed.insert(dim.clone(), symbol.clone());
        Ok(symbol)
    }

    fn step(&mut self, step: DimStep<'_, Symbol>) -> Result<Symbol> {
        let (name, a, b) = match step {
            DimStep::Number(n) => return Ok(self.arg(&n.into())),
            DimStep::Symbol(name) => return self.unknown(name),
            DimStep::Add(a, b) => ("ScalarAdd", a, b),
            DimStep::Mul(a, b) => ("ScalarMul", a, b),
            DimStep::FloorDiv(a, b) => ("ScalarFloorDiv", a, b),
            DimStep::Max(a, b) => ("ScalarMax", a, b),
        };
        Ok(self.function_of(name, &[a.into(), b.into()], number()))
    }

    /// An extent that a tensor or a tuple has.
    fn unknown(&mut self, name: &mslite_tensor::Symbol) -> Result<Symbol> {
        let (tuple, at) = match self.extents.sources.get(name).cloned() {
            Some(Source::Element(tuple, at)) => (tuple, at),
            Some(Source::Axis(tensor, axis, rank)) => (self.shape(tensor, rank), axis),
            Some(Source::Number(symbol)) => return Ok(symbol),
            None if !self.is_entry() => {
                let symbol = self.lift(name, Lifted::Extent(Dim::symbol(name)), number());
                self.extents.sources.insert(name.clone(), Source::Number(symbol.clone()));
                return Ok(symbol);
            }
            None => {
                let reason = format!(
                    "no tensor has it before here, so that nothing computes it; fix the extent {name}"
                );
                return Err(self.unsupported(&format!("the extent {name}"), reason));
            }
        };
        Ok(self.element(&tuple, at, number()))
    }

    /// The extents of a tensor.
    fn shape(&mut self, tensor: Symbol, rank: usize) -> Symbol {
        if let Some(shape) = self.extents.shapes.get(&tensor) {
            return shape.clone();
        }
        let ty = Type::tuple(vec![number(); rank]);
        let shape = self.function_of("Shape", &[tensor.clone().into()], ty);
        self.extents.shapes.insert(tensor, shape.clone());
        shape
    }

    /// The elements of a tensor as extents.
    pub(super) fn bind(&mut self, symbols: &[mslite_tensor::Symbol], x: &Item) -> Vec<Option<Symbol>> {
        let ty = Type::tuple(vec![number(); symbols.len()]);
        let tuple = self.function_of("TensorToTuple", &[x.into()], ty);
        let sources = (0..).map(|at| Source::Element(tuple.clone(), at));
        self.extents.sources.extend(symbols.iter().cloned().zip(sources));
        Vec::new()
    }
}

/// The type of an extent.
fn number() -> Type {
    Type::Scalar(DataType::Int64)
}
