//! Slices that do not fit each other, made from slices that do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mslite_mindir::{
    Attributes, Callee, DataType, Graph, Model, ModelBuilder, Node, NodeKind, OpenOptions, Primitive,
    PrimitiveKind, SaveOptions, Symbol, TensorType, Type, Value,
};
use mslite_tensor::Tensor;

/// Attributes with new values; `Value::None` takes one away.
pub(crate) type Changes<'a> = &'a [(&'a str, Value)];

/// A model of one rank, to be changed.
#[derive(Clone)]
pub(crate) struct Slice(Model);

pub(crate) fn f32s() -> Value {
    Value::Type { dtype: DataType::Float32, tensor: false }
}

impl Slice {
    pub(crate) fn open(path: &Path) -> Slice {
        Slice(Model::open(path, &OpenOptions::new()).unwrap())
    }

    /// A vector of so many elements that goes through these operators in turn.
    pub(crate) fn of_vector(elements: i64, operators: &[(&str, Changes<'_>)]) -> Slice {
        let mut builder = ModelBuilder::new("net");
        let vector = Type::Tensor(tensor_type(elements));
        let mut x = builder.entry().input("x", vector.clone());
        for (i, (operator, attributes)) in operators.iter().enumerate() {
            builder.scope(format!("Default/{operator}-op{i}"));
            let primitive = primitive(operator, None, attributes);
            x = builder.entry().apply(&primitive, &[x], Some(vector.clone()));
        }
        builder.entry().output(&x, Some(vector));
        Slice(builder.finish().unwrap())
    }

    /// A vector that is doubled as often as an input says, and summed up among all ranks each time, or only after that.
    pub(crate) fn looping(sums_each_time: bool) -> Slice {
        let mut builder = ModelBuilder::new("net");
        let [header, body, after] = ["header", "body", "after"].map(|name| builder.function(name).name());
        let (vector, count) =
            (Type::Tensor(tensor_type(3)), Type::Tensor(TensorType::new(DataType::Int32, vec![])));
        let sum = primitive("AllReduce", None, &[("op", "sum".into()), ("group", "hccl_world_group".into())]);
        let plain =
            |operator: &str| Primitive::new(operator, PrimitiveKind::Function, Attributes::new(operator, []));
        let [mut header_graph, mut body_graph, mut after_graph]: [Vec<Symbol>; 3] = Default::default();
        for (number, symbols) in
            [&mut header_graph, &mut body_graph, &mut after_graph].into_iter().enumerate()
        {
            let mut graph = builder.graph(number + 1);
            *symbols = vec![graph.input("x", vector.clone()), graph.input("n", count.clone())];
        }
        let one = Tensor::from_vec(vec![1i32], &[]).unwrap();

        let [x, n] = &header_graph[..] else { unreachable!() };
        let mut graph = builder.graph(1);
        let one_here = graph.constant(one.clone());
        let more = graph.apply(&plain("Greater"), &[n.clone(), one_here], None);
        let partial = Primitive::new("Partial", PrimitiveKind::Attribute, Attributes::new("Partial", []));
        let switch = Primitive::new("Switch", PrimitiveKind::Attribute, Attributes::new("Switch", []));
        let [yes, no] =
            [body, after].map(|function| graph.apply(&partial, &[function, x.clone(), n.clone()], None));
        let way = graph.apply(&switch, &[more, yes, no], None);
        let result = graph.call_closure(&way, &[], None);
        graph.output(&result, None);

        let [x, n] = &body_graph[..] else { unreachable!() };
        builder.scope("Default/AllReduce-in-loop");
        let mut graph = builder.graph(2);
        let mut y = graph.apply(&plain("Add"), &[x.clone(), x.clone()], None);
        if sums_each_time {
            y = graph.apply(&sum, &[y], None);
        }
        let one_here = graph.constant(one);
        let less = graph.apply(&plain("Sub"), &[n.clone(), one_here], None);
        let again = graph.call(&header, &[y, less], None);
        graph.output(&again, None);

        let x = &after_graph[0];
        builder.scope("Default/AllReduce-after-loop");
        let mut graph = builder.graph(3);
        let y = if sums_each_time { x.clone() } else { graph.apply(&sum, std::slice::from_ref(x), None) };
        let y = graph.apply(&plain("Add"), &[y.clone(), y], None);
        graph.output(&y, None);

        let mut graph = builder.entry();
        let (x, n) = (graph.input("x", vector), graph.input("n", count));
        let result = graph.call(&header, &[x, n], None);
        graph.output(&result, None);
        Slice(builder.finish().unwrap())
    }

    pub(crate) fn save(mut self, path: &Path) -> PathBuf {
        self.0.check().unwrap();
        self.0.save(path, &SaveOptions::new()).unwrap();
        path.to_owned()
    }

    fn graph(&mut self, number: usize) -> &mut Graph {
        match number {
            0 => &mut self.0.graph,
            n => &mut self.0.functions[n - 1],
        }
    }

    /// Graph and place of the n-th collective in the file.
    fn place(&self, n: usize) -> (usize, usize) {
        let is_collective = |node: &Node| node.primitive().is_some_and(|primitive| primitive.is_collective());
        let of_graph = |(number, graph): (usize, &Graph)| -> Vec<(usize, usize)> {
            let nodes = graph.nodes.iter().enumerate().filter(|(_, node)| is_collective(node));
            nodes.map(|(at, _)| (number, at)).collect()
        };
        self.0.graphs().enumerate().flat_map(of_graph).nth(n).unwrap()
    }

    /// Gives the n-th collective other attributes.
    pub(crate) fn set(mut self, n: usize, changes: Changes<'_>) -> Slice {
        let (graph, at) = self.place(n);
        let node = &mut self.graph(graph).nodes[at];
        let old = node.primitive().unwrap().clone();
        let new = primitive(&old.op_type, Some(&old.attributes), changes);
        node.kind = NodeKind::Call(Callee::Primitive(Arc::new(new)));
        self
    }

    /// Makes the n-th collective another one.
    pub(crate) fn become_op(mut self, n: usize, operator: &str, attributes: Changes<'_>) -> Slice {
        let (graph, at) = self.place(n);
        let node = &mut self.graph(graph).nodes[at];
        node.kind = NodeKind::Call(Callee::Primitive(Arc::new(primitive(operator, None, attributes))));
        node.scope = format!("Default/{operator}-op0").into();
        self
    }

    /// Does the n-th collective a second time, on its result.
    pub(crate) fn again(mut self, n: usize) -> Slice {
        let (number, at) = self.place(n);
        let node = self.graph(number).nodes[at].clone();
        let scope = format!("{}-again", node.scope);
        let mut again = node.clone();
        again.inputs = vec![node.symbol.clone()];
        self.put(number, at + 1, again, &node.symbol, &scope);
        self
    }

    /// Leaves the n-th collective out.
    pub(crate) fn without(mut self, n: usize) -> Slice {
        let (number, at) = self.place(n);
        let graph = self.graph(number);
        let node = graph.nodes.remove(at);
        replace(graph, at, &node.symbol, &node.inputs[0]);
        self
    }

    /// Does the n-th collective, which stands alone, after the next.
    pub(crate) fn later(mut self, n: usize) -> Slice {
        let ((number, at), (_, next)) = (self.place(n), self.place(n + 1));
        let graph = self.graph(number);
        let node = graph.nodes.remove(at);
        graph.nodes.insert(next, node);
        self
    }

    /// Sums up the result of a graph of the file among all ranks.
    pub(crate) fn summing(mut self, number: usize) -> Slice {
        let model = self.graph(0).nodes.iter().find(|node| node.primitive().is_some()).unwrap().clone();
        let graph = self.graph(number);
        let result = graph.outputs[0].symbol.clone();
        let at = graph.nodes.iter().position(|node| node.symbol == result).unwrap() + 1;
        let attributes = [("op", "sum".into()), ("group", "hccl_world_group".into())];
        let mut node = model;
        node.kind = NodeKind::Call(Callee::Primitive(Arc::new(primitive("AllReduce", None, &attributes))));
        node.inputs = vec![result.clone()];
        node.ty = None;
        self.put(number, at, node, &result, &format!("Default/AllReduce-{number}"));
        self
    }

    /// The number of the graph whose name has this in it.
    pub(crate) fn number(&self, part: &str) -> usize {
        self.0.graphs().position(|graph| graph.name.contains(part)).unwrap()
    }

    /// Puts a node at a place; what read `instead` reads it from there on.
    fn put(&mut self, number: usize, at: usize, mut node: Node, instead: &Symbol, scope: &str) {
        let graph = self.graph(number);
        let symbol: Symbol = format!("{}:sum:{}", graph.name, 10_000 + graph.nodes.len()).into();
        node.symbol = symbol.clone();
        node.scope = scope.into();
        node.attributes = Attributes::new(symbol.clone(), []);
        node.primal_attributes = Attributes::new(symbol.clone(), []);
        graph.nodes.insert(at, node);
        replace(graph, at + 1, instead, &symbol);
    }
}

fn replace(graph: &mut Graph, from: usize, old: &Symbol, new: &Symbol) {
    let inputs = graph.nodes[from..].iter_mut().flat_map(|node| &mut node.inputs);
    let outputs = graph.outputs.iter_mut().map(|output| &mut output.symbol);
    inputs.chain(outputs).filter(|symbol| *symbol == old).for_each(|symbol| *symbol = new.clone());
}

fn primitive(operator: &str, old: Option<&Attributes>, changes: Changes<'_>) -> Primitive {
    let is_kept = |name: &str| changes.iter().all(|(changed, _)| *changed != name);
    let kept = old.into_iter().flat_map(Attributes::iter).filter(|(name, _)| is_kept(name));
    let kept = kept.map(|(name, value)| (name.into(), value.clone()));
    let new = changes.iter().filter(|(_, value)| *value != Value::None);
    let new = new.map(|(name, value)| ((*name).into(), value.clone()));
    Primitive::new(operator, PrimitiveKind::Attribute, Attributes::new(operator, kept.chain(new)))
}

fn tensor_type(elements: i64) -> TensorType {
    TensorType::new(DataType::Float32, vec![elements])
}

/// A group file.
pub(crate) fn group_file(groups: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let field = |content: Vec<u8>, bytes: &mut Vec<u8>| {
        bytes.extend([0x0a, u8::try_from(content.len()).unwrap()]);
        bytes.extend(content);
    };
    for (name, ranks) in groups {
        let mut item = Vec::new();
        field(name.as_bytes().to_vec(), &mut item);
        let ranks: Vec<u8> = ranks.iter().flat_map(|&rank| [0x08, rank]).collect();
        item.extend([0x12, ranks.len() as u8]);
        item.extend(ranks);
        field(item, &mut bytes);
    }
    bytes
}
