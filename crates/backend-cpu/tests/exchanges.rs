//! Exchanges run beside what does not depend on them.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{device, run};
use mslite_collective::{Collective, CollectiveOp, Group, Result, World};
use mslite_graph_opt::Graph;
use mslite_runtime::{CompileOptions, Groups};
use mslite_tensor::{Buffer, Stream, Tensor, TensorSpec};

/// A communicator that notes what it is asked for.
#[derive(Debug)]
struct Noted {
    inner: Arc<dyn Collective>,
    calls: Mutex<Vec<String>>,
}

impl Noted {
    fn note(&self, what: &str, op: &CollectiveOp) {
        self.calls.lock().unwrap().push(format!("{what} {}", op.kind));
    }
}

impl Collective for Noted {
    fn group(&self) -> &Group {
        self.inner.group()
    }

    fn supports(&self, op: &CollectiveOp) -> bool {
        self.inner.supports(op)
    }

    fn start(&self, op: &CollectiveOp, send: &dyn Buffer, stream: &dyn Stream) -> Result<()> {
        self.note("start", op);
        self.inner.start(op, send, stream)
    }

    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<()> {
        self.note("finish", op);
        self.inner.enqueue(op, send, recv, stream)
    }

    fn abort(&self) {
        self.inner.abort();
    }
}

/// Runs a graph on two ranks with the inputs 1 and 2, three times: the first elements of the outputs of each
/// rank, and the calls of a run.
fn on_two_ranks(text: &str) -> Vec<(Vec<f32>, Vec<String>)> {
    let graph: Graph = text.parse().unwrap();
    let count = graph.spec(graph.inputs()[0].value).shape.as_fixed().unwrap().iter().product();
    let specs: Vec<TensorSpec> = graph.outputs().iter().map(|port| graph.spec(port.value).clone()).collect();
    let worlds = World::threads(2, Duration::from_secs(30)).unwrap();
    let one = |world: World| {
        let noted = Arc::new(Noted { inner: world.everybody(), calls: Mutex::default() });
        let mut groups = Groups::none();
        groups.insert(noted.group().name.clone(), noted.clone());
        let executable = device(1).compile(&graph, &CompileOptions::default()).unwrap();
        let mut execution = executable.instantiate(&groups).unwrap();
        let x = Tensor::from_vec(vec![world.rank() as f32 + 1.0; count], &[count]).unwrap();
        let mut first = Vec::new();
        for _ in 0..3 {
            noted.calls.lock().unwrap().clear();
            let outputs = run(&mut *execution, &[&x], &specs).unwrap();
            first.clear();
            for output in &outputs {
                let all = output.as_slice::<f32>().unwrap();
                assert!(all.iter().all(|x| *x == all[0]), "{text}");
                first.push(all[0]);
            }
        }
        let calls = noted.calls.lock().unwrap().clone();
        (first, calls)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = worlds.into_iter().map(|world| scope.spawn(|| one(world))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn an_exchange_is_finished_before_its_first_reader() {
    let results = on_two_ranks(
        r#"graph "g" {
          input %x "x" : f32[200000]
          %0 = neg %x @"operand"
          %1 = collective(op=all_reduce(sum) group="hccl_world_group", size=2) %0 @"AllReduce"
          %2 = square %0 @"beside"
          %3 = reshape(dims=[2, 100000]) %1 @"view"
          %4 = mul %2, %2 @"beside"
          %5 = reshape(dims=[200000]) %3 @"view"
          %6 = add %4, %5 @"reader"
          output "y" %6
        }"#,
    );
    // x^4 - 3
    for ((outputs, calls), expected) in results.into_iter().zip([-2.0, 13.0]) {
        assert_eq!(outputs, [expected]);
        assert_eq!(calls, ["start all_reduce(sum)", "finish all_reduce(sum)"]);
    }
}

#[test]
fn an_exchange_is_finished_before_the_next_one_and_at_the_end() {
    let results = on_two_ranks(
        r#"graph "g" {
          input %x "x" : f32[64]
          %0 = collective(op=all_reduce(sum) group="hccl_world_group", size=2) %x @"first"
          %1 = neg %x @"beside"
          %2 = collective(op=all_reduce(max) group="hccl_world_group", size=2) %1 @"second"
          %3 = collective(op=all_gather group="hccl_world_group", size=2) %2 @"third"
          %4 = concat(axis=0) %0, %0 @"reader"
          %5 = square %1 @"beside"
          output "sum" %4
          output "max" %3
          output "square" %5
        }"#,
    );
    for ((outputs, calls), square) in results.into_iter().zip([1.0, 4.0]) {
        assert_eq!(outputs, [3.0, -1.0, square]);
        let expected = [
            "start all_reduce(sum)",
            "finish all_reduce(sum)",
            "finish all_reduce(max)",
            "start all_gather",
            "finish all_gather",
        ];
        assert_eq!(calls, expected);
    }
}

#[test]
fn a_reduction_takes_the_place_of_an_operand_that_ends() {
    let results = on_two_ranks(
        r#"graph "g" {
          input %x "x" : f32[64]
          %0 = neg %x @"operand"
          %1 = collective(op=all_reduce(prod) group="hccl_world_group", size=2) %0 @"AllReduce"
          %2 = add %1, %x @"reader"
          output "y" %2
        }"#,
    );
    for ((outputs, calls), expected) in results.into_iter().zip([3.0, 4.0]) {
        assert_eq!(outputs, [expected]);
        assert_eq!(calls, ["finish all_reduce(prod)"]);
    }
}
