use std::collections::HashMap;

use mslite_collective::CollectiveKind;
use mslite_tensor::{Dim, Symbol};
use smallvec::SmallVec;

use super::{Pass, PassContext, Patch};
use crate::ir::op::Op;
use crate::ir::{Node, NodeId};
use crate::{Graph, Result};

/// Moves nodes so that ranks compute while they exchange.
///
/// An exchange runs as early as its operands allow, nodes that do not depend on its result follow, and then those that
/// do: as many nodes as take about as long as the exchange, by the [cost](Graph::cost) of each. They come from
/// before the exchange, if it can do without them, and from behind the next one, if that has more than it needs. A
/// backend that starts an exchange at its node and waits for it before the first reader gains the time between; one
/// that waits at the node loses nothing.
///
/// Exchanges keep their order among each other, so each rank decides alone. No node is moved where costs cannot be
/// told, and none past two exchanges; and everything stays as it is if no more work lies behind exchanges than
/// before, or if the values that live at the worst node would take more than 1 MiB and more than an eighth more memory.
///
/// ```text
/// %1 = matmul %0, %a                                    |  %1 = matmul %0, %a
/// %2 = matmul %0, %b                                    |  %3 = collective(op=all_reduce(sum) group="tp") %1
/// %3 = collective(op=all_reduce(sum) group="tp") %1     |  %2 = matmul %0, %b
/// %4 = add %2, %3                                       |  %4 = add %2, %3
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Overlap;

/// What an exchange takes before the first byte moves, in arithmetic operations.
const LATENCY: u64 = 100_000;

/// What a byte takes that another rank gets, and one that is read or written here.
const EXCHANGED: u64 = 16;
const MOVED: u64 = 4;

/// By how many bytes what lives at the worst node may grow, or by which part.
const GROWTH: u64 = 1 << 20;
const GROWTH_PART: u64 = 8;

impl Pass for Overlap {
    fn name(&self) -> &'static str {
        "overlap"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        if graph.nodes().all(|(_, node)| need(graph, node) == 0) {
            return Ok(None);
        }
        let mut windows = Windows::new(graph);
        let before: Vec<usize> = (0..graph.nodes().len()).collect();
        let old = windows.covered(&before);
        windows.delay();
        windows.advance();
        let order = windows.order();
        let new = windows.covered(&order);
        let gains = new.iter().sum::<u64>() > old.iter().sum::<u64>();
        let first = (0..new.len()).find(|&effect| new[effect] > old[effect]);
        let Some(first) = first.filter(|_| gains && fits(graph, &before, &order)) else { return Ok(None) };
        let origin = &graph.node(NodeId::new(windows.effects[first])).origin;
        Ok(cx.spend("overlap", origin).then(|| Patch::reorder(graph, order)))
    }
}

/// Whether the values that live at the worst node do not take much more memory.
fn fits(graph: &Graph, before: &[usize], order: &[usize]) -> bool {
    let old = peak(graph, before);
    peak(graph, order) <= old.saturating_add(GROWTH.max(old / GROWTH_PART))
}

/// Bytes of results that live at the worst node.
fn peak(graph: &Graph, order: &[usize]) -> u64 {
    let mut last = vec![0; graph.values().len()];
    for (step, &n) in order.iter().enumerate() {
        graph.node(NodeId::new(n)).operands.iter().for_each(|value| last[value.index()] = step);
    }
    graph.results().for_each(|value| last[value.index()] = order.len());
    let mut ends = vec![0u64; order.len() + 1];
    let (mut live, mut most) = (0u64, 0);
    for (step, &n) in order.iter().enumerate() {
        for &value in &graph.node(NodeId::new(n)).results {
            let size = graph.spec(value).size_bytes().unwrap_or(0) as u64;
            live = live.saturating_add(size);
            let end = &mut ends[last[value.index()].max(step)];
            *end = end.saturating_add(size);
        }
        most = most.max(live);
        live = live.saturating_sub(ends[step]);
    }
    most
}

/// The nodes between nodes with effects: window `k` ends before effect `k`, and the last one with the graph.
///
/// A node may be in each window from behind the last effect that it needs up to before the first effect that needs
/// it. It covers the effect before its window if it does not need that.
struct Windows {
    /// Nodes with effects.
    effects: Vec<usize>,
    /// By effect: the work that takes as long.
    needs: Vec<u64>,
    /// By node: the nodes that must run before.
    operands: Vec<SmallVec<[usize; 3]>>,
    /// By node: the work that it is.
    work: Vec<u64>,
    /// By node: the first and the last window in which it may be.
    range: Vec<(usize, usize)>,
    /// By node: the window in which it is; an effect ends it.
    at: Vec<usize>,
    /// By window: its nodes, in order.
    nodes: Vec<Vec<usize>>,
    /// By window: the work that covers the effect before it.
    cover: Vec<u64>,
}

impl Windows {
    fn new(graph: &Graph) -> Self {
        let mut windows = Windows {
            effects: Vec::new(),
            needs: Vec::new(),
            operands: operands(graph),
            work: vec![0; graph.nodes().len()],
            range: vec![(0, usize::MAX); graph.nodes().len()],
            at: vec![0; graph.nodes().len()],
            nodes: vec![Vec::new()],
            cover: vec![0],
        };
        for (id, node) in graph.nodes() {
            windows.push(id.index(), graph, node);
        }
        for n in (0..windows.at.len()).rev() {
            let latest = if windows.is_effect(n) { windows.at[n] } else { windows.range[n].1 };
            for &operand in &windows.operands[n] {
                let last = &mut windows.range[operand].1;
                *last = latest.min(*last);
            }
        }
        windows
    }

    fn push(&mut self, n: usize, graph: &Graph, node: &Node) {
        let window = self.effects.len();
        let after = |&p: &usize| if self.is_effect(p) { self.at[p] + 1 } else { self.range[p].0 };
        self.range[n].0 = self.operands[n].iter().map(after).max().unwrap_or(0);
        self.at[n] = window;
        if node.op.has_effect() {
            self.effects.push(n);
            self.needs.push(need(graph, node));
            self.nodes.push(Vec::new());
            self.cover.push(0);
        } else {
            self.work[n] = work(graph, node);
            self.enter(n, window);
        }
    }

    fn is_effect(&self, n: usize) -> bool {
        self.effects.get(self.at[n]) == Some(&n)
    }

    fn enter(&mut self, n: usize, window: usize) {
        self.at[n] = window;
        self.nodes[window].push(n);
        if self.range[n].0 < window {
            self.cover[window] = self.cover[window].saturating_add(self.work[n]);
        }
    }

    /// Work that the effect before a window lacks.
    fn lack(&self, window: usize) -> u64 {
        let need = window.checked_sub(1).map_or(0, |effect| self.needs[effect]);
        need.saturating_sub(self.cover[window])
    }

    /// Whether the effect before a node's window is covered without the node.
    fn is_spare(&self, n: usize) -> bool {
        let window = self.at[n];
        let covers = self.range[n].0 < window && self.work[n] > 0;
        !covers || self.cover[window] - self.work[n] >= self.needs[window - 1]
    }

    fn leave(&mut self, n: usize) {
        let window = self.at[n];
        if self.range[n].0 < window {
            self.cover[window] = self.cover[window].saturating_sub(self.work[n]);
        }
    }

    /// Moves nodes that an effect does not need behind it, the last ones first.
    fn delay(&mut self) {
        let mut pinned = vec![false; self.at.len()];
        for window in 0..self.effects.len() {
            let later = std::mem::take(&mut self.nodes[window + 1]);
            let (mut stay, mut go) = (Vec::new(), Vec::new());
            for n in std::mem::take(&mut self.nodes[window]).into_iter().rev() {
                let may_go = self.range[n].1 > window && !pinned[n] && self.is_spare(n);
                if may_go && self.lack(window + 1) > 0 {
                    self.leave(n);
                    self.enter(n, window + 1);
                    go.push(n);
                } else {
                    self.operands[n].iter().for_each(|&operand| pinned[operand] = true);
                    stay.push(n);
                }
            }
            self.nodes[window] = stay.into_iter().rev().collect();
            self.nodes[window + 1] = go.into_iter().rev().chain(later).collect();
        }
    }

    /// Moves nodes that the effect before them can spare to the window before that effect, the first ones first.
    fn advance(&mut self) {
        for window in 1..self.effects.len() {
            for n in std::mem::take(&mut self.nodes[window + 1]) {
                let may_go = self.range[n].0 < window
                    && self.operands[n].iter().all(|&operand| self.at[operand] <= window)
                    && self.is_spare(n);
                if may_go && self.lack(window) > 0 {
                    self.leave(n);
                    self.enter(n, window);
                } else {
                    self.nodes[window + 1].push(n);
                }
            }
        }
    }

    /// All nodes: in each window first those that cover the effect before, as many as it needs.
    fn order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.at.len());
        for (window, nodes) in self.nodes.iter().enumerate() {
            let mut left = window.checked_sub(1).map_or(0, |effect| self.needs[effect]);
            let mut rest = Vec::new();
            for &n in nodes {
                let covers = self.range[n].0 < window && left > 0;
                if covers {
                    left = left.saturating_sub(self.work[n]);
                }
                if covers { &mut order } else { &mut rest }.push(n);
            }
            order.append(&mut rest);
            order.extend(self.effects.get(window));
        }
        order
    }

    /// By effect: how much of what it needs lies between it and the first node that needs it, or the next effect.
    fn covered(&self, order: &[usize]) -> Vec<u64> {
        let mut covered: Vec<u64> = Vec::with_capacity(self.effects.len());
        let mut is_open = false;
        for &n in order {
            if self.is_effect(n) {
                covered.push(0);
                is_open = true;
                continue;
            }
            is_open &= self.range[n].0 < covered.len();
            if let Some(last) = covered.last_mut().filter(|_| is_open) {
                *last = last.saturating_add(self.work[n]);
            }
        }
        covered.into_iter().zip(&self.needs).map(|(work, &need)| work.min(need)).collect()
    }
}

/// By node: the nodes that define what it reads, and those that bind its symbols.
fn operands(graph: &Graph) -> Vec<SmallVec<[usize; 3]>> {
    let mut bound: HashMap<&Symbol, usize> = HashMap::new();
    for (id, node) in graph.nodes() {
        if let Op::Bind(symbols) = &node.op {
            bound.extend(symbols.iter().map(|symbol| (symbol, id.index())));
        }
    }
    let of = |node: &Node| {
        let read = node.operands.iter().filter_map(|&value| graph.producer(value));
        let mut operands: SmallVec<[usize; 3]> = read.map(|(id, _)| id.index()).collect();
        if !bound.is_empty() {
            let symbols = node.op.extents().flat_map(Dim::symbols);
            operands.extend(symbols.filter_map(|symbol| bound.get(&symbol).copied()));
        }
        operands
    };
    graph.nodes().map(|(_, node)| of(node)).collect()
}

fn work(graph: &Graph, node: &Node) -> u64 {
    let cost = graph.cost(node).unwrap_or_default();
    cost.flops.saturating_add(cost.moved().saturating_mul(MOVED))
}

/// The work that takes as long as an effect. There is no use in covering one that nobody reads.
fn need(graph: &Graph, node: &Node) -> u64 {
    let Op::Collective(collective) = &node.op else { return 0 };
    if matches!(collective.op.kind, CollectiveKind::Send { .. } | CollectiveKind::Barrier) {
        return 0;
    }
    let bytes = graph.cost(node).map(|cost| cost.sent.max(cost.written));
    bytes.map_or(0, |bytes| LATENCY.saturating_add(bytes.saturating_mul(EXCHANGED)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::sync::Arc;

    use super::*;
    use crate::pass::{OptimiseOptions, optimise};

    /// A graph in which each node reads values that look random, and every seventh is an exchange.
    fn graph(nodes: usize, seed: usize) -> Graph {
        let mut state = seed;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut text = "graph \"g\" {\n input %0 \"x\" : f32[32, 32]\n".to_owned();
        for n in 1..nodes {
            let [x, y] = [0, 1].map(|_| n - 1 - random(n.min(12)));
            let _ = match random(7) {
                0 => {
                    writeln!(text, " %{n} = collective(op=all_reduce(sum) group=\"g\", size=2) %{x} @\"{n}\"")
                }
                1..4 => writeln!(text, " %{n} = matmul %{x}, %{y} @\"{n}\""),
                _ => writeln!(text, " %{n} = add %{x}, %{y} @\"{n}\""),
            };
        }
        let _ = (0..nodes).try_for_each(|n| writeln!(text, " output \"{n}\" %{n}"));
        (text + "}").parse().unwrap()
    }

    /// Origins of nodes, or of those with effects.
    fn origins(graph: &Graph, effects: bool) -> Vec<Arc<str>> {
        let nodes = graph.nodes().map(|(_, node)| node).filter(|node| !effects || node.op.has_effect());
        nodes.map(|node| node.origin.clone()).collect()
    }

    #[test]
    fn nodes_stay_exchanges_keep_their_order_and_it_ends() {
        let options = OptimiseOptions { passes: vec![Arc::new(Overlap)], ..OptimiseOptions::default() };
        let mut changed = 0;
        for seed in 0..100 {
            let before = graph(60, seed);
            let (after, report) = optimise(&before, &options).unwrap();
            assert!(report.converged);
            assert_eq!(origins(&before, true), origins(&after, true));
            let [mut old, mut new] = [&before, &after].map(|graph| origins(graph, false));
            changed += usize::from(old != new);
            old.sort();
            new.sort();
            assert_eq!(old, new);
        }
        assert!(changed > 50, "{changed}");
    }

    #[test]
    fn what_lives_at_the_worst_node_is_counted() {
        let text = r#"graph "g" {
            input %x "x" : f32[16]
            %0 = neg %x
            %1 = neg %0
            %2 = neg %1
            %3 = add %0, %2
            output "y" %3
        }"#;
        let graph: Graph = text.parse().unwrap();
        assert_eq!(peak(&graph, &[0, 1, 2, 3]), 3 * 64);
    }
}
