//! Symbolic extents: polynomials over symbols and floor divisions, kept in a normal form so that equal extents
//! compare equal.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Add, Mul, Sub};
use std::str::FromStr;
use std::sync::Arc;

use crate::Error;

/// Name of an unknown extent; the same name means the same number throughout a graph.
pub type Symbol = Arc<str>;

/// Values of symbols.
pub type Bindings = BTreeMap<Symbol, i64>;

/// How the symbols begin that stand for what is too large.
const STAND_IN: &str = "_large.";

/// An integer that may be symbolic: an extent, or a number computed from extents.
///
/// Arithmetic saturates; whoever allocates checks sizes. A result that would be too large to handle becomes a symbol
/// that stands for it: the same operation on the same extents gives the same one, but no binding gives it a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A number.
    Fixed(i64),
    /// An expression with at least one symbol.
    Symbolic(Arc<Expr>),
}

/// A sum of products in normal form: coefficients by sorted factors.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Expr {
    terms: BTreeMap<Vec<Factor>, i64>,
    size: Size,
}

/// How large an expression is when it is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct Size {
    /// Terms, symbols and divisions in it.
    parts: usize,
    /// Divisions and maxima within each other.
    depth: usize,
}

impl Size {
    /// The largest that an expression may have; without a limit, they could double from node to node of a graph.
    const MAX: Size = Size { parts: 512, depth: 32 };

    fn is_allowed(self) -> bool {
        self.parts <= Size::MAX.parts && self.depth <= Size::MAX.depth
    }

    /// The size of two together.
    fn and(self, other: Size) -> Size {
        Size { parts: self.parts + other.parts, depth: self.depth.max(other.depth) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Factor {
    Symbol(Symbol),
    FloorDiv(Dim, Dim),
    Max(Dim, Dim),
}

/// A step in computing an expression; a sum of no terms is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DimStep<'a, T> {
    /// A number.
    Number(i64),
    /// The value of a symbol.
    Symbol(&'a Symbol),
    /// The sum of two.
    Add(T, T),
    /// The product of two.
    Mul(T, T),
    /// As [`Dim::floor_div`].
    FloorDiv(T, T),
    /// The larger of two.
    Max(T, T),
}

impl Dim {
    /// Computes the expression with other numbers, step by step.
    ///
    /// # Errors
    /// The first of `step`.
    pub fn compute<T, E>(&self, step: &mut impl FnMut(DimStep<'_, T>) -> Result<T, E>) -> Result<T, E> {
        let terms = self.terms();
        let mut sum = None;
        for (factors, coefficient) in &terms {
            let mut product = (*coefficient != 1 || factors.is_empty())
                .then(|| step(DimStep::Number(*coefficient)))
                .transpose()?;
            for factor in factors {
                let factor = factor.compute(step)?;
                product = Some(match product {
                    Some(product) => step(DimStep::Mul(factor, product))?,
                    None => factor,
                });
            }
            sum = match (sum, product) {
                (Some(sum), Some(product)) => Some(step(DimStep::Add(product, sum))?),
                (sum, product) => product.or(sum),
            };
        }
        sum.map_or_else(|| step(DimStep::Number(0)), Ok)
    }

    /// An unknown extent with a name: a letter or `_`, then letters, digits, `_` or `.`.
    pub fn symbol(name: &str) -> Self {
        Dim::factor(Factor::Symbol(name.into()))
    }

    /// The number, if it is one.
    pub fn as_fixed(&self) -> Option<i64> {
        match self {
            Dim::Fixed(n) => Some(*n),
            Dim::Symbolic(_) => None,
        }
    }

    /// The number as an extent, if it is one and not negative.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_fixed().and_then(|n| usize::try_from(n).ok())
    }

    /// Largest integer that is not above `self / divisor`; 0 when the divisor is 0.
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        match (self, divisor) {
            (_, Dim::Fixed(1)) => self.clone(),
            (Dim::Fixed(a), Dim::Fixed(b)) => Dim::Fixed(floor_div(*a, *b)),
            (a, b) => a
                .divide_exactly(b)
                .unwrap_or_else(|| Dim::factor(Factor::FloorDiv(self.clone(), divisor.clone()))),
        }
    }

    /// Smallest integer that is not below `self / divisor`.
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        (&(self + divisor) - &Dim::Fixed(1)).floor_div(divisor)
    }

    /// The larger of two.
    pub fn maximum(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Fixed(a), Dim::Fixed(b)) => Dim::Fixed(*a.max(b)),
            (a, b) if a == b => a.clone(),
            (a, b) => {
                let (low, high) = if a <= b { (a, b) } else { (b, a) };
                Dim::factor(Factor::Max(low.clone(), high.clone()))
            }
        }
    }

    /// The quotient, when `divisor` divides this in every term for all values of the symbols.
    ///
    /// Only monomial divisors are tried.
    pub fn divide_exactly(&self, divisor: &Dim) -> Option<Dim> {
        if self == divisor && *divisor != Dim::Fixed(0) {
            return Some(Dim::Fixed(1));
        }
        let divisor = divisor.terms();
        let mut terms = divisor.into_iter();
        let (Some((factors, coefficient)), None) = (terms.next(), terms.next()) else {
            return None;
        };
        let mut quotient = BTreeMap::new();
        for (mut product, c) in self.terms() {
            for factor in &factors {
                let at = product.iter().position(|f| f == factor)?;
                product.remove(at);
            }
            if c.checked_rem(coefficient)? != 0 {
                return None;
            }
            quotient.insert(product, c / coefficient);
        }
        Some(Dim::from_terms(quotient))
    }

    /// The expression with the symbols that `bindings` knows replaced by their values.
    pub fn bind(&self, bindings: &Bindings) -> Dim {
        let Dim::Symbolic(expr) = self else {
            return self.clone();
        };
        let mut sum = Dim::Fixed(0);
        for (factors, coefficient) in &expr.terms {
            let mut product = Dim::Fixed(*coefficient);
            for factor in factors {
                product = &product * &factor.bind(bindings);
            }
            sum = &sum + &product;
        }
        sum
    }

    /// Names of the symbols in it, sorted.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut names = Vec::new();
        self.collect_symbols(&mut names);
        names.sort();
        names.dedup();
        names
    }

    /// Whether a symbol in it stands for a result that was too large: no binding gives it a value.
    pub fn is_too_large(&self) -> bool {
        self.symbols().iter().any(|name| name.starts_with(STAND_IN))
    }

    fn collect_symbols(&self, names: &mut Vec<Symbol>) {
        let Dim::Symbolic(expr) = self else { return };
        for factor in expr.terms.keys().flatten() {
            match factor {
                Factor::Symbol(name) => names.push(name.clone()),
                Factor::FloorDiv(a, b) | Factor::Max(a, b) => {
                    a.collect_symbols(names);
                    b.collect_symbols(names);
                }
            }
        }
    }

    fn factor(factor: Factor) -> Dim {
        Dim::from_terms(BTreeMap::from([(vec![factor], 1)]))
    }

    fn terms(&self) -> BTreeMap<Vec<Factor>, i64> {
        match self {
            Dim::Fixed(0) => BTreeMap::new(),
            Dim::Fixed(n) => BTreeMap::from([(Vec::new(), *n)]),
            Dim::Symbolic(expr) => expr.terms.clone(),
        }
    }

    fn from_terms(mut terms: BTreeMap<Vec<Factor>, i64>) -> Dim {
        terms.retain(|_, coefficient| *coefficient != 0);
        let constant = terms.keys().all(Vec::is_empty);
        match constant {
            true => Dim::Fixed(terms.into_values().next().unwrap_or(0)),
            false => Dim::expression(terms),
        }
    }

    fn expression(terms: BTreeMap<Vec<Factor>, i64>) -> Dim {
        let term = |size: Size, factors: &Vec<Factor>| {
            factors.iter().fold(Size { parts: size.parts + 1, ..size }, |size, f| size.and(f.size()))
        };
        let size = terms.keys().fold(Size::default(), term);
        match size.is_allowed() {
            true => Dim::Symbolic(Arc::new(Expr { terms, size })),
            false => Dim::stand_in(&terms),
        }
    }

    /// A symbol for what is too large: the same for the same.
    fn stand_in(large: &impl Hash) -> Dim {
        let mut hasher = DefaultHasher::new();
        large.hash(&mut hasher);
        Dim::symbol(&format!("{STAND_IN}{:016x}", hasher.finish()))
    }

    fn size(&self) -> Size {
        match self {
            Dim::Fixed(_) => Size { parts: 1, depth: 0 },
            Dim::Symbolic(expr) => expr.size,
        }
    }
}

impl Factor {
    fn size(&self) -> Size {
        match self {
            Factor::Symbol(_) => Size { parts: 1, depth: 0 },
            Factor::FloorDiv(a, b) | Factor::Max(a, b) => {
                let both = a.size().and(b.size());
                Size { parts: both.parts + 1, depth: both.depth + 1 }
            }
        }
    }

    fn compute<T, E>(&self, step: &mut impl FnMut(DimStep<'_, T>) -> Result<T, E>) -> Result<T, E> {
        let (a, b) = match self {
            Factor::Symbol(name) => return step(DimStep::Symbol(name)),
            Factor::FloorDiv(a, b) | Factor::Max(a, b) => (a.compute(step)?, b.compute(step)?),
        };
        match self {
            Factor::Max(..) => step(DimStep::Max(a, b)),
            _ => step(DimStep::FloorDiv(a, b)),
        }
    }

    fn bind(&self, bindings: &Bindings) -> Dim {
        match self {
            Factor::Symbol(name) => match bindings.get(name) {
                Some(value) => Dim::Fixed(*value),
                None => Dim::symbol(name),
            },
            Factor::FloorDiv(a, b) => a.bind(bindings).floor_div(&b.bind(bindings)),
            Factor::Max(a, b) => a.bind(bindings).maximum(&b.bind(bindings)),
        }
    }
}

fn floor_div(a: i64, b: i64) -> i64 {
    if b == 0 {
        return 0;
    }
    let quotient = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Self {
        Dim::Fixed(n)
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Self {
        Dim::Fixed(i64::from(n))
    }
}

impl Add for &Dim {
    type Output = Dim;

    fn add(self, other: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b)) = (self, other) {
            return Dim::Fixed(a.saturating_add(*b));
        }
        let mut terms = self.terms();
        for (factors, c) in other.terms() {
            let sum = terms.entry(factors).or_insert(0);
            *sum = sum.saturating_add(c);
        }
        Dim::from_terms(terms)
    }
}

impl Sub for &Dim {
    type Output = Dim;

    fn sub(self, other: &Dim) -> Dim {
        self + &(other * &Dim::Fixed(-1))
    }
}

impl Mul for &Dim {
    type Output = Dim;

    fn mul(self, other: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b)) = (self, other) {
            return Dim::Fixed(a.saturating_mul(*b));
        }
        if self.size().parts * other.size().parts > Size::MAX.parts * Size::MAX.parts / 16 {
            return Dim::stand_in(&(self.min(other), self.max(other)));
        }
        let mut terms: BTreeMap<Vec<Factor>, i64> = BTreeMap::new();
        for (a, x) in self.terms() {
            for (b, y) in other.terms() {
                let mut factors = [a.clone(), b].concat();
                factors.sort();
                let sum = terms.entry(factors).or_insert(0);
                *sum = sum.saturating_add(x.saturating_mul(y));
            }
        }
        Dim::from_terms(terms)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expr = match self {
            Dim::Fixed(n) => return write!(f, "{n}"),
            Dim::Symbolic(expr) => expr,
        };
        // The constant term has the least key; people expect it last.
        for (i, (factors, coefficient)) in expr.terms.iter().rev().enumerate() {
            let sign = match (i, *coefficient < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            f.write_str(sign)?;
            let magnitude = coefficient.unsigned_abs();
            if magnitude != 1 || factors.is_empty() {
                write!(f, "{magnitude}")?;
            }
            for (j, factor) in factors.iter().enumerate() {
                if j > 0 || magnitude != 1 {
                    f.write_str("*")?;
                }
                write!(f, "{factor}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Factor::Symbol(name) => f.write_str(name),
            Factor::FloorDiv(a, b) => write!(f, "floor({a} / {b})"),
            Factor::Max(a, b) => write!(f, "max({a} / {b})"),
        }
    }
}

impl FromStr for Dim {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parser = Parser { rest: text.trim(), depth: 0 };
        parser
            .sum()
            .filter(|_| parser.rest.is_empty())
            .ok_or_else(|| Error::Parse { what: "an extent", text: text.to_owned() })
    }
}

/// Reads what `Display` writes.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Option<Dim> {
        let negative = self.eat("-");
        let mut sum = self.product(negative)?;
        loop {
            if self.eat("+") {
                sum = &sum + &self.product(false)?;
            } else if self.eat("-") {
                sum = &sum + &self.product(true)?;
            } else {
                return Some(sum);
            }
        }
    }

    fn product(&mut self, negative: bool) -> Option<Dim> {
        let mut product = self.factor(negative)?;
        while self.eat("*") {
            product = &product * &self.factor(false)?;
        }
        Some(product)
    }

    fn factor(&mut self, negative: bool) -> Option<Dim> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let first = word.chars().next()?;
        self.rest = rest.trim_start();
        if first.is_ascii_digit() {
            // With its sign, for the least number has no positive counterpart.
            let sign = if negative { "-" } else { "" };
            return format!("{sign}{word}").parse().ok().map(Dim::Fixed);
        }
        let factor = match word {
            "floor" if self.eat("(") => self.pair().map(|(a, b)| a.floor_div(&b))?,
            "max" if self.eat("(") => self.pair().map(|(a, b)| a.maximum(&b))?,
            name => Dim::symbol(name),
        };
        Some(if negative { &factor * &Dim::Fixed(-1) } else { factor })
    }

    fn pair(&mut self) -> Option<(Dim, Dim)> {
        self.depth += 1;
        if self.depth > Size::MAX.depth {
            return None;
        }
        let a = self.sum()?;
        let slash = self.eat("/");
        let b = self.sum()?;
        let closed = self.eat(")");
        self.depth -= 1;
        (slash && closed).then_some((a, b))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dim(text: &str) -> Dim {
        text.parse().expect(text)
    }

    #[test]
    fn normal_form_makes_equal_extents_equal() {
        let (s, t) = (Dim::symbol("s"), Dim::symbol("t"));
        assert_eq!(&(&s + &t) * &(&s + &t), dim("s*s + 2*s*t + t*t"));
        assert_eq!(&(&s + &t) - &t, s);
        assert_eq!(&s - &s, Dim::Fixed(0));
        assert_eq!(dim("6*s").floor_div(&dim("2*s")), Dim::Fixed(3));
        assert_eq!(dim("6*s + 4").floor_div(&dim("2")), dim("3*s + 2"));
        assert_eq!(dim("s + 1").floor_div(&dim("s + 1")), Dim::Fixed(1));
        assert_eq!(s.maximum(&t), t.maximum(&s));
    }

    #[test]
    fn floors_round_down() {
        assert_eq!(Dim::Fixed(-7).floor_div(&Dim::Fixed(2)), Dim::Fixed(-4));
        assert_eq!(Dim::Fixed(7).ceil_div(&Dim::Fixed(2)), Dim::Fixed(4));
        assert_eq!(Dim::Fixed(7).floor_div(&Dim::Fixed(0)), Dim::Fixed(0));
        let half = dim("floor(s / 2)");
        assert_eq!(half.bind(&Bindings::from([("s".into(), 5)])), Dim::Fixed(2));
    }

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "+", "s +", "floor(s)", "2 s", "floor(1 / 2", &"floor(".repeat(100)] {
            assert!(text.parse::<Dim>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_least_number_can_be_read_back() {
        let least = Dim::Fixed(i64::MIN);
        for dim in [least.clone(), &least * &Dim::symbol("s"), &Dim::symbol("s") + &least] {
            assert_eq!(dim.to_string().parse(), Ok(dim));
        }
    }

    #[test]
    fn growth_ends_in_a_symbol() {
        let grown = |step: fn(&Dim, &Dim) -> Dim| {
            let (one, two) = (Dim::symbol("s"), Dim::symbol("t"));
            (0..100).fold((one, two), |(a, b), _| (step(&a, &b), step(&(&a + &Dim::Fixed(1)), &b)))
        };
        let steps: [fn(&Dim, &Dim) -> Dim; 4] =
            [Dim::maximum, Dim::floor_div, |a, b| a * b, |a, b| &(a * a) + &b.maximum(a)];
        for step in steps {
            let (a, b) = grown(step);
            assert_eq!((&a, &b), (&grown(step).0, &grown(step).1), "the same twice");
            assert!(a.is_too_large() && b.is_too_large() && !Dim::symbol("large").is_too_large());
            assert!(a.to_string().len() < 10_000 && b.to_string().len() < 10_000);
            assert_eq!(a.to_string().parse(), Ok(a));
        }
    }

    fn dims() -> impl Strategy<Value = Dim> {
        let leaf = prop_oneof![(-9i64..9).prop_map(Dim::Fixed), "[a-c]".prop_map(|s| Dim::symbol(&s))];
        leaf.prop_recursive(3, 12, 2, |inner| {
            (inner.clone(), inner, 0..5).prop_map(|(a, b, op)| match op {
                0 => &a + &b,
                1 => &a - &b,
                2 => &a * &b,
                3 => a.floor_div(&b),
                _ => a.maximum(&b),
            })
        })
    }

    proptest! {
        #[test]
        fn text_round_trips(dim in dims()) {
            prop_assert_eq!(dim.to_string().parse::<Dim>(), Ok(dim));
        }

        #[test]
        fn steps_compute_the_expression(dim in dims()) {
            let mut step = |step: DimStep<'_, Dim>| -> Result<Dim, ()> {
                Ok(match step {
                    DimStep::Number(n) => Dim::Fixed(n),
                    DimStep::Symbol(name) => Dim::symbol(name),
                    DimStep::Add(a, b) => &a + &b,
                    DimStep::Mul(a, b) => &a * &b,
                    DimStep::FloorDiv(a, b) => a.floor_div(&b),
                    DimStep::Max(a, b) => a.maximum(&b),
                })
            };
            prop_assert_eq!(dim.compute(&mut step), Ok(dim));
        }

        #[test]
        fn binding_commutes_with_arithmetic(a in dims(), b in dims(), x in 1i64..9, y in 1i64..9, z in 1i64..9) {
            let bindings = Bindings::from([("a".into(), x), ("b".into(), y), ("c".into(), z)]);
            let (va, vb) = (a.bind(&bindings), b.bind(&bindings));
            prop_assert_eq!((&a + &b).bind(&bindings), &va + &vb);
            prop_assert_eq!((&a * &b).bind(&bindings), &va * &vb);
            prop_assert!((&a - &b).bind(&bindings).as_fixed().is_some());
        }
    }
}
