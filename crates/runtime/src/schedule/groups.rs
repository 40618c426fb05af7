//! The ranks of the groups that a graph names.

use std::collections::{BTreeMap, BTreeSet};

use mslite_collective::GroupName;
use mslite_graph_opt::ir::op::Collective;
use mslite_graph_opt::{Graph, Op};

use crate::{Error, ErrorKind, Result};

/// World ranks of each group, by name.
pub type GroupRanks = BTreeMap<GroupName, Vec<usize>>;

/// World ranks of each group that the graph of rank `rank` names: all `size` ranks for the world group, else what
/// `given` or the model says.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], with the node, when nobody knows the ranks of a group, or when they contradict
/// what the model says about them: their number and their order, and that this rank is one of them.
pub fn group_ranks(graph: &Graph, given: &GroupRanks, rank: usize, size: usize) -> Result<GroupRanks> {
    let mut groups = GroupRanks::new();
    for (_, node) in graph.nodes_within() {
        let Op::Collective(collective) = &node.op else { continue };
        let name = &collective.op.group;
        let checked = ranks(collective, given, size).and_then(|ranks| {
            check(name, &ranks, collective, rank, size)?;
            Ok(ranks)
        });
        let ranks = checked
            .map_err(|reason| Error::new(ErrorKind::InvalidArgument, reason).with("node", &node.origin))?;
        groups.insert(name.clone(), ranks);
    }
    Ok(groups)
}

fn ranks(collective: &Collective, given: &GroupRanks, size: usize) -> Result<Vec<usize>, String> {
    let name = &collective.op.group;
    match (name.is_world(), given.get(name), &collective.ranks) {
        (true, _, _) => Ok((0..size).collect()),
        (false, Some(ranks), _) | (false, None, Some(ranks)) => Ok(ranks.clone()),
        (false, None, None) => Err(format!(
            "the ranks of group {:?} are not known; give a group file (group_info_file) that has it",
            name.as_str()
        )),
    }
}

fn check(
    name: &GroupName,
    ranks: &[usize],
    collective: &Collective,
    own: usize,
    size: usize,
) -> Result<(), String> {
    let quoted = name.as_str();
    for stated in [collective.size, collective.ranks.as_ref().map(Vec::len)].into_iter().flatten() {
        if stated != ranks.len() {
            let what =
                if name.is_world() { "ranks".to_owned() } else { format!("ranks of group {quoted:?}") };
            return Err(format!("the model was sliced for {stated} {what}, but there are {}", ranks.len()));
        }
    }
    if let Some(rank) = ranks.iter().find(|&&rank| rank >= size) {
        return Err(format!("group {quoted:?} has rank {rank}, but there are {size} ranks"));
    }
    if ranks.iter().collect::<BTreeSet<_>>().len() != ranks.len() {
        return Err(format!("group {quoted:?} of ranks {ranks:?} has a rank twice"));
    }
    if !ranks.contains(&own) {
        return Err(format!("group {quoted:?} of ranks {ranks:?} does not have rank {own}, which uses it"));
    }
    match &collective.ranks {
        Some(stated) if places(stated) != places(ranks) => Err(format!(
            "group {quoted:?} has ranks in the order {ranks:?}, but the model was sliced for the order {stated:?}"
        )),
        _ => Ok(()),
    }
}

/// The positions in increasing order of rank: models may be sliced for other numbers than those that run.
fn places(ranks: &[usize]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..ranks.len()).collect();
    places.sort_by_key(|&place| ranks[place]);
    places
}
