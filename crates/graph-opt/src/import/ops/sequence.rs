//! Tuples and lists, whose elements import knows one by one.

use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::Call;
use crate::import::emit::product;
use crate::import::item::{Item, MAX_ELEMENTS};
use crate::ir::ValueId;
use crate::ir::op::Binary;

/// The elements of an argument that is a tuple or a list.
fn elements(call: &mut Call, position: usize, name: &str) -> Result<Vec<Item>> {
    match call.arg(position, name) {
        Some(Item::Tuple(items)) => Ok(items.to_vec()),
        Some(item) => Err(call.invalid(format!("{name} must be a tuple, not {}", item.kind()))),
        None => Err(call.invalid(format!("{name} is missing"))),
    }
}

fn element(call: &mut Call, position: usize, name: &str) -> Result<Item> {
    call.arg(position, name).ok_or_else(|| call.invalid(format!("{name} is missing")))
}

fn tuple(call: &Call, items: Vec<Item>) -> Result<Item> {
    if items.len() > MAX_ELEMENTS {
        return Err(call.unsupported(format!("it makes a tuple of more than {MAX_ELEMENTS} elements")));
    }
    Ok(Item::tuple(items))
}

/// `(input_1, input_2)`: one behind the other.
pub(in crate::import) fn add(call: &mut Call) -> Result<Item> {
    let mut items = elements(call, 0, "input_1")?;
    items.extend(elements(call, 1, "input_2")?);
    tuple(call, items)
}

/// `(sequence, scalar)`: so many times.
pub(in crate::import) fn repeat(call: &mut Call) -> Result<Item> {
    let items = elements(call, 0, "sequence")?;
    let times = usize::try_from(call.required_int(1, "scalar")?.max(0)).unwrap_or(usize::MAX);
    if items.len().saturating_mul(times) > MAX_ELEMENTS {
        return Err(call.unsupported(format!("it makes a tuple of more than {MAX_ELEMENTS} elements")));
    }
    tuple(call, (0..times).flat_map(|_| items.iter().cloned()).collect())
}

/// The places that Python's `[start:stop:step]` names.
fn places(call: &mut Call, len: usize, first: usize) -> Result<Vec<usize>> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let step = call.int_or(first + 2, "step", 1)?;
    if step == 0 {
        return Err(call.invalid("step is 0"));
    }
    // One before the first, and the first behind the last, where a slice may end.
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let within = |place: i64| if place < 0 { place.saturating_add(len) } else { place }.clamp(low, high);
    let start = call.int(first, "start")?.map_or(if step > 0 { low } else { high }, within);
    let stop = call.int(first + 1, "stop")?.map_or(if step > 0 { high } else { low }, within);
    let mut places = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        places.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    Ok(places)
}

/// `(seq, start, stop, step)`
pub(in crate::import) fn slice(call: &mut Call) -> Result<Item> {
    let items = elements(call, 0, "seq")?;
    let places = places(call, items.len(), 1)?;
    Ok(Item::tuple(places.into_iter().map(|at| items[at].clone())))
}

/// `(seq, target, start, stop, step)`: other elements in the place of some.
pub(in crate::import) fn slice_set_item(call: &mut Call) -> Result<Item> {
    let (mut items, target) = (elements(call, 0, "seq")?, elements(call, 1, "target")?);
    let places = places(call, items.len(), 2)?;
    if places.len() == target.len() {
        places.into_iter().zip(target).for_each(|(at, item)| items[at] = item);
        return tuple(call, items);
    }
    match (call.int_or(4, "step", 1)?, places.first()) {
        (1, Some(&first)) => {
            items.splice(first..first + places.len(), target);
            tuple(call, items)
        }
        _ => Err(call.invalid(format!("{} elements do not fit {} places", target.len(), places.len()))),
    }
}

/// `(input_data, target)`
pub(in crate::import) fn append(call: &mut Call) -> Result<Item> {
    let mut items = elements(call, 0, "input_data")?;
    items.push(element(call, 1, "target")?);
    tuple(call, items)
}

/// `(input_data, index, target)`
pub(in crate::import) fn insert(call: &mut Call) -> Result<Item> {
    let mut items = elements(call, 0, "input_data")?;
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let index = call.required_int(1, "index")?;
    let index = if index < 0 { index.saturating_add(len) } else { index }.clamp(0, len);
    items.insert(usize::try_from(index).unwrap_or(0), element(call, 2, "target")?);
    tuple(call, items)
}

/// `(start, limit, delta)`: the integers that Python's `range` gives for one, two or three numbers.
pub(in crate::import) fn range(call: &mut Call) -> Result<Item> {
    let numbers: Vec<i64> =
        (0..call.args.len()).filter_map(|at| call.int(at, "limit").transpose()).collect::<Result<_>>()?;
    let (start, limit, step) = match numbers[..] {
        [limit] => (0, limit, 1),
        [start, limit] => (start, limit, 1),
        [start, limit, step] if step != 0 => (start, limit, step),
        _ => return Err(call.invalid("it takes one to three numbers, the last of which is not 0")),
    };
    let mut items = Vec::new();
    let mut at = start;
    while (step > 0 && at < limit) || (step < 0 && at > limit) {
        if items.len() == MAX_ELEMENTS {
            return Err(call.unsupported(format!("it makes a tuple of more than {MAX_ELEMENTS} elements")));
        }
        items.push(Item::Int(Dim::from(at)));
        at = at.saturating_add(step);
    }
    tuple(call, items)
}

/// The product of a shape.
pub(in crate::import) fn shape_product(call: &mut Call) -> Result<Item> {
    let dims = call.required_dims(0, "input_data")?;
    Ok(Item::Int(product(&dims)))
}

/// Whether two items are the same: a known truth value, or a tensor where extents decide it.
fn same(call: &mut Call, a: &Item, b: &Item) -> Result<Item> {
    match (a, b) {
        (Item::None, Item::None) => Ok(Item::Bool(true)),
        (Item::Text(a), Item::Text(b)) => Ok(Item::Bool(a == b)),
        (Item::Float(a), Item::Float(b)) => Ok(Item::Bool(a == b)),
        (Item::Bool(a), Item::Bool(b)) => Ok(Item::Bool(a == b)),
        (Item::Tuple(a), Item::Tuple(b)) => {
            let mut all = Item::Bool(a.len() == b.len());
            for (a, b) in a.iter().zip(b.iter()) {
                let one = same(call, a, b)?;
                all = both(call, Binary::And, all, one)?;
            }
            Ok(all)
        }
        _ => related(call, Binary::Equal, a, b),
    }
}

/// A comparison of two numbers.
fn related(call: &mut Call, how: Binary, a: &Item, b: &Item) -> Result<Item> {
    if let (Some([x]), Some([y])) = (call.item_dims(a).as_deref(), call.item_dims(b).as_deref())
        && let Some(apart) = (x - y).as_fixed()
    {
        return Ok(Item::Bool(if how == Binary::Less { apart < 0 } else { apart == 0 }));
    }
    match (call.emit.tensor(a)?, call.emit.tensor(b)?) {
        (Some(x), Some(y)) => {
            let (x, y) = (call.emit.cast(x, DType::I64)?, call.emit.cast(y, DType::I64)?);
            let (x, y) = (call.emit.reshape(x, Vec::new())?, call.emit.reshape(y, Vec::new())?);
            call.emit.binary(how, x, y).map(Item::Tensor)
        }
        _ => Err(call.unsupported(format!("it compares a {} with a {}", a.kind(), b.kind()))),
    }
}

/// `And` or `Or` of two truth values.
fn both(call: &mut Call, how: Binary, a: Item, b: Item) -> Result<Item> {
    let decides = how == Binary::Or;
    match (a, b) {
        (Item::Bool(known), other) | (other, Item::Bool(known)) => {
            Ok(if known == decides { Item::Bool(known) } else { other })
        }
        (Item::Tensor(x), Item::Tensor(y)) => call.emit.binary(how, x, y).map(Item::Tensor),
        (a, b) => Err(call.invalid(format!("{} and {} are no truth values", a.kind(), b.kind()))),
    }
}

fn matches(call: &mut Call, items: &[Item], target: &Item) -> Result<Vec<Item>> {
    items.iter().map(|item| same(call, item, target)).collect()
}

/// `(element, input_data)`
pub(in crate::import) fn contains(call: &mut Call) -> Result<Item> {
    let (target, items) = (element(call, 0, "element")?, elements(call, 1, "input_data")?);
    let matches = matches(call, &items, &target)?;
    matches.into_iter().try_fold(Item::Bool(false), |any, one| both(call, Binary::Or, any, one))
}

/// `(sequence, target)`
pub(in crate::import) fn count(call: &mut Call) -> Result<Item> {
    let (items, target) = (elements(call, 0, "sequence")?, element(call, 1, "target")?);
    let matches = matches(call, &items, &target)?;
    let known = matches.iter().filter(|item| matches!(item, Item::Bool(true))).count();
    let mut sum = Item::Int(Dim::from(known));
    for item in matches {
        if let Item::Tensor(x) = item {
            let one = call.emit.cast(x, DType::I64)?;
            let before = call.emit.tensor(&sum)?.ok_or_else(|| call.invalid("no number"))?;
            sum = Item::Tensor(call.emit.binary(Binary::Add, before, one)?);
        }
    }
    Ok(sum)
}

/// `(sequence, target, start, end)`
pub(in crate::import) fn index(call: &mut Call) -> Result<Item> {
    let (items, target) = (elements(call, 0, "sequence")?, element(call, 1, "target")?);
    let places = places_between(call, items.len())?;
    let matches = matches(call, &items, &target)?;
    let mut found = None;
    for at in places.into_iter().rev() {
        let place = Item::Int(Dim::from(at));
        found = match (&matches[at], found) {
            (Item::Bool(true), _) => Some(place),
            (Item::Tensor(is_here), Some(later)) => {
                let pair = [call.emit.tensor(&place)?, call.emit.tensor(&later)?];
                let [Some(x), Some(y)] = pair else { return Err(call.invalid("no number")) };
                Some(Item::Tensor(call.emit.select(*is_here, x, y)?))
            }
            (Item::Tensor(_), None) => Some(place),
            (_, later) => later,
        };
    }
    found.ok_or_else(|| call.invalid("the sequence does not have the element"))
}

/// The places between the arguments `start` and `end`.
fn places_between(call: &mut Call, len: usize) -> Result<Vec<usize>> {
    let end = i64::try_from(len).unwrap_or(i64::MAX);
    let within = |place: i64| if place < 0 { place.saturating_add(end) } else { place }.clamp(0, end);
    let (first, last) = (within(call.int_or(2, "start", 0)?), within(call.int_or(3, "end", end)?));
    Ok((first..last).filter_map(|at| usize::try_from(at).ok()).collect())
}

/// `(x, y)`
pub(in crate::import) fn equal(call: &mut Call) -> Result<Item> {
    let (a, b) = (element(call, 0, "x")?, element(call, 1, "y")?);
    same(call, &a, &b)
}

/// `(input_0, input_1)`: by the first elements that differ, and the length where none does.
pub(in crate::import) fn compare(call: &mut Call) -> Result<Item> {
    let (mut a, mut b) = (elements(call, 0, "input_0")?, elements(call, 1, "input_1")?);
    let how = call.op_type.split_once('_').map_or("", |(_, how)| how);
    if how.starts_with("greater") {
        std::mem::swap(&mut a, &mut b);
    }
    let with_equal = matches!(how, "le" | "greater_equal");
    let mut result = Item::Bool(if with_equal { a.len() <= b.len() } else { a.len() < b.len() });
    for (a, b) in a.iter().zip(&b).rev() {
        let (less, equal) = (related(call, Binary::Less, a, b)?, related(call, Binary::Equal, a, b)?);
        let later = both(call, Binary::And, equal, result)?;
        result = both(call, Binary::Or, less, later)?;
    }
    Ok(result)
}

/// `(sequence)`: the largest or smallest number.
pub(in crate::import) fn extreme(call: &mut Call) -> Result<Item> {
    let numbers = call.required_ints(0, "sequence")?;
    let extreme = if call.op_type == "SequenceMax" { numbers.iter().max() } else { numbers.iter().min() };
    extreme.map(|&n| Item::Int(Dim::from(n))).ok_or_else(|| call.invalid("the sequence is empty"))
}

/// `(sequence)`: as many zeros.
pub(in crate::import) fn zeros(call: &mut Call) -> Result<Item> {
    let items = elements(call, 0, "sequence")?;
    let zero = |item: &Item| match item {
        Item::Tensor(x) => {
            let (dims, dtype) = (call.emit.dims(*x)?, call.emit.dtype(*x));
            let zero: ValueId = call.emit.scalar(0.0, dtype)?;
            call.emit.broadcast(zero, dims).map(Item::Tensor)
        }
        Item::Float(_) => Ok(Item::Float(0.0)),
        Item::Bool(_) => Ok(Item::Bool(false)),
        _ => Ok(Item::Int(Dim::from(0))),
    };
    let zeros: Result<Vec<Item>> = items.iter().map(zero).collect();
    tuple(call, zeros?)
}
