//! Operations: a name, and attributes.

use std::sync::Arc;

use super::field::{Field, Reader, Writer};
use super::scan::{Cursor, Scanned, shown};
use crate::Graph;
use crate::ir::op::{
    AddNorm, ArgReduce, Attention, Binary, Collective, Conv2d, Cumulative, Gather, If, Loop, MatMul, Norm,
    Op, Opaque, Pad, Pool2d, Random, Reduce, Slice, Softmax, TopK, Triangle, Unary,
};
use mslite_tensor::TensorSpec;

/// Attributes written and read under their names in Rust.
trait Fields: Sized {
    fn write(&self, to: &mut Writer);
    fn read(from: &mut Reader) -> Scanned<Self>;
}

macro_rules! structs {
    ($($ty:ident { $($field:ident),* $(,)? })*) => {
        $(impl Fields for $ty {
            fn write(&self, to: &mut Writer) {
                $(to.field(stringify!($field), &self.$field);)*
            }

            fn read(from: &mut Reader) -> Scanned<Self> {
                Ok($ty { $($field: from.field(stringify!($field))?),* })
            }
        })*
    };
}

structs! {
    Reduce { kind, axes, keep_dims }
    ArgReduce { largest, axis, keep_dims, dtype }
    Cumulative { product, axis, exclusive, reverse }
    Softmax { axis, log }
    Norm { axis, epsilon }
    AddNorm { axis, epsilon, centred, sum }
    MatMul { transpose_a, transpose_b, activation, wide }
    Conv2d { strides, padding, dilations, groups, activation }
    Pool2d { average, kernel, strides, padding, ceil_mode, count_padding }
    Slice { starts, sizes, steps }
    Pad { low, high, mode }
    Gather { axis, batch_dims }
    TopK { k, axis, largest }
    Triangle { upper, diagonal }
    Random { distribution, dims }
    Collective { op, size, ranks, receives }
}

impl Fields for Attention {
    fn write(&self, to: &mut Writer) {
        to.field("heads", &self.heads);
        to.field("scale", &self.scale);
        for (name, packed) in PACKED.iter().zip(&self.packed) {
            to.field(name, packed);
        }
    }

    fn read(from: &mut Reader) -> Scanned<Self> {
        let (heads, scale) = (from.field("heads")?, from.field("scale")?);
        let mut packed = [None; 4];
        for (name, packed) in PACKED.iter().zip(&mut packed) {
            *packed = from.field(name)?;
        }
        Ok(Attention { heads, scale, packed })
    }
}

/// Whose heads are packed.
const PACKED: [&str; 4] = ["query", "key", "value", "result"];

/// An operation with its attributes.
pub(crate) fn print(op: &Op) -> String {
    let mut to = Writer::default();
    match op {
        Op::Unary(f) => write_unary(*f, &mut to),
        Op::Binary(_) | Op::Select | Op::Rope | Op::GatherNd | Op::If(_) => {}
        Op::Loop(turns) => to.field("carried", &turns.carried),
        Op::Cast(dtype) => to.field("to", dtype),
        Op::Reduce(op) => op.write(&mut to),
        Op::ArgReduce(op) => op.write(&mut to),
        Op::Cumulative(op) => op.write(&mut to),
        Op::Softmax(op) => op.write(&mut to),
        Op::LayerNorm(op) | Op::RmsNorm(op) => op.write(&mut to),
        Op::AddNorm(op) => op.write(&mut to),
        Op::Gated(f) => to.field("f", f),
        Op::Attention(op) => op.write(&mut to),
        Op::MatMul(op) => op.write(&mut to),
        Op::Conv2d(op) => op.write(&mut to),
        Op::Pool2d(op) => op.write(&mut to),
        Op::Reshape(dims) | Op::Broadcast(dims) | Op::Extents(dims) => to.field("dims", dims),
        Op::Bind(symbols) => to.field("symbols", symbols),
        Op::Transpose(perm) => to.field("perm", perm),
        Op::Concat { axis } | Op::GatherElements { axis } => to.field("axis", axis),
        Op::Slice(op) => op.write(&mut to),
        Op::Pad(op) => op.write(&mut to),
        Op::Gather(op) => op.write(&mut to),
        Op::ScatterNd(kind) => to.field("kind", kind),
        Op::OneHot { depth, axis } => {
            to.field("depth", depth);
            to.field("axis", axis);
        }
        Op::TopK(op) => op.write(&mut to),
        Op::Triangle(op) => op.write(&mut to),
        Op::Random(op) => op.write(&mut to),
        Op::Collective(op) => op.write(&mut to),
        Op::Opaque(op) => {
            to.field("primitive", &op.primitive);
            to.field("effect", &op.effect);
            to.field("attributes", &op.attributes);
        }
    }
    // The name of an opaque primitive may be that of an operation of the core.
    let name = if matches!(op, Op::Opaque(_)) { "opaque" } else { op.name() };
    format!("{name}{}", to.finish())
}

/// An operation from its name, the text of its attributes, and the graphs inside it; `results` are what stands
/// after the `:`.
pub(super) fn parse(
    name: &str,
    attributes: &str,
    results: Option<&[TensorSpec]>,
    bodies: Vec<Graph>,
) -> Scanned<Op> {
    let mut from = Reader::new(attributes)?;
    let op = match name {
        "if" | "loop" => read_control(name, &mut from, bodies),
        _ if !bodies.is_empty() => Err("it has no graphs inside".to_owned()),
        _ => read_op(name, &mut from, results),
    };
    let op = op.map_err(|reason| format!("{name}: {reason}"))?;
    from.finish().map_err(|reason| format!("{name}: {reason}"))?;
    Ok(op)
}

fn read_control(name: &str, from: &mut Reader, bodies: Vec<Graph>) -> Scanned<Op> {
    let mut bodies = bodies.into_iter().map(Arc::new);
    let mut body = || bodies.next().ok_or_else(|| "a graph is missing".to_owned());
    let op = match name {
        "if" => Op::If(If { then: body()?, otherwise: body()? }),
        _ => Op::Loop(Loop { body: body()?, carried: from.field("carried")? }),
    };
    if bodies.next().is_some() { Err("it has too many graphs".to_owned()) } else { Ok(op) }
}

fn read_op(name: &str, from: &mut Reader, results: Option<&[TensorSpec]>) -> Scanned<Op> {
    Ok(match name {
        "select" => Op::Select,
        "cast" => Op::Cast(from.field("to")?),
        "reduce" => Op::Reduce(Fields::read(from)?),
        "arg_reduce" => Op::ArgReduce(Fields::read(from)?),
        "cumulative" => Op::Cumulative(Fields::read(from)?),
        "softmax" => Op::Softmax(Fields::read(from)?),
        "layer_norm" => Op::LayerNorm(Fields::read(from)?),
        "rms_norm" => Op::RmsNorm(Fields::read(from)?),
        "add_norm" => Op::AddNorm(Fields::read(from)?),
        "gated" => Op::Gated(from.field("f")?),
        "rope" => Op::Rope,
        "attention" => Op::Attention(Fields::read(from)?),
        "matmul" => Op::MatMul(Fields::read(from)?),
        "conv2d" => Op::Conv2d(Fields::read(from)?),
        "pool2d" => Op::Pool2d(Fields::read(from)?),
        "reshape" => Op::Reshape(from.field("dims")?),
        "transpose" => Op::Transpose(from.field("perm")?),
        "broadcast" => Op::Broadcast(from.field("dims")?),
        "concat" => Op::Concat { axis: from.field("axis")? },
        "slice" => Op::Slice(Fields::read(from)?),
        "pad" => Op::Pad(Fields::read(from)?),
        "gather" => Op::Gather(Fields::read(from)?),
        "gather_elements" => Op::GatherElements { axis: from.field("axis")? },
        "gather_nd" => Op::GatherNd,
        "scatter_nd" => Op::ScatterNd(from.field("kind")?),
        "one_hot" => Op::OneHot { depth: from.field("depth")?, axis: from.field("axis")? },
        "top_k" => Op::TopK(Fields::read(from)?),
        "triangle" => Op::Triangle(Fields::read(from)?),
        "extents" => Op::Extents(from.field("dims")?),
        "bind" => Op::Bind(from.field("symbols")?),
        "random" => Op::Random(Fields::read(from)?),
        "collective" => Op::Collective(Fields::read(from)?),
        "opaque" => Op::Opaque(Opaque {
            primitive: from.field("primitive")?,
            effect: from.field("effect")?,
            attributes: from.field("attributes")?,
            results: results.unwrap_or_default().to_vec(),
        }),
        name => match Binary::PLAIN.iter().find(|f| f.name() == name) {
            Some(f) => Op::Binary(*f),
            None => Op::Unary(read_unary(name, from)?),
        },
    })
}

fn write_unary(f: Unary, to: &mut Writer) {
    match f {
        Unary::Elu { alpha } | Unary::LeakyRelu { alpha } => to.field("alpha", &alpha),
        Unary::Clip { low, high } => {
            to.field("low", &low);
            to.field("high", &high);
        }
        _ => {}
    }
}

fn read_unary(name: &str, from: &mut Reader) -> Scanned<Unary> {
    Ok(match name {
        "elu" => Unary::Elu { alpha: from.field("alpha")? },
        "leaky_relu" => Unary::LeakyRelu { alpha: from.field("alpha")? },
        "clip" => Unary::Clip { low: from.field("low")?, high: from.field("high")? },
        name => *Unary::PLAIN
            .iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| format!("{} is not an operation", shown(name)))?,
    })
}

impl Field for Unary {
    fn print(&self) -> Option<String> {
        let mut to = Writer::default();
        write_unary(*self, &mut to);
        Some(format!("{}{}", self.name(), to.finish()))
    }

    fn parse(text: &str) -> Scanned<Self> {
        let mut cursor = Cursor::new(text);
        let name = cursor.word();
        let mut from = Reader::new(cursor.bracketed(['(', ')'])?.unwrap_or_default())?;
        cursor.end()?;
        let f = read_unary(name, &mut from)?;
        from.finish().map(|()| f)
    }
}
