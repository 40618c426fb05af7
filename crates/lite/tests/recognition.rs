//! What the passes make of transformers: everything that a layer has is found in all layers.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::models;
use mslite_backend_cpu::CpuEvaluator;
use mslite_graph_opt::ir::Node;
use mslite_graph_opt::ir::op::{Conv2d, MatMul, Unary};
use mslite_graph_opt::pass::{Level, OptimiseOptions, agreed_passes, optimise, passes};
use mslite_graph_opt::{Graph, ImportOptions, Op, ValueId, import};
use mslite_mindir::{Model, OpenOptions};
use mslite_testkit::cases::discover;

/// Most nodes that are left, in percent.
const LEFT: usize = 40;

/// What is counted in a graph.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    attentions: usize,
    /// Of which query, key and value come from one product.
    joined: usize,
    norms: usize,
    /// Of products, or of products that are gates.
    activations: usize,
}

#[test]
fn transformers_are_recognised_in_all_layers() {
    let Some(folder) = models() else { return };
    let families = ["bert", "gpt2", "llama", "vit"];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for case in discover(folder.join("dev")).unwrap() {
        if !families.iter().any(|family| case.name.contains(family)) {
            continue;
        }
        for path in &case.models {
            seen += 1;
            let (before, after, layers) = compiled(path);
            let found = Found::in_graph(&after);
            // Before the layers or behind them stands one norm more.
            let expected =
                Found { attentions: layers, joined: layers, norms: 2 * layers + 1, activations: layers };
            let counts = [before.nodes().len(), after.nodes().len()];
            if layers == 0 || found != expected || 100 * counts[1] > LEFT * counts[0] {
                wrong.push(format!("{}: {found:?}, not {expected:?}; nodes {counts:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty() && seen > 0, "{}", wrong.join("\n"));
}

/// A model's graph before and after optimisation, and the number of layers that its parameters belong to.
fn compiled(path: &Path) -> (Graph, Graph, usize) {
    let model = Model::open(path, &OpenOptions::new()).unwrap();
    let before = import(&model, &ImportOptions::default()).unwrap();
    let mut passes = passes(Level::O2);
    passes.extend(agreed_passes(Level::O2));
    let evaluator = Some(Arc::new(CpuEvaluator) as _);
    let options = OptimiseOptions { passes, evaluator, ..OptimiseOptions::default() };
    let (after, report) = optimise(&before, &options).unwrap();
    assert!(report.converged, "{}", path.display());
    let layers = before.values().filter_map(|(id, _)| layer(&before.constant(id)?.name)).max();
    (before, after, layers.map_or(0, |last| last + 1))
}

/// The number in a parameter's name, such as 2 in `blocks.2.att.q.w`.
fn layer(name: &str) -> Option<usize> {
    name.split('.').find_map(|part| part.parse().ok())
}

impl Found {
    fn in_graph(graph: &Graph) -> Self {
        let count = |is: &dyn Fn(&Node) -> bool| graph.nodes().filter(|(_, node)| is(node)).count();
        Found {
            attentions: count(&|node| matches!(node.op, Op::Attention(_))),
            joined: count(&|node| matches!(node.op, Op::Attention(_)) && is_joined(graph, node)),
            norms: count(&|node| matches!(node.op, Op::LayerNorm(_) | Op::RmsNorm(_) | Op::AddNorm(_))),
            activations: count(&|node| {
                let f = match node.op {
                    Op::MatMul(MatMul { activation, .. }) | Op::Conv2d(Conv2d { activation, .. }) => {
                        activation
                    }
                    Op::Gated(f) => Some(f),
                    _ => None,
                };
                matches!(f, Some(Unary::Gelu | Unary::GeluTanh | Unary::Silu))
            }),
        }
    }
}

/// Whether query, key and value are columns of one product, or caches that take in such.
fn is_joined(graph: &Graph, attention: &Node) -> bool {
    let product = |mut value: ValueId| {
        while let Some((id, node)) = graph.producer(value) {
            match node.op {
                Op::MatMul(_) => return Some(id),
                Op::Rope | Op::Slice(_) | Op::Reshape(_) => value = node.operands[0],
                Op::Select => value = node.operands[1],
                _ => break,
            }
        }
        None
    };
    let products = [0, 1, 2].map(|n| product(attention.operands[n]));
    products[0].is_some() && products.iter().all(|id| *id == products[0])
}
