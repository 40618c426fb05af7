//! Models whose products are lowered to 16 bits give about what they gave.

mod common;

use std::sync::Arc;

use common::case;
use mslite_backend_cpu::{CpuBackend, CpuEvaluator};
use mslite_graph_opt::pass::{OptimiseOptions, Pass, Precision, optimise};
use mslite_graph_opt::{Graph, ImportOptions, Op, import};
use mslite_mindir::{Model, OpenOptions};
use mslite_runtime::{DeviceOptions, Registry, Session, SessionOptions};
use mslite_tensor::{DType, Tensor};

const CASES: [&str; 5] = ["w_bert", "w_vit", "w_llama_prefill", "d_gpt2_tp1_fp32", "d_llama_tp1_fp32"];

#[test]
fn lowered_models_differ_by_roundings() {
    // Half the distance of neighbours of 1.
    for (dtype, unit) in [(DType::F16, 0.5f64.powi(11)), (DType::BF16, 0.5f64.powi(8))] {
        for name in CASES {
            let Some(case) = case(name) else { return };
            let model = Model::open(&case.models[0], &OpenOptions::new()).unwrap();
            let imported = import(&model, &ImportOptions::default()).unwrap();
            let inputs = case.calls[0].read_inputs().unwrap();
            let plain = optimised(&imported, None);
            let lowered = optimised(&imported, Some(Precision::new(dtype).unwrap()));
            let products = |graph: &Graph| {
                let is = |dtype| move |graph: &Graph, value| graph.spec(value).dtype == dtype;
                let count = |is: &dyn Fn(&Graph, _) -> bool| {
                    let nodes =
                        graph.nodes().filter(|(_, node)| matches!(node.op, Op::MatMul(_) | Op::Attention(_)));
                    nodes.filter(|(_, node)| is(graph, node.results[0])).count()
                };
                [count(&is(DType::F32)), count(&is(dtype))]
            };
            assert_eq!(products(&plain)[0], products(&lowered)[1], "{name}");
            assert_eq!(products(&lowered)[0], 0, "{name}");
            // Values of about one size go from node to node, and each node rounds its operands and its result.
            let roundings = 2 * products(&lowered)[1];
            let (expected, actual) = (run(plain, &inputs), run(lowered, &inputs));
            for (expected, actual) in expected.iter().zip(&actual) {
                assert_eq!(expected.spec(), actual.spec(), "{name}");
                let [x, y] = [expected, actual].map(|tensor| tensor.to_vec::<f32>().unwrap());
                let size = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let error = x.iter().zip(&y).fold(0.0f32, |most, (x, y)| most.max((x - y).abs()));
                let bound = unit * roundings as f64 * f64::from(size);
                assert!(f64::from(error) < bound, "{name} in {dtype}: {error} is not below {bound}");
                assert!(error > 0.0, "{name} in {dtype}: nothing was rounded");
            }
        }
    }
}

fn optimised(graph: &Graph, precision: Option<Precision>) -> Graph {
    let mut options =
        OptimiseOptions { evaluator: Some(Arc::new(CpuEvaluator)), ..OptimiseOptions::default() };
    options.passes.extend(precision.map(|pass| Arc::new(pass) as Arc<dyn Pass>));
    let (graph, report) = optimise(graph, &options).unwrap();
    assert!(report.converged);
    graph
}

fn run(graph: Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let registry = Registry::new().with(Arc::new(CpuBackend));
    let device = registry.open("cpu", 0, &DeviceOptions::default().with_threads(1)).unwrap();
    let session = Session::build(graph, vec![device], SessionOptions::default()).unwrap();
    session.run(&inputs.iter().collect::<Vec<_>>()).unwrap()
}
