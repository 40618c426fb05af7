//! One arena for values that live at different times.

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

/// Alignment of every value in the arena, in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Lays values out so that those that live at the same step do not overlap: largest first, each into the lowest
/// gap that fits.
pub fn plan(lifetimes: &[Lifetime]) -> Layout {
    let sizes: Vec<usize> = lifetimes.iter().map(|l| l.size.next_multiple_of(ALIGNMENT)).collect();
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), lifetimes[i].first, i));
    let mut offsets = vec![0; lifetimes.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(lifetimes.len());
    for &i in &order {
        offsets[i] = lowest_gap(i, sizes[i], lifetimes, &sizes, &offsets, &placed);
        let at = placed.partition_point(|&j| offsets[j] <= offsets[i]);
        placed.insert(at, i);
    }
    let size = (0..sizes.len()).map(|i| offsets[i] + sizes[i]).max().unwrap_or(0);
    Layout { offsets, size, lower_bound: lower_bound(lifetimes, &sizes) }
}

/// `placed` is sorted by offset.
fn lowest_gap(
    value: usize,
    size: usize,
    lifetimes: &[Lifetime],
    sizes: &[usize],
    offsets: &[usize],
    placed: &[usize],
) -> usize {
    let mine = lifetimes[value];
    let mut start = 0;
    for &other in placed {
        let theirs = lifetimes[other];
        let apart = theirs.last < mine.first || mine.last < theirs.first;
        if apart || sizes[other] == 0 {
            continue;
        }
        if offsets[other] >= start + size {
            break;
        }
        start = start.max(offsets[other] + sizes[other]);
    }
    start
}

fn lower_bound(lifetimes: &[Lifetime], sizes: &[usize]) -> usize {
    let mut changes: Vec<(usize, isize)> = Vec::with_capacity(2 * sizes.len());
    for (lifetime, &size) in lifetimes.iter().zip(sizes) {
        changes.push((lifetime.first, size.cast_signed()));
        changes.push((lifetime.last + 1, -size.cast_signed()));
    }
    changes.sort_unstable();
    let mut live = 0;
    changes
        .iter()
        .map(|(_, change)| {
            live += change;
            live
        })
        .max()
        .unwrap_or(0)
        .cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(size: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { size, first, last }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<_> = (0..10).map(|i| lifetime(1000, i, i + 1)).collect();
        let layout = plan(&chain);
        assert_eq!(layout.size, 2 * 1024);
        assert_eq!(layout.lower_bound, 2 * 1024);
    }

    #[test]
    fn values_that_live_together_do_not_overlap() {
        let mut seed = 7usize;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..50 {
            let values: Vec<_> = (0..60)
                .map(|_| {
                    let first = random(40);
                    lifetime(random(5000), first, first + random(12))
                })
                .collect();
            let layout = plan(&values);
            assert!(layout.size >= layout.lower_bound);
            for (i, a) in values.iter().enumerate() {
                assert_eq!(layout.offsets[i] % ALIGNMENT, 0);
                for (j, b) in values.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last && a.size > 0 && b.size > 0;
                    let (x, y) = (layout.offsets[i], layout.offsets[j]);
                    assert!(!together || x + a.size <= y || y + b.size <= x);
                }
            }
        }
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(plan(&[]), Layout { offsets: vec![], size: 0, lower_bound: 0 });
        assert_eq!(plan(&[lifetime(0, 0, 3)]).size, 0);
    }
}
