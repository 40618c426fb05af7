//! How much memory values take while a graph runs, from shapes alone.

use super::cost::bytes;
use super::graph::Graph;
use super::op::Op;
use super::{NodeId, ValueId};

impl Graph {
    /// The most bytes of values that nodes have made and others will still read, at one node: no arena for this order
    /// of nodes is smaller. Inputs, states and constants do not count, nor does what [`Op::Reshape`] gives besides what it
    /// takes; at a node with graphs inside, the larger of theirs counts. `None` for extents that are not numbers.
    pub fn peak_memory(&self) -> Option<u64> {
        let roots = self.roots();
        let last = self.last_uses(&roots);
        let mut dying: Vec<Vec<ValueId>> = vec![Vec::new(); self.nodes().len()];
        let (mut alive, mut peak) = (0u64, 0u64);
        for (id, node) in self.nodes() {
            for &result in node.results.iter().filter(|result| roots[result.index()] == **result) {
                alive = alive.saturating_add(bytes(self.spec(result))?);
                match last[result.index()] {
                    Some(LastUse::Never) => {}
                    Some(LastUse::At(node)) => dying[node.index()].push(result),
                    // What nobody reads goes at once.
                    None => dying[id.index()].push(result),
                }
            }
            let mut within = 0;
            for body in node.op.bodies() {
                within = body.peak_memory()?.max(within);
            }
            peak = peak.max(alive.saturating_add(within));
            for value in std::mem::take(&mut dying[id.index()]) {
                alive = alive.saturating_sub(bytes(self.spec(value))?);
            }
        }
        Some(peak)
    }

    /// Whose memory each value has.
    fn roots(&self) -> Vec<ValueId> {
        let mut roots: Vec<ValueId> = self.values().map(|(id, _)| id).collect();
        for (_, node) in self.nodes() {
            if let (Op::Reshape(_), [result], [operand]) = (&node.op, &node.results[..], &node.operands[..]) {
                roots[result.index()] = roots[operand.index()];
            }
        }
        roots
    }

    /// Where the memory of each value is read last.
    fn last_uses(&self, roots: &[ValueId]) -> Vec<Option<LastUse>> {
        let mut last = vec![None; roots.len()];
        for (id, node) in self.nodes() {
            for &operand in &node.operands {
                last[roots[operand.index()].index()] = Some(LastUse::At(id));
            }
        }
        for result in self.results() {
            last[roots[result.index()].index()] = Some(LastUse::Never);
        }
        last
    }
}

#[derive(Debug, Clone, Copy)]
enum LastUse {
    At(NodeId),
    /// It is a result of the graph.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(text: &str) -> Option<u64> {
        text.parse::<Graph>().unwrap().peak_memory()
    }

    #[test]
    fn values_count_while_they_are_needed() {
        let text = r#"graph "g" {
            input %x "x" : f32[4]
            constant %c "c" : f32[4] = [1.0, 2.0, 3.0, 4.0]
            %0 = exp %x
            %1 = reshape(dims=[2, 2]) %0
            %2 = neg %1
            %3 = add %x, %c
            %4 = reshape(dims=[2, 2]) %3
            %5 = mul %2, %4
            output "y" %5
        }"#;
        // At the last node: what neg, add and mul give.
        assert_eq!(peak(text), Some(3 * 16));
    }

    #[test]
    fn results_stay_and_what_nobody_reads_goes() {
        let text = r#"graph "g" {
            input %x "x" : f32[8]
            %0 = exp %x
            %1 = neg %x
            %2 = cast(to=f64) %x
            %3 = sqrt %x
            output "y" %0
        }"#;
        assert_eq!(peak(text), Some(32 + 64));
    }

    #[test]
    fn unknown_extents_have_no_peak() {
        let text = "graph \"g\" {\ninput %x \"x\" : f32[n]\n%0 = exp %x\noutput \"y\" %0\n}";
        assert_eq!(peak(text), None);
    }
}
