//! From the model to messages, as MindSpore 2.10 writes them.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::decode::PROMOTES;
use crate::layout::layout_proto;
use crate::names::{Names, in_table, names};
use crate::proto::*;
use crate::text;
use crate::{
    Attributes, Callee, CompositeKind, DataType, Definition, Functor, Graph, Input, MapParameter, Model,
    Monad, Node, NodeKind, ObjectKind, Output, Parameter, Primitive, PrimitiveKind, QuantParam, RawTensor,
    Result, ScalarGraph, SequenceType, TensorType, Type, Value,
};

/// Where a weight is when it is not in the graph file.
#[derive(Debug, Clone, Default)]
pub(crate) struct External {
    pub(crate) location: String,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// An encoded message in pieces, so that weights are not copied.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Vec<Bytes>);

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push(bytes);
        }
    }

    /// Appends a length-delimited field.
    fn field(&mut self, number: u32, contents: Pieces) {
        let mut head = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut head);
        encode_varint(contents.len() as u64, &mut head);
        self.0.push(head.into());
        self.0.extend(contents.0);
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Pieces(vec![bytes])
    }
}

/// Encodes a model, which is checked; weight `i` of the entry graph is at `external[i]`, or in the file.
///
/// # Errors
/// [`Error::Inconsistent`](crate::Error::Inconsistent).
pub(crate) fn encode_model(model: &Model, external: Option<&[External]>) -> Result<Pieces> {
    let encoder = Encoder { model, names: names(model)? };
    let proto = ModelProto {
        ir_version: text::field(&model.format_version),
        producer_name: text::field(&model.producer),
        producer_version: text::field(&model.producer_version),
        model_version: text::field(&model.model_version),
        preprocessor: model.preprocessor.clone(),
        little_endian: Some(true),
        parallel: encoder.layouts(),
        primitives: model.primitives.iter().map(|primitive| encoder.primitive(primitive)).collect(),
        mind_ir_version: Some(model.level),
        user_info: model.user_info.iter().map(|(key, value)| user_info(key, value)).collect(),
        ..Default::default()
    };
    let mut pieces = Pieces::from(encoded(&proto));
    pieces.field(7, encoder.graph(&model.graph, external));
    for function in &model.functions {
        pieces.field(8, encoder.graph(function, None));
    }
    pieces.push(model.extra.clone());
    Ok(pieces)
}

struct Encoder<'a> {
    model: &'a Model,
    names: Names,
}

impl Encoder<'_> {
    fn graph(&self, graph: &Graph, external: Option<&[External]>) -> Pieces {
        let proto = GraphProto {
            node: graph.nodes.iter().map(|node| self.node(node)).collect(),
            name: text::field(&graph.name),
            input: graph.inputs.iter().map(|input| self.input(input)).collect(),
            output: graph.outputs.iter().map(|output| self.output(output)).collect(),
            attribute: self.attributes(&graph.attributes),
            map_parameter: graph.map_parameters.iter().map(|map| self.map_parameter(map)).collect(),
            ..Default::default()
        };
        let mut pieces = Pieces::from(encoded(&proto));
        for (i, parameter) in graph.parameters.iter().enumerate() {
            pieces.field(3, self.parameter(parameter, external.map(|external| &external[i])));
        }
        pieces.push(graph.extra.clone());
        pieces
    }

    fn parameter(&self, parameter: &Parameter, external: Option<&External>) -> Pieces {
        let proto = TensorProto {
            ref_key: parameter.ref_key.as_deref().map(text::bytes),
            external_data: external.map(external_data),
            compression_type: Some(0),
            quant_params: self.quantization(&parameter.quantization),
            ..tensor(&parameter.symbol, &parameter.data)
        };
        let mut pieces = Pieces::from(encoded(&proto));
        if external.is_none() {
            pieces.field(9, Pieces::from(parameter.data.data.clone()));
        }
        pieces.push(parameter.extra.clone());
        pieces
    }

    fn map_parameter(&self, map: &MapParameter) -> Bytes {
        let part = |data: &RawTensor| {
            let raw_data = Some(data.data.clone());
            Some(encoded(&TensorProto { raw_data, ..tensor("", data) }))
        };
        let proto = MapTensorProto {
            name: text::field(&map.symbol),
            default_value: Some(self.value("", &map.default)),
            key_tensor: part(&map.keys),
            value_tensor: part(&map.values),
            status_tensor: part(&map.status),
        };
        with_extra(encoded(&proto), &map.extra)
    }

    fn input(&self, input: &Input) -> Bytes {
        let proto = self.value_info(&input.symbol, input.ty.as_ref(), &input.denotation);
        with_extra(encoded(&proto), &input.extra)
    }

    fn output(&self, output: &Output) -> Bytes {
        let proto = self.value_info(&output.symbol, output.ty.as_ref(), &output.denotation);
        with_extra(encoded(&proto), &output.extra)
    }

    fn value_info(&self, symbol: &str, ty: Option<&Type>, denotation: &str) -> ValueInfoProto {
        let mut proto = ValueInfoProto {
            name: text::field(symbol),
            denotation: text::field(denotation),
            ..Default::default()
        };
        match ty {
            None | Some(Type::Other(_)) => {}
            Some(Type::Tensor(tensor)) => proto.tensor.push(encoded(&tensor_type(tensor))),
            Some(ty) => proto.attr_info = Some(self.ty("", ty)),
        }
        proto
    }

    fn primitive(&self, primitive: &Primitive) -> Bytes {
        let prim_type = match primitive.kind {
            PrimitiveKind::Function => Some(2),
            PrimitiveKind::Attribute => Some(1).filter(|_| self.model.level >= 2),
        };
        let proto = PrimitiveProto {
            name: text::field(&primitive.symbol),
            op_type: Some(op_type(primitive)),
            attribute: self.attributes(&primitive.attributes),
            instance_name: Some(text::bytes(&primitive.instance_name)),
            prim_type,
        };
        with_extra(encoded(&proto), &primitive.extra)
    }

    fn node(&self, node: &Node) -> Bytes {
        let (op_type, attribute) = match &node.kind {
            NodeKind::Constant(value) => (text::bytes("Constant"), vec![self.value("value", value)]),
            NodeKind::Call(callee) => self.call(node, callee),
        };
        let symbol = text::bytes(&node.symbol);
        let proto = NodeProto {
            input: node.inputs.iter().map(|input| text::bytes(input)).collect(),
            output: vec![symbol.clone()],
            name: Some(symbol),
            op_type: Some(op_type),
            attribute,
            domain: text::field(&node.scope),
            node_attr: self.attributes(&node.attributes),
            primal_attr: self.attributes(&node.primal_attributes),
            ..Default::default()
        };
        with_extra(encoded(&proto), &node.extra)
    }

    /// Operator type and attributes of a node that is no constant.
    fn call(&self, node: &Node, callee: &Callee) -> (Bytes, Vec<Bytes>) {
        let mut attributes: Vec<Bytes> = node.ty.iter().map(|ty| self.ty("shape", ty)).collect();
        let symbol = match callee {
            Callee::Primitive(primitive) if in_table(self.model, &self.names, primitive).is_none() => {
                attributes.extend(self.attributes(&primitive.attributes));
                return (op_type(primitive), attributes);
            }
            Callee::Primitive(primitive) => &primitive.symbol,
            Callee::Graph(symbol) | Callee::Closure(symbol) => symbol,
        };
        (text::bytes(&format!("REF::{symbol}")), attributes)
    }

    fn attributes(&self, attributes: &Attributes) -> Vec<Bytes> {
        attributes.iter().map(|(name, value)| self.value(name, value)).collect()
    }

    /// An attribute that holds a value.
    fn value(&self, name: &str, value: &Value) -> Bytes {
        match value {
            Value::Opaque { data, .. } => renamed(name, data),
            value => encoded(&AttributeProto { name: text::field(name), ..self.value_proto(value, false) }),
        }
    }

    /// Scalars that are elements of sequences are in other fields than those that stand alone.
    fn elements(&self, values: &[Value]) -> Vec<Bytes> {
        let element = |value: &Value| match value {
            Value::Opaque { data, .. } => data.clone(),
            value => encoded(&self.value_proto(value, true)),
        };
        values.iter().map(element).collect()
    }

    fn value_proto(&self, value: &Value, is_element: bool) -> AttributeProto {
        match value {
            Value::None => attribute(kind::NONE),
            Value::Bool(value) => int(kind::BOOL, i64::from(*value), is_element),
            Value::Int(value, dtype) => int(integer_kind(*dtype, kind::INT64), *value, is_element),
            Value::Uint(value, dtype) => int(integer_kind(*dtype, kind::UINT64), *value as i64, is_element),
            Value::Float(value, dtype) => float(*value, *dtype, is_element),
            Value::Str(value) if is_element => {
                AttributeProto { strings: vec![text::bytes(value)], ..attribute(kind::STRING) }
            }
            Value::Str(value) => AttributeProto { s: Some(text::bytes(value)), ..attribute(kind::STRING) },
            Value::Tuple(values) => {
                AttributeProto { values: self.elements(values), ..attribute(kind::TUPLE) }
            }
            Value::List(values) => AttributeProto { values: self.elements(values), ..attribute(kind::LIST) },
            Value::Dict(entries) => AttributeProto { values: self.entries(entries), ..attribute(kind::DICT) },
            Value::Tensor(value) => tensor_value(&RawTensor {
                dtype: value.dtype().into(),
                dims: value.dims().to_vec(),
                data: value.clone().into_bytes(),
            }),
            Value::RawTensor(value) => tensor_value(value),
            Value::Type { dtype: DataType::Undefined, .. } => attribute(kind::TYPE_NULL),
            Value::Type { dtype, tensor } => type_value(*dtype, *tensor, is_element),
            Value::Monad(monad) => attribute(monad_kind(*monad)),
            Value::Function(symbol) => self.function(symbol),
            Value::Quantization(records) => self.quantization_value(records),
            Value::Object { kind, name } => {
                AttributeProto { s: Some(text::bytes(name)), ..attribute(object_kind(*kind)) }
            }
            Value::Functor(functor) => self.functor(functor),
            Value::ScalarGraph(graph) => AttributeProto {
                graph_holder: Some(scalar_graph(graph)),
                ..attribute(kind::SCALAR_GRAPH_HOLDER)
            },
            Value::Opaque { kind, .. } => attribute(*kind),
        }
    }

    fn entries(&self, entries: &[(std::sync::Arc<str>, Value)]) -> Vec<Bytes> {
        let entry = |(key, value): &(std::sync::Arc<str>, Value)| {
            let values = self.elements(std::slice::from_ref(value));
            encoded(&AttributeProto { name: Some(text::bytes(key)), values, ..Default::default() })
        };
        entries.iter().map(entry).collect()
    }

    fn function(&self, symbol: &str) -> AttributeProto {
        let kind = match self.names.definition(symbol) {
            Some(Definition::Primitive(_)) => kind::PRIMITIVECLOSURE,
            Some(Definition::Node { .. }) => kind::PARTIALCLOSURE,
            _ => kind::FUNCGRAPHCLOSURE,
        };
        AttributeProto { s: Some(text::bytes(symbol)), ..attribute(kind) }
    }

    fn functor(&self, functor: &Functor) -> AttributeProto {
        let proto = FunctorProto {
            kind: Some(functor.kind),
            name: Some(text::bytes(&functor.name)),
            values: self.elements(&functor.values),
        };
        AttributeProto { functor: Some(encoded(&proto)), ..attribute(kind::FUNCTOR) }
    }

    fn quantization(&self, records: &[QuantParam]) -> Vec<Bytes> {
        let record = |record: &QuantParam| {
            encoded(&QuantParamProto {
                quant_algo_name: Some(text::bytes(&record.algorithm)),
                attribute: self.attributes(&record.attributes),
            })
        };
        records.iter().map(record).collect()
    }

    fn quantization_value(&self, records: &[QuantParam]) -> AttributeProto {
        let quant_params = self.quantization(records);
        let tensor =
            TensorProto { name: Some(text::bytes("quant_param")), quant_params, ..Default::default() };
        AttributeProto { tensors: vec![encoded(&tensor)], ..attribute(kind::TENSORS) }
    }

    /// An attribute that holds a type.
    fn ty(&self, name: &str, ty: &Type) -> Bytes {
        let proto = match ty {
            Type::Tensor(tensor) => {
                AttributeProto { tensors: vec![encoded(&tensor_type(tensor))], ..attribute(kind::TENSORS) }
            }
            Type::Scalar(dtype) => AttributeProto {
                tensors: vec![encoded(&tensor_type(&TensorType::new(*dtype, [0])))],
                ..attribute(kind::SCALAR)
            },
            Type::Str => attribute(kind::STRING),
            Type::None => attribute(kind::NONE),
            Type::Monad(monad) => attribute(monad_kind(*monad)),
            Type::Tuple(sequence) => {
                return self.sequence(name, sequence, kind::TUPLE);
            }
            Type::List(sequence) => return self.sequence(name, sequence, kind::LIST),
            Type::Function(symbol) => self.function(symbol),
            Type::Union(members) => {
                AttributeProto { values: self.types(members), ..attribute(kind::UNIONFUNCCLOSURE) }
            }
            Type::Composite { kind, parts } => {
                AttributeProto { values: self.types(parts), ..attribute(composite_kind(*kind)) }
            }
            Type::Opaque { data, .. } => return renamed(name, data),
            Type::Other(form) => AttributeProto {
                ref_attr_name: Some(text::bytes(&format!("shape:{form},"))),
                ..Default::default()
            },
        };
        encoded(&AttributeProto { name: text::field(name), ..proto })
    }

    fn types(&self, types: &[Type]) -> Vec<Bytes> {
        types.iter().map(|ty| self.ty("", ty)).collect()
    }

    fn sequence(&self, name: &str, sequence: &SequenceType, kind: i32) -> Bytes {
        let proto = AttributeProto {
            name: text::field(name),
            values: self.types(&sequence.elements),
            ..attribute(kind)
        };
        let info = SeqInfoProto {
            is_dyn_len: Some(sequence.dynamic_len),
            tuple_elem_item: sequence.element.as_ref().map(|ty| self.ty("", ty)),
        };
        with_extra(encoded(&proto), &encoded(&SeqInfoField { seq_info: Some(info) }))
    }

    fn layouts(&self) -> Option<Bytes> {
        let layouts = &self.model.layouts;
        let layout = layouts.iter().map(|layout| encoded(&layout_proto(layout))).collect();
        (!layouts.is_empty()).then(|| encoded(&ParallelProto { layout }))
    }
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn with_extra(message: Bytes, extra: &Bytes) -> Bytes {
    if extra.is_empty() { message } else { [&*message, extra].concat().into() }
}

/// An encoded attribute under this name.
fn renamed(name: &str, data: &Bytes) -> Bytes {
    let name = text::field(name);
    match AttributeProto::decode(data.clone()) {
        Ok(proto) if proto.name == name => data.clone(),
        // Of a field that occurs twice, the last one counts.
        _ => with_extra(data.clone(), &encoded(&AttributeProto { name, ..Default::default() })),
    }
}

fn user_info(key: &str, value: &str) -> Bytes {
    encoded(&UserInfoEntry { key: text::bytes(key), value: text::bytes(value) })
}

fn op_type(primitive: &Primitive) -> Bytes {
    let prefix = if primitive.promotes { PROMOTES } else { "" };
    text::bytes(&format!("{prefix}{}", primitive.op_type))
}

fn external_data(external: &External) -> Bytes {
    encoded(&ExternalDataProto {
        location: Some(text::bytes(&external.location)),
        offset: i64::try_from(external.offset).ok(),
        length: i64::try_from(external.length).ok(),
        checksum: None,
    })
}

/// The message of a tensor without its data.
fn tensor(name: &str, tensor: &RawTensor) -> TensorProto {
    TensorProto {
        name: text::field(name),
        dims: tensor.dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(tensor.dtype.number()),
        ..Default::default()
    }
}

fn tensor_type(ty: &TensorType) -> TensorProto {
    TensorProto {
        dims: ty.dims.clone(),
        data_type: Some(ty.dtype.number()),
        name: text::field(&ty.name),
        ref_key: ty.ref_key.as_deref().map(text::bytes),
        ..Default::default()
    }
}

fn tensor_value(value: &RawTensor) -> AttributeProto {
    let proto = TensorProto { raw_data: Some(value.data.clone()), ..tensor("value0", value) };
    AttributeProto { tensors: vec![encoded(&proto)], ..attribute(kind::TENSORS) }
}

/// Elements of sequences have no name, except to tell "tensor of" a type.
fn type_value(dtype: DataType, tensor: bool, is_element: bool) -> AttributeProto {
    let name = match (tensor, is_element) {
        (true, _) => Some("tensor0"),
        (false, false) => Some("value0"),
        (false, true) => None,
    };
    let name = name.map(text::bytes);
    let proto = TensorProto { name, data_type: Some(dtype.number()), ..Default::default() };
    AttributeProto { tensors: vec![encoded(&proto)], ..attribute(kind::TENSORS) }
}

fn attribute(kind: i32) -> AttributeProto {
    AttributeProto { kind: Some(kind), ..Default::default() }
}

fn int(kind: i32, value: i64, is_element: bool) -> AttributeProto {
    match is_element {
        false => AttributeProto { i: Some(value), ..attribute(kind) },
        true => AttributeProto { ints: vec![value], ..attribute(kind) },
    }
}

fn float(value: f64, dtype: DataType, is_element: bool) -> AttributeProto {
    let single = value as f32;
    match (dtype, is_element) {
        (DataType::Float64, false) => AttributeProto { d: Some(value), ..attribute(kind::DOUBLE) },
        (DataType::Float64, true) => AttributeProto { doubles: vec![value], ..attribute(kind::DOUBLE) },
        (_, false) => AttributeProto { f: Some(single), ..attribute(float_kind(dtype)) },
        (_, true) => AttributeProto { floats: vec![single], ..attribute(float_kind(dtype)) },
    }
}

fn integer_kind(dtype: DataType, default: i32) -> i32 {
    match (dtype.number(), default) {
        (number @ (kind::INT8 | kind::INT16 | kind::INT32 | kind::INT64), kind::INT64) => number,
        (number @ (kind::UINT8 | kind::UINT16 | kind::UINT32 | kind::UINT64), kind::UINT64) => number,
        _ => default,
    }
}

fn float_kind(dtype: DataType) -> i32 {
    match dtype {
        DataType::Float16 => kind::FLOAT16,
        DataType::Bfloat16 => kind::BFLOAT16,
        _ => kind::FLOAT,
    }
}

fn monad_kind(monad: Monad) -> i32 {
    match monad {
        Monad::Memory => kind::UMONAD,
        Monad::Io => kind::IOMONAD,
    }
}

fn object_kind(kind: ObjectKind) -> i32 {
    match kind {
        ObjectKind::Class => kind::CLASS_TYPE,
        ObjectKind::Namespace => kind::NAME_SPACE,
        ObjectKind::Symbol => kind::SYMBOL,
    }
}

fn composite_kind(kind: CompositeKind) -> i32 {
    match kind {
        CompositeKind::Csr => kind::CSR_TENSOR,
        CompositeKind::Coo => kind::COO_TENSOR,
        CompositeKind::Row => kind::ROW_TENSOR,
        CompositeKind::Map => kind::MAP_TENSOR,
    }
}

fn scalar_graph(graph: &ScalarGraph) -> Bytes {
    let nodes = graph.nodes.iter().map(|node| {
        encoded(&ScalarNodeProto {
            scalar_op_type: Some(node.op),
            in_index: node.inputs.clone(),
            value: node.values.clone(),
        })
    });
    encoded(&ScalarGraphHolderProto {
        scalar_node: nodes.collect(),
        input_shape_index: graph.input_shapes.clone(),
    })
}
