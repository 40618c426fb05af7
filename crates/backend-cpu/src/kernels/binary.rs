use std::marker::PhantomData;

use bytemuck::Zeroable;
use mslite_graph_opt::ir::op::Binary;
use mslite_runtime::Result;

use super::math::Real;
use super::{BoxKernel, Build, Kernel};
use crate::arena::{Args, Elements};
use crate::loops::Loops;
use crate::scalar::{Bit, CHUNK, Scalar, Wide, with_type};

pub(super) fn build(f: Binary, cx: &Build<'_>) -> Option<BoxKernel> {
    let [x, y] = cx.inputs else { return None };
    if x.dtype.is_complex() {
        return super::complex::binary(f, cx);
    }
    let loops = Loops::broadcast(&cx.outputs[0].dims, [&x.dims, &y.dims]);
    if f.is_comparison() {
        return with_type!(x.dtype, T in real => {
            Box::new(Compare::<T> { f, loops, element: PhantomData }) as BoxKernel
        });
    }
    let whole = [x, y].map(|operand| operand.dims == cx.outputs[0].dims);
    with_type!(x.dtype, T in real => {
        Box::new(Arithmetic::<T> { f, loops, whole, element: PhantomData }) as BoxKernel
    })
}

/// A row of an operand: elements of their own, or one for all.
#[derive(Clone, Copy)]
enum Row<'a, T> {
    Each(&'a [T]),
    All(T),
}

impl<'a, T: Scalar> Row<'a, T> {
    fn new(from: &'a [T], at: usize, count: usize, stride: isize) -> Self {
        if stride == 0 { Row::All(from[at]) } else { Row::Each(&from[at..at + count]) }
    }
}

impl<'a, T: Scalar> Elements<Row<'a, T>> {
    fn row(from: Elements<&'a [T]>, at: usize, count: usize, stride: isize) -> Self {
        match from {
            Elements::Apart(from) => Elements::Apart(Row::new(from, at, count, stride)),
            Elements::Result => Elements::Result,
        }
    }

    /// The elements from `at` on that become `z`, in the type they are computed in.
    fn part<'b>(&self, at: usize, z: &[T], buffer: &'b mut [T::Work]) -> Row<'b, T::Work>
    where
        'a: 'b,
    {
        match *self {
            Elements::Apart(Row::Each(row)) => Row::Each(T::load(&row[at..at + z.len()], buffer)),
            Elements::Apart(Row::All(value)) => Row::All(value.to_work()),
            Elements::Result => Row::Each(T::copy(z, buffer)),
        }
    }
}

fn zip<T: Copy, R>(x: Row<'_, T>, y: Row<'_, T>, z: &mut [R], f: impl Fn(T, T) -> R) {
    match (x, y) {
        (Row::Each(x), Row::Each(y)) => {
            for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
                *z = f(x, y);
            }
        }
        (Row::Each(x), Row::All(y)) => {
            for (z, &x) in z.iter_mut().zip(x) {
                *z = f(x, y);
            }
        }
        (Row::All(x), Row::Each(y)) => {
            for (z, &y) in z.iter_mut().zip(y) {
                *z = f(x, y);
            }
        }
        (Row::All(x), Row::All(y)) => {
            for z in z {
                *z = f(x, y);
            }
        }
    }
}

/// Calls `row` for each row of `part`, which starts at element `at`: with where it starts in the operands, and with it.
fn for_rows<R>(loops: &Loops<2>, at: usize, part: &mut [R], mut row: impl FnMut([usize; 2], &mut [R])) {
    let mut done = 0;
    loops.rows(at..at + part.len(), |from, count| {
        row(from, &mut part[done..done + count]);
        done += count;
    });
}

#[derive(Debug)]
struct Arithmetic<T> {
    f: Binary,
    loops: Loops<2>,
    /// Whether the operands are not broadcast.
    whole: [bool; 2],
    element: PhantomData<T>,
}

impl<T: Scalar<Work: Operand>> Kernel for Arithmetic<T> {
    fn in_place(&self, operand: usize) -> bool {
        self.whole[operand]
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let [x, y] = [args.elements::<T>(0), args.elements::<T>(1)];
        let z = args.output::<T>(0);
        let strides = self.loops.inner().strides;
        args.team.split(z, 1, |at, part| {
            let mut buffers = [[T::Work::zeroed(); CHUNK]; 3];
            for_rows(&self.loops, at, part, |[i, j], z| {
                let x = Elements::row(x, i, z.len(), strides[0]);
                let y = Elements::row(y, j, z.len(), strides[1]);
                row(self.f, x, y, z, &mut buffers);
            });
        });
        Ok(())
    }
}

fn row<T: Scalar<Work: Operand>>(
    f: Binary,
    x: Elements<Row<'_, T>>,
    y: Elements<Row<'_, T>>,
    z: &mut [T],
    buffers: &mut [[T::Work; CHUNK]; 3],
) {
    let [a, b, c] = buffers;
    let in_place = matches!((&x, &y), (Elements::Result, _) | (_, Elements::Result));
    let step = if T::NARROW || in_place { CHUNK } else { z.len().max(1) };
    for (i, z) in z.chunks_mut(step).enumerate() {
        let x = x.part(i * step, z, a);
        let y = y.part(i * step, z, b);
        T::store(z, c, |z| T::Work::arithmetic(f, x, y, z));
    }
}

#[derive(Debug)]
struct Compare<T> {
    f: Binary,
    loops: Loops<2>,
    element: PhantomData<T>,
}

impl<T: Scalar> Kernel for Compare<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        use Binary::{Equal, Greater, GreaterEqual, Less, LessEqual};
        let [x, y] = [args.input::<T>(0), args.input::<T>(1)];
        let z = args.output::<Bit>(0);
        let strides = self.loops.inner().strides;
        args.team.split(z, 1, |at, part| {
            for_rows(&self.loops, at, part, |[i, j], z| {
                let x = Row::new(x, i, z.len(), strides[0]);
                let y = Row::new(y, j, z.len(), strides[1]);
                match self.f {
                    Equal => zip(x, y, z, |x, y| Bit::new(x == y)),
                    Less => zip(x, y, z, |x, y| Bit::new(x < y)),
                    LessEqual => zip(x, y, z, |x, y| Bit::new(x <= y)),
                    Greater => zip(x, y, z, |x, y| Bit::new(x > y)),
                    GreaterEqual => zip(x, y, z, |x, y| Bit::new(x >= y)),
                    _ => zip(x, y, z, |x, y| Bit::new(x != y)),
                }
            });
        });
        Ok(())
    }
}

/// Types that element-wise functions are computed in.
trait Operand: Scalar {
    fn arithmetic(f: Binary, x: Row<'_, Self>, y: Row<'_, Self>, z: &mut [Self]);
}

fn larger<T: PartialOrd + Copy>(x: T, y: T) -> T {
    // The second test holds for NaN only.
    #[allow(clippy::eq_op, reason = "NaN differs from itself")]
    if x > y || x != x { x } else { y }
}

fn smaller<T: PartialOrd + Copy>(x: T, y: T) -> T {
    #[allow(clippy::eq_op, reason = "NaN differs from itself")]
    if x < y || x != x { x } else { y }
}

macro_rules! float_operand {
    ($($ty:ty),*) => {
        $(impl Operand for $ty {
            fn arithmetic(f: Binary, x: Row<'_, Self>, y: Row<'_, Self>, z: &mut [Self]) {
                floats(f, x, y, z);
            }
        })*
    };
}

float_operand!(f32, f64);

fn floats<T: Real>(f: Binary, x: Row<'_, T>, y: Row<'_, T>, z: &mut [T]) {
    use Binary as B;
    match f {
        B::Add => zip(x, y, z, T::add),
        B::Sub => zip(x, y, z, T::sub),
        B::Mul => zip(x, y, z, T::mul),
        B::Div => zip(x, y, z, T::div),
        B::FloorDiv => zip(x, y, z, |x, y| x.div(y).floor()),
        B::TruncDiv => zip(x, y, z, |x, y| x.div(y).trunc()),
        B::FloorMod => zip(x, y, z, floor_mod),
        B::TruncMod => zip(x, y, z, T::rem),
        B::Pow => power(x, y, z),
        B::Maximum => zip(x, y, z, larger),
        B::Minimum => zip(x, y, z, smaller),
        B::SquaredDifference => zip(x, y, z, |x, y| x.sub(y).mul(x.sub(y))),
        B::Atan2 => zip(x, y, z, T::atan2),
        // Refused for floats.
        _ => z.fill(T::zeroed()),
    }
}

/// The remainder with the divisor's sign; exact, unlike `x - floor(x / y) * y`.
fn floor_mod<T: Real>(x: T, y: T) -> T {
    let zero = T::zeroed();
    let rest = x.rem(y);
    let differs = (rest < zero && y > zero) || (rest > zero && y < zero);
    if differs { rest.add(y) } else { rest }
}

fn power<T: Real>(x: Row<'_, T>, y: Row<'_, T>, z: &mut [T]) {
    match y {
        Row::All(e) if e == T::from_f64(2.0) => zip(x, y, z, |x, _| x.mul(x)),
        Row::All(e) if e == T::from_f64(0.5) => zip(x, y, z, |x, _| x.sqrt()),
        Row::All(e) if e == T::from_f64(3.0) => zip(x, y, z, |x, _| x.mul(x).mul(x)),
        _ => zip(x, y, z, T::powf),
    }
}

/// Integers, with wrapping arithmetic; dividing by 0 gives 0.
pub(super) trait Integer: Scalar<Work = Self> + Eq + Ord {
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn trunc_div(self, other: Self) -> Self;
    fn trunc_rem(self, other: Self) -> Self;
    fn pow(self, exponent: Self) -> Self;
    fn not(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
}

macro_rules! integers {
    ($($ty:ident),*) => {
        $(impl Integer for $ty {
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn trunc_div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            fn trunc_rem(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            fn pow(self, exponent: Self) -> Self { integer_power(self, exponent) }
            fn not(self) -> Self { !self }
            fn and(self, other: Self) -> Self { self & other }
            fn or(self, other: Self) -> Self { self | other }
            fn xor(self, other: Self) -> Self { self ^ other }
        }

        impl Operand for $ty {
            fn arithmetic(f: Binary, x: Row<'_, Self>, y: Row<'_, Self>, z: &mut [Self]) {
                whole_numbers(f, x, y, z);
            }
        })*
    };
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

/// A negative exponent gives the quotient rounded towards 0.
fn integer_power<T: Integer>(base: T, exponent: T) -> T {
    let (zero, one) = (T::zeroed(), T::narrow(1.0f64));
    if exponent < zero {
        return match () {
            () if base == one => one,
            () if base == zero.sub(one) => base.mul(if exponent.and(one) == zero { base } else { one }),
            () => zero,
        };
    }
    let (mut result, mut factor, mut left) = (one, base, exponent.widen().to_u64());
    while left > 0 {
        if left & 1 == 1 {
            result = result.mul(factor);
        }
        factor = factor.mul(factor);
        left >>= 1;
    }
    result
}

fn whole_numbers<T: Integer>(f: Binary, x: Row<'_, T>, y: Row<'_, T>, z: &mut [T]) {
    use Binary as B;
    let zero = T::zeroed();
    let one = T::narrow(1.0f64);
    // Whether the quotient was rounded up.
    let inexact = move |rest: T, y: T| rest != zero && ((rest < zero) != (y < zero));
    match f {
        B::Add => zip(x, y, z, T::add),
        B::Sub => zip(x, y, z, T::sub),
        B::Mul => zip(x, y, z, T::mul),
        B::FloorDiv => zip(x, y, z, |x, y| {
            let quotient = x.trunc_div(y);
            if inexact(x.trunc_rem(y), y) { quotient.sub(one) } else { quotient }
        }),
        B::TruncDiv => zip(x, y, z, T::trunc_div),
        B::FloorMod => zip(x, y, z, |x, y| {
            let rest = x.trunc_rem(y);
            if inexact(rest, y) { rest.add(y) } else { rest }
        }),
        B::TruncMod => zip(x, y, z, T::trunc_rem),
        B::Pow => zip(x, y, z, T::pow),
        B::Maximum => zip(x, y, z, Ord::max),
        B::Minimum => zip(x, y, z, Ord::min),
        B::SquaredDifference => zip(x, y, z, |x, y| x.sub(y).mul(x.sub(y))),
        B::And => zip(x, y, z, T::and),
        B::Or => zip(x, y, z, T::or),
        B::Xor => zip(x, y, z, T::xor),
        // Refused for integers.
        _ => z.fill(zero),
    }
}

impl Operand for Bit {
    fn arithmetic(f: Binary, x: Row<'_, Self>, y: Row<'_, Self>, z: &mut [Self]) {
        use Binary as B;
        match f {
            B::Mul | B::Minimum | B::And => zip(x, y, z, |x, y| Bit::new(x.is_set() & y.is_set())),
            B::Xor => zip(x, y, z, |x, y| Bit::new(x.is_set() ^ y.is_set())),
            _ => zip(x, y, z, |x, y| Bit::new(x.is_set() | y.is_set())),
        }
    }
}
