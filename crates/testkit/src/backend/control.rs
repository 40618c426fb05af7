use std::sync::Arc;

use mslite_graph_opt::ir::op::{Binary, If, Loop, MatMul, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, Op, ValueId};
use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

use super::run::{GraphCase, finish};
use crate::Tolerance;
use crate::generate::Generator;

pub(super) fn cases() -> Vec<GraphCase> {
    let mut cases = Vec::new();
    let dtype = DType::F32;
    let tolerance = Tolerance::of(dtype).times(10.0);
    let x = |dims: &[usize]| Generator::new(60).tensor(dtype, dims, -1.0, 1.0);
    let mut push = |name: &str, graph: Graph, calls: Vec<Vec<Tensor>>| {
        cases.push(GraphCase { name: format!("control/{name}"), graph, calls, tolerance });
    };
    let conditions = |dims: &[usize]| vec![vec![condition(true), x(dims)], vec![condition(false), x(dims)]];
    push("if", branch(Dim::from(3)), conditions(&[3, 4]));
    push("if_symbolic", branch(Dim::symbol("rows")), [conditions(&[3, 4]), conditions(&[5, 4])].concat());
    let turns = |dims: &[usize]| [1, 5, 2].map(|n: i32| vec![Tensor::scalar(n), x(dims)]).to_vec();
    push("loop", turns_of(Dim::from(2)), turns(&[2, 4]));
    push("loop_symbolic", turns_of(Dim::symbol("rows")), [turns(&[2, 4]), turns(&[7, 4])].concat());
    push("swapped_carried_values", swap(), [1, 2, 3].map(|n: i32| vec![Tensor::scalar(n)]).to_vec());
    push(
        "many_results",
        many_results(),
        vec![vec![condition(true), x(&[2])], vec![condition(false), x(&[2])]],
    );
    cases
}

fn condition(holds: bool) -> Tensor {
    Tensor::scalar(holds)
}

/// Builds a graph: inputs, then nodes.
struct Body {
    builder: GraphBuilder,
    origin: Arc<str>,
}

impl Body {
    fn new(name: &str) -> Self {
        Body { builder: GraphBuilder::new(name), origin: format!("case/{name}").into() }
    }

    fn input(&mut self, spec: TensorSpec) -> ValueId {
        let name = format!("input{}", self.builder.graph().inputs().len());
        self.builder.input(name, spec)
    }

    fn float(&mut self, dims: &[Dim]) -> ValueId {
        self.input(TensorSpec::new(DType::F32, Shape::ranked(dims.to_vec())))
    }

    fn scalar(&mut self, dtype: DType) -> ValueId {
        self.input(TensorSpec::new(dtype, Shape::scalar()))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("constant{}", self.builder.graph().values().len());
        self.builder.constant(name, tensor)
    }

    fn node(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.builder.push1(op, operands, &self.origin).expect("the case fits its operands")
    }

    fn nodes(&mut self, op: Op, operands: &[ValueId]) -> Vec<ValueId> {
        self.builder.push(op, operands, &self.origin).expect("the case fits its operands").to_vec()
    }

    fn finish(self, outputs: &[ValueId]) -> Graph {
        finish(self.builder, outputs)
    }
}

/// `weight` is a constant of the graph, so that backends that pack weights do so inside of branches.
fn dense(body: &mut Body, x: ValueId) -> ValueId {
    let weight = body.constant(Generator::new(61).tensor(DType::F32, &[4, 4], -0.5, 0.5));
    body.node(Op::MatMul(MatMul::default()), &[x, weight])
}

/// `if condition { x @ w } else { |x| }`, then once more inside of a graph.
fn branch(rows: Dim) -> Graph {
    let dims = [rows, Dim::from(4)];
    let inner = |name: &str, is_then: bool| {
        let mut body = Body::new(name);
        let x = body.float(&dims);
        let y = if is_then { dense(&mut body, x) } else { body.node(Op::Unary(Unary::Abs), &[x]) };
        Arc::new(body.finish(&[y]))
    };
    let op = Op::If(If { then: inner("then", true), otherwise: inner("otherwise", false) });
    let mut outer = Body::new("outer");
    let (condition, x) = (outer.scalar(DType::Bool), outer.float(&dims));
    let y = outer.node(op.clone(), &[condition, x, x]);
    let z = outer.node(op, &[condition, y, y]);
    let outer = Arc::new(outer.finish(&[z]));
    let mut identity = Body::new("identity");
    let x = identity.float(&dims);
    let identity = Arc::new(identity.finish(&[x]));
    let mut graph = Body::new("graph");
    let (condition, x) = (graph.scalar(DType::Bool), graph.float(&dims));
    let op = Op::If(If { then: outer, otherwise: identity });
    let y = graph.node(op, &[condition, condition, x, x]);
    graph.finish(&[y])
}

/// `do { i += 1; x = tanh(x @ w) + first } while i < n`, the results being x and i.
fn turns_of(rows: Dim) -> Graph {
    let dims = [rows, Dim::from(4)];
    let mut body = Body::new("body");
    let (i, x) = (body.scalar(DType::I32), body.float(&dims));
    let (n, first) = (body.scalar(DType::I32), body.float(&dims));
    let one = body.constant(Tensor::scalar(1i32));
    let next = body.node(Op::Binary(Binary::Add), &[i, one]);
    let again = body.node(Op::Binary(Binary::Less), &[next, n]);
    let product = dense(&mut body, x);
    let bounded = body.node(Op::Unary(Unary::Tanh), &[product]);
    let y = body.node(Op::Binary(Binary::Add), &[bounded, first]);
    let body = Arc::new(body.finish(&[again, next, y, y, next]));
    let mut graph = Body::new("graph");
    let (n, x) = (graph.scalar(DType::I32), graph.float(&dims));
    let zero = graph.constant(Tensor::scalar(0i32));
    let results = graph.nodes(Op::Loop(Loop { body, carried: 2 }), &[zero, x, n, x]);
    graph.finish(&results)
}

/// Two carried values that change places in each turn, for n turns.
fn swap() -> Graph {
    let mut body = Body::new("body");
    let (i, a, b) = (body.scalar(DType::I32), body.scalar(DType::F32), body.scalar(DType::F32));
    let n = body.scalar(DType::I32);
    let one = body.constant(Tensor::scalar(1i32));
    let next = body.node(Op::Binary(Binary::Add), &[i, one]);
    let again = body.node(Op::Binary(Binary::Less), &[next, n]);
    let body = Arc::new(body.finish(&[again, next, b, a, b, a]));
    let mut graph = Body::new("graph");
    let n = graph.scalar(DType::I32);
    let first = [Tensor::scalar(0i32)].map(|t| graph.constant(t))[0];
    let values = [1.0f32, 2.0].map(|value| graph.constant(Tensor::scalar(value)));
    let results = graph.nodes(Op::Loop(Loop { body, carried: 3 }), &[first, values[0], values[1], n]);
    graph.finish(&results)
}

/// A branch with a dozen results.
fn many_results() -> Graph {
    let dims = [Dim::from(2)];
    let way = |name: &str, f: Unary| {
        let mut body = Body::new(name);
        let mut values = vec![body.float(&dims)];
        for at in 0..11 {
            let value = body.node(Op::Unary(f), &[values[at]]);
            values.push(value);
        }
        Arc::new(body.finish(&values))
    };
    let op = Op::If(If { then: way("then", Unary::Tanh), otherwise: way("otherwise", Unary::Sigmoid) });
    let mut graph = Body::new("graph");
    let (condition, x) = (graph.scalar(DType::Bool), graph.float(&dims));
    let results = graph.nodes(op, &[condition, x, x]);
    graph.finish(&results)
}
