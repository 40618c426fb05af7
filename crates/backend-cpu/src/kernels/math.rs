//! Elementary functions of floats. Those of `f32` that models use most are written without branches, so that the
//! compiler turns loops over them into vector code; they agree with libm to about 1e-7.

/// Floats that elementary functions are computed in.
pub(crate) trait Real: crate::scalar::Scalar<Work = Self> {
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn exp(self) -> Self;
    fn expm1(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn sqrt(self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn round_even(self) -> Self;
    fn trunc(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn erfc(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn atan2(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
    fn is_infinite(self) -> bool;
    fn is_finite(self) -> bool;
}

macro_rules! real {
    ($ty:ident { $($name:ident = $function:expr;)* }) => {
        impl Real for $ty {
            #[inline(always)]
            fn from_f64(value: f64) -> Self { value as $ty }
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn add(self, other: Self) -> Self { self + other }
            #[inline(always)]
            fn sub(self, other: Self) -> Self { self - other }
            #[inline(always)]
            fn mul(self, other: Self) -> Self { self * other }
            #[inline(always)]
            fn div(self, other: Self) -> Self { self / other }
            #[inline(always)]
            fn abs(self) -> Self { $ty::abs(self) }
            fn expm1(self) -> Self { $ty::exp_m1(self) }
            fn ln(self) -> Self { $ty::ln(self) }
            fn ln_1p(self) -> Self { $ty::ln_1p(self) }
            #[inline(always)]
            fn sqrt(self) -> Self { $ty::sqrt(self) }
            fn floor(self) -> Self { $ty::floor(self) }
            fn ceil(self) -> Self { $ty::ceil(self) }
            fn round_even(self) -> Self { $ty::round_ties_even(self) }
            fn trunc(self) -> Self { $ty::trunc(self) }
            fn sin(self) -> Self { $ty::sin(self) }
            fn cos(self) -> Self { $ty::cos(self) }
            fn tan(self) -> Self { $ty::tan(self) }
            fn asin(self) -> Self { $ty::asin(self) }
            fn acos(self) -> Self { $ty::acos(self) }
            fn atan(self) -> Self { $ty::atan(self) }
            fn sinh(self) -> Self { $ty::sinh(self) }
            fn cosh(self) -> Self { $ty::cosh(self) }
            fn powf(self, exponent: Self) -> Self { $ty::powf(self, exponent) }
            fn atan2(self, other: Self) -> Self { $ty::atan2(self, other) }
            fn rem(self, other: Self) -> Self { self % other }
            #[inline(always)]
            fn is_nan(self) -> bool { $ty::is_nan(self) }
            fn is_infinite(self) -> bool { $ty::is_infinite(self) }
            fn is_finite(self) -> bool { $ty::is_finite(self) }
            $(#[inline(always)]
            fn $name(self) -> Self { $function(self) })*
        }
    };
}

real!(f64 { exp = f64::exp; tanh = f64::tanh; erf = libm::erf; erfc = libm::erfc; });
real!(f32 { exp = exp_f32; tanh = tanh_f32; erf = erf_f32; erfc = erfc_f32; });

/// `2^n * p(r)` with `x = n ln 2 + r`; p is the Taylor polynomial of degree 7, whose remainder is below 6e-9.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let y = x.clamp(-104.0, 89.0);
    let n = (y * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (y - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // Two factors reach the subnormal numbers and the largest ones.
    let half = (n * 0.5 + ROUND) - ROUND;
    p * power_of_two(half) * power_of_two(n - half)
}

#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    // The integer stands in the low bits of n + 2^23; NaN gives any finite factor.
    let bits = (n + 8_388_735.0).to_bits() << 23;
    f32::from_bits(bits)
}

/// One of two numbers, both of which are computed: a branch would keep loops from being vector code.
#[inline(always)]
fn pick(condition: bool, a: f32, b: f32) -> f32 {
    let mask = u32::from(condition).wrapping_neg();
    f32::from_bits((a.to_bits() & mask) | (b.to_bits() & !mask))
}

/// Near 0 the odd Taylor-like polynomial of Cephes (tanhf), else through exp.
#[inline(always)]
fn tanh_f32(x: f32) -> f32 {
    let magnitude = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_909e-2;
    let p = p * z - 5.373_971_5e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let far = 1.0 - 2.0 / (exp_f32(2.0 * magnitude) + 1.0);
    let far = far.copysign(x);
    pick(magnitude < 0.625, near, far)
}

/// Cephes (ndtrf): an odd polynomial up to 1, else 1 - erfc.
#[inline(always)]
fn erf_f32(x: f32) -> f32 {
    let far = (1.0 - erfc_tail(x.abs())).copysign(x);
    pick(x.abs() <= 1.0, erf_near(x), far)
}

#[inline(always)]
fn erfc_f32(x: f32) -> f32 {
    let tail = erfc_tail(x.abs());
    let far = pick(x < 0.0, 2.0 - tail, tail);
    pick(x.abs() < 1.0, 1.0 - erf_near(x), far)
}

/// erf for x of at most 1.
#[inline(always)]
fn erf_near(x: f32) -> f32 {
    let z = x * x;
    let p = 7.853_861_4e-5;
    let p = p * z - 8.010_193_6e-4;
    let p = p * z + 5.188_327_7e-3;
    let p = p * z - 2.685_381_2e-2;
    let p = p * z + 1.128_358_5e-1;
    let p = p * z - 3.761_262_6e-1;
    let p = p * z + std::f32::consts::FRAC_2_SQRT_PI;
    x * p
}

/// erfc for x of at least 1: `exp(-x^2) / x` times a polynomial in `1 / x^2` (Cephes, erfcf).
#[inline(always)]
fn erfc_tail(x: f32) -> f32 {
    let q = 1.0 / x;
    let y = q * q;
    let p = 2.326_819_8e-2;
    let p = p * y - 1.387_039_4e-1;
    let p = p * y + 3.687_424_7e-1;
    let p = p * y - 5.824_733e-1;
    let p = p * y + 6.210_004_6e-1;
    let p = p * y - 4.944_515_3e-1;
    let p = p * y + 3.404_88e-1;
    let p = p * y - 2.741_127e-1;
    let p = p * y + 5.638_259_4e-1;
    let r = -1.047_766_4e1;
    let r = r * y + 1.297_719_9e1;
    let r = r * y - 7.495_518_7;
    let r = r * y + 2.921_019;
    let r = r * y - 1.015_265_2;
    let r = r * y + 4.218_463_4e-1;
    let r = r * y - 2.820_767_5e-1;
    let r = r * y + 5.641_895_8e-1;
    exp_minus_square(x) * q * pick(x < 2.0, p, r)
}

/// `exp(-x^2)`; the rounding error of the square is taken along.
#[inline(always)]
fn exp_minus_square(x: f32) -> f32 {
    let x = x.min(12.0);
    let high = f32::from_bits(x.to_bits() & 0xffff_f000);
    let low = x - high;
    exp_f32(-high * high) * exp_f32(-low * (x + high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(range: std::ops::Range<f32>, f: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let steps = 200_000;
        (0..=steps)
            .map(|i| range.start + (range.end - range.start) * i as f32 / steps as f32)
            .map(|x| {
                let expected = exact(f64::from(x));
                (f64::from(f(x)) - expected).abs() / expected.abs().max(1e-37)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_agree_with_libm() {
        assert!(worst(-87.0..88.7, exp_f32, f64::exp) < 2.5e-7);
        assert!(worst(-12.0..12.0, tanh_f32, f64::tanh) < 3e-7);
        assert!(worst(-6.0..6.0, erf_f32, libm::erf) < 3e-7);
        assert!(worst(-6.0..9.0, erfc_f32, libm::erfc) < 1e-6);
    }

    #[test]
    fn limits_and_nan() {
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32(100.0), f32::INFINITY);
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-100.0), (-100.0f32).exp());
        assert_eq!(tanh_f32(f32::INFINITY), 1.0);
        assert_eq!(erf_f32(f32::NEG_INFINITY), -1.0);
        assert_eq!(erfc_f32(f32::NEG_INFINITY), 2.0);
        for f in [exp_f32, tanh_f32, erf_f32, erfc_f32] {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
