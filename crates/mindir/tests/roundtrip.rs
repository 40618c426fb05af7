//! Models made at random come back as they were.

use mslite_mindir::{
    Attributes, DataType, Functor, Key, Mode, Model, ModelBuilder, Monad, ObjectKind, OpenOptions, Primitive,
    PrimitiveKind, QuantParam, ScalarGraph, ScalarNode, SequenceType, TensorType, Type, Value,
};
use mslite_tensor::Tensor;
use proptest::collection::vec;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_:.✓é ]{1,8}"
}

fn dtype() -> impl Strategy<Value = DataType> {
    (1..=16).prop_map(|number| DataType::from_number(number).unwrap())
}

fn tensor() -> impl Strategy<Value = Tensor> {
    vec(0usize..4, 0..4).prop_flat_map(|dims| {
        let count: usize = dims.iter().product();
        vec(any::<i16>(), count).prop_map(move |values| Tensor::from_vec(values, &dims).unwrap())
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    let signed = prop_oneof![
        Just(DataType::Int8),
        Just(DataType::Int16),
        Just(DataType::Int32),
        Just(DataType::Int64)
    ];
    let unsigned = prop_oneof![Just(DataType::Uint8), Just(DataType::Uint64)];
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        (any::<i64>(), signed).prop_map(|(value, dtype)| Value::Int(value, dtype)),
        (any::<u64>(), unsigned).prop_map(|(value, dtype)| Value::Uint(value, dtype)),
        any::<f32>().prop_map(|value| Value::Float(value.into(), DataType::Float32)),
        any::<f64>().prop_map(|value| Value::Float(value, DataType::Float64)),
        "\\PC{0,5}".prop_map(|text| Value::Str(text.into())),
        (dtype(), any::<bool>()).prop_map(|(dtype, tensor)| Value::Type { dtype, tensor }),
        Just(Value::Monad(Monad::Memory)),
        Just(Value::Monad(Monad::Io)),
        name().prop_map(|symbol| Value::Function(symbol.into())),
        name().prop_map(|name| Value::Object { kind: ObjectKind::Namespace, name: name.into() }),
        (any::<i64>(), vec(any::<i64>(), 0..3), vec(any::<u64>(), 0..3)).prop_map(
            |(op, list, input_shapes)| {
                let nodes = vec![ScalarNode { op, inputs: list.clone(), values: list }];
                Value::ScalarGraph(ScalarGraph { nodes, input_shapes })
            }
        ),
        tensor().prop_map(Value::Tensor),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Tuple),
            vec(inner.clone(), 0..5).prop_map(Value::List),
            vec((name(), inner.clone()), 0..4).prop_map(|entries| {
                Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
            }),
            (name(), vec(inner.clone(), 0..3)).prop_map(|(name, values)| {
                Value::Functor(Functor { kind: 1, name: name.into(), values })
            }),
            (name(), inner).prop_map(|(name, value)| {
                let attributes = Attributes::new("linear_quant", [(name.into(), value)]);
                Value::Quantization(vec![QuantParam { algorithm: "linear_quant".into(), attributes }])
            }),
        ]
    })
}

fn ty() -> impl Strategy<Value = Type> {
    let tensor = (dtype(), vec(-1i64..9, 0..4), proptest::option::of(name()), name()).prop_map(
        |(dtype, dims, ref_key, name)| {
            let ref_key = ref_key.map(Into::into);
            Type::Tensor(TensorType { ref_key, name: name.into(), ..TensorType::new(dtype, dims) })
        },
    );
    let leaf = prop_oneof![
        tensor,
        dtype().prop_map(Type::Scalar),
        Just(Type::Str),
        Just(Type::None),
        Just(Type::Monad(Monad::Io)),
        name().prop_map(|symbol| Type::Function(symbol.into())),
        "[A-Za-z]{1,8}".prop_map(|text| Type::Other(text.into())),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let sequence = (vec(inner.clone(), 0..4), any::<bool>(), proptest::option::of(inner.clone()))
            .prop_map(|(elements, dynamic_len, element)| SequenceType {
                elements,
                dynamic_len,
                element: element.map(Box::new),
            });
        prop_oneof![
            sequence.clone().prop_map(Type::Tuple),
            sequence.prop_map(Type::List),
            vec(inner, 0..4).prop_map(Type::Union),
        ]
    })
}

/// A chain of nodes, each taking an earlier one and a constant.
fn model() -> impl Strategy<Value = Model> {
    let step = (name(), vec((name(), value()), 0..4), value(), proptest::option::of(ty()), any::<bool>());
    (vec(step, 0..6), vec(tensor(), 0..3), name()).prop_map(|(steps, weights, note)| {
        let mut builder = ModelBuilder::new("net");
        builder.user_info("note", &note);
        let mut graph = builder.entry();
        let mut last = graph.input("x", Type::tensor(DataType::Float32, [-1, 3]));
        for (i, weight) in weights.into_iter().enumerate() {
            last = graph.parameter(&format!("w{i}"), weight);
        }
        for (op_type, attributes, constant, ty, is_function) in steps {
            let attributes = attributes.into_iter().map(|(name, value)| (name.into(), value));
            let attributes = Attributes::new(&*op_type, attributes);
            let kind = if is_function { PrimitiveKind::Function } else { PrimitiveKind::Attribute };
            let constant = graph.constant(constant);
            last = graph.apply(&Primitive::new(op_type, kind, attributes), &[last, constant], ty);
        }
        graph.output(&last, None);
        builder.finish().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn through_bytes(model in model()) {
        let bytes = model.to_bytes().unwrap();
        let read = Model::from_bytes(bytes.clone(), "net.mindir", &OpenOptions::new()).unwrap();
        prop_assert_eq!(&read, &model);
        prop_assert_eq!(read.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn through_files(model in model(), split: bool, size in 1u64..100, mode in 0usize..4) {
        use mslite_mindir::{Layout, SaveOptions};
        let folder = tempfile::tempdir().unwrap();
        let layout = if split { Layout::Split { data_file_size: size } } else { Layout::Single };
        let (mut save, mut open) = (SaveOptions::new().layout(layout), OpenOptions::new());
        let mode = Mode::ALL.get(mode).copied();
        if let Some(mode) = mode {
            let key = Key::new(b"0123456789abcdef");
            (save, open) = (save.encrypt(mode, key.clone()), open.key(key));
        }
        let graph_file = model.save(folder.path().join("net.mindir"), &save).unwrap().graph;
        let mut read = Model::open(graph_file, &open).unwrap();
        prop_assert_eq!(read.encryption.take(), mode);
        prop_assert_eq!(read, model);
    }
}
