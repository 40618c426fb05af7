//! Appending nodes to one graph of the model.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mslite_mindir::{
    Attributes, GraphBuilder, ModelBuilder, Monad, Primitive, PrimitiveKind, Symbol, Type, Value,
};
use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

use super::extents::Extents;
use super::table;
use crate::import::{Names, scalar_tensor, whole};
use crate::infer::infer_node;
use crate::ir::op::{Binary, Op};
use crate::ir::{Constant, Def, Graph, ValueId};
use crate::{Error, Result};

/// Bytes from which on constants without a name are parameters.
const LARGE: usize = 1 << 16;

/// A tensor of the model.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) symbol: Symbol,
    pub(super) spec: TensorSpec,
}

/// An argument of a primitive.
pub(super) enum Arg {
    /// A node, input or parameter.
    Symbol(Symbol),
    /// A constant.
    Value(Value),
}

impl From<&Item> for Arg {
    fn from(item: &Item) -> Self {
        Arg::Symbol(item.symbol.clone())
    }
}

impl From<Symbol> for Arg {
    fn from(symbol: Symbol) -> Self {
        Arg::Symbol(symbol)
    }
}

macro_rules! constants {
    ($($ty:ty),*) => {
        $(impl From<$ty> for Arg {
            fn from(value: $ty) -> Self {
                Arg::Value(value.into())
            }
        })*
    };
}

constants!(Value, Tensor, bool, i64, f32, &str, &[i64]);

/// A tuple of numbers.
pub(super) fn ints<T: TryInto<i64> + Copy>(numbers: &[T]) -> Value {
    let int = |&n: &T| Value::from(n.try_into().unwrap_or(i64::MAX));
    Value::Tuple(numbers.iter().map(int).collect())
}

/// What a graph inside an operation reads of the graph around it, besides its inputs.
#[derive(Debug, Clone)]
pub(super) enum Lifted {
    /// A parameter: MindSpore knows those of the entry graph only.
    Parameter(Arc<Constant>),
    /// An unknown extent.
    Extent(Dim),
}

/// Writes one graph.
pub(super) struct Writer<'w> {
    pub(super) model: &'w mut ModelBuilder,
    /// Names of functions.
    pub(super) functions: &'w mut Names,
    /// Names of inputs and parameters.
    names: Names,
    /// The graph that is written, and its number in the model.
    pub(super) source: &'w Graph,
    number: usize,
    /// Where the node that is being written comes from.
    pub(super) origin: Arc<str>,
    items: Vec<Option<Item>>,
    uses: Vec<usize>,
    constants: HashMap<String, Symbol>,
    /// Constants that are parameters, by their addresses.
    parameters: HashMap<*const Constant, Symbol>,
    /// Further inputs of a function, in order.
    pub(super) lifted: Vec<(Lifted, Symbol)>,
    pub(super) extents: Extents,
    /// The last point in the chain of effects.
    monad: Option<Symbol>,
    /// What has to happen although no result depends on it.
    effects: Vec<Symbol>,
}

impl<'w> Writer<'w> {
    pub(super) fn new(
        model: &'w mut ModelBuilder,
        number: usize,
        source: &'w Graph,
        functions: &'w mut Names,
    ) -> Self {
        Writer {
            model,
            functions,
            names: Names::default(),
            source,
            number,
            origin: source.name().into(),
            items: vec![None; source.values().len()],
            uses: source.use_counts(),
            constants: HashMap::new(),
            parameters: HashMap::new(),
            lifted: Vec::new(),
            extents: Extents::default(),
            monad: None,
            effects: Vec::new(),
        }
    }

    pub(super) fn builder(&mut self) -> GraphBuilder<'_> {
        self.model.graph(self.number)
    }

    pub(super) fn unsupported(&self, what: &str, reason: impl Into<String>) -> Error {
        Error::Unsupported { what: what.to_owned(), origin: self.origin.to_string(), reason: reason.into() }
    }

    /// Writes the entry graph; the symbols of the outputs with their names.
    pub(super) fn entry(&mut self) -> Result<Vec<(Symbol, String)>> {
        let source = self.source;
        self.inputs()?;
        let names: Vec<String> = source.states().iter().map(|state| self.names.unique(&state.name)).collect();
        let parameters: Vec<Symbol> = (names.iter().zip(source.states()))
            .map(|(name, state)| self.builder().parameter(name, state.initial.clone()))
            .collect();
        for (state, parameter) in source.states().iter().zip(&parameters) {
            let symbol = self.held(state.value, state.next, parameter);
            self.define(state.value, symbol);
        }
        self.nodes()?;
        self.assign(&parameters)?;
        let outputs = self.outputs()?;
        let names = source.outputs().iter().map(|port| port.name.clone());
        let named = outputs.iter().map(|item| item.symbol.clone()).zip(names).collect();
        self.finish(&outputs);
        Ok(named)
    }

    /// The results, each made by a node of its own, which can be named after the output.
    fn outputs(&mut self) -> Result<Vec<Item>> {
        let mut outputs = self.results()?;
        let mut seen = HashSet::new();
        for (item, port) in outputs.iter_mut().zip(self.source.outputs()) {
            let is_node = self.source.producer(port.value).is_some();
            if !is_node || !seen.insert(item.symbol.clone()) {
                *item = self.function("Identity", &[(&*item).into()], &item.spec);
            }
        }
        Ok(outputs)
    }

    /// Adds the inputs of the graph.
    pub(super) fn inputs(&mut self) -> Result<()> {
        let source = self.source;
        for port in source.inputs() {
            let spec = source.spec(port.value);
            let name = self.names.unique(&port.name);
            let symbol = self.builder().input(&name, tensor_type(spec));
            self.define(port.value, symbol);
        }
        Ok(())
    }

    /// The inputs of the graph.
    pub(super) fn given(&mut self) -> Result<Vec<Item>> {
        let source = self.source;
        source.inputs().iter().map(|port| self.item(port.value)).collect()
    }

    /// Writes every node.
    pub(super) fn nodes(&mut self) -> Result<()> {
        let source = self.source;
        for (_, node) in source.nodes() {
            self.origin = node.origin.clone();
            self.model.scope(node.origin.clone());
            let operands: Vec<Item> =
                node.operands.iter().map(|&value| self.item(value)).collect::<Result<_>>()?;
            let specs: Vec<TensorSpec> =
                node.results.iter().map(|&value| source.spec(value).clone()).collect();
            let used: Vec<bool> = node.results.iter().map(|value| self.uses[value.index()] > 0).collect();
            let results = table::write(self, &node.op, &operands, &specs, &used)?;
            for (&value, symbol) in node.results.iter().zip(results) {
                if let Some(symbol) = symbol {
                    self.define(value, symbol);
                }
            }
        }
        self.origin = source.name().into();
        self.model.scope("");
        Ok(())
    }

    fn define(&mut self, value: ValueId, symbol: Symbol) {
        let spec = self.source.spec(value).clone();
        self.extents.note(&symbol, &spec.shape);
        self.items[value.index()] = Some(Item { symbol, spec });
    }

    /// The tensors that the graph gives.
    pub(super) fn results(&mut self) -> Result<Vec<Item>> {
        let source = self.source;
        source.outputs().iter().map(|port| self.item(port.value)).collect()
    }

    /// What stands for a value.
    fn item(&mut self, value: ValueId) -> Result<Item> {
        if let Some(item) = &self.items[value.index()] {
            return Ok(item.clone());
        }
        let Def::Constant(constant) = &self.source.value(value).def else {
            return Err(Error::Verify(format!("{value} is read before it is defined")));
        };
        let symbol = self.constant(constant);
        self.define(value, symbol);
        self.item(value)
    }

    /// A constant: a parameter where it has a name or is large, so that files of its own can have it.
    fn constant(&mut self, constant: &Arc<Constant>) -> Symbol {
        let name = match &*constant.name {
            "" if constant.tensor.size_bytes() < LARGE => {
                return self.builder().constant(constant.tensor.clone());
            }
            "" => "constant",
            name => name,
        };
        if let Some(symbol) = self.parameters.get(&Arc::as_ptr(constant)) {
            return symbol.clone();
        }
        let name = self.names.unique(name);
        let symbol = match self.number {
            0 => self.builder().parameter(&name, constant.tensor.clone()),
            _ => self.lift(&name, Lifted::Parameter(constant.clone()), tensor_type(&constant.tensor.spec())),
        };
        self.parameters.insert(Arc::as_ptr(constant), symbol.clone());
        symbol
    }

    /// Adds an input for something of the graph around this one.
    pub(super) fn lift(&mut self, name: &str, what: Lifted, ty: Type) -> Symbol {
        let symbol = self.builder().input(name, ty);
        self.lifted.push((what, symbol.clone()));
        symbol
    }

    /// What a function takes besides the inputs of its graph.
    pub(super) fn lowered(&mut self, lifted: &[Lifted]) -> Result<Vec<Symbol>> {
        let symbol = |what: &Lifted| match what {
            Lifted::Parameter(constant) => Ok(self.constant(constant)),
            Lifted::Extent(dim) => self.extent(dim),
        };
        lifted.iter().map(symbol).collect()
    }

    /// Whether this is the entry graph.
    pub(super) fn is_entry(&self) -> bool {
        self.number == 0
    }

    /// Makes the results those of the graph, after all effects.
    pub(super) fn finish(&mut self, results: &[Item]) {
        let (symbol, ty) = self.tuple(results);
        self.finish_with(symbol, ty);
    }

    /// Makes a value the result of the graph, after all effects.
    pub(super) fn finish_with(&mut self, symbol: Symbol, ty: Type) {
        let effects = std::mem::take(&mut self.effects);
        let symbol = match &effects[..] {
            [] => symbol,
            [effect] => self.depend(symbol, effect.clone(), ty.clone()),
            _ => {
                let all = self.make_tuple(effects, None);
                self.depend(symbol, all, ty.clone())
            }
        };
        self.builder().output(&symbol, Some(ty));
    }

    fn depend(&mut self, value: Symbol, after: Symbol, ty: Type) -> Symbol {
        let depend = self.primitive("Depend", &[("side_effect_propagate", 1.into())]);
        self.builder().apply(&depend, &[value, after], Some(ty))
    }

    /// Several tensors as one value.
    pub(super) fn tuple(&mut self, items: &[Item]) -> (Symbol, Type) {
        if let [item] = items {
            return (item.symbol.clone(), tensor_type(&item.spec));
        }
        let ty = Type::tuple(items.iter().map(|item| tensor_type(&item.spec)).collect::<Vec<_>>());
        (self.make_tuple(items.iter().map(|item| item.symbol.clone()).collect(), Some(ty.clone())), ty)
    }

    pub(super) fn make_tuple(&mut self, elements: Vec<Symbol>, ty: Option<Type>) -> Symbol {
        let primitive = self.primitive("MakeTuple", &[]);
        self.builder().apply(&primitive, &elements, ty)
    }

    /// What a state holds when the run begins. A value that is read after the write is a copy.
    fn held(&mut self, value: ValueId, next: ValueId, parameter: &Symbol) -> Symbol {
        if value == next {
            return parameter.clone();
        }
        let ty = Some(tensor_type(self.source.spec(value)));
        let monad = self.monad();
        let load = self.primitive("Load", &[]);
        let held = self.builder().apply(&load, &[parameter.clone(), monad], ty.clone());
        if !self.source.results().any(|result| result == value) {
            return held;
        }
        let copy = self.primitive("TensorMove", &[]);
        self.builder().apply(&copy, &[held], ty)
    }

    /// Writes what states hold when the run has ended.
    fn assign(&mut self, parameters: &[Symbol]) -> Result<()> {
        let source = self.source;
        let written =
            || source.states().iter().zip(parameters).filter(|(state, _)| state.value != state.next);
        let loads: Vec<Item> = written().map(|(state, _)| self.item(state.value)).collect::<Result<_>>()?;
        if loads.is_empty() {
            return Ok(());
        }
        let (loads, _) = self.tuple(&loads);
        self.update_state(loads);
        for (state, parameter) in written() {
            self.origin = state.name.clone();
            let next = self.item(state.next)?;
            let monad = self.monad();
            let mut assign = self.primitive("Assign", &[("side_effect_mem", true.into())]);
            assign.kind = PrimitiveKind::Function;
            let ty = Some(tensor_type(&next.spec));
            let written = self.builder().apply(&assign, &[parameter.clone(), next.symbol, monad], ty);
            self.update_state(written);
        }
        self.effects.extend(self.monad.clone());
        Ok(())
    }

    /// The last point in the chain of effects.
    pub(super) fn monad(&mut self) -> Symbol {
        if let Some(monad) = &self.monad {
            return monad.clone();
        }
        let monad = self.builder().constant(Value::Monad(Monad::Memory));
        self.monad = Some(monad.clone());
        monad
    }

    /// The next point in the chain of effects: after something else.
    pub(super) fn update_state(&mut self, after: Symbol) {
        let monad = self.monad();
        let update = self.primitive("UpdateState", &[]);
        let ty = Some(Type::Monad(Monad::Memory));
        self.monad = Some(self.builder().apply(&update, &[monad, after], ty));
    }

    /// Something that has to happen although no result may depend on it.
    pub(super) fn must_happen(&mut self, symbol: Symbol) {
        self.effects.push(symbol);
    }

    /// The last thing that has to happen.
    pub(super) fn last_effect(&self) -> Option<&Symbol> {
        self.effects.last()
    }

    /// A primitive with attributes.
    pub(super) fn primitive(&self, name: &str, attributes: &[(&str, Value)]) -> Primitive {
        let attributes = attributes.iter().map(|(name, value)| ((*name).into(), value.clone()));
        Primitive::new(name, PrimitiveKind::Attribute, Attributes::new(name, attributes))
    }

    /// Applies a primitive all of whose arguments are operands.
    pub(super) fn function(&mut self, name: &str, args: &[Arg], result: &TensorSpec) -> Item {
        let primitive = self.of_function(name);
        self.apply(&primitive, args, result)
    }

    /// The same with a result that is no tensor.
    pub(super) fn function_of(&mut self, name: &str, args: &[Arg], ty: Type) -> Symbol {
        let primitive = self.of_function(name);
        self.call(&primitive, args, Some(ty))
    }

    /// A primitive all of whose arguments are operands.
    pub(super) fn of_function(&self, name: &str) -> Primitive {
        Primitive::new(name, PrimitiveKind::Function, Attributes::new(name, []))
    }

    /// Applies a primitive that has attributes.
    pub(super) fn attributed(
        &mut self,
        name: &str,
        attributes: &[(&str, Value)],
        args: &[Arg],
        result: &TensorSpec,
    ) -> Item {
        let primitive = self.primitive(name, attributes);
        self.apply(&primitive, args, result)
    }

    pub(super) fn apply(&mut self, primitive: &Primitive, args: &[Arg], result: &TensorSpec) -> Item {
        let symbol = self.call(primitive, args, Some(tensor_type(result)));
        Item { symbol, spec: result.clone() }
    }

    pub(super) fn call(&mut self, primitive: &Primitive, args: &[Arg], ty: Option<Type>) -> Symbol {
        let args: Vec<Symbol> = args.iter().map(|arg| self.arg(arg)).collect();
        self.builder().apply(primitive, &args, ty)
    }

    pub(super) fn arg(&mut self, arg: &Arg) -> Symbol {
        match arg {
            Arg::Symbol(symbol) => symbol.clone(),
            Arg::Value(value @ Value::Tensor(_)) => self.builder().constant(value.clone()),
            Arg::Value(value) => {
                let key = format!("{value:?}");
                if let Some(symbol) = self.constants.get(&key) {
                    return symbol.clone();
                }
                let symbol = self.builder().constant(value.clone());
                self.constants.insert(key, symbol.clone());
                symbol
            }
        }
    }

    /// An element of a tuple.
    pub(super) fn element(&mut self, tuple: &Symbol, at: usize, ty: Type) -> Symbol {
        let primitive = self.primitive("TupleGetItem", &[]);
        self.call(&primitive, &[tuple.clone().into(), (at as i64).into()], Some(ty))
    }

    /// The elements of a tuple that are used.
    pub(super) fn elements(
        &mut self,
        tuple: &Symbol,
        specs: &[TensorSpec],
        used: &[bool],
    ) -> Vec<Option<Symbol>> {
        let elements = specs.iter().zip(used).enumerate();
        elements.map(|(i, (spec, used))| used.then(|| self.element(tuple, i, tensor_type(spec)))).collect()
    }

    /// Writes an operation with one result, whose type follows from its operands.
    pub(super) fn op(&mut self, op: Op, operands: &[&Item]) -> Result<Item> {
        let specs: Vec<&TensorSpec> = operands.iter().map(|item| &item.spec).collect();
        let specs = infer_node(&op, &specs, &self.origin)?;
        let operands: Vec<Item> = operands.iter().map(|&item| item.clone()).collect();
        let results = table::write(self, &op, &operands, &specs, &[true])?;
        match (&results[..], &specs[..]) {
            ([Some(symbol)], [spec]) => Ok(Item { symbol: symbol.clone(), spec: spec.clone() }),
            _ => Err(Error::Verify(format!("{} has not one result", op.name()))),
        }
    }

    pub(super) fn binary(&mut self, f: Binary, x: &Item, y: &Item) -> Result<Item> {
        self.op(Op::Binary(f), &[x, y])
    }

    /// `size` elements from `start` along an axis.
    pub(super) fn part(&mut self, x: &Item, axis: usize, start: Dim, size: Dim) -> Result<Item> {
        let mut slice = whole(self.dims(x)?.to_vec());
        (slice.starts[axis], slice.sizes[axis]) = (start, size);
        self.op(Op::Slice(slice), &[x])
    }

    /// A function of a tensor and a number of its type.
    pub(super) fn with_scalar(&mut self, f: Binary, x: &Item, y: f64) -> Result<Item> {
        let y = self.scalar(y, x.spec.dtype)?;
        self.binary(f, x, &y)
    }

    pub(super) fn cast(&mut self, x: &Item, dtype: DType) -> Result<Item> {
        if x.spec.dtype == dtype { Ok(x.clone()) } else { self.op(Op::Cast(dtype), &[x]) }
    }

    /// A constant of rank 0.
    pub(super) fn scalar(&mut self, value: f64, dtype: DType) -> Result<Item> {
        let tensor = scalar_tensor(value, dtype)
            .ok_or_else(|| self.unsupported("a number", format!("{value} of type {dtype} cannot be made")))?;
        Ok(self.tensor(tensor))
    }

    /// A constant.
    pub(super) fn tensor(&mut self, tensor: Tensor) -> Item {
        let spec = tensor.spec();
        Item { symbol: self.builder().constant(tensor), spec }
    }

    /// The extents of a tensor, whose rank must be known.
    pub(super) fn dims<'a>(&self, x: &'a Item) -> Result<&'a [Dim]> {
        x.spec.shape.dims().ok_or_else(|| {
            self.unsupported("a tensor of unknown rank", "writing this operation needs the number of axes")
        })
    }
}

/// The type of a tensor as the format states it.
pub(super) fn tensor_type(spec: &TensorSpec) -> Type {
    Type::tensor(spec.dtype, stated(&spec.shape))
}

/// Extents as the format states them: -1 for an unknown extent, -2 for an unknown rank.
pub(super) fn stated(shape: &Shape) -> Vec<i64> {
    match shape.dims() {
        Some(dims) => dims.iter().map(|dim| dim.as_fixed().unwrap_or(-1)).collect(),
        None => vec![-2],
    }
}
