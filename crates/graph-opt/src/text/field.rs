//! Attributes of operations, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use mslite_collective::CollectiveOp;
use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use super::data::Number;
use super::scan::{Cursor, MAX_DEPTH, Scanned, is_word, quote, shown, split, unquote};
use crate::ir::op::{Attribute, Distribution, Packed, PadMode, Padding2d, ReduceKind, ScatterKind};

/// Most terms that the expressions of one extent may have before they are simplified.
const MAX_TERMS: u64 = 4096;

/// An attribute.
pub(super) trait Field: Sized {
    /// Its text; `None` leaves it out.
    fn print(&self) -> Option<String>;

    /// From its text.
    fn parse(text: &str) -> Scanned<Self>;

    /// What it is when it has been left out, if it may be.
    fn absent() -> Option<Self> {
        None
    }
}

/// The attributes of an operation, while they are written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    parts: Vec<String>,
}

impl Writer {
    pub(super) fn field(&mut self, name: &str, value: &impl Field) {
        self.parts.extend(value.print().map(|text| format!("{name}={text}")));
    }

    /// All of them in brackets, or nothing.
    pub(super) fn finish(self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("({})", self.parts.join(", ")) }
    }
}

/// The attributes of an operation, while they are read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    parts: Vec<(&'a str, &'a str)>,
}

impl<'a> Reader<'a> {
    /// From the text between the brackets.
    pub(super) fn new(text: &'a str) -> Scanned<Self> {
        let pair = |part: &'a str| {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("expected `name=value`, not {}", shown(part)))?;
            Ok((name.trim_end(), value.trim_start()))
        };
        Ok(Reader { parts: split(text)?.into_iter().map(pair).collect::<Scanned<_>>()? })
    }

    /// Takes an attribute out.
    pub(super) fn field<T: Field>(&mut self, name: &str) -> Scanned<T> {
        match self.parts.iter().position(|part| part.0 == name) {
            Some(at) => {
                let (_, text) = self.parts.swap_remove(at);
                T::parse(text).map_err(|reason| format!("attribute {name}: {reason}"))
            }
            None => T::absent().ok_or_else(|| format!("attribute {name} is missing")),
        }
    }

    /// Checks that nothing is left.
    pub(super) fn finish(self) -> Scanned<()> {
        match self.parts.first() {
            Some((name, _)) => Err(format!("attribute {} is not expected here", shown(name))),
            None => Ok(()),
        }
    }
}

impl Field for bool {
    fn print(&self) -> Option<String> {
        self.then(|| "true".to_owned())
    }

    fn parse(text: &str) -> Scanned<Self> {
        text.parse().map_err(|_| format!("{} is neither true nor false", shown(text)))
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

macro_rules! fields {
    ($($ty:ty, $what:literal, $print:expr, $parse:expr;)*) => {
        $(impl Field for $ty {
            fn print(&self) -> Option<String> {
                Some($print(self))
            }

            fn parse(text: &str) -> Scanned<Self> {
                $parse(text).ok_or_else(|| format!("{} is not {}", shown(text), $what))
            }
        })*
    };
}

fields! {
    usize, "a number", usize::to_string, |text: &str| text.parse().ok();
    i64, "an integer", i64::to_string, |text: &str| text.parse().ok();
    f64, "a number", Number::print, <f64 as Number>::parse;
    DType, "an element type", DType::to_string, |text: &str| text.parse().ok();
    CollectiveOp, "a collective operation", CollectiveOp::to_string, |text: &str| text.parse().ok();
    Distribution, "a distribution", |kind: &Distribution| kind.name().to_owned(),
        |text: &str| Distribution::PLAIN.iter().copied().find(|kind| kind.name() == text);
    ReduceKind, "a reduction", |kind: &ReduceKind| kind.name().to_owned(),
        |text: &str| ReduceKind::PLAIN.iter().copied().find(|kind| kind.name() == text);
    Packed, "heads such as 4x24+96", Packed::to_string, packed;
    PadMode, "a padding mode", |mode| named(&PAD_MODES, mode), |text| find(&PAD_MODES, text);
    ScatterKind, "a way to scatter", |kind| named(&SCATTER_KINDS, kind), |text| find(&SCATTER_KINDS, text);
}

fn packed(text: &str) -> Option<Packed> {
    let (size, start) = text.split_once('+').unwrap_or((text, "0"));
    let (heads, width) = size.split_once('x')?;
    Some(Packed { start: start.parse().ok()?, heads: heads.parse().ok()?, width: width.parse().ok()? })
}

const PAD_MODES: [(&str, PadMode); 4] = [
    ("constant", PadMode::Constant),
    ("reflect", PadMode::Reflect),
    ("symmetric", PadMode::Symmetric),
    ("edge", PadMode::Edge),
];

const SCATTER_KINDS: [(&str, ScatterKind); 5] = [
    ("update", ScatterKind::Update),
    ("add", ScatterKind::Add),
    ("mul", ScatterKind::Mul),
    ("max", ScatterKind::Max),
    ("min", ScatterKind::Min),
];

fn named<T: PartialEq>(names: &[(&str, T)], value: &T) -> String {
    names.iter().find(|(_, v)| v == value).map_or_else(String::new, |(name, _)| (*name).to_owned())
}

fn find<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

impl Field for Dim {
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn parse(text: &str) -> Scanned<Self> {
        if terms(text) > MAX_TERMS {
            return Err(format!("the extent {} has too many terms", shown(text)));
        }
        text.parse().map_err(|error: mslite_tensor::Error| error.to_string())
    }
}

/// A bound for the number of terms of an extent when its products are multiplied out.
fn terms(text: &str) -> u64 {
    // A sum and the product that is its last term, for each open bracket.
    let mut open = vec![(0u64, 1u64)];
    for c in text.chars() {
        let Some((sum, product)) = open.last_mut() else { return u64::MAX };
        match c {
            '+' | '-' | '/' => (*sum, *product) = (sum.saturating_add(*product), 1),
            '(' => open.push((0, 1)),
            ')' => {
                let inner = sum.saturating_add(*product);
                open.pop();
                let Some((_, product)) = open.last_mut() else { return u64::MAX };
                *product = product.saturating_mul(inner);
            }
            _ => {}
        }
    }
    open.iter().fold(0, |n, (sum, product)| n.saturating_add(*sum).saturating_add(*product))
}

impl Field for TensorSpec {
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn parse(text: &str) -> Scanned<Self> {
        let mut cursor = Cursor::new(text);
        let dtype = DType::parse(cursor.word())?;
        let dims = cursor.bracketed(['[', ']'])?.ok_or_else(|| format!("{} is not a type", shown(text)))?;
        cursor.end()?;
        if dims.trim() == "*" {
            return Ok(TensorSpec::new(dtype, Shape::UNRANKED));
        }
        let dims: Vec<Dim> = split(dims)?.into_iter().map(Dim::parse).collect::<Scanned<_>>()?;
        match dims.iter().find(|dim| dim.as_fixed().is_some_and(|n| n < 0)) {
            Some(dim) => Err(format!("{dim} is not an extent")),
            None => Ok(TensorSpec::new(dtype, Shape::ranked(dims))),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn print(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().filter_map(Field::print).collect::<Vec<_>>().join(", ")))
    }

    fn parse(text: &str) -> Scanned<Self> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        split(inner.ok_or_else(|| format!("{} is not a list", shown(text)))?)?
            .into_iter()
            .map(T::parse)
            .collect()
    }
}

impl<T: Field + Clone, const N: usize> Field for [T; N] {
    fn print(&self) -> Option<String> {
        self.to_vec().print()
    }

    fn parse(text: &str) -> Scanned<Self> {
        Vec::parse(text)?.try_into().map_err(|_| format!("{} does not have {N} elements", shown(text)))
    }
}

impl<T: Field> Field for Option<T> {
    fn print(&self) -> Option<String> {
        self.as_ref().and_then(T::print)
    }

    fn parse(text: &str) -> Scanned<Self> {
        T::parse(text).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl Field for Padding2d {
    fn print(&self) -> Option<String> {
        match self {
            Padding2d::Explicit(sides) => sides.print(),
            Padding2d::Same => Some("same".to_owned()),
        }
    }

    fn parse(text: &str) -> Scanned<Self> {
        if text == "same" { Ok(Padding2d::Same) } else { Field::parse(text).map(Padding2d::Explicit) }
    }
}

impl Field for Arc<str> {
    fn print(&self) -> Option<String> {
        Some(quote(self))
    }

    fn parse(text: &str) -> Scanned<Self> {
        unquote(text).map(Arc::from)
    }
}

impl Field for BTreeMap<String, Attribute> {
    fn print(&self) -> Option<String> {
        let key = |key: &str| {
            let plain = !key.is_empty() && key.chars().all(is_word);
            if plain { key.to_owned() } else { quote(key) }
        };
        let parts = self.iter().map(|(name, value)| format!("{}={}", key(name), print_attribute(value)));
        (!self.is_empty()).then(|| format!("{{{}}}", parts.collect::<Vec<_>>().join(", ")))
    }

    fn parse(text: &str) -> Scanned<Self> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let mut map = BTreeMap::new();
        for part in split(inner.ok_or_else(|| format!("{} is not `{{name=value}}`", shown(text)))?)? {
            let mut cursor = Cursor::new(part);
            let plain = cursor.word();
            let key = if plain.is_empty() { cursor.quoted()? } else { plain.to_owned() };
            cursor.expect("=")?;
            if map.insert(key.clone(), parse_attribute(cursor.rest(), 0)?).is_some() {
                return Err(format!("attribute {key} appears twice"));
            }
        }
        Ok(map)
    }

    fn absent() -> Option<Self> {
        Some(BTreeMap::new())
    }
}

fn print_attribute(attribute: &Attribute) -> String {
    match attribute {
        Attribute::None => "none".to_owned(),
        Attribute::Bool(value) => value.to_string(),
        Attribute::Int(value) => value.to_string(),
        Attribute::Float(value) => Number::print(value),
        Attribute::Text(text) => quote(text),
        Attribute::DType(dtype) => dtype.to_string(),
        Attribute::List(list) => {
            format!("[{}]", list.iter().map(print_attribute).collect::<Vec<_>>().join(", "))
        }
    }
}

fn parse_attribute(text: &str, depth: usize) -> Scanned<Attribute> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        if depth == MAX_DEPTH {
            return Err(format!("lists nest deeper than {MAX_DEPTH}"));
        }
        let list = split(inner)?.into_iter().map(|part| parse_attribute(part, depth + 1));
        return list.collect::<Scanned<_>>().map(Attribute::List);
    }
    if text.starts_with('"') {
        return unquote(text).map(Attribute::Text);
    }
    let plain = match text {
        "none" => Some(Attribute::None),
        "true" => Some(Attribute::Bool(true)),
        "false" => Some(Attribute::Bool(false)),
        _ => None,
    };
    plain
        .or_else(|| text.parse().ok().map(Attribute::Int))
        .or_else(|| text.parse().ok().map(Attribute::DType))
        .or_else(|| <f64 as Number>::parse(text).map(Attribute::Float))
        .ok_or_else(|| format!("{} is not an attribute", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_whose_products_explode_are_refused() {
        assert_eq!(terms("floor(h + 1 / 2)*floor(w + 1 / 2) + 1"), 10);
        let bomb = ["floor(a + b / 1)"; 40].join("*");
        assert!(Dim::parse(&bomb).is_err());
        assert_eq!(Dim::parse("2*floor(s / 3)").unwrap().to_string(), "2*floor(s / 3)");
    }

    #[test]
    fn attributes_round_trip() {
        let nested = Attribute::List(vec![
            Attribute::None,
            Attribute::List(vec![]),
            Attribute::List(vec![Attribute::Text("a, \"]\n".into()), Attribute::DType(DType::BF16)]),
            Attribute::Float(3.0),
            Attribute::Float(1e300),
            Attribute::Float(f64::NEG_INFINITY),
            Attribute::Int(i64::MIN),
            Attribute::Bool(false),
        ]);
        let map = BTreeMap::from([("plain".to_owned(), nested), ("odd = key".to_owned(), Attribute::Int(1))]);
        assert_eq!(Field::parse(&map.print().unwrap()), Ok(map));
    }
}
