//! Recurrent networks: short sequences are unrolled, others become loops.

use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::{Emitter, product};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, MatMul, Op, ScatterKind, Unary};

/// Longest sequence that is unrolled.
const MAX_STEPS: usize = 256;

/// Largest number of layers times directions.
const MAX_LAYERS: i64 = 256;

/// `(x [time, batch, in], h, c [layers * directions, batch, hidden], packed weights) -> (y, h, c, ...)`
///
/// The weights are those of the inputs for all layers, then those of the states, then the biases.
pub(in crate::import) fn lstm(call: &mut Call) -> Result<Item> {
    let layers = call.int_or(ATTRIBUTE, "num_layers", 1)?;
    let directions = if call.flag(ATTRIBUTE, "bidirectional")? { 2 } else { 1 };
    let x = call.tensor(0, "x")?;
    let is_known = call.int_or(ATTRIBUTE, "proj_size", 0)? == 0 && call.emit.rank(x)? == 3;
    if !is_known || !(1..=MAX_LAYERS / directions).contains(&layers) {
        return opaque::lower(call);
    }
    let input = Dim::from(call.int_or(ATTRIBUTE, "input_size", 0)?);
    let hidden = Dim::from(call.int_or(ATTRIBUTE, "hidden_size", 0)?);
    let widths: Vec<Dim> = (0..layers)
        .map(|layer| if layer == 0 { input.clone() } else { &hidden * &Dim::from(directions) })
        .collect();
    let weights = lstm_weights(call, &widths, directions, &hidden)?;
    let (h, c) = (call.tensor(1, "h")?, call.tensor(2, "c")?);
    let batch = call.emit.dims(x)?[1].clone();
    let emit = &mut *call.emit;
    let (mut x, mut last) = (x, [Vec::new(), Vec::new()]);
    for layer in weights.chunks(directions as usize) {
        let mut sides = Vec::new();
        for (direction, weights) in layer.iter().enumerate() {
            let number = Dim::from(last[0].len());
            let mut first = |state: ValueId| {
                let state = emit.narrow(state, 0, number.clone(), Dim::from(1))?;
                emit.reshape(state, vec![batch.clone(), hidden.clone()])
            };
            let first = [first(h)?, first(c)?];
            let projected = weights.project(emit, x)?;
            let step = |emit: &mut Emitter, now: ValueId, state: &[ValueId]| {
                let recurrent = times(emit, state[0], weights.from_hidden)?;
                let sum = emit.binary(Binary::Add, now, recurrent)?;
                let gates =
                    gates(emit, sum, &hidden, [Unary::Sigmoid, Unary::Sigmoid, Unary::Tanh, Unary::Sigmoid])?;
                lstm_state(emit, [gates[0], gates[1], gates[2], gates[3]], state[1]).map(Vec::from)
            };
            let run = sequence(emit, projected, &first, direction == 1, step)?;
            sides.push(run.outputs[0]);
            for (all, state) in last.iter_mut().zip(run.last) {
                all.push(emit.reshape(state, vec![Dim::from(1), batch.clone(), hidden.clone()])?);
            }
        }
        x = emit.concat(&sides, 2)?;
    }
    let (h, c) = (emit.concat(&last[0], 0)?, emit.concat(&last[1], 0)?);
    Ok(Item::tuple([Item::Tensor(x), Item::Tensor(h), Item::Tensor(c), Item::UNMADE, Item::UNMADE]))
}

/// Weights of one layer in one direction: `[gates, in]`, `[gates, hidden]`, `[gates]`.
struct Weights {
    from_input: ValueId,
    from_hidden: ValueId,
    bias: Option<ValueId>,
}

impl Weights {
    /// What all inputs add to the gates.
    fn project(&self, emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
        let y = times(emit, x, self.from_input)?;
        match self.bias {
            Some(bias) => emit.binary(Binary::Add, y, bias),
            None => Ok(y),
        }
    }
}

fn lstm_weights(call: &mut Call, widths: &[Dim], directions: i64, hidden: &Dim) -> Result<Vec<Weights>> {
    let has_bias = call.flag(ATTRIBUTE, "has_bias")?;
    let packed = call.tensor(3, "weights")?;
    let emit = &mut *call.emit;
    let count = product(&emit.dims(packed)?);
    let packed = emit.reshape(packed, vec![count])?;
    let gates = &Dim::from(4) * hidden;
    let mut at = Dim::from(0);
    let mut part = |emit: &mut Emitter, columns: &Dim| {
        let length = &gates * columns;
        let part = emit.narrow(packed, 0, at.clone(), length.clone())?;
        at = &at + &length;
        emit.reshape(part, vec![gates.clone(), columns.clone()])
    };
    let all: Vec<&Dim> = widths.iter().flat_map(|width| (0..directions).map(move |_| width)).collect();
    let inputs = all.iter().map(|width| part(emit, width)).collect::<Result<Vec<_>>>()?;
    let states = all.iter().map(|_| part(emit, hidden)).collect::<Result<Vec<_>>>()?;
    let mut weights = Vec::new();
    for (from_input, from_hidden) in inputs.into_iter().zip(states) {
        let bias = match has_bias {
            true => {
                let bias = part(emit, &Dim::from(1))?;
                Some(emit.reshape(bias, vec![gates.clone()])?)
            }
            false => None,
        };
        weights.push(Weights { from_input, from_hidden, bias });
    }
    Ok(weights)
}

/// `x @ weight^T`
fn times(emit: &mut Emitter, x: ValueId, weight: ValueId) -> Result<ValueId> {
    emit.op(Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() }), &[x, weight])
}

/// The parts of a sum of gates along axis 1, each through its function.
fn gates<const N: usize>(
    emit: &mut Emitter,
    sum: ValueId,
    hidden: &Dim,
    functions: [Unary; N],
) -> Result<Vec<ValueId>> {
    let gate = |(i, f): (usize, Unary)| {
        let part = emit.narrow(sum, 1, &Dim::from(i) * hidden, hidden.clone())?;
        emit.unary(f, part)
    };
    functions.into_iter().enumerate().map(gate).collect()
}

/// The next hidden state and cell, from the gates input, forget, candidate and output.
fn lstm_state(emit: &mut Emitter, [i, f, g, o]: [ValueId; 4], c: ValueId) -> Result<[ValueId; 2]> {
    let kept = emit.binary(Binary::Mul, f, c)?;
    let added = emit.binary(Binary::Mul, i, g)?;
    let c = emit.binary(Binary::Add, kept, added)?;
    let shown = emit.unary(Unary::Tanh, c)?;
    Ok([emit.binary(Binary::Mul, o, shown)?, c])
}

/// What a sequence gives.
struct Run {
    /// For each result of the steps, all of them: `[time, ..]`.
    outputs: Vec<ValueId>,
    /// The states behind the last step.
    last: Vec<ValueId>,
}

/// Goes through `x [time, ..]`, backwards on demand. A step gets an element and the states, and gives results of which
/// the first are the next states.
fn sequence(
    emit: &mut Emitter,
    x: ValueId,
    first: &[ValueId],
    reverse: bool,
    mut step: impl FnMut(&mut Emitter, ValueId, &[ValueId]) -> Result<Vec<ValueId>>,
) -> Result<Run> {
    let time = emit.dims(x)?[0].clone();
    let Some(steps) = time.as_usize().filter(|&steps| (1..=MAX_STEPS).contains(&steps)) else {
        return repeated(emit, x, first, reverse, step);
    };
    let mut order: Vec<usize> = (0..steps).collect();
    if reverse {
        order.reverse();
    }
    let mut all: Vec<Vec<ValueId>> = Vec::new();
    let mut states = first.to_vec();
    for &at in &order {
        let now = emit.narrow(x, 0, Dim::from(at), Dim::from(1))?;
        let element = emit.dims(x)?[1..].to_vec();
        let now = emit.reshape(now, element)?;
        let results = step(emit, now, &states)?;
        all.resize_with(results.len(), Vec::new);
        for (all, &result) in all.iter_mut().zip(&results) {
            let row = [&[Dim::from(1)], &emit.dims(result)?[..]].concat();
            all.push(emit.reshape(result, row)?);
        }
        states = results[..first.len()].to_vec();
    }
    let mut outputs = Vec::new();
    for mut all in all {
        if reverse {
            all.reverse();
        }
        outputs.push(emit.concat(&all, 0)?);
    }
    Ok(Run { outputs, last: states })
}

/// The same as a loop, which collects the first result only.
fn repeated(
    emit: &mut Emitter,
    x: ValueId,
    first: &[ValueId],
    reverse: bool,
    mut step: impl FnMut(&mut Emitter, ValueId, &[ValueId]) -> Result<Vec<ValueId>>,
) -> Result<Run> {
    let time = emit.dims(x)?[0].clone();
    let zero = emit.scalar(0.0, emit.dtype(first[0]))?;
    let full = [std::slice::from_ref(&time), &emit.dims(first[0])?[..]].concat();
    let outputs = emit.broadcast(zero, full)?;
    let carried = [first, &[outputs]].concat();
    let count = first.len();
    let last = emit.turns(&time, &carried, |emit, number, carried| {
        let at = match reverse {
            true => {
                let end = emit.dim(&(&time - &Dim::from(1)), DType::I64)?;
                emit.binary(Binary::Sub, end, number)?
            }
            false => number,
        };
        let now = emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[x, at])?;
        let mut next = step(emit, now, &carried[..count])?;
        let place = emit.reshape(at, vec![Dim::from(1); 2])?;
        let mut row = emit.dims(next[0])?;
        row.insert(0, Dim::from(1));
        let row = emit.reshape(next[0], row)?;
        let written = emit.op(Op::ScatterNd(ScatterKind::Update), &[carried[count], place, row])?;
        next.truncate(count);
        next.push(written);
        Ok(next)
    })?;
    Ok(Run { outputs: vec![last[count]], last: last[..count].to_vec() })
}

/// `(x [time, batch, in], w [in + hidden, 4 * hidden], b, seq_length=None, init_h, init_c)
/// -> (y, h, c, i, j, f, o, tanh(c))` of all steps; gates in the order i, j, f, o.
pub(in crate::import) fn dynamic_rnn(call: &mut Call) -> Result<Item> {
    let is_plain = !call.flag(ATTRIBUTE, "use_peephole")?
        && call.float_or(ATTRIBUTE, "cell_clip", -1.0)? <= 0.0
        && call.int_or(ATTRIBUTE, "num_proj", 0)? == 0
        && call.arg(3, "seq_length").is_none();
    let x = call.tensor(0, "x")?;
    let time = call.emit.dims(x)?.first().and_then(Dim::as_usize);
    if !is_plain || !time.is_some_and(|steps| (1..=MAX_STEPS).contains(&steps)) {
        return opaque::lower(call);
    }
    let (weight, bias) = (call.tensor(1, "w")?, call.tensor(2, "b")?);
    let (h, c) = (call.tensor(4, "init_h")?, call.tensor(5, "init_c")?);
    let forget = call.float_or(ATTRIBUTE, "forget_bias", 0.0)?;
    let emit = &mut *call.emit;
    let dims = emit.dims(h)?;
    let [.., batch, hidden] = &dims[..] else { return Err(call.invalid("init_h must have two axes")) };
    let state = vec![batch.clone(), hidden.clone()];
    let dtype = emit.dtype(c);
    let mut first = Vec::new();
    for state_value in [h, c] {
        let value = emit.reshape(state_value, state.clone())?;
        first.push(emit.cast(value, dtype)?);
    }
    let cell = Cell { weight, bias, forget, hidden: hidden.clone() };
    let run = sequence(emit, x, &first, false, |emit, now, state| cell.step(emit, now, state))?;
    let y = run.outputs[0];
    Ok(Item::tensors([&[y], &run.outputs[..]].concat()))
}

/// `(x [batch, in], h, c, w [in + hidden, 4 * hidden], b) -> (c, h, i, j, f, o, tanh(c))`
pub(in crate::import) fn basic_lstm_cell(call: &mut Call) -> Result<Item> {
    let (x, h, c) = (call.tensor(0, "x")?, call.tensor(1, "h")?, call.tensor(2, "c")?);
    let (weight, bias) = (call.tensor(3, "w")?, call.tensor(4, "b")?);
    let forget = call.float_or(ATTRIBUTE, "forget_bias", 1.0)?;
    let hidden = call.emit.dims(c)?.last().cloned().unwrap_or(Dim::from(1));
    let mut results = Cell { weight, bias, forget, hidden }.step(call.emit, x, &[h, c])?;
    results.swap(0, 1);
    Ok(Item::tensors(results))
}

/// A cell whose gates are i, j, f, o, from input and state side by side.
struct Cell {
    weight: ValueId,
    bias: ValueId,
    /// Added to the gate f.
    forget: f64,
    hidden: Dim,
}

impl Cell {
    /// The state, the cell, the gates, and what of the cell is shown.
    fn step(&self, emit: &mut Emitter, x: ValueId, state: &[ValueId]) -> Result<Vec<ValueId>> {
        let dtype = emit.dtype(self.weight);
        let (x, h) = (emit.cast(x, dtype)?, emit.cast(state[0], dtype)?);
        let joined = emit.concat(&[x, h], 1)?;
        let sum = emit.op(Op::MatMul(MatMul::default()), &[joined, self.weight])?;
        let sum = emit.cast(sum, emit.dtype(self.bias))?;
        let sum = emit.binary(Binary::Add, sum, self.bias)?;
        let part = |emit: &mut Emitter, n: usize| {
            emit.narrow(sum, 1, &Dim::from(n) * &self.hidden, self.hidden.clone())
        };
        let (i, j, mut f, o) = (part(emit, 0)?, part(emit, 1)?, part(emit, 2)?, part(emit, 3)?);
        if self.forget != 0.0 {
            f = emit.with_scalar(Binary::Add, f, self.forget)?;
        }
        let (i, j) = (emit.unary(Unary::Sigmoid, i)?, emit.unary(Unary::Tanh, j)?);
        let (f, o) = (emit.unary(Unary::Sigmoid, f)?, emit.unary(Unary::Sigmoid, o)?);
        let before = emit.cast(state[1], emit.dtype(f))?;
        let [h, c] = lstm_state(emit, [i, f, j, o], before)?;
        let shown = emit.unary(Unary::Tanh, c)?;
        Ok(vec![h, c, i, j, f, o, shown])
    }
}

/// `(x [time, batch, in], weight_input [in, 3 * hidden], weight_hidden [hidden, 3 * hidden], bias_input=None,
/// bias_hidden=None, seq_length=None, init_h) -> (y, h, update, reset, new, hidden_new)` of all steps.
pub(in crate::import) fn dynamic_gru(call: &mut Call) -> Result<Item> {
    let is_plain = call.float_or(ATTRIBUTE, "cell_clip", -1.0)? <= 0.0
        && call.int_or(ATTRIBUTE, "num_proj", 0)? == 0
        && call.bool_opt(ATTRIBUTE, "reset_after")?.unwrap_or(true)
        && call.arg(5, "seq_length").is_none();
    let x = call.tensor(0, "x")?;
    let time = call.emit.dims(x)?.first().and_then(Dim::as_usize);
    if !is_plain || !time.is_some_and(|steps| (1..=MAX_STEPS).contains(&steps)) {
        return opaque::lower(call);
    }
    let order = call.choice(ATTRIBUTE, "gate_order", &["rzh", "zrh"], 0)?;
    let (from_input, from_hidden) = (call.tensor(1, "weight_input")?, call.tensor(2, "weight_hidden")?);
    let (bias_input, bias_hidden) = (call.tensor_opt(3, "bias_input")?, call.tensor_opt(4, "bias_hidden")?);
    let h = call.tensor(6, "init_h")?;
    let emit = &mut *call.emit;
    let dtype =
        [bias_input, bias_hidden].into_iter().flatten().next().map_or(emit.dtype(h), |b| emit.dtype(b));
    let dims = emit.dims(h)?;
    let [.., batch, hidden] = &dims[..] else { return Err(call.invalid("init_h must have two axes")) };
    let h = emit.reshape(h, vec![batch.clone(), hidden.clone()])?;
    let h = emit.cast(h, dtype)?;
    let gate = GruGates { order, hidden: hidden.clone(), dtype };
    let projected = gate.project(emit, x, from_input, bias_input)?;
    let run = sequence(emit, projected, &[h], false, |emit, now, state| {
        let own = gate.project(emit, state[0], from_hidden, bias_hidden)?;
        gate.step(emit, now, own, state[0])
    })?;
    let y = run.outputs[0];
    Ok(Item::tensors([&[y], &run.outputs[..]].concat()))
}

struct GruGates {
    /// The reset gate comes first (0) or second (1).
    order: usize,
    hidden: Dim,
    dtype: DType,
}

impl GruGates {
    fn project(
        &self,
        emit: &mut Emitter,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
    ) -> Result<ValueId> {
        let x = emit.cast(x, emit.dtype(weight))?;
        let y = emit.op(Op::MatMul(MatMul::default()), &[x, weight])?;
        let y = emit.cast(y, self.dtype)?;
        match bias {
            Some(bias) => {
                let bias = emit.cast(bias, self.dtype)?;
                emit.binary(Binary::Add, y, bias)
            }
            None => Ok(y),
        }
    }

    /// The state, and update, reset and new gate, and what the state adds to the latter.
    fn step(&self, emit: &mut Emitter, x: ValueId, own: ValueId, h: ValueId) -> Result<Vec<ValueId>> {
        let part = |emit: &mut Emitter, of: ValueId, n: usize| {
            emit.narrow(of, 1, &Dim::from(n) * &self.hidden, self.hidden.clone())
        };
        let mut both = Vec::new();
        for n in [self.order, 1 - self.order] {
            let (a, b) = (part(emit, x, n)?, part(emit, own, n)?);
            let sum = emit.binary(Binary::Add, a, b)?;
            both.push(emit.unary(Unary::Sigmoid, sum)?);
        }
        let (reset, update) = (both[0], both[1]);
        let (a, hidden_new) = (part(emit, x, 2)?, part(emit, own, 2)?);
        let b = emit.binary(Binary::Mul, reset, hidden_new)?;
        let sum = emit.binary(Binary::Add, a, b)?;
        let new = emit.unary(Unary::Tanh, sum)?;
        // (1 - update) * new + update * h
        let way = emit.binary(Binary::Sub, h, new)?;
        let way = emit.binary(Binary::Mul, update, way)?;
        let h = emit.binary(Binary::Add, new, way)?;
        Ok(vec![h, update, reset, new, hidden_new])
    }
}
