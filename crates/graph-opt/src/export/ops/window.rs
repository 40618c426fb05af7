use mslite_mindir::Value;
use mslite_tensor::{DType, TensorSpec};

use crate::Result;
use crate::export::writer::{Arg, Item, Writer, ints};
use crate::infer::infer_node;
use crate::ir::op::{Conv2d, Op, Padding2d, Pool2d};

/// The convolution, the bias and the activation, one after the other.
pub(in crate::export) fn conv2d(w: &mut Writer, op: &Conv2d, x: &[Item]) -> Result<Item> {
    let plain = Op::Conv2d(Conv2d { activation: None, ..op.clone() });
    let specs = infer_node(&plain, &[&x[0].spec, &x[1].spec], &w.origin)?;
    let mut y = convolution(w, op, &x[0], &x[1], &specs[0])?;
    if let Some(bias) = x.get(2) {
        y = w.function("BiasAdd", &[(&y).into(), bias.into(), 0.into()], &specs[0]);
    }
    match op.activation {
        Some(f) => w.op(Op::Unary(f), &[&y]),
        None => Ok(y),
    }
}

fn convolution(w: &mut Writer, op: &Conv2d, x: &Item, weight: &Item, spec: &TensorSpec) -> Result<Item> {
    let sizes: Option<Vec<i64>> = w.dims(weight)?.iter().map(|dim| dim.as_fixed()).collect();
    let Some([out, _, height, width]) = sizes.as_deref() else {
        return Err(w.unsupported("a convolution", "the extents of its weight are not known"));
    };
    let (mode, pad) = match op.padding {
        Padding2d::Explicit([0, 0, 0, 0]) => ("valid", [0; 4]),
        Padding2d::Explicit(sides) => ("pad", sides),
        Padding2d::Same => ("same", [0; 4]),
    };
    let groups = Value::from(op.groups as i64);
    let mut attributes = vec![
        ("out_channel", (*out).into()),
        ("kernel_size", ints(&[*height, *width])),
        ("mode", 1.into()),
        ("pad_mode", mode.into()),
        ("pad", ints(&pad)),
        ("stride", four(op.strides)),
        ("dilation", four(op.dilations)),
        ("group", groups.clone()),
        ("groups", groups),
        ("format", "NCHW".into()),
    ];
    if op.padding != Padding2d::Same {
        attributes.push(("pad_list", ints(&pad)));
    }
    Ok(w.attributed("Conv2D", &attributes, &[x.into(), weight.into()], spec))
}

/// Height and width after batch and channels.
fn four([h, w]: [usize; 2]) -> Value {
    ints(&[1, 1, h, w])
}

pub(in crate::export) fn pool2d(w: &mut Writer, op: &Pool2d, x: &Item, spec: &TensorSpec) -> Result<Item> {
    let is_plain = !op.ceil_mode && op.padding == Padding2d::Explicit([0; 4]);
    let is_same = !op.ceil_mode && !op.count_padding && op.padding == Padding2d::Same;
    let symmetric = match op.padding {
        Padding2d::Explicit([top, bottom, left, right]) if top == bottom && left == right => {
            Some([top, left])
        }
        _ => None,
    };
    let mode = if is_same { "SAME" } else { "VALID" };
    match (op.average, symmetric) {
        (false, _) if is_plain || is_same => Ok(max_pool(w, op, x, mode, spec)),
        (true, _) if is_plain || is_same => Ok(average_pool(w, op, x, mode, spec)),
        (false, Some(pads)) => Ok(padded_max_pool(w, op, x, pads, spec)),
        (true, Some(pads)) => Ok(padded_average_pool(w, op, x, pads, spec)),
        _ => Err(w.unsupported(
            "a pooling",
            "MindSpore has none that is padded on one side more than on the other",
        )),
    }
}

fn max_pool(w: &mut Writer, op: &Pool2d, x: &Item, mode: &str, spec: &TensorSpec) -> Item {
    let attributes = [
        ("kernel_size", four(op.kernel)),
        ("strides", four(op.strides)),
        ("pad_mode", mode.into()),
        ("format", "NCHW".into()),
    ];
    w.attributed("MaxPool", &attributes, &[x.into()], spec)
}

fn average_pool(w: &mut Writer, op: &Pool2d, x: &Item, mode: &str, spec: &TensorSpec) -> Item {
    let mode = if mode == "SAME" { 1 } else { 2 };
    let args = [x.into(), ints(&op.kernel).into(), ints(&op.strides).into(), mode.into(), 0.into()];
    w.function("AvgPool", &args, spec)
}

fn padded_max_pool(w: &mut Writer, op: &Pool2d, x: &Item, pads: [usize; 2], spec: &TensorSpec) -> Item {
    let attributes = [
        ("kernel_size", four(op.kernel)),
        ("strides", four(op.strides)),
        ("pads", four(pads)),
        ("dilation", four([1, 1])),
        ("ceil_mode", op.ceil_mode.into()),
        ("argmax_type", 4.into()),
    ];
    let index = TensorSpec::new(DType::I64, spec.shape.clone());
    let ty = crate::export::flow::of(&[spec.clone(), index]);
    let primitive = w.primitive("MaxPoolWithArgmaxV2", &attributes);
    let tuple = w.call(&primitive, &[x.into()], Some(ty));
    Item { symbol: w.element(&tuple, 0, crate::export::writer::tensor_type(spec)), spec: spec.clone() }
}

fn padded_average_pool(w: &mut Writer, op: &Pool2d, x: &Item, pads: [usize; 2], spec: &TensorSpec) -> Item {
    let args: [Arg; 7] = [
        x.into(),
        ints(&op.kernel).into(),
        ints(&op.strides).into(),
        ints(&pads).into(),
        op.ceil_mode.into(),
        op.count_padding.into(),
        Value::None.into(),
    ];
    w.function("AvgPool2D", &args, spec)
}
