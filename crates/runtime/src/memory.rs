//! One arena for values that live at different times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::{Error, ErrorKind, Result};

/// When a value lives and how many bytes it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Bytes.
    pub size: usize,
    /// Step that defines it.
    pub first: usize,
    /// Last step that reads it; at least `first`.
    pub last: usize,
}

/// Where each value lies in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Offset of each value, a multiple of [`ALIGNMENT`].
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub size: usize,
    /// Bytes that live at once at the worst step: no layout can be smaller.
    pub lower_bound: usize,
}

/// How much memory runs take for values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Bytes of arenas.
    pub arena: usize,
    /// Bytes that live at once at the worst step: no layout can be smaller.
    pub lower_bound: usize,
}

impl MemoryUsage {
    /// Arena by lower bound: 1 is the best.
    pub fn ratio(&self) -> f64 {
        if self.arena == self.lower_bound { 1.0 } else { self.arena as f64 / self.lower_bound as f64 }
    }
}

impl std::ops::Add for MemoryUsage {
    type Output = MemoryUsage;

    fn add(self, other: MemoryUsage) -> MemoryUsage {
        MemoryUsage { arena: self.arena + other.arena, lower_bound: self.lower_bound + other.lower_bound }
    }
}

/// Alignment of every value in the arena, in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Pairs of values that live at the same time, for each value, up to which they are listed.
const MOST_PAIRS: usize = 32;

/// How often a layout is improved upon, and how many pairs of values may be looked at for that.
const ROUNDS: usize = 64;
const IMPROVING: usize = 1 << 20;

/// Lays values out so that those that live at the same step do not overlap.
///
/// Values are laid out step by step, which takes n log n time for n values; if that leaves gaps at the worst step,
/// also one by one in several orders, each into the lowest gap that fits, unless too many live at once to list them;
/// in graphs that are not large, orders are improved upon. The smallest layout is taken.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`] when there are more bytes than addresses.
pub fn plan(lifetimes: &[Lifetime]) -> Result<Layout> {
    let values = aligned(lifetimes).ok_or_else(|| {
        Error::new(ErrorKind::OutOfMemory, "the values of a run have more bytes than there are addresses")
    })?;
    let live = Live::new(&values);
    let (mut offsets, mut size) = step_by_step(&values);
    if size > live.peak()
        && let Some(pairs) = overlaps(&values)
    {
        for order in orders(&values, &live) {
            let other = improved(&values, &pairs, order, live.peak());
            if other.1 < size {
                (offsets, size) = other;
            }
        }
    }
    Ok(Layout { offsets, size, lower_bound: live.peak() })
}

/// The values with sizes that keep neighbours aligned; all together have an address.
fn aligned(lifetimes: &[Lifetime]) -> Option<Vec<Lifetime>> {
    let round = |l: &Lifetime| Some(Lifetime { size: l.size.checked_next_multiple_of(ALIGNMENT)?, ..*l });
    let values: Vec<Lifetime> = lifetimes.iter().map(round).collect::<Option<_>>()?;
    let total = values.iter().try_fold(0usize, |total, value| total.checked_add(value.size))?;
    isize::try_from(total).is_ok().then_some(values)
}

/// Bytes that live at once.
struct Live {
    /// Steps at which something begins or ends, in order.
    steps: Vec<usize>,
    /// Row `k`: the most that lives at any of `2^k` steps from here on.
    most: Vec<Vec<usize>>,
}

impl Live {
    fn new(values: &[Lifetime]) -> Self {
        let mut changes: Vec<(usize, isize)> = Vec::with_capacity(2 * values.len());
        for value in values {
            changes.push((value.first, value.size.cast_signed()));
            changes.push((value.last + 1, -value.size.cast_signed()));
        }
        changes.sort_unstable();
        let mut live = 0;
        let (mut steps, mut bytes): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for group in changes.chunk_by(|a, b| a.0 == b.0) {
            live += group.iter().map(|(_, change)| change).sum::<isize>();
            steps.push(group[0].0);
            bytes.push(live.cast_unsigned());
        }
        let mut most = vec![bytes];
        for half in (0..).map(|k| 1 << k).take_while(|half| 2 * half <= steps.len()) {
            let last = &most[most.len() - 1];
            most.push(last.iter().zip(&last[half..]).map(|(&a, &b)| a.max(b)).collect());
        }
        Live { steps, most }
    }

    /// The most that lives at once.
    fn peak(&self) -> usize {
        self.most[0].iter().copied().max().unwrap_or(0)
    }

    /// The most that lives at once while a value does.
    fn peak_during(&self, value: &Lifetime) -> usize {
        let from = self.steps.partition_point(|&step| step < value.first);
        let to = self.steps.partition_point(|&step| step <= value.last);
        let level = (to - from).ilog2() as usize;
        self.most[level][from].max(self.most[level][to - (1 << level)])
    }
}

/// Orders in which values are laid out one by one: those that live at the worst steps first; the largest first;
/// the largest and longest-lived first.
fn orders(values: &[Lifetime], live: &Live) -> [Vec<usize>; 3] {
    let by = |rank: &dyn Fn(&Lifetime) -> (usize, usize)| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_cached_key(|&i| (Reverse(rank(&values[i])), values[i].first, i));
        order
    };
    let area = |value: &Lifetime| value.size.saturating_mul(value.last - value.first + 1);
    [
        by(&|value| (live.peak_during(value), value.size)),
        by(&|value| (value.size, 0)),
        by(&|value| (area(value), value.size)),
    ]
}

/// By value: the others that live at some step at which it does. `None` if there are too many.
fn overlaps(values: &[Lifetime]) -> Option<Vec<Vec<u32>>> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| values[i].size > 0).collect();
    order.sort_by_key(|&i| values[i].first);
    let mut left = MOST_PAIRS * (values.len() + MOST_PAIRS);
    let mut pairs = vec![Vec::new(); values.len()];
    let mut active: Vec<usize> = Vec::new();
    for i in order {
        active.retain(|&j| values[j].last >= values[i].first);
        left = left.checked_sub(active.len())?;
        for &j in &active {
            pairs[i].push(u32::try_from(j).ok()?);
            pairs[j].push(u32::try_from(i).ok()?);
        }
        active.push(i);
    }
    Some(pairs)
}

/// The best of several layouts: in each, the values that lay topmost in the one before come first.
fn improved(
    values: &[Lifetime],
    pairs: &[Vec<u32>],
    mut order: Vec<usize>,
    enough: usize,
) -> (Vec<usize>, usize) {
    let work: usize = pairs.iter().map(|others| others.len() + 1).sum();
    let mut best = one_by_one(values, pairs, &order);
    let mut last = best.clone();
    for _ in 0..(IMPROVING / work.max(1)).min(ROUNDS) {
        if best.1 <= enough {
            break;
        }
        let is_top = |&i: &usize| last.0[i] + values[i].size == last.1;
        let (top, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(is_top);
        order = [top, rest].concat();
        last = one_by_one(values, pairs, &order);
        if last.1 < best.1 {
            best.clone_from(&last);
        }
    }
    best
}

/// Puts each value into the lowest gap that fits.
fn one_by_one(values: &[Lifetime], pairs: &[Vec<u32>], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets: Vec<Option<usize>> = vec![None; values.len()];
    let mut taken: Vec<(usize, usize)> = Vec::new();
    for &i in order {
        let placed = pairs[i].iter().map(|&j| j as usize);
        taken.clear();
        taken.extend(placed.filter_map(|j| offsets[j].map(|offset| (offset, offset + values[j].size))));
        taken.sort_unstable();
        offsets[i] = Some(lowest_gap(&taken, values[i].size));
    }
    let offsets: Vec<usize> = offsets.into_iter().map(Option::unwrap_or_default).collect();
    let size = offsets.iter().zip(values).map(|(offset, value)| offset + value.size).max();
    (offsets, size.unwrap_or(0))
}

/// `taken` is sorted.
fn lowest_gap(taken: &[(usize, usize)], size: usize) -> usize {
    let mut start = 0;
    for &(from, to) in taken {
        if from >= start + size {
            break;
        }
        start = start.max(to);
    }
    start
}

/// Puts each value, when it begins, into the smallest free block that fits, as an allocator does.
fn step_by_step(values: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&i| (values[i].first, Reverse(values[i].last), Reverse(values[i].size), i));
    let mut offsets = vec![0; values.len()];
    let mut free = Free::default();
    let mut ends: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
    for i in order.into_iter().filter(|&i| values[i].size > 0) {
        while let Some(&Reverse((last, j))) = ends.peek().filter(|end| end.0.0 < values[i].first) {
            debug_assert_eq!(last, values[j].last);
            ends.pop();
            free.give(offsets[j], values[j].size);
        }
        offsets[i] = free.take(values[i].size);
        ends.push(Reverse((values[i].last, i)));
    }
    (offsets, free.top)
}

/// Free blocks of an arena that grows.
#[derive(Default)]
struct Free {
    /// Sizes by offset. No two blocks touch.
    blocks: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    /// Where the arena ends.
    top: usize,
}

impl Free {
    fn take(&mut self, size: usize) -> usize {
        if let Some(&(whole, offset)) = self.by_size.range((size, 0)..).next() {
            self.remove(offset, whole);
            if whole > size {
                self.insert(offset + size, whole - size);
            }
            return offset;
        }
        let last = self.blocks.last_key_value().map(|(&offset, &size)| (offset, size));
        let offset = match last {
            Some((offset, whole)) if offset + whole == self.top => {
                self.remove(offset, whole);
                offset
            }
            _ => self.top,
        };
        self.top = offset + size;
        offset
    }

    fn give(&mut self, mut offset: usize, mut size: usize) {
        if let Some(&after) = self.blocks.get(&(offset + size)) {
            self.remove(offset + size, after);
            size += after;
        }
        let before = self.blocks.range(..offset).next_back().map(|(&at, &size)| (at, size));
        if let Some((at, before)) = before.filter(|(at, before)| at + before == offset) {
            self.remove(at, before);
            offset = at;
            size += before;
        }
        self.insert(offset, size);
    }

    fn insert(&mut self, offset: usize, size: usize) {
        self.blocks.insert(offset, size);
        self.by_size.insert((size, offset));
    }

    fn remove(&mut self, offset: usize, size: usize) {
        self.blocks.remove(&offset);
        self.by_size.remove(&(size, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(size: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { size, first, last }
    }

    /// Numbers that look random.
    struct Random(usize);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }

        fn lifetimes(&mut self, count: usize, steps: usize, length: usize) -> Vec<Lifetime> {
            let one = |_| {
                let first = self.below(steps);
                lifetime(self.below(5000), first, first + self.below(length))
            };
            (0..count).map(one).collect()
        }
    }

    fn assert_apart(values: &[Lifetime], offsets: &[usize]) {
        for (i, a) in values.iter().enumerate() {
            assert_eq!(offsets[i] % ALIGNMENT, 0);
            for (j, b) in values.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last && a.size > 0 && b.size > 0;
                let (x, y) = (offsets[i], offsets[j]);
                assert!(!together || x + a.size <= y || y + b.size <= x, "{i} and {j}");
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<_> = (0..10).map(|i| lifetime(1000, i, i + 1)).collect();
        let layout = plan(&chain).unwrap();
        assert_eq!(layout.size, 2 * 1024);
        assert_eq!(layout.lower_bound, 2 * 1024);
    }

    #[test]
    fn values_that_live_together_do_not_overlap() {
        let mut random = Random(7);
        for _ in 0..50 {
            let values = random.lifetimes(60, 40, 12);
            let layout = plan(&values).unwrap();
            assert!(layout.size >= layout.lower_bound);
            assert_apart(&values, &layout.offsets);
        }
    }

    #[test]
    fn every_order_keeps_values_apart() {
        let mut random = Random(11);
        for _ in 0..50 {
            let values = random.lifetimes(40, 20, 8);
            let values: Vec<_> =
                values.into_iter().map(|l| lifetime(l.size / 64 * 64, l.first, l.last)).collect();
            let pairs = overlaps(&values).unwrap();
            assert_apart(&values, &step_by_step(&values).0);
            for order in orders(&values, &Live::new(&values)) {
                assert_apart(&values, &one_by_one(&values, &pairs, &order).0);
                assert_apart(&values, &improved(&values, &pairs, order, 0).0);
            }
        }
    }

    #[test]
    fn the_lower_bound_is_what_lives_at_the_worst_step() {
        let mut random = Random(3);
        let values = random.lifetimes(80, 50, 20);
        let live = Live::new(&values);
        let at = |step| -> usize {
            let here = values.iter().filter(|l| l.first <= step && step <= l.last);
            here.map(|l| l.size).sum()
        };
        assert_eq!(live.peak(), (0..70).map(at).max().unwrap());
        for value in &values {
            assert_eq!(live.peak_during(value), (value.first..=value.last).map(at).max().unwrap());
        }
    }

    #[test]
    fn a_value_that_ends_leaves_room_for_one_that_does_not_fit_elsewhere() {
        // A stack grows and shrinks: in order of time alone it is torn.
        let values = [lifetime(64, 0, 9), lifetime(128, 1, 2), lifetime(64, 2, 9), lifetime(192, 3, 9)];
        let layout = plan(&values).unwrap();
        assert_eq!((layout.size, layout.lower_bound), (320, 320));
    }

    #[test]
    fn values_of_which_all_live_at_once_lie_side_by_side() {
        let values: Vec<_> = (0..10_000).map(|i| lifetime(64, i, 10_000)).collect();
        assert!(overlaps(&values).is_none());
        assert_eq!(plan(&values).unwrap().size, 640_000);
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(plan(&[]).unwrap(), Layout { offsets: vec![], size: 0, lower_bound: 0 });
        assert_eq!(plan(&[lifetime(0, 0, 3)]).unwrap().size, 0);
    }
}
