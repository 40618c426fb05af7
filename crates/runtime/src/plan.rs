//! Which device runs which part of a graph.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use mslite_graph_opt::{Graph, NodeId, Op};

use crate::backend::{Claim, Device};
use crate::region::Region;
use crate::{Error, ErrorKind, Result};

/// What happens to nodes that the first device does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Building fails, and the error names the first refused node with the reason.
    #[default]
    Deny,
    /// The next device takes them, as long as the plan has at most so many segments.
    Allow {
        /// Bound on the number of segments.
        max_segments: usize,
    },
}

/// A device under the name by which plans and errors call it.
#[derive(Debug, Clone)]
pub struct NamedDevice {
    /// Name of the backend and number of the device: `cpu:0`.
    pub name: String,
    /// The device.
    pub device: Arc<dyn Device>,
}

/// A division of a graph: segments in execution order. A pure function of graph, devices' answers and policy, so
/// that all ranks order their collectives alike.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The parts, in execution order.
    pub segments: Vec<Segment>,
    /// Nodes that the first device refused: scope, operation, reason.
    pub refused: Vec<Refusal>,
    names: Vec<String>,
}

/// A step of a plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Segment {
    /// Nodes that one device compiles together.
    Region {
        /// Which of the devices.
        device: usize,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// A collective that no device claims: the communicator runs it.
    Collective(NodeId),
}

/// A node that a device does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// MindIR scope of the node.
    pub origin: String,
    /// Name of the operation.
    pub op: String,
    /// Why.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Region { device: usize, group: usize },
    Communicator,
}

impl Plan {
    /// Divides `graph` among `devices`, the first of which is preferred.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when nodes are left over or the policy forbids the division.
    pub fn new(graph: &Graph, devices: &[NamedDevice], fallback: Fallback) -> Result<Plan> {
        let claims: Vec<Claim> = devices.iter().map(|d| d.device.claim(graph)).collect();
        let refused = claims.first().map(|claim| refusals(graph, claim)).unwrap_or_default();
        let usable = if fallback == Fallback::Deny { 1 } else { claims.len() };
        let owners = owners(graph, &claims[..usable.min(claims.len())])
            .map_err(|node| unclaimed(graph, node, devices, &claims))?;
        let plan = Plan {
            segments: segments(graph, &owners),
            refused,
            names: devices.iter().map(|d| d.name.clone()).collect(),
        };
        match fallback {
            Fallback::Allow { max_segments } if plan.segments.len() > max_segments => {
                let count = plan.segments.len();
                let hint =
                    format!("the plan has {count} segments, the policy allows {max_segments}:\n{plan}");
                Err(Error::new(ErrorKind::Unsupported, hint))
            }
            _ => Ok(plan),
        }
    }

    /// The nodes of a segment as a graph.
    ///
    /// # Errors
    /// As [`Region::extract`].
    pub fn region(&self, graph: &Graph, segment: &Segment) -> Result<Region> {
        match segment {
            Segment::Region { nodes, .. } => Region::extract(graph, nodes),
            Segment::Collective(node) => Region::extract(graph, &[*node]),
        }
    }
}

fn refusals(graph: &Graph, claim: &Claim) -> Vec<Refusal> {
    let describe = |(id, reason): &(NodeId, String)| {
        let node = graph.node(*id);
        Refusal { origin: node.origin.to_string(), op: node.op.name().to_owned(), reason: reason.clone() }
    };
    claim.refused.iter().map(describe).collect()
}

/// The owner of each node, or the first node without one.
fn owners(graph: &Graph, claims: &[Claim]) -> Result<Vec<Owner>, NodeId> {
    let mut owners: Vec<Option<Owner>> = vec![None; graph.nodes().len()];
    for (device, claim) in claims.iter().enumerate() {
        for (group, region) in claim.regions.iter().enumerate() {
            for id in region {
                owners[id.index()].get_or_insert(Owner::Region { device, group });
            }
        }
    }
    let nodes = graph.nodes().zip(owners);
    nodes
        .map(|((id, node), owner)| match (owner, &node.op) {
            (Some(owner), _) => Ok(owner),
            (None, Op::Collective(_)) => Ok(Owner::Communicator),
            (None, _) => Err(id),
        })
        .collect()
}

fn unclaimed(graph: &Graph, id: NodeId, devices: &[NamedDevice], claims: &[Claim]) -> Error {
    let node = graph.node(id);
    let mut reasons = Vec::new();
    for (device, claim) in devices.iter().zip(claims) {
        let reason = claim.refused.iter().find(|(refused, _)| *refused == id);
        let reason = reason.map_or("no reason given", |(_, reason)| reason.as_str());
        reasons.push(format!("{}: {reason}", device.name));
    }
    let others = claims.first().map_or(0, |claim| claim.refused.len().saturating_sub(1));
    let more = if others > 0 { format!("; {others} more nodes are refused") } else { String::new() };
    Error::new(
        ErrorKind::Unsupported,
        format!("no device runs {} ({}{more})", node.op.name(), reasons.join("; ")),
    )
    .with("node", &node.origin)
}

/// Runs of nodes with one owner, as long as dependencies and the order of effects allow: among the nodes that
/// could come next, one of the current owner is preferred, then the first.
fn segments(graph: &Graph, owners: &[Owner]) -> Vec<Segment> {
    let (mut waits_for, followers) = dependencies(graph);
    let mut ready: BTreeSet<NodeId> =
        graph.nodes().map(|(id, _)| id).filter(|id| waits_for[id.index()] == 0).collect();
    let mut segments: Vec<Segment> = Vec::new();
    let mut current = None;
    while let Some(&first) = ready.first() {
        let next = ready.iter().copied().find(|id| Some(owners[id.index()]) == current).unwrap_or(first);
        ready.remove(&next);
        let owner = owners[next.index()];
        match (segments.last_mut(), owner) {
            (_, Owner::Communicator) => segments.push(Segment::Collective(next)),
            (Some(Segment::Region { nodes, .. }), _) if current == Some(owner) => nodes.push(next),
            (_, Owner::Region { device, .. }) => segments.push(Segment::Region { device, nodes: vec![next] }),
        }
        current = Some(owner);
        for follower in &followers[next.index()] {
            waits_for[follower.index()] -= 1;
            if waits_for[follower.index()] == 0 {
                ready.insert(*follower);
            }
        }
    }
    for segment in &mut segments {
        if let Segment::Region { nodes, .. } = segment {
            nodes.sort_unstable();
        }
    }
    segments
}

/// How many nodes each node waits for, and who waits for it. Effects wait for the effect before them.
fn dependencies(graph: &Graph) -> (Vec<usize>, Vec<Vec<NodeId>>) {
    let mut waits_for = vec![0; graph.nodes().len()];
    let mut followers = vec![Vec::new(); graph.nodes().len()];
    let mut effect = None;
    for (id, node) in graph.nodes() {
        let mut before: BTreeSet<NodeId> =
            node.operands.iter().filter_map(|&v| graph.producer(v)).map(|(producer, _)| producer).collect();
        if node.op.has_effect() {
            before.extend(effect.replace(id));
        }
        waits_for[id.index()] = before.len();
        for producer in before {
            followers[producer.index()].push(id);
        }
    }
    (waits_for, followers)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Region { device, nodes } => {
                    writeln!(f, "segment {i}: {} runs {} nodes", self.names[*device], nodes.len())?;
                }
                Segment::Collective(node) => writeln!(f, "segment {i}: communicator runs {node}")?,
            }
        }
        for refusal in &self.refused {
            writeln!(f, "refused: {} at {}: {}", refusal.op, refusal.origin, refusal.reason)?;
        }
        Ok(())
    }
}
