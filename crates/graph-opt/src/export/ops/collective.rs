use mslite_collective::CollectiveKind;
use mslite_mindir::{DataType, Symbol, Value};
use mslite_tensor::TensorSpec;

use crate::Result;
use crate::export::flow::of;
use crate::export::writer::{Arg, Item, Writer, ints, stated, tensor_type};
use crate::ir::op::Collective;

/// An exchange; one without a result must happen all the same.
pub(in crate::export) fn write(
    w: &mut Writer,
    op: &Collective,
    x: &[Item],
    specs: &[TensorSpec],
) -> Result<Vec<Option<Symbol>>> {
    let kind = &op.op.kind;
    let mut attributes = common(op);
    attributes.extend(own(w, op, x)?);
    let symbol = match (kind, x) {
        (CollectiveKind::Barrier, _) => {
            attributes.push(("side_effect_mem", true.into()));
            let primitive = w.primitive("Barrier", &attributes);
            let monad = w.monad();
            let barrier = w.call(&primitive, &[monad.into()], None);
            w.update_state(barrier.clone());
            barrier
        }
        (CollectiveKind::Receive { .. }, _) => receive(w, &attributes, specs),
        (CollectiveKind::Broadcast { .. }, [x]) => {
            let tuple = w.make_tuple(vec![x.symbol.clone()], None);
            let primitive = w.primitive("Broadcast", &attributes);
            let ty = mslite_mindir::Type::tuple(specs.iter().map(tensor_type).collect::<Vec<_>>());
            let result = w.call(&primitive, &[tuple.into()], Some(ty));
            w.element(&result, 0, tensor_type(&x.spec))
        }
        (_, [x]) => {
            let primitive = w.primitive(name(kind), &attributes);
            let ty = if specs.is_empty() { tensor_type(&x.spec) } else { of(specs) };
            w.call(&primitive, &[x.into()], Some(ty))
        }
        _ => return Err(w.unsupported("a collective", "it has not one operand")),
    };
    if specs.is_empty() {
        w.must_happen(symbol);
        return Ok(Vec::new());
    }
    Ok(vec![Some(symbol)])
}

/// The operand only orders: what has happened before, or nothing.
fn receive(w: &mut Writer, attributes: &[(&str, Value)], specs: &[TensorSpec]) -> Symbol {
    let before = match w.last_effect() {
        Some(symbol) => Arg::Symbol(symbol.clone()),
        None => Arg::Value(mslite_tensor::Tensor::scalar(0f32).into()),
    };
    let primitive = w.primitive("Receive", attributes);
    w.call(&primitive, &[before], Some(of(specs)))
}

fn name(kind: &CollectiveKind) -> &'static str {
    match kind {
        CollectiveKind::AllReduce(_) => "AllReduce",
        CollectiveKind::AllGather => "AllGather",
        CollectiveKind::ReduceScatter(_) => "ReduceScatter",
        CollectiveKind::Broadcast { .. } => "Broadcast",
        CollectiveKind::Reduce { .. } => "Reduce",
        CollectiveKind::Gather { .. } => "CollectiveGather",
        CollectiveKind::Scatter { .. } => "CollectiveScatter",
        CollectiveKind::AllToAll => "AlltoAll",
        CollectiveKind::Send { .. } => "Send",
        CollectiveKind::Receive { .. } => "Receive",
        _ => "Barrier",
    }
}

type Named = (&'static str, Value);

/// Attributes that all have.
fn common(op: &Collective) -> Vec<Named> {
    let mut attributes: Vec<Named> = vec![
        ("group", op.op.group.as_str().into()),
        ("fusion", 0.into()),
        ("index", 0.into()),
        ("no_eliminate", true.into()),
    ];
    attributes.extend(op.size.map(|size| ("rank_size", Value::from(size as i64))));
    attributes.extend(op.ranks.as_ref().map(|ranks| ("rank_list", ints(ranks))));
    attributes.extend(op.op.kind.reduction().map(|reduction| ("op", Value::from(reduction.name()))));
    attributes
}

/// Attributes of one kind.
fn own(w: &Writer, op: &Collective, x: &[Item]) -> Result<Vec<Named>> {
    let number = |n: usize| Value::from(n as i64);
    Ok(match &op.op.kind {
        CollectiveKind::Broadcast { root } => vec![("root_rank", number(*root))],
        CollectiveKind::Reduce { root, .. } | CollectiveKind::Gather { root } => {
            vec![("dest_rank", number(*root))]
        }
        CollectiveKind::Scatter { root } => vec![("src_rank", number(*root))],
        CollectiveKind::AllToAll => {
            let Some(size) = op.size else {
                return Err(w.unsupported("AlltoAll", "the model does not state the size of its group"));
            };
            vec![("split_count", number(size)), ("split_dim", 0.into()), ("concat_dim", 0.into())]
        }
        CollectiveKind::Send { dest, tag } => {
            let mut attributes = vec![("dest_rank", number(*dest)), ("sr_tag", (*tag).into())];
            attributes.push(("group_back", op.op.group.as_str().into()));
            if let Some(x) = x.first() {
                attributes.push(("shape", stated(&x.spec.shape).as_slice().into()));
                attributes.push(("dtype", type_of(&x.spec)));
            }
            attributes
        }
        CollectiveKind::Receive { src, tag } => {
            let mut attributes = vec![("src_rank", number(*src)), ("sr_tag", (*tag).into())];
            attributes.push(("group_back", op.op.group.as_str().into()));
            if let Some(spec) = &op.receives {
                let dims = stated(&spec.shape).into_iter().map(Value::from).collect();
                attributes.push(("shape", Value::List(dims)));
                attributes.push(("dtype", type_of(spec)));
            }
            attributes
        }
        _ => Vec::new(),
    })
}

fn type_of(spec: &TensorSpec) -> Value {
    Value::Type { dtype: DataType::from(spec.dtype), tensor: false }
}
