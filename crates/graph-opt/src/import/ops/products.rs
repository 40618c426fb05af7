//! Products of vectors and matrices.

use mslite_tensor::Dim;

use super::elementwise::promoted;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, MatMul, Op, ReduceKind};

fn matmul(call: &mut Call, a: ValueId, b: ValueId) -> Result<ValueId> {
    call.emit.op(Op::MatMul(MatMul::default()), &[a, b])
}

/// `(input, vec2) -> input[:, None] * vec2`
pub(in crate::import) fn outer(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "vec2")?);
    let (x, y) = promoted(call, x, y)?;
    let x = super::index::rows(call, x)?;
    call.emit.binary(Binary::Mul, x, y)
}

/// `beta * input + alpha * product` of operands 1 and 2.
fn combined(call: &mut Call, mut product: ValueId) -> Result<ValueId> {
    let mut input = call.tensor(0, "input")?;
    let (beta, alpha) = (call.float_or(3, "beta", 1.0)?, call.float_or(4, "alpha", 1.0)?);
    if alpha != 1.0 {
        product = call.emit.with_scalar(Binary::Mul, product, alpha)?;
    }
    if beta != 1.0 {
        input = call.emit.with_scalar(Binary::Mul, input, beta)?;
    }
    call.emit.binary(Binary::Add, input, product)
}

/// `(input, mat, vec, beta=1, alpha=1)`
pub(in crate::import) fn addmv(call: &mut Call) -> Result<ValueId> {
    let (matrix, vector) = (call.tensor(1, "mat")?, call.tensor(2, "vec")?);
    let product = matmul(call, matrix, vector)?;
    combined(call, product)
}

/// `(input, vec1, vec2, beta=1, alpha=1)`
pub(in crate::import) fn addr(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(1, "vec1")?, call.tensor(2, "vec2")?);
    let x = super::index::rows(call, x)?;
    let product = call.emit.binary(Binary::Mul, x, y)?;
    combined(call, product)
}

/// `(input, batch1, batch2, beta=1, alpha=1)`: the sum of all products.
pub(in crate::import) fn addbmm(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(1, "batch1")?, call.tensor(2, "batch2")?);
    let products = matmul(call, x, y)?;
    let sum = call.emit.reduce(ReduceKind::Sum, products, vec![0], false)?;
    combined(call, sum)
}

/// `(input, other, dim)`: the cross product along an axis of 3, by default the first such.
pub(in crate::import) fn cross(call: &mut Call) -> Result<ValueId> {
    const DEFAULT: i64 = -65530;
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "other")?);
    let (x, y) = promoted(call, x, y)?;
    let dims = call.emit.dims(x)?;
    let axis = match call.int_or(2, "dim", DEFAULT)? {
        DEFAULT => dims.iter().position(|dim| dim.as_fixed() == Some(3)),
        axis => Some(call.emit.axis(axis, dims.len())?),
    };
    let axis = axis.ok_or_else(|| call.invalid("no axis has extent 3"))?;
    let turned = |call: &mut Call, x: ValueId, by: i64| {
        let head = call.emit.narrow(x, axis, Dim::from(by), Dim::from(3 - by))?;
        let tail = call.emit.narrow(x, axis, Dim::from(0), Dim::from(by))?;
        call.emit.concat(&[head, tail], axis)
    };
    let (x1, x2) = (turned(call, x, 1)?, turned(call, x, 2)?);
    let (y1, y2) = (turned(call, y, 1)?, turned(call, y, 2)?);
    let (a, b) = (call.emit.binary(Binary::Mul, x1, y2)?, call.emit.binary(Binary::Mul, x2, y1)?);
    call.emit.binary(Binary::Sub, a, b)
}

/// An operand of a sum, with a letter for each axis.
struct Term {
    x: ValueId,
    letters: Vec<char>,
}

/// `Einsum(operands)` with `equation` as an attribute, `EinsumExt(equation, operands)`.
pub(in crate::import) fn einsum(call: &mut Call) -> Result<ValueId> {
    let is_ext = call.op_type == "EinsumExt";
    let (at, position) = if is_ext { (0, 1) } else { (ATTRIBUTE, 0) };
    let Some(Item::Text(equation)) = call.arg(at, "equation") else {
        return Err(call.invalid("equation must be text"));
    };
    let tensors: Vec<ValueId> = match call.args.get(position) {
        Some(Item::Tuple(items)) => {
            let tensors: Option<Vec<ValueId>> = items
                .iter()
                .map(|item| match item {
                    Item::Tensor(x) => Some(*x),
                    _ => None,
                })
                .collect();
            tensors.ok_or_else(|| call.invalid("an operand is no tensor"))?
        }
        _ => vec![call.tensor(position, "operands")?],
    };
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    if equation.contains('.') {
        return Err(call.unsupported("an equation with an ellipsis is not known; name every axis"));
    }
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs.to_owned(), output.chars().collect()),
        None => (equation.clone(), implied(&equation)),
    };
    let letters: Vec<Vec<char>> = inputs.split(',').map(|part| part.chars().collect()).collect();
    if letters.len() != tensors.len() {
        return Err(call.invalid(format!("{} operands for {equation:?}", tensors.len())));
    }
    let mut terms = Vec::new();
    for (x, letters) in tensors.into_iter().zip(letters) {
        if call.emit.rank(x)? != letters.len() {
            return Err(call.invalid(format!("an operand does not fit {equation:?}")));
        }
        terms.push(without_repeats(call, Term { x, letters })?);
    }
    contracted(call, terms, &output)
}

/// The letters that stand once, in order.
fn implied(inputs: &str) -> Vec<char> {
    let mut letters: Vec<char> = inputs.chars().filter(|c| c.is_alphabetic()).collect();
    letters.sort_unstable();
    let once = |c: &char| inputs.matches(*c).count() == 1;
    letters.iter().copied().filter(once).collect()
}

/// Takes the diagonal where a letter stands twice.
fn without_repeats(call: &mut Call, term: Term) -> Result<Term> {
    let Term { mut x, mut letters } = term;
    while let Some((i, j)) = (0..letters.len())
        .find_map(|i| (i + 1..letters.len()).find(|&j| letters[i] == letters[j]).map(|j| (i, j)))
    {
        let dims = call.emit.dims(x)?;
        let counter = super::create::counter(call, dims[i].clone())?;
        let mut across = vec![Dim::from(1); dims.len()];
        across[i] = dims[i].clone();
        let counter = call.emit.reshape(counter, across)?;
        let mut shape = dims.clone();
        shape[j] = Dim::from(1);
        let index = call.emit.broadcast(counter, shape.clone())?;
        x = call.emit.op(Op::GatherElements { axis: j }, &[x, index])?;
        shape.remove(j);
        x = call.emit.reshape(x, shape)?;
        letters.remove(j);
    }
    Ok(Term { x, letters })
}

/// Multiplies terms from the left, summing over letters as soon as nothing needs them.
fn contracted(call: &mut Call, terms: Vec<Term>, output: &[char]) -> Result<ValueId> {
    let mut rest = terms.into_iter();
    let mut sum = rest.next().ok_or_else(|| call.invalid("an operand is missing"))?;
    let mut remaining: Vec<Term> = rest.collect();
    while !remaining.is_empty() {
        let next = remaining.remove(0);
        let needed = |c: char| output.contains(&c) || remaining.iter().any(|term| term.letters.contains(&c));
        sum = pair(call, sum, next, &needed)?;
    }
    let sum = summed(call, sum, &|c| output.contains(&c))?;
    let perm: Option<Vec<usize>> =
        output.iter().map(|c| sum.letters.iter().position(|letter| letter == c)).collect();
    let perm = perm.ok_or_else(|| call.invalid("a letter of the result stands in no operand"))?;
    call.emit.transpose(sum.x, perm)
}

fn summed(call: &mut Call, term: Term, needed: &dyn Fn(char) -> bool) -> Result<Term> {
    let axes: Vec<usize> = (0..term.letters.len()).filter(|&axis| !needed(term.letters[axis])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let x = call.emit.reduce(ReduceKind::Sum, term.x, axes, false)?;
    Ok(Term { x, letters: term.letters.into_iter().filter(|&c| needed(c)).collect() })
}

/// The product of two terms as one of matrices: shared letters that are needed lead, others are summed over.
fn pair(call: &mut Call, a: Term, b: Term, needed: &dyn Fn(char) -> bool) -> Result<Term> {
    let a = summed(call, a, &|c| needed(c) || b.letters.contains(&c))?;
    let b = summed(call, b, &|c| needed(c) || a.letters.contains(&c))?;
    let shared = |c: &char| a.letters.contains(c) && b.letters.contains(c);
    let batch: Vec<char> = a.letters.iter().copied().filter(|c| shared(c) && needed(*c)).collect();
    let inner: Vec<char> = a.letters.iter().copied().filter(|c| shared(c) && !needed(*c)).collect();
    let rows: Vec<char> = a.letters.iter().copied().filter(|c| !shared(c)).collect();
    let columns: Vec<char> = b.letters.iter().copied().filter(|c| !shared(c)).collect();
    let extents = |call: &Call, letters: &[char]| -> Result<Vec<Dim>> {
        let (x, y) = (call.emit.dims(a.x)?, call.emit.dims(b.x)?);
        let of = |c: &char| match a.letters.iter().position(|letter| letter == c) {
            Some(axis) => x[axis].clone(),
            None => b.letters.iter().position(|letter| letter == c).map_or(Dim::from(1), |i| y[i].clone()),
        };
        Ok(letters.iter().map(of).collect())
    };
    let (lead, sum) = (extents(call, &batch)?, product(&extents(call, &inner)?));
    let (high, wide) = (extents(call, &rows)?, extents(call, &columns)?);
    let arranged = |call: &mut Call, term: &Term, order: [&[char]; 3], tail: [Dim; 2]| {
        let order = order.concat();
        let perm = order.iter().filter_map(|c| term.letters.iter().position(|letter| letter == c)).collect();
        let x = call.emit.transpose(term.x, perm)?;
        call.emit.reshape(x, [&lead[..], &tail[..]].concat())
    };
    let x = arranged(call, &a, [&batch, &rows, &inner], [product(&high), sum.clone()])?;
    let y = arranged(call, &b, [&batch, &inner, &columns], [sum, product(&wide)])?;
    let z = matmul(call, x, y)?;
    let z = call.emit.reshape(z, [lead, high, wide].concat())?;
    Ok(Term { x: z, letters: [batch, rows, columns].concat() })
}
