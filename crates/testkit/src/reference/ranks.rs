use std::collections::{BTreeMap, VecDeque};

use mslite_collective::{CollectiveKind, GroupName};
use mslite_graph_opt::ir::op::Collective;
use mslite_graph_opt::{Graph, NodeId, Op};
use mslite_tensor::Tensor;

use super::Run;
use super::array::Array;
use super::exchange::exchange_arrays;

/// The outputs of every rank of a distributed model: one graph and one list of inputs for each.
///
/// A collective's group is what its node says ([`Collective::ranks`]), else all ranks.
///
/// # Errors
/// As [`evaluate`](super::evaluate); also when the ranks wait for each other for ever.
pub fn evaluate_ranks(graphs: &[&Graph], inputs: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>, String> {
    let mut world = World::start(graphs, inputs)?;
    while world.ranks.iter().any(|rank| !rank.is_done()) {
        if !world.advance()? {
            return Err(format!("the ranks wait for each other: {}", world.waiting()));
        }
    }
    world.ranks.into_iter().map(|rank| rank.run.finish(&mut rank.states.clone())).collect()
}

struct World {
    ranks: Vec<Rank>,
    /// Messages under way, by source, destination, group and tag.
    mail: BTreeMap<(usize, usize, GroupName, i64), VecDeque<Array>>,
}

struct Rank {
    run: Run,
    states: Vec<Tensor>,
    next: usize,
}

impl Rank {
    fn is_done(&self) -> bool {
        self.next == self.run.graph.nodes().len()
    }

    /// The collective that the rank has come to.
    fn collective(&self) -> Option<&Collective> {
        if self.is_done() {
            return None;
        }
        match &self.run.graph.node(NodeId::new(self.next)).op {
            Op::Collective(collective) => Some(collective),
            _ => None,
        }
    }

    fn operand(&self) -> Option<&Array> {
        let node = self.run.graph.node(NodeId::new(self.next));
        node.operands.first().map(|value| &self.run.values[value])
    }

    /// Ends the node that the rank has come to.
    fn pass(&mut self, received: Option<Array>) {
        let results = self.run.graph.node(NodeId::new(self.next)).results.clone();
        if let (Some(&value), Some(array)) = (results.first(), received) {
            self.run.values.insert(value, array);
        }
        self.next += 1;
    }
}

impl World {
    fn start(graphs: &[&Graph], inputs: &[Vec<Tensor>]) -> Result<Self, String> {
        let ranks = graphs.iter().zip(inputs).map(|(graph, inputs)| {
            let states: Vec<Tensor> = graph.states().iter().map(|state| state.initial.clone()).collect();
            Ok(Rank { run: Run::start(graph, inputs, &states)?, states, next: 0 })
        });
        Ok(World { ranks: ranks.collect::<Result<_, String>>()?, mail: BTreeMap::new() })
    }

    /// Runs every rank as far as it comes; whether any came further.
    fn advance(&mut self) -> Result<bool, String> {
        let mut moved = false;
        for rank in 0..self.ranks.len() {
            moved |= self.advance_rank(rank)?;
        }
        Ok(moved)
    }

    fn advance_rank(&mut self, at: usize) -> Result<bool, String> {
        let rank = &mut self.ranks[at];
        if rank.is_done() {
            return Ok(false);
        }
        let Some(collective) = rank.collective().cloned() else {
            rank.run.evaluate_node(NodeId::new(rank.next))?;
            rank.next += 1;
            return Ok(true);
        };
        let everyone = (0..self.ranks.len()).collect();
        let group: Vec<usize> = collective.ranks.clone().unwrap_or(everyone);
        let name = collective.op.group.clone();
        let rank = &mut self.ranks[at];
        match collective.op.kind {
            CollectiveKind::Send { dest, tag } => {
                let message = rank.operand().cloned().ok_or("nothing to send")?;
                rank.pass(None);
                self.mail.entry((at, group[dest], name, tag)).or_default().push_back(message);
                Ok(true)
            }
            CollectiveKind::Receive { src, tag } => {
                let message = self.mail.get_mut(&(group[src], at, name, tag)).and_then(VecDeque::pop_front);
                let arrived = message.is_some();
                if arrived {
                    rank.pass(message);
                }
                Ok(arrived)
            }
            _ => self.exchange(&collective, &group),
        }
    }

    /// An operation of a whole group, if all its members have come to it.
    fn exchange(&mut self, collective: &Collective, group: &[usize]) -> Result<bool, String> {
        let is_here = |&member: &usize| self.ranks[member].collective() == Some(collective);
        if !group.iter().all(is_here) {
            return Ok(false);
        }
        let nothing = Array::new(mslite_tensor::DType::U8, &[0], Vec::new());
        let sends: Vec<&Array> =
            group.iter().map(|&member| self.ranks[member].operand().unwrap_or(&nothing)).collect();
        let received = exchange_arrays(&collective.op.kind, &sends)?;
        for (&member, array) in group.iter().zip(received) {
            self.ranks[member].pass(array);
        }
        Ok(true)
    }

    fn waiting(&self) -> String {
        let each = self.ranks.iter().enumerate().map(|(rank, state)| match state.collective() {
            Some(collective) => format!("rank {rank} in {}", collective.op),
            None => format!("rank {rank} has ended"),
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use mslite_collective::{CollectiveOp, Reduction};
    use mslite_graph_opt::GraphBuilder;
    use mslite_tensor::{DType, TensorSpec};

    use super::*;

    fn node(kind: CollectiveKind, receives: Option<TensorSpec>) -> Op {
        let op = CollectiveOp::new(kind, GroupName::world());
        Op::Collective(Collective { op, size: Some(2), ranks: None, receives })
    }

    /// Sends to, or receives from, the other rank, then sums over both.
    fn graph(kind: CollectiveKind) -> Graph {
        let spec = TensorSpec::fixed(DType::I32, &[2]);
        let mut builder = GraphBuilder::new("rank");
        let x = builder.input("x", spec.clone());
        let operands: &[_] = if matches!(kind, CollectiveKind::Send { .. }) { &[x] } else { &[] };
        let received = builder.push(node(kind, Some(spec)), operands, &"message".into()).unwrap();
        let mine = received.first().copied().unwrap_or(x);
        let sum = node(CollectiveKind::AllReduce(Reduction::Sum), None);
        let sum = builder.push1(sum, &[mine], &"sum".into()).unwrap();
        builder.output("sum", sum);
        builder.finish().unwrap()
    }

    #[test]
    fn ranks_meet_in_messages_and_collectives() {
        let sends = graph(CollectiveKind::Send { dest: 1, tag: 4 });
        let receives = graph(CollectiveKind::Receive { src: 0, tag: 4 });
        let x = |values: [i32; 2]| vec![Tensor::from_vec(values.to_vec(), &[2]).unwrap()];
        let outputs = evaluate_ranks(&[&sends, &receives], &[x([3, 4]), x([100, 200])]).unwrap();
        for rank in outputs {
            assert_eq!(rank[0].to_vec::<i32>().unwrap(), [6, 8]);
        }
        let waits = evaluate_ranks(&[&receives, &receives], &[x([0, 0]), x([0, 0])]).unwrap_err();
        assert!(waits.contains("rank 1 in receive(src=0, tag=4)"), "{waits}");
    }
}
