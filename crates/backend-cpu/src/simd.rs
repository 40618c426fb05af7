//! Loops compiled for several vector units, of which the widest that the machine has is taken.

/// A loop. `run` must be `#[inline(always)]`, and so should what it calls be: only what is inlined is compiled
/// for each vector unit.
pub(crate) trait Loop {
    type Output;

    fn run(self) -> Self::Output;
}

/// Runs a loop, compiled for the widest vector unit.
pub(crate) fn vectorised<L: Loop>(work: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        x86::vectorised(work)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        work.run()
    }
}

/// `y[i] = f(x[i])`
pub(crate) fn map<T: Copy, R>(x: &[T], y: &mut [R], f: impl Fn(T) -> R) {
    vectorised(Map { x, y, f });
}

struct Map<'a, T, R, F> {
    x: &'a [T],
    y: &'a mut [R],
    f: F,
}

impl<T: Copy, R, F: Fn(T) -> R> Loop for Map<'_, T, R, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = (self.f)(x);
        }
    }
}

/// Elements that are combined side by side, so that the steps do not wait for each other.
pub(crate) const LANES: usize = 16;

/// Combines `f` of all elements, in lanes and then with each other.
pub(crate) fn fold<T: Copy, S: Copy>(
    x: &[T],
    start: S,
    f: impl Fn(T) -> S,
    combine: impl Fn(S, S) -> S,
) -> S {
    let (blocks, rest) = x.as_chunks::<LANES>();
    let tail = rest.iter().fold(start, |sum, &x| combine(sum, f(x)));
    let lanes = vectorised(Fold { blocks, start, f: &f, combine: &combine });
    lanes.into_iter().fold(tail, combine)
}

struct Fold<'a, T, S, F, C> {
    blocks: &'a [[T; LANES]],
    start: S,
    f: &'a F,
    combine: &'a C,
}

impl<T: Copy, S: Copy, F: Fn(T) -> S, C: Fn(S, S) -> S> Loop for Fold<'_, T, S, F, C> {
    type Output = [S; LANES];

    #[inline(always)]
    fn run(self) -> [S; LANES] {
        let mut lanes = [self.start; LANES];
        for block in self.blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane = (self.combine)(*lane, (self.f)(x));
            }
        }
        lanes
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "calls functions that need what the machine was asked for")]
mod x86 {
    use std::arch::is_x86_feature_detected;

    use super::Loop;

    pub(super) fn vectorised<L: Loop>(work: L) -> L::Output {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the machine has the features, as just asked.
            unsafe { avx512(work) }
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            unsafe { avx2(work) }
        } else {
            work.run()
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq")]
    fn avx512<L: Loop>(work: L) -> L::Output {
        work.run()
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2<L: Loop>(work: L) -> L::Output {
        work.run()
    }
}
