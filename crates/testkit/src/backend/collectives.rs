//! Collectives as nodes of a region, with ranks as threads.

use std::sync::Arc;
use std::time::Duration;

use mslite_collective::{
    Collective as Communicator, CollectiveKind, CollectiveOp, GroupName, Reduction, World,
};
use mslite_graph_opt::ir::op::{Binary, Collective, Unary};
use mslite_graph_opt::{Graph, Op};
use mslite_runtime::{CompileOptions, Device, ErrorKind, Groups};
use mslite_tensor::{DType, Dim, Tensor};

use super::graphs::Chain;
use super::run::{agree, claim, finish, run};
use crate::Tolerance;
use crate::generate::Generator;
use crate::reference;
use crate::suite::{Case, Stop, Verdict, ensure, fail};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn cases(device: &Arc<dyn Device>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, kind, rows) in kinds() {
        for size in [1, 2, 4] {
            for dtype in [DType::F32, DType::F16, DType::I32] {
                let graph = group_graph(&kind, size, dtype, rows);
                let graphs = vec![graph; size];
                cases.push(case(device, format!("collective/{name}/{size}/{dtype}"), graphs, dtype, rows));
            }
        }
    }
    let messages = vec![
        message_graph(CollectiveKind::Send { dest: 1, tag: 3 }),
        message_graph(CollectiveKind::Receive { src: 0, tag: 3 }),
    ];
    cases.push(case(device, "collective/send_receive/2/f32".to_owned(), messages, DType::F32, 4));
    let device = device.clone();
    cases.push(Case::new("collective/missing_group", move || missing_group(&device)));
    cases
}

fn kinds() -> Vec<(&'static str, CollectiveKind, usize)> {
    vec![
        ("all_reduce_sum", CollectiveKind::AllReduce(Reduction::Sum), 3),
        ("all_reduce_max", CollectiveKind::AllReduce(Reduction::Max), 3),
        ("all_gather", CollectiveKind::AllGather, 3),
        ("reduce_scatter", CollectiveKind::ReduceScatter(Reduction::Sum), 8),
        ("all_to_all", CollectiveKind::AllToAll, 8),
        ("broadcast", CollectiveKind::Broadcast { root: 0 }, 3),
    ]
}

fn node(kind: CollectiveKind, size: usize) -> Collective {
    Collective {
        op: CollectiveOp::new(kind, GroupName::world()),
        size: Some(size),
        ranks: None,
        receives: None,
    }
}

/// `relu(exchange(x + x))`: work before and after, in one region.
fn group_graph(kind: &CollectiveKind, size: usize, dtype: DType, rows: usize) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![Dim::from(rows), Dim::from(5)]);
    let twice = chain.node(Op::Binary(Binary::Add), &[x, x]);
    let exchanged = chain.node(Op::Collective(node(kind.clone(), size)), &[twice]);
    let y = chain.node(Op::Unary(Unary::Relu), &[exchanged]);
    finish(chain.builder, &[y])
}

/// Sends `x + x`, or receives and adds x.
fn message_graph(kind: CollectiveKind) -> Graph {
    let mut chain = Chain::new(DType::F32);
    let x = chain.input(vec![Dim::from(4), Dim::from(5)]);
    let twice = chain.node(Op::Binary(Binary::Add), &[x, x]);
    let sends = matches!(kind, CollectiveKind::Send { .. });
    let op = Collective { receives: Some(chain.builder.spec(x).clone()), ..node(kind, 2) };
    let operands: &[_] = if sends { &[twice] } else { &[] };
    let received = chain.builder.push(Op::Collective(op), operands, &"case/message".into());
    let received = received.expect("the case fits its operands").first().copied();
    let y = chain.node(Op::Binary(Binary::Add), &[received.unwrap_or(twice), x]);
    finish(chain.builder, &[y])
}

fn case(device: &Arc<dyn Device>, name: String, graphs: Vec<Graph>, dtype: DType, rows: usize) -> Case {
    let device = device.clone();
    Case::new(name, move || {
        needs_collectives(&*device)?;
        graphs.iter().try_for_each(|graph| claim(&*device, graph))?;
        let inputs: Vec<Vec<Tensor>> = (0..graphs.len())
            .map(|rank| vec![Generator::new(rank as u64).tensor(dtype, &[rows, 5], -9.0, 9.0)])
            .collect();
        let graphs: Vec<&Graph> = graphs.iter().collect();
        let expected = reference::evaluate_ranks(&graphs, &inputs).map_err(fail("the reference"))?;
        let worlds = World::threads(graphs.len(), TIMEOUT).map_err(fail("making ranks"))?;
        let device = &*device;
        std::thread::scope(|scope| {
            let ranks: Vec<_> = worlds
                .into_iter()
                .zip(graphs.iter().zip(inputs.iter().zip(&expected)))
                .map(|(world, (graph, (inputs, expected)))| {
                    scope.spawn(move || run_rank(device, &world, graph, inputs, expected, dtype))
                })
                .collect();
            ranks.into_iter().enumerate().try_for_each(|(rank, thread)| {
                let verdict = thread.join().map_err(|_| format!("rank {rank} panicked"))?;
                verdict.map_err(|stop| match stop {
                    Stop::Fail(reason) => Stop::Fail(format!("rank {rank}: {reason}")),
                    skip => skip,
                })
            })
        })
    })
}

fn needs_collectives(device: &dyn Device) -> Verdict {
    if device.capability().collectives {
        return Ok(());
    }
    Err(Stop::Skip("its regions have no collectives".to_owned()))
}

fn run_rank(
    device: &dyn Device,
    world: &World,
    graph: &Graph,
    inputs: &[Tensor],
    expected: &[Tensor],
    dtype: DType,
) -> Verdict {
    let communicator: Arc<dyn Communicator> = world.everybody();
    let mut groups = Groups::none();
    groups.insert(GroupName::world(), communicator);
    let executable = device.compile(graph, &CompileOptions::default()).map_err(fail("compiling"))?;
    let mut execution = executable.instantiate(&groups).map_err(fail("instantiating"))?;
    for _ in 0..3 {
        let actual = run(device, &mut *execution, graph, inputs)?;
        agree(&actual, expected, Tolerance::of(dtype).times(2.0))?;
    }
    Ok(())
}

fn missing_group(device: &Arc<dyn Device>) -> Verdict {
    needs_collectives(&**device)?;
    let graph = group_graph(&CollectiveKind::AllReduce(Reduction::Sum), 2, DType::F32, 3);
    claim(&**device, &graph)?;
    let executable = device.compile(&graph, &CompileOptions::default()).map_err(fail("compiling"))?;
    match executable.instantiate(&Groups::none()) {
        Ok(_) => Err("an executable with collectives is instantiated without its group".into()),
        Err(error) => ensure(error.kind() == ErrorKind::InvalidArgument, || {
            format!("the missing group is {}, not InvalidArgument: {error}", error.kind())
        }),
    }
}
