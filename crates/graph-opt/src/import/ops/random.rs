//! Random numbers, as MindSpore draws them on the CPU. A generator's state is one of the graph's states: each run goes on
//! where the one before ended, and each session starts anew.

use mslite_mindir::Attributes;
use mslite_tensor::{DType, Dim, Tensor};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Cumulative, Distribution, Op, Random, ReduceKind, Unary};

/// The state before the first run, from the attributes `seed` and `seed2`. If both are 0, MindSpore takes any seed; here
/// it is always the same one, so that all ranks draw alike.
pub(in crate::import) fn first_state(distribution: Distribution, attributes: &Attributes) -> Tensor {
    let attribute =
        |name| attributes.value(name).and_then(|value| value.as_int()).unwrap_or(0).cast_unsigned();
    let seed = mixed(attribute("seed"), attribute("seed2"));
    let words = match distribution.words() {
        1 => vec![minstd(seed)],
        _ => mersenne(seed as u32),
    };
    let count = words.len();
    Tensor::from_vec(words, &[count]).unwrap_or_else(|_| Tensor::scalar(0u32))
}

/// One seed of two: two words of a block of Philox 4x32 with ten rounds under a fixed key.
fn mixed(seed: u64, seed2: u64) -> u64 {
    const FACTORS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let mut key: [u32; 2] = [0x3EC8_F720, 0x0246_1E29];
    let mut block = [seed as u32, (seed >> 32) as u32, seed2 as u32, (seed2 >> 32) as u32];
    for _ in 0..10 {
        let (a, b) = (FACTORS[0] * u64::from(block[0]), FACTORS[1] * u64::from(block[2]));
        block =
            [(b >> 32) as u32 ^ block[1] ^ key[0], b as u32, (a >> 32) as u32 ^ block[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(STEPS[0]), key[1].wrapping_add(STEPS[1])];
    }
    u64::from(block[1]) << 32 | u64::from(block[0])
}

/// The state of `minstd_rand0`.
fn minstd(seed: u64) -> u32 {
    const MODULUS: u64 = 2_147_483_647;
    ((seed % MODULUS) as u32).max(1)
}

/// The state of `mt19937`, and the position behind its last word.
fn mersenne(seed: u32) -> Vec<u32> {
    let mut words = vec![seed];
    for i in 1..624u32 {
        let last = words[i as usize - 1];
        words.push(1_812_433_253u32.wrapping_mul(last ^ last >> 30).wrapping_add(i));
    }
    words.push(624);
    words
}

fn draw(
    call: &mut Call,
    distribution: Distribution,
    dims: Vec<Dim>,
    operands: &[ValueId],
) -> Result<(ValueId, ValueId)> {
    let results = call.emit.push(Op::Random(Random { distribution, dims }), operands)?;
    Ok((results[0], results[1]))
}

/// `(shape)`, of the distribution of the primitive.
pub(in crate::import) fn plain(call: &mut Call, state: ValueId) -> Result<(Item, ValueId)> {
    let dims = call.required_dims(0, "shape")?;
    let distribution = match call.op_type {
        "StandardNormal" => Distribution::Normal,
        _ => Distribution::FineUniform,
    };
    let (values, next) = draw(call, distribution, dims, &[state])?;
    Ok((Item::Tensor(values), next))
}

/// `(shape)`: `-sign(u) * log(1 - |u|)` of numbers between -1 and 1.
pub(in crate::import) fn laplace(call: &mut Call, state: ValueId) -> Result<(Item, ValueId)> {
    let dims = call.required_dims(0, "shape")?;
    let (values, next) = draw(call, Distribution::Uniform, dims, &[state])?;
    let twice = call.emit.with_scalar(Binary::Mul, values, 2.0)?;
    let centred = call.emit.with_scalar(Binary::Sub, twice, 1.0)?;
    let (sign, size) = (call.emit.unary(Unary::Sign, centred)?, call.emit.unary(Unary::Abs, centred)?);
    let negative = call.emit.unary(Unary::Neg, size)?;
    let log = call.emit.unary(Unary::Log1p, negative)?;
    let product = call.emit.binary(Binary::Mul, sign, log)?;
    Ok((Item::Tensor(call.emit.unary(Unary::Neg, product)?), next))
}

/// `(shape, minval, maxval)`
pub(in crate::import) fn integers(call: &mut Call, state: ValueId) -> Result<(Item, ValueId)> {
    let dims = call.required_dims(0, "shape")?;
    let mut bounds = [state; 2];
    for (i, name) in ["minval", "maxval"].into_iter().enumerate() {
        let bound = call.tensor_of(1 + i, name, DType::I32)?;
        let bound = bound.ok_or_else(|| call.invalid(format!("{name} is missing")))?;
        bounds[i] = call.emit.reshape(bound, Vec::new())?;
    }
    let (values, next) = draw(call, Distribution::Integers, dims, &[state, bounds[0], bounds[1]])?;
    Ok((Item::Tensor(values), next))
}

/// `(weights [.., classes], num_samples)`: numbers of classes, drawn by their weights with replacement.
pub(in crate::import) fn multinomial(call: &mut Call, state: ValueId) -> Result<(Item, ValueId)> {
    let weights = call.tensor(0, "x")?;
    let count = call.dim(1, "num_samples")?.ok_or_else(|| call.invalid("num_samples is missing"))?;
    let dtype = call.dtype(ATTRIBUTE, "dtype")?.unwrap_or(DType::I32);
    let weights = super::arith::real(call, weights)?;
    let mut dims = call.emit.dims(weights)?;
    let axis = call.emit.axis(-1, dims.len())?;
    let classes = dims[axis].clone();
    let op = Cumulative { product: false, axis, exclusive: false, reverse: false };
    let sums = call.emit.op(Op::Cumulative(op), &[weights])?;
    let last = call.emit.narrow(sums, axis, &classes - &Dim::from(1), Dim::from(1))?;
    let shares = call.emit.binary(Binary::Div, sums, last)?;
    dims[axis] = count.clone();
    let (values, next) = draw(call, Distribution::Uniform, dims.clone(), &[state])?;
    let values = call.emit.cast(values, call.emit.dtype(shares))?;
    // The class is the number of classes that end before; the last class has no end.
    let shares = call.emit.narrow(shares, axis, Dim::from(0), &classes - &Dim::from(1))?;
    let (mut before, mut each) = (call.emit.dims(shares)?, dims);
    before.insert(axis, Dim::from(1));
    each.push(Dim::from(1));
    let (shares, values) = (call.emit.reshape(shares, before)?, call.emit.reshape(values, each)?);
    let passed = call.emit.binary(Binary::LessEqual, shares, values)?;
    let passed = call.emit.cast(passed, dtype)?;
    let chosen = call.emit.reduce(ReduceKind::Sum, passed, vec![axis + 1], false)?;
    Ok((Item::Tensor(chosen), next))
}
