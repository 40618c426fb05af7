use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::Call;
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Attention, Binary, Gather, MatMul, Op, Softmax, Triangle, Unary};

/// Names of layouts by number.
const LAYOUTS: &[&str] = &["BSH", "BNSD", "SBH", "BSND"];

/// Tensors of one attention, heads first: [batch, heads, length, width].
pub(super) struct Heads {
    pub(super) q: ValueId,
    pub(super) k: ValueId,
    pub(super) v: ValueId,
    pub(super) layout: usize,
}

/// Everything else about it.
pub(super) struct Options {
    pub(super) shift: Option<ValueId>,
    /// True where a key is not seen.
    pub(super) mask: Option<ValueId>,
    pub(super) scale: f64,
}

/// `(query, key, value, real_shift, drop_mask, padding_mask, attn_mask, prefix, actual_seq_qlen, actual_seq_kvlen,
/// head_num, keep_prob, scale_value, pre_tokens, next_tokens, inner_precise, input_layout, sparse_mode)
/// -> (softmax_max, softmax_sum, softmax_out, attention)`
pub(in crate::import) fn flash_attention(call: &mut Call) -> Result<Item> {
    let unknown = [(5, "padding_mask"), (7, "prefix"), (8, "actual_seq_qlen"), (9, "actual_seq_kvlen")];
    let has_unknown = unknown.into_iter().any(|(position, name)| call.arg(position, name).is_some());
    if has_unknown || (0..3).any(|result| call.uses(result)) {
        return opaque::lower(call);
    }
    let heads = call.required_int(10, "head_num")?;
    let layout = call.choice(16, "input_layout", LAYOUTS, 0)?;
    let heads = split_heads(call, layout, heads)?;
    let mode = call.int_or(17, "sparse_mode", 0)?;
    let mask = call.tensor_opt(6, "attn_mask")?;
    let limits = (call.int_or(13, "pre_tokens", FAR)?, call.int_or(14, "next_tokens", FAR)?);
    let Some(mask) = sparse_mask(call, &heads, mask, mode, limits)? else { return opaque::lower(call) };
    let options = Options {
        shift: call.tensor_opt(3, "real_shift")?,
        mask,
        scale: call.float_or(12, "scale_value", 1.0)?,
    };
    let y = attention(call, &heads, &options)?;
    Ok(Item::tuple([Item::UNMADE, Item::UNMADE, Item::UNMADE, Item::Tensor(y)]))
}

/// Larger than any length.
const FAR: i64 = i32::MAX as i64;

/// `(query, key, value, attn_mask, actual_seq_lengths, actual_seq_lengths_kv, pse_shift, ..., num_heads,
/// scale_value, pre_tokens, next_tokens, input_layout, num_key_value_heads, sparse_mode)`
pub(in crate::import) fn prompt_flash_attention(call: &mut Call) -> Result<Item> {
    let quantised = (4..12).any(|position| position != 6 && call.arg(position, "").is_some());
    if quantised {
        return opaque::lower(call);
    }
    match banded_attention(call, 12, 0, 6, 3)? {
        Some(y) => Ok(Item::Tensor(y)),
        None => opaque::lower(call),
    }
}

/// Attention whose numbers stand from position `first` on: heads, scale, tokens before and after (`after` where they are
/// absent), layout, and, two further, the mode of the mask; `shift` and `mask` are positions, too. `None` for modes that
/// are not known.
fn banded_attention(
    call: &mut Call,
    first: usize,
    after: i64,
    shift: usize,
    mask: usize,
) -> Result<Option<ValueId>> {
    let heads = call.required_int(first, "num_heads")?;
    let layout = call.choice(first + 4, "input_layout", LAYOUTS, 0)?;
    let heads = split_heads(call, layout, heads)?;
    let mode = call.int_or(first + 6, "sparse_mode", 0)?;
    let mask = call.tensor_opt(mask, "attn_mask")?;
    let limits = (call.int_or(first + 2, "pre_tokens", FAR)?, call.int_or(first + 3, "next_tokens", after)?);
    let mask = match (mask, mode) {
        (Some(mask), 0) => band(call, &heads, mask, limits).map(Some)?,
        (mask, mode) => match sparse_mask(call, &heads, mask, mode, limits)? {
            Some(mask) => mask,
            None => return Ok(None),
        },
    };
    let shift = call.tensor_opt(shift, "pse_shift")?;
    let options = Options { shift, mask, scale: call.float_or(first + 1, "scale_value", 1.0)? };
    attention(call, &heads, &options).map(Some)
}

/// A mask, and what lies more than `before` places before the diagonal or more than `after` behind it.
fn band(call: &mut Call, heads: &Heads, mask: ValueId, (before, after): (i64, i64)) -> Result<ValueId> {
    let (rows, columns) = (call.emit.dims(heads.q)?[2].clone(), call.emit.dims(heads.k)?[2].clone());
    let mut mask = call.emit.cast(mask, DType::Bool)?;
    if after < FAR {
        let later = causal(call, rows.clone(), columns.clone(), after.saturating_add(1))?;
        mask = call.emit.binary(Binary::Or, mask, later)?;
    }
    if before < FAR {
        let one = call.emit.scalar(1.0, DType::Bool)?;
        let ones = call.emit.broadcast(one, vec![rows, columns])?;
        let op = Triangle { upper: false, diagonal: before.saturating_add(1).saturating_neg() };
        let earlier = call.emit.op(Op::Triangle(op), &[ones])?;
        mask = call.emit.binary(Binary::Or, mask, earlier)?;
    }
    Ok(mask)
}

/// `(query, key, value, attn_mask, actual_seq_lengths, pse_shift, ..., num_heads, input_layout, scale_value, ...)`: one new
/// place; keys and values are tuples of one.
pub(in crate::import) fn incre_flash_attention(call: &mut Call) -> Result<Item> {
    for position in 1..3 {
        if let Some(Item::Tuple(items)) = call.args.get(position)
            && let [item] = &items[..]
        {
            call.args[position] = item.clone();
        }
    }
    if (6..15).any(|position| call.arg(position, "").is_some()) {
        return opaque::lower(call);
    }
    let heads = call.required_int(15, "num_heads")?;
    let layout = call.choice(16, "input_layout", LAYOUTS, 0)?;
    let heads = split_heads(call, layout, heads)?;
    let mut mask = match call.tensor_opt(3, "attn_mask")? {
        Some(mask) => Some(key_mask(call, &heads, mask)?),
        None => None,
    };
    if let Some(lengths) = call.tensor_opt(4, "actual_seq_lengths")? {
        let (batch, columns) = (call.emit.dims(heads.q)?[0].clone(), call.emit.dims(heads.k)?[2].clone());
        let beyond = super::cache::beyond(call, lengths, &batch, columns)?;
        mask = Some(match mask {
            Some(mask) => call.emit.binary(Binary::Or, mask, beyond)?,
            None => beyond,
        });
    }
    let options = Options {
        shift: call.tensor_opt(5, "pse_shift")?,
        mask,
        scale: call.float_or(17, "scale_value", 1.0)?,
    };
    attention(call, &heads, &options).map(Item::Tensor)
}

/// A mask of keys, `[batch, keys]` with or without axes of 1 between, as `[batch, 1, 1, keys]`.
fn key_mask(call: &mut Call, heads: &Heads, mask: ValueId) -> Result<ValueId> {
    let (batch, columns) = (call.emit.dims(heads.q)?[0].clone(), call.emit.dims(heads.k)?[2].clone());
    let mask = call.emit.cast(mask, DType::Bool)?;
    call.emit.reshape(mask, vec![batch, Dim::from(1), Dim::from(1), columns])
}

/// `(x, cos, sin, mode=0)`: `x * cos + turned(x) * sin`, where halves change places (mode 0) or neighbours do (mode 1).
pub(in crate::import) fn rotary(call: &mut Call) -> Result<ValueId> {
    let (x, cos, sin) = (call.tensor(0, "x")?, call.tensor(1, "cos")?, call.tensor(2, "sin")?);
    let mode = call.int_or(3, "mode", 0)?;
    let dims = call.emit.dims(x)?;
    let axis = call.emit.axis(-1, dims.len())?;
    let half = dims[axis].floor_div(&Dim::from(2));
    let (zero, one, two) = (Dim::from(0), Dim::from(1), Dim::from(2));
    let turned = match mode {
        0 => {
            let first = call.emit.narrow(x, axis, zero, half.clone())?;
            let second = call.emit.narrow(x, axis, half.clone(), half)?;
            let second = call.emit.unary(Unary::Neg, second)?;
            call.emit.concat(&[second, first], axis)?
        }
        1 => {
            let mut pairs = dims.clone();
            pairs[axis] = half;
            pairs.push(two);
            let paired = call.emit.reshape(x, pairs)?;
            let first = call.emit.narrow(paired, axis + 1, zero, one.clone())?;
            let second = call.emit.narrow(paired, axis + 1, one.clone(), one)?;
            let second = call.emit.unary(Unary::Neg, second)?;
            let turned = call.emit.concat(&[second, first], axis + 1)?;
            call.emit.reshape(turned, dims)?
        }
        _ => return Err(call.unsupported(format!("mode {mode} is not known"))),
    };
    let a = call.emit.binary(Binary::Mul, x, cos)?;
    let b = call.emit.binary(Binary::Mul, turned, sin)?;
    call.emit.binary(Binary::Add, a, b)
}

fn split_heads(call: &mut Call, layout: usize, heads: i64) -> Result<Heads> {
    let (q, k, v) = (call.tensor(0, "query")?, call.tensor(1, "key")?, call.tensor(2, "value")?);
    let dims = call.emit.dims(q)?;
    let width = match (layout, dims.last()) {
        (1 | 3, Some(width)) => width.clone(),
        (_, Some(all)) if heads > 0 => all.floor_div(&Dim::from(heads)),
        _ => return Err(call.invalid("query has no heads")),
    };
    let mut split = |x: ValueId| heads_first(call, x, layout, &width);
    Ok(Heads { q: split(q)?, k: split(k)?, v: split(v)?, layout })
}

fn heads_first(call: &mut Call, x: ValueId, layout: usize, width: &Dim) -> Result<ValueId> {
    let dims = call.emit.dims(x)?;
    match (layout, &dims[..]) {
        (1, [_, _, _, _]) => Ok(x),
        (3, [_, _, _, _]) => call.emit.transpose(x, vec![0, 2, 1, 3]),
        (0 | 2, [a, b, all]) => {
            let split = vec![a.clone(), b.clone(), all.floor_div(width), width.clone()];
            let x = call.emit.reshape(x, split)?;
            call.emit.transpose(x, if layout == 0 { vec![0, 2, 1, 3] } else { vec![1, 2, 0, 3] })
        }
        _ => Err(call.invalid(format!("a tensor of rank {} in layout {}", dims.len(), LAYOUTS[layout]))),
    }
}

/// The mask that a sparse mode stands for; `None` when the mode is not known.
fn sparse_mask(
    call: &mut Call,
    heads: &Heads,
    mask: Option<ValueId>,
    mode: i64,
    (before, after): (i64, i64),
) -> Result<Option<Option<ValueId>>> {
    let (rows, columns) = (call.emit.dims(heads.q)?[2].clone(), call.emit.dims(heads.k)?[2].clone());
    let covers = |limit: i64, length: &Dim| limit >= FAR || length.as_fixed().is_some_and(|n| limit >= n);
    let is_whole = mask.is_none() || (covers(before, &rows) && covers(after, &columns));
    match mode {
        0 if is_whole => Ok(Some(mask)),
        1 => Ok(Some(mask)),
        2 => causal(call, rows, columns, 1).map(|mask| Some(Some(mask))),
        3 => match (&columns - &rows).as_fixed() {
            Some(offset) => {
                causal(call, rows, columns, offset.saturating_add(1)).map(|mask| Some(Some(mask)))
            }
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// True from a diagonal on.
fn causal(call: &mut Call, rows: Dim, columns: Dim, diagonal: i64) -> Result<ValueId> {
    let one = call.emit.scalar(1.0, DType::Bool)?;
    let ones = call.emit.broadcast(one, vec![rows, columns])?;
    call.emit.op(Op::Triangle(Triangle { upper: true, diagonal }), &[ones])
}

/// `softmax(mask(scale * (shift + q @ k^T))) @ v`, scores in f32. Products of f16 are rounded to f16, as in
/// networks that spell attention out, whose results these models are held against.
pub(super) fn attention(call: &mut Call, heads: &Heads, options: &Options) -> Result<ValueId> {
    let dtype = call.emit.dtype(heads.q);
    if matches!(dtype, DType::F32 | DType::F16) && options.shift.is_none() {
        return fused(call, heads, options);
    }
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let (q_dims, k_dims) = (call.emit.dims(heads.q)?, call.emit.dims(heads.k)?);
    let [batch, n, rows, width] = &q_dims[..] else { return Err(call.invalid("query must have rank 4")) };
    let [_, shared, columns, _] = &k_dims[..] else { return Err(call.invalid("key must have rank 4")) };
    // Query heads that share a key head stand side by side: they become rows of one matrix.
    let grouped = &n.floor_div(shared) * rows;
    let narrow = if dtype == DType::F16 { dtype } else { wide };
    let q = call.emit.cast(heads.q, narrow)?;
    let q = call.emit.reshape(q, vec![batch.clone(), shared.clone(), grouped.clone(), width.clone()])?;
    let k = call.emit.cast(heads.k, narrow)?;
    let product = Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() });
    let scores = call.emit.op(product, &[q, k])?;
    let scores = call.emit.cast(scores, wide)?;
    let full = vec![batch.clone(), n.clone(), rows.clone(), columns.clone()];
    let mut scores = call.emit.reshape(scores, full)?;
    if let Some(shift) = options.shift {
        let shift = call.emit.cast(shift, wide)?;
        scores = call.emit.binary(Binary::Add, scores, shift)?;
    }
    if options.scale != 1.0 {
        scores = call.emit.with_scalar(Binary::Mul, scores, options.scale)?;
    }
    if let Some(mask) = options.mask {
        let mask = call.emit.cast(mask, DType::Bool)?;
        let hidden = call.emit.scalar(f64::from(f32::MIN), wide)?;
        scores = call.emit.op(Op::Select, &[mask, hidden, scores])?;
    }
    let weights = call.emit.op(Op::Softmax(Softmax { axis: 3, log: false }), &[scores])?;
    let weights = call.emit.cast(weights, dtype)?;
    let weights =
        call.emit.reshape(weights, vec![batch.clone(), shared.clone(), grouped, columns.clone()])?;
    let y = call.emit.op(Op::MatMul(MatMul::default()), &[weights, heads.v])?;
    let width = call.emit.dims(heads.v)?[3].clone();
    let y = call.emit.reshape(y, vec![batch.clone(), n.clone(), rows.clone(), width.clone()])?;
    as_laid_out(call, y, heads.layout, [batch, n, rows, &width])
}

fn fused(call: &mut Call, heads: &Heads, options: &Options) -> Result<ValueId> {
    let mut operands = vec![heads.q, heads.k, heads.v];
    if let Some(mask) = options.mask {
        operands.push(call.emit.cast(mask, DType::Bool)?);
    }
    let op = Op::Attention(Attention { heads: [1; 4], scale: options.scale, packed: [None; 4] });
    let y = call.emit.op(op, &operands)?;
    let dims = call.emit.dims(y)?;
    let [batch, n, rows, width] = &dims[..] else { return Err(call.invalid("query must have rank 4")) };
    as_laid_out(call, y, heads.layout, [batch, n, rows, width])
}

fn as_laid_out(
    call: &mut Call,
    y: ValueId,
    layout: usize,
    [batch, n, rows, width]: [&Dim; 4],
) -> Result<ValueId> {
    match layout {
        0 => {
            let y = call.emit.transpose(y, vec![0, 2, 1, 3])?;
            call.emit.reshape(y, vec![batch.clone(), rows.clone(), n * width])
        }
        2 => {
            let y = call.emit.transpose(y, vec![2, 0, 1, 3])?;
            call.emit.reshape(y, vec![rows.clone(), batch.clone(), n * width])
        }
        3 => call.emit.transpose(y, vec![0, 2, 1, 3]),
        _ => Ok(y),
    }
}

/// `(query, key, cos, sin, position_ids, cos_format=0) -> (query, key)`, both `[batch, length, heads * width]`. In formats
/// 0 and 1 rows of the tables are chosen by position: one for each place, or for each place of each batch entry; in
/// formats 2 and 3 each place of each batch entry has a row. In odd formats neighbours are turned, else halves.
pub(in crate::import) fn rotary_by_position(call: &mut Call) -> Result<Item> {
    let (query, key) = (call.tensor(0, "query")?, call.tensor(1, "key")?);
    let (cos, sin) = (call.tensor(2, "cos")?, call.tensor(3, "sin")?);
    let positions = call.tensor(4, "position_ids")?;
    let format = call.int_or(5, "cos_format", 0)?;
    let (dims, table) = (call.emit.dims(query)?, call.emit.dims(cos)?);
    let ([batch, length, _], Some(width)) = (&dims[..], table.last()) else { return opaque::lower(call) };
    let count = product(&call.emit.dims(positions)?);
    let (one, whole) = (Dim::from(1), batch * length);
    let lead = match format {
        2 | 3 => [batch.clone(), length.clone()],
        0 | 1 if count == whole => [batch.clone(), length.clone()],
        0 | 1 if count == *length => [one.clone(), length.clone()],
        _ => return opaque::lower(call),
    };
    let mut rows = [cos, sin];
    for table in &mut rows {
        if format < 2 {
            let at = super::scatter::flattened(call, positions)?;
            *table = call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[*table, at])?;
        }
        let shape = vec![lead[0].clone(), lead[1].clone(), one.clone(), width.clone()];
        *table = call.emit.reshape(*table, shape)?;
    }
    let mut turned = Vec::new();
    for x in [query, key] {
        let dims = call.emit.dims(x)?;
        let heads = dims[2].floor_div(width);
        let apart = call.emit.reshape(x, vec![batch.clone(), length.clone(), heads, width.clone()])?;
        let rows = rows.map(|table| call.emit.cast(table, call.emit.dtype(x)));
        let [cos, sin] = rows;
        let mode = Item::Int(Dim::from(format % 2));
        call.args = vec![Item::Tensor(apart), Item::Tensor(cos?), Item::Tensor(sin?), mode];
        let y = rotary(call)?;
        turned.push(call.emit.reshape(y, dims)?);
    }
    Ok(Item::tensors(turned))
}

/// `(query, key, value, pse_shift, attn_mask, actual_seq_lengths, actual_seq_lengths_kv, ..., num_heads, scale_value,
/// pre_tokens, next_tokens, input_layout, num_key_value_heads, sparse_mode, ...) -> (attention, ..)`; keys and values are
/// tuples of one.
pub(in crate::import) fn fused_infer_attention(call: &mut Call) -> Result<Item> {
    for position in 1..3 {
        if let Some(Item::Tuple(items)) = call.args.get(position)
            && let [item] = &items[..]
        {
            call.args[position] = item.clone();
        }
    }
    if (5..24).any(|position| call.arg(position, "").is_some()) || call.uses(1) {
        return opaque::lower(call);
    }
    match banded_attention(call, 24, FAR, 3, 4)? {
        Some(y) => Ok(Item::tuple([Item::Tensor(y), Item::UNMADE])),
        None => opaque::lower(call),
    }
}
