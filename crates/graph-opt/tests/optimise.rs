//! The pass driver, and what must hold for all graphs.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use mslite_graph_opt::ir::Port;
use mslite_graph_opt::ir::op::{Op, Unary};
use mslite_graph_opt::ir::verify;
use mslite_graph_opt::pass::{Level, OptimiseOptions, Pass, PassContext, Patch, Report, optimise, passes};
use mslite_graph_opt::{Error, Graph, Result, specialise};
use mslite_tensor::{Bindings, Tensor};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::evaluate::{Reference, run, same};
use support::generate::{Palette, graphs};

const TEXT: &str = r#"graph "g" {
  input %x "x" : f32[2, 3]
  constant %w "w" : f32[3, 2] = [1, 2, 3, 4, 5, 6]
  constant %b "b" : f32[2] = [1, 2]
  %0 = neg %x @"first"
  %1 = neg %0 @"second"
  %2 = matmul %1, %w @"product"
  %3 = add %2, %b @"bias"
  %4 = relu %3 @"activation"
  output "y" %4
}"#;

fn rules(report: &Report) -> Vec<String> {
    report.rewrites.iter().map(|rewrite| rewrite.to_string()).collect()
}

#[test]
fn rewrites_are_logged_in_order() {
    let (graph, report) = optimise(&TEXT.parse().unwrap(), &OptimiseOptions::default()).unwrap();
    let expected = [
        "algebra: function_chain at second",
        "fusion: matmul_bias at bias",
        "fusion: activation at activation",
    ];
    assert_eq!(rules(&report), expected);
    assert!(report.converged);
    assert_eq!(graph.nodes().len(), 1);
    assert_eq!(graph.nodes().next().unwrap().1.origin.as_ref(), "product");
}

#[test]
fn fuel_stops_rewriting() {
    let graph: Graph = TEXT.parse().unwrap();
    let options = OptimiseOptions { fuel: Some(1), dump: true, ..OptimiseOptions::default() };
    let (optimised, report) = optimise(&graph, &options).unwrap();
    assert_eq!(report.rewrites.len(), 1);
    assert!(!report.converged);
    assert_eq!(optimised.nodes().len(), 3);
    assert_eq!(report.dumps.len(), 1);
    assert_eq!((report.dumps[0].pass, report.dumps[0].round), ("algebra", 1));
    assert_eq!(report.dumps[0].graph, optimised);
}

#[test]
fn passes_are_switched_off_by_name() {
    let graph: Graph = TEXT.parse().unwrap();
    let without = |name: &str| OptimiseOptions {
        without: BTreeSet::from([name.to_owned()]),
        ..OptimiseOptions::default()
    };
    let (_, report) = optimise(&graph, &without("fusion")).unwrap();
    assert_eq!(rules(&report), ["algebra: function_chain at second"]);
    let error = optimise(&graph, &without("fussion")).unwrap_err();
    assert!(matches!(error, Error::Options(_)), "{error}");
}

#[test]
fn levels_build_on_each_other() {
    let graph: Graph = TEXT.parse().unwrap();
    let names = |level| passes(level).iter().map(|pass| pass.name()).collect::<BTreeSet<_>>();
    assert!(names(Level::O0).is_empty());
    assert!(names(Level::O1).is_subset(&names(Level::O2)));
    let (same, report) = optimise(&graph, &OptimiseOptions::at(Level::O0)).unwrap();
    assert_eq!((same, report.converged), (graph, true));
    assert_eq!("O1".parse::<Level>().unwrap(), Level::O1);
    assert!("O3".parse::<Level>().is_err());
}

/// Replaces each `from` by a `to`, for ever.
#[derive(Debug)]
struct Swap(Unary, Unary);

impl Pass for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let mut patch = Patch::new(graph);
        for (id, node) in graph.nodes() {
            if node.op == Op::Unary(self.0) && cx.spend("swap", &node.origin) {
                let new = patch.push(graph, id, Op::Unary(self.1), &node.operands, &node.origin)?;
                patch.replace(node.results[0], new[0]);
            }
        }
        Ok(patch.into_change())
    }
}

#[test]
fn passes_that_undo_each_other_end() {
    let passes: Vec<Arc<dyn Pass>> =
        vec![Arc::new(Swap(Unary::Neg, Unary::Exp)), Arc::new(Swap(Unary::Exp, Unary::Neg))];
    let options = OptimiseOptions { passes, rounds: 5, ..OptimiseOptions::default() };
    let (_, report) = optimise(&TEXT.parse().unwrap(), &options).unwrap();
    assert_eq!((report.rounds, report.converged), (5, false));
}

#[test]
fn a_defective_pass_is_named() {
    let options = OptimiseOptions {
        passes: vec![Arc::new(Swap(Unary::Neg, Unary::IsNan))],
        ..OptimiseOptions::default()
    };
    let error = optimise(&TEXT.parse().unwrap(), &options).unwrap_err().to_string();
    assert!(error.contains("after pass swap: ") && error.contains("by a bool[2, 3]"), "{error}");
}

fn input(graph: &Graph, n: usize, seed: u64) -> Tensor {
    let spec = graph.spec(graph.inputs()[n].value);
    let dims = spec.shape.as_fixed().unwrap();
    let count: usize = dims.iter().product();
    let mut state = seed ^ (n as u64) << 32;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as usize
    };
    let special = [0.0, -0.0, f32::NAN, f32::INFINITY, -1.0, 1.0, 0.5, -2.5, 3.0, 1e30];
    let tensor = match spec.dtype.name() {
        "f32" => Tensor::from_vec((0..count).map(|_| special[next() % special.len()]).collect(), &dims),
        "i64" => Tensor::from_vec((0..count).map(|_| next() as i64 % 7 - 3).collect(), &dims),
        _ => Tensor::from_vec((0..count).map(|_| next() % 2 == 0).collect(), &dims),
    };
    tensor.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn results_stay_the_same_to_the_bit(graph in graphs(Palette::Runnable, 40), seed: u64, evaluates: bool) {
        let evaluator = evaluates.then(|| Arc::new(Reference) as _);
        let options = OptimiseOptions { evaluator, ..OptimiseOptions::at(Level::O1) };
        let (optimised, report) = optimise(&graph, &options).unwrap();
        prop_assert!(report.converged);
        let inputs: Vec<Tensor> = (0..graph.inputs().len()).map(|n| input(&graph, n, seed)).collect();
        let (before, after) = (run(&graph, &inputs), run(&optimised, &inputs));
        prop_assert_eq!(before.len(), after.len());
        for (n, (x, y)) in before.iter().zip(&after).enumerate() {
            let (x_values, y_values) = (x.to_vec::<f32>(), y.to_vec::<f32>());
            prop_assert!(same(x, y), "result {n}: {x_values:?} became {y_values:?}\n{graph}{optimised}{:#?}", rules(&report));
        }
    }

    #[test]
    fn results_stay_the_same_for_any_extents(graph in graphs(Palette::Symbolic, 30), seed: u64, n in 1..4usize, m in 1..4usize) {
        let (optimised, report) = optimise(&graph, &OptimiseOptions::at(Level::O1)).unwrap();
        prop_assert!(report.converged);
        let bindings = Bindings::from([("n".into(), n as i64), ("m".into(), m as i64)]);
        let dims = |port: &Port| graph.spec(port.value).shape.bind(&bindings).as_fixed().unwrap();
        let dims: Vec<_> = graph.inputs().iter().map(dims).collect();
        let dims: Vec<&[usize]> = dims.iter().map(|dims| &dims[..]).collect();
        // Whether different symbols broadcast depends on their values.
        if let Ok(graph) = specialise(&graph, &dims) {
            let optimised = specialise(&optimised, &dims).unwrap();
            let inputs: Vec<Tensor> = (0..graph.inputs().len()).map(|n| input(&graph, n, seed)).collect();
            for (x, y) in run(&graph, &inputs).iter().zip(&run(&optimised, &inputs)) {
                prop_assert!(same(x, y), "{x:?} became {y:?}\n{graph}{optimised}{:#?}", rules(&report));
            }
        }
    }

    #[test]
    fn any_graph_stays_valid(graph in graphs(Palette::All, 60)) {
        let (optimised, report) = optimise(&graph, &OptimiseOptions::default()).unwrap();
        verify(&optimised).unwrap();
        prop_assert!(report.converged);
        let ports = |graph: &Graph| {
            let spec = |value| graph.spec(value).clone();
            let inputs: Vec<_> = graph.inputs().iter().map(|p| (p.name.clone(), spec(p.value))).collect();
            let outputs: Vec<_> = graph.outputs().iter().map(|p| (p.name.clone(), spec(p.value))).collect();
            (inputs, outputs)
        };
        prop_assert_eq!(ports(&graph), ports(&optimised));
        let effects = |graph: &Graph| -> Vec<_> {
            graph.nodes().filter(|(_, n)| n.op.has_effect()).map(|(_, n)| (n.op.clone(), n.origin.clone())).collect()
        };
        prop_assert_eq!(effects(&graph), effects(&optimised));
        let (again, more) = optimise(&optimised, &OptimiseOptions::default()).unwrap();
        prop_assert_eq!(rules(&more), Vec::<String>::new());
        prop_assert_eq!(again.to_string(), optimised.to_string());
    }

    #[test]
    fn less_fuel_makes_the_first_rewrites(graph in graphs(Palette::Runnable, 30), fuel in 0..8usize) {
        let options = OptimiseOptions { fuel: Some(fuel as u64), ..OptimiseOptions::default() };
        let (_, some) = optimise(&graph, &options).unwrap();
        let (_, all) = optimise(&graph, &OptimiseOptions::default()).unwrap();
        prop_assert_eq!(&some.rewrites[..], &all.rewrites[..fuel.min(all.rewrites.len())]);
    }
}

/// A property that no graph exercises proves nothing.
#[test]
fn random_graphs_reach_every_rule() {
    let mut runner = TestRunner::deterministic();
    let mut rules = BTreeSet::new();
    for _ in 0..600 {
        let graph = graphs(Palette::Runnable, 40).new_tree(&mut runner).unwrap().current();
        let (_, report) = optimise(&graph, &OptimiseOptions::at(Level::O1)).unwrap();
        rules.extend(report.rewrites.iter().map(|rewrite| rewrite.rule));
    }
    let expected = [
        "activation",
        "broadcast_chain",
        "broadcast_operand",
        "cast_chain",
        "clip",
        "constant_operands",
        "conv2d_bias",
        "empty_pad",
        "equal_constants",
        "equal_nodes",
        "equal_operands",
        "function_between",
        "function_chain",
        "function_without_effect",
        "known_selection",
        "matmul_bias",
        "neutral_operand",
        "reshape_chain",
        "rows_behind",
        "same_broadcast",
        "same_cast",
        "same_layout",
        "single_concat",
        "single_elements",
        "transpose_chain",
        "transpose_to_reshape",
        "transposed_operand",
        "transposed_operands",
        "unused",
        "whole_slice",
    ];
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), expected);
}
