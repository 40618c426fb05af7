//! What tuples and closures consist of.

use std::sync::Arc;

use super::super::item::{Binding, Choice, Closure, Item};

/// The items that are neither tuples nor functions, in order; a choice begins with its condition.
pub(super) fn flatten(values: &[Binding]) -> Vec<Item> {
    fn collect(item: &Item, leaves: &mut Vec<Item>) {
        match item {
            Item::Tuple(items) => items.iter().for_each(|item| collect(item, leaves)),
            Item::Function(closure) => closure.bound.iter().for_each(|bound| collect(&bound.item, leaves)),
            Item::Choice(choice) => {
                leaves.push(Item::Tensor(choice.condition));
                collect(&choice.then, leaves);
                collect(&choice.otherwise, leaves);
            }
            leaf => leaves.push(leaf.clone()),
        }
    }
    let mut leaves = Vec::new();
    values.iter().for_each(|value| collect(&value.item, &mut leaves));
    leaves
}

/// Values like `pattern` with other leaves, as of `time`.
pub(super) fn rebuild(
    pattern: &[Binding],
    leaves: &mut impl Iterator<Item = Item>,
    time: u64,
) -> Vec<Binding> {
    pattern.iter().map(|binding| Binding { item: rebuild_item(&binding.item, leaves, time), time }).collect()
}

fn rebuild_item(pattern: &Item, leaves: &mut impl Iterator<Item = Item>, time: u64) -> Item {
    match pattern {
        Item::Tuple(items) => {
            let items: Vec<Item> = items.iter().map(|item| rebuild_item(item, leaves, time)).collect();
            Item::tuple(items)
        }
        Item::Function(closure) => {
            let bound = rebuild(&closure.bound, leaves, time);
            Item::Function(Arc::new(Closure::new(closure.graph, bound)))
        }
        Item::Choice(choice) => {
            let condition = match leaves.next() {
                Some(Item::Tensor(condition)) => condition,
                _ => choice.condition,
            };
            let then = rebuild_item(&choice.then, leaves, time);
            let otherwise = rebuild_item(&choice.otherwise, leaves, time);
            Item::Choice(Arc::new(Choice::new(condition, then, otherwise)))
        }
        leaf => leaves.next().unwrap_or_else(|| leaf.clone()),
    }
}

/// Whether tuples and functions are the same, whatever the leaves are.
pub(super) fn same_pattern(a: &[Binding], b: &[Binding]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_structure(&a.item, &b.item))
}

fn same_structure(a: &Item, b: &Item) -> bool {
    use Item::{Choice, Function, Tuple};
    match (a, b) {
        (Tuple(a), Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same_structure(a, b))
        }
        (Function(a), Function(b)) => a.graph == b.graph && same_pattern(&a.bound, &b.bound),
        (Choice(a), Choice(b)) => {
            same_structure(&a.then, &b.then) && same_structure(&a.otherwise, &b.otherwise)
        }
        (Tuple(_) | Function(_) | Choice(_), _) | (_, Tuple(_) | Function(_) | Choice(_)) => false,
        _ => true,
    }
}

/// Whether two leaves are the same value.
pub(super) fn same(a: &Item, b: &Item) -> bool {
    match (a, b) {
        (Item::Tensor(a), Item::Tensor(b)) => a == b,
        (Item::Int(a), Item::Int(b)) => a == b,
        (Item::Float(a), Item::Float(b)) => a.to_bits() == b.to_bits(),
        (Item::Bool(a), Item::Bool(b)) => a == b,
        (Item::Text(a), Item::Text(b)) => a == b,
        (Item::DType(a), Item::DType(b)) => a == b,
        (Item::Parameter(a), Item::Parameter(b)) => a == b,
        (Item::Foreign(a), Item::Foreign(b)) => a == b,
        (Item::None, Item::None) | (Item::Monad, Item::Monad) => true,
        _ => false,
    }
}
