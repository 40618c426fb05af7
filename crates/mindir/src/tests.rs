//! The checks on malformed models, on messages built by hand.

mod malformed;
mod schema;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::proto::*;
use crate::{Model, Monad, OpenOptions, PrimitiveKind, Type, Value};

fn text(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn value_info(name: &str) -> Bytes {
    let tensor = TensorProto { dims: vec![2, -1], data_type: Some(1), ..Default::default() };
    encode(&ValueInfoProto { name: text(name), tensor: vec![encode(&tensor)], ..Default::default() })
}

fn weight() -> TensorProto {
    TensorProto {
        name: text("g:w"),
        dims: vec![2],
        data_type: Some(1),
        raw_data: Some(Bytes::from_static(&[0; 8])),
        ..Default::default()
    }
}

fn node(name: &str, op_type: &str, inputs: &[&str]) -> NodeProto {
    NodeProto {
        name: text(name),
        output: text(name).into_iter().collect(),
        op_type: text(op_type),
        input: inputs.iter().filter_map(|input| text(input)).collect(),
        ..Default::default()
    }
}

fn none() -> AttributeProto {
    AttributeProto { name: text("value"), kind: Some(kind::NONE), ..Default::default() }
}

/// A graph `g` with input `g:x`, weight `g:w`, and `g:a:1 = Add(x, w)`.
fn graph() -> GraphProto {
    GraphProto {
        name: text("g"),
        input: vec![value_info("g:x")],
        parameter: vec![encode(&weight())],
        node: vec![encode(&node("g:a:1", "REF::Add:1", &["g:x", "g:w"]))],
        output: vec![value_info("g:a:1")],
        ..Default::default()
    }
}

fn add() -> PrimitiveProto {
    PrimitiveProto {
        name: text("Add:1"),
        op_type: text("S-Prim-Add"),
        prim_type: Some(2),
        ..Default::default()
    }
}

fn model_of(graph: &GraphProto) -> ModelProto {
    ModelProto {
        ir_version: text("1.1"),
        producer_name: text("MindSpore"),
        model_version: text("2.10.0"),
        little_endian: Some(true),
        mind_ir_version: Some(3),
        graph: Some(encode(graph)),
        primitives: vec![encode(&add())],
        ..Default::default()
    }
}

fn read(model: &ModelProto) -> crate::Result<Model> {
    Model::from_bytes(encode(model), "m.mindir", &OpenOptions::new())
}

fn refusal(model: &ModelProto) -> String {
    read(model).unwrap_err().to_string()
}

fn refused_graph(change: impl FnOnce(&mut GraphProto)) -> String {
    let mut graph = graph();
    change(&mut graph);
    refusal(&model_of(&graph))
}

fn refused_weight(change: impl FnOnce(&mut TensorProto)) -> String {
    let mut weight = weight();
    change(&mut weight);
    refused_graph(|graph| graph.parameter = vec![encode(&weight)])
}

#[track_caller]
fn assert_says(message: String, part: &str) {
    assert!(message.contains(part), "{message:?} does not say {part:?}");
}

#[test]
fn the_sound_model_is_read() {
    let model = read(&model_of(&graph())).unwrap();
    let node = &model.graph.nodes[0];
    assert_eq!(node.op_type(), Some("Add"));
    assert_eq!(node.primitive().unwrap().kind, PrimitiveKind::Function);
    assert_eq!(&*node.name, "a");
    assert_eq!(&*model.graph.inputs[0].name, "x");
    assert_eq!(&*model.graph.parameters[0].name, "w");
    assert_eq!(model.parameter("g:w").unwrap().tensor().unwrap().dims(), [2]);
    assert!(model.warnings.is_empty());
}

#[test]
fn weights_share_the_bytes_of_the_file() {
    let bytes = encode(&model_of(&graph()));
    let range = bytes.as_ptr_range();
    let model = Model::from_bytes(bytes, "m.mindir", &OpenOptions::new()).unwrap();
    assert!(range.contains(&model.graph.parameters[0].tensor().unwrap().bytes().as_ptr()));
}

#[test]
fn what_does_not_matter_is_tolerated() {
    let sound = model_of(&graph());
    let model = read(&ModelProto { producer_name: None, model_version: None, ..sound.clone() }).unwrap();
    assert_eq!(model.warnings.len(), 2);
    let model = read(&ModelProto { mind_ir_version: None, ..sound.clone() }).unwrap();
    assert_eq!(model.level, 3);
    let model = read(&ModelProto { preprocessor: text("[text as in 1.5]"), ..sound.clone() }).unwrap();
    assert_eq!(model.preprocessor, text("[text as in 1.5]"));
    let mut bytes = sound.encode_to_vec();
    bytes.extend([0xc2, 0x3e, 0x01, 0x07]); // field 1000
    assert!(Model::from_bytes(bytes.into(), "m.mindir", &OpenOptions::new()).is_ok());
}

#[test]
fn models_without_the_essentials_are_refused() {
    let sound = model_of(&graph());
    assert_says(refusal(&ModelProto::default()), "m.mindir: byte 0: the file is empty");
    assert_says(refusal(&ModelProto { graph: None, ..sound.clone() }), "no graph");
    assert_says(refusal(&ModelProto { little_endian: Some(false), ..sound.clone() }), "big-endian");
    let message = refusal(&ModelProto { mind_ir_version: Some(4), ..sound.clone() });
    assert_says(message.clone(), "feature level 4");
    assert_says(message, "highest supported one is 3");
    assert_says(refusal(&ModelProto { mind_ir_version: Some(-1), ..sound }), "feature level -1");
    assert_says(refused_graph(|graph| graph.name = None), "graph: it has no name");
    assert_says(refused_graph(|graph| graph.output.clear()), "the graph has no output");
}

#[test]
fn weights_must_fit_their_shapes() {
    let data = |size| Some(Bytes::from(vec![0; size]));
    let message = refused_weight(|weight| weight.raw_data = data(7));
    assert_says(message, "graph.parameter[0]: f32[2] needs 8 bytes, but there are 7");
    assert_says(refused_weight(|weight| weight.raw_data = data(9)), "there are 9");
    assert_says(refused_weight(|weight| weight.raw_data = None), "the parameter has no data");
    assert_says(refused_weight(|weight| weight.data_type = Some(19)), "19 is not an element type");
    assert_says(refused_weight(|weight| weight.dims = vec![-1]), "negative");
    assert_says(refused_weight(|weight| weight.dims = vec![i64::MAX, i64::MAX]), "too large");
    assert_says(refused_weight(|weight| weight.dims = vec![1; 33]), "rank 33");
    assert_says(refused_weight(|weight| weight.compression_type = Some(2)), "compression");
}

#[test]
fn types_may_have_unknown_extents_but_no_others() {
    let input = |dims: &[i64]| {
        let tensor = TensorProto { dims: dims.into(), data_type: Some(1), ..Default::default() };
        encode(&ValueInfoProto { name: text("g:x"), tensor: vec![encode(&tensor)], ..Default::default() })
    };
    for dims in [vec![-2], vec![-1, 3], vec![]] {
        let mut graph = graph();
        graph.input = vec![input(&dims)];
        let model = read(&model_of(&graph)).unwrap();
        assert_eq!(model.graph.inputs[0].ty.as_ref().unwrap().as_tensor().unwrap().dims, dims);
    }
    for dims in [vec![-3], vec![-2, 1]] {
        assert_says(refused_graph(|graph| graph.input = vec![input(&dims)]), "graph.input[0].tensor[0]");
    }
}

#[test]
fn names_are_defined_once_and_before_use() {
    let twice = |graph: &mut GraphProto| graph.node.push(graph.node[0].clone());
    assert_says(refused_graph(twice), "graph.node[1]: the name \"g:a:1\" is defined twice");
    let undefined = encode(&node("g:b:2", "REF::Add:1", &["g:x", "g:c:3"]));
    let message = refused_graph(|graph| graph.node.push(undefined));
    assert_says(message, "graph.node[1].input[1]: \"g:c:3\" is not defined");
    let own = encode(&node("g:b:2", "REF::Add:1", &["g:b:2"]));
    assert_says(refused_graph(|graph| graph.node.push(own)), "is not defined");
    let callee = encode(&node("g:b:2", "REF::Sub:9", &["g:x"]));
    assert_says(refused_graph(|graph| graph.node.push(callee)), "\"Sub:9\" is not defined");
    let output = value_info("g:nothing");
    assert_says(refused_graph(|graph| graph.output = vec![output]), "graph.output[0]");
    let mut model = model_of(&graph());
    model.primitives.push(encode(&add()));
    assert_says(refusal(&model), "primitives[1]: the name \"Add:1\" is defined twice");
    let mut model = model_of(&graph());
    model.functions.push(encode(&graph()));
    assert_says(refusal(&model), "functions[0]: the name \"g\" is defined twice");
}

#[test]
fn nodes_need_an_output_an_operator_and_constants_a_value() {
    let sound = node("g:b:2", "REF::Add:1", &["g:x"]);
    let with = |node: NodeProto| refused_graph(|graph| graph.node.push(encode(&node)));
    assert_says(with(NodeProto { output: vec![], ..sound.clone() }), "0 outputs instead of one");
    assert_says(with(NodeProto { op_type: None, ..sound }), "no op_type");
    assert_says(with(node("c", "Constant", &[])), "graph.node[1]: the constant has no value");
    assert_says(with(node("g:p:1", "PyFunc", &["g:x"])), "runs code");
    assert_says(with(node("g:p:1", "REF::MetaFuncGraph::map", &["g:x"])), "front end");
    let mut model = model_of(&graph());
    let unsafe_primitive = PrimitiveProto { op_type: text("PyExecute"), ..add() };
    model.primitives = vec![encode(&unsafe_primitive)];
    assert_says(refusal(&model), "runs code");
}

#[test]
fn calls_pass_as_many_arguments_as_the_function_takes() {
    let function = GraphProto {
        name: text("f"),
        input: vec![value_info("f:x")],
        output: vec![value_info("f:x")],
        ..Default::default()
    };
    let call = |inputs: &[&str]| {
        let mut graph = graph();
        graph.node.push(encode(&node("g:b:2", "REF::f", inputs)));
        let mut model = model_of(&graph);
        model.functions.push(encode(&function));
        model
    };
    let model = read(&call(&["g:x"])).unwrap();
    assert_eq!(model.graph_named("f").unwrap().inputs.len(), 1);
    assert_says(refusal(&call(&["g:x", "g:w"])), "passes 2 arguments, but f takes 1");
}

#[test]
fn values_nest_up_to_a_limit() {
    let nested = |levels: usize| {
        let mut attribute = none();
        for _ in 0..levels {
            let values = vec![encode(&attribute)];
            attribute =
                AttributeProto { name: text("value"), kind: Some(kind::TUPLE), values, ..Default::default() };
        }
        let mut constant = node("c", "Constant", &[]);
        constant.attribute = vec![encode(&attribute)];
        let mut graph = graph();
        graph.node.push(encode(&constant));
        read(&model_of(&graph))
    };
    assert!(nested(90).is_ok());
    assert_says(nested(100).unwrap_err().to_string(), "nest deeper than 100");
    assert!(nested(2000).is_err());
}

#[test]
fn values_of_every_kind_are_read() {
    let read = |attribute: AttributeProto| {
        let mut constant = node("c", "Constant", &[]);
        constant.attribute = vec![encode(&attribute)];
        let mut graph = graph();
        graph.node.push(encode(&constant));
        read(&model_of(&graph)).map(|model| model.graph.nodes[1].constant().unwrap().clone())
    };
    let of = |kind| AttributeProto { kind: Some(kind), ..Default::default() };
    assert_eq!(read(of(kind::UMONAD)).unwrap(), Value::Monad(Monad::Memory));
    let uint = AttributeProto { i: Some(-1), ..of(kind::UINT64) };
    assert_eq!(read(uint).unwrap(), Value::Uint(u64::MAX, crate::DataType::Uint64));
    let typed = |name, raw_data| {
        let tensor =
            TensorProto { name: text(name), data_type: Some(10), dims: vec![0], raw_data, ..weight() };
        AttributeProto { tensors: vec![encode(&tensor)], ..of(kind::TENSORS) }
    };
    let dtype = crate::DataType::Float16;
    assert_eq!(read(typed("tensor0", None)).unwrap(), Value::Type { dtype, tensor: true });
    assert_eq!(read(typed("value0", None)).unwrap(), Value::Type { dtype, tensor: false });
    let empty = read(typed("value0", Some(Bytes::new()))).unwrap();
    assert_eq!(empty.as_tensor().unwrap().dims(), [0]);
    let entry = AttributeProto { name: text("k"), values: vec![encode(&none())], ..Default::default() };
    let dict = AttributeProto { values: vec![encode(&entry)], ..of(kind::DICT) };
    assert_eq!(read(dict).unwrap(), Value::Dict(vec![("k".into(), Value::None)]));
    let bytes = AttributeProto { s: Some(Bytes::from_static(&[0xff])), ..of(kind::STRING) };
    assert!(matches!(read(bytes).unwrap(), Value::Opaque { kind: kind::STRING, .. }));
    assert!(matches!(read(of(14)).unwrap(), Value::Opaque { kind: 14, .. }));
    let named = AttributeProto { s: text("nn.Dense"), ..of(kind::CLASS_TYPE) };
    assert_eq!(
        read(named).unwrap(),
        Value::Object { kind: crate::ObjectKind::Class, name: "nn.Dense".into() }
    );
    assert_says(read(of(kind::FUNCTOR)).unwrap_err().to_string(), "the functor is missing");
    assert_says(read(of(0)).unwrap_err().to_string(), "the attribute has no type");
    assert_says(read(of(kind::TENSORS)).unwrap_err().to_string(), "holds no tensor");
}

#[test]
fn the_retired_varint_of_field_18_is_ignored() {
    let tuple = AttributeProto { name: text("shape"), kind: Some(kind::TUPLE), ..Default::default() };
    let mut shape = tuple.encode_to_vec();
    shape.extend([0x90, 0x01, 0x07]); // field 18, varint 7
    let mut call = node("g:b:2", "REF::Add:1", &["g:x", "g:x"]);
    call.attribute = vec![shape.into()];
    let mut graph = graph();
    graph.node.push(encode(&call));
    let model = read(&model_of(&graph)).unwrap();
    assert_eq!(model.graph.nodes[1].ty, Some(Type::Tuple(Default::default())));
}

#[test]
fn names_need_not_be_text() {
    let mut graph = graph();
    graph.name = Some(Bytes::from_static(&[b'g', 0xff]));
    let model = read(&model_of(&graph)).unwrap();
    assert_eq!(&*model.graph.name, "g\u{10ffff}");
}

/// Opens a model whose weight is at the given place outside the graph file.
fn external(folder: &Path, location: &str, offset: i64, length: i64) -> crate::Result<Model> {
    let external = ExternalDataProto {
        location: text(location),
        offset: Some(offset),
        length: Some(length),
        ..Default::default()
    };
    let weight = TensorProto { raw_data: None, external_data: Some(encode(&external)), ..weight() };
    let graph = GraphProto { parameter: vec![encode(&weight)], ..graph() };
    Model::from_bytes(encode(&model_of(&graph)), folder.join("m_graph.mindir"), &OpenOptions::new())
}

#[test]
fn weights_outside_the_file_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("model");
    fs::create_dir_all(inside.join("v")).unwrap();
    let mut data = vec![0u8; 128];
    data[0] = 1;
    data[64] = 42;
    fs::write(inside.join("v/data_0"), &data).unwrap();
    fs::write(folder.path().join("secret"), &data).unwrap();
    symlink(folder.path().join("secret"), inside.join("v/link")).unwrap();
    symlink("data_0", inside.join("v/near")).unwrap();
    data[0] = 0;
    fs::write(inside.join("v/big_endian"), &data).unwrap();
    fs::write(inside.join("v/short"), [1; 63]).unwrap();

    let model = external(&inside, "v/data_0", 64, 8).unwrap();
    assert_eq!(model.graph.parameters[0].data.data[0], 42);
    assert!(external(&inside, "v/near", 64, 8).is_ok());
    let refusal =
        |location: &str, offset, length| external(&inside, location, offset, length).unwrap_err().to_string();
    assert_says(refusal("", 64, 8), "not a path below");
    assert_says(refusal("../secret", 64, 8), "not a path below");
    assert_says(refusal("/etc/passwd", 0, 8), "not a path below");
    assert_says(refusal("v/link", 64, 8), "leads out");
    assert_says(refusal("v/none", 64, 8), "cannot resolve");
    assert_says(refusal("v", 64, 8), "not a regular file");
    assert_says(refusal("v/data_0", -64, 8), "offset -64");
    assert_says(refusal("v/data_0", 64, -8), "length -8");
    assert_says(refusal("v/data_0", 124, 8), "do not lie within its 128 bytes");
    assert_says(refusal("v/data_0", i64::MAX, i64::MAX), "do not lie within");
    assert_says(refusal("v/data_0", 64, 4), "f32[2] needs 8 bytes, but its length is 4");
    assert_says(refusal("v/data_0", 64, 12), "its length is 12");
    assert_says(refusal("v/big_endian", 64, 8), "little-endian");
    assert_says(refusal("v/short", 0, 8), "shorter than its header");
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| Model::open(path, &OpenOptions::new()).unwrap_err().to_string();
    assert_says(open(&folder.path().join("none.mindir")), "cannot open");
    assert_says(open(folder.path()), "not a regular file");
    let text = folder.path().join("text.mindir");
    fs::write(&text, "this is no model").unwrap();
    assert_says(open(&text), "the file is truncated, or of another format");
    fs::write(&text, "").unwrap();
    assert_says(open(&text), "the file is empty");
}

#[test]
fn weights_may_come_from_anywhere() {
    let external = |location: &str| {
        let external = ExternalDataProto {
            location: text(location),
            offset: Some(64),
            length: Some(8),
            ..Default::default()
        };
        let weight = TensorProto { raw_data: None, external_data: Some(encode(&external)), ..weight() };
        encode(&model_of(&GraphProto { parameter: vec![encode(&weight)], ..graph() }))
    };
    let mut data = vec![0u8; 72];
    (data[0], data[64]) = (1, 42);
    let asked = std::cell::RefCell::new(Vec::new());
    let files = |location: &str| {
        asked.borrow_mut().push(location.to_owned());
        match location {
            "v/data_0" => Ok(Bytes::from(data.clone())),
            _ => Err(std::io::Error::other("out of stock")),
        }
    };
    let read = |location: &str| Model::from_bytes_with(external(location), "m", &OpenOptions::new(), &files);
    assert_eq!(read("v/data_0").unwrap().graph.parameters[0].data.data[0], 42);
    assert_says(read("v/data_1").unwrap_err().to_string(), "weights in \"v/data_1\": out of stock");
    assert_says(read("../data_0").unwrap_err().to_string(), "not a path below");
    assert_eq!(*asked.borrow(), ["v/data_0", "v/data_1"]);
}

#[test]
fn a_file_is_read_once_however_it_is_written() {
    let weight = |(name, location): (&str, &str)| {
        let external = ExternalDataProto {
            location: text(location),
            offset: Some(64),
            length: Some(8),
            ..Default::default()
        };
        encode(&TensorProto {
            name: text(name),
            raw_data: None,
            external_data: Some(encode(&external)),
            ..weight()
        })
    };
    let parameter = [("g:w", "v/data_0"), ("g:u", "v//data_0"), ("g:v", "v/./data_0")].map(weight).to_vec();
    let asked = std::cell::RefCell::new(Vec::new());
    let files = |location: &str| {
        asked.borrow_mut().push(location.to_owned());
        Ok(Bytes::from([&[1], &[0; 71][..]].concat()))
    };
    let bytes = encode(&model_of(&GraphProto { parameter, ..graph() }));
    Model::from_bytes_with(bytes, "m", &OpenOptions::new(), &files).unwrap();
    assert_eq!(*asked.borrow(), ["v/data_0"]);
}

#[test]
fn files_can_be_read_ahead_and_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mindir");
    fs::write(&path, model_of(&graph()).encode_to_vec()).unwrap();
    assert!(Model::open(&path, &OpenOptions::new().read_ahead()).is_ok());
    // The system may allow no memory to be locked.
    if let Err(error) = Model::open(&path, &OpenOptions::new().lock()) {
        assert_says(error.to_string(), "cannot lock in memory");
    }
}

#[test]
fn scalars_may_be_packed() {
    // dims [2] in packed form, then as they are written.
    for dims in [&[0x0a, 0x01, 0x02][..], &[0x08, 0x02]] {
        let rest = TensorProto { dims: vec![], ..weight() };
        let weight = [dims, &rest.encode_to_vec()].concat();
        let model = read(&model_of(&GraphProto { parameter: vec![weight.into()], ..graph() })).unwrap();
        assert_eq!(model.graph.parameters[0].dims(), [2]);
    }
}

#[test]
fn unknown_fields_are_kept_or_reported() {
    let unknown: &[u8] = &[0xc2, 0x3e, 0x01, 0x07]; // field 1000
    let with = |message: Vec<u8>| Bytes::from([&message, unknown].concat());
    let mut graph = graph();
    graph.node = vec![with(node("g:a:1", "REF::Add:1", &["g:x", "g:w"]).encode_to_vec())];
    graph.parameter = vec![with(weight().encode_to_vec())];
    let mut model = model_of(&graph);
    model.graph = Some(with(graph.encode_to_vec()));
    model.primitives = vec![with(add().encode_to_vec())];
    let bytes = with(model.encode_to_vec());
    let model = Model::from_bytes(bytes, "m.mindir", &OpenOptions::new()).unwrap();
    assert_eq!(model.warnings, [""; 0]);
    for extra in [
        &model.extra,
        &model.graph.extra,
        &model.graph.nodes[0].extra,
        &model.graph.parameters[0].extra,
        &model.primitives[0].extra,
    ] {
        assert_eq!(extra, unknown);
    }
    let again = Model::from_bytes(model.to_bytes().unwrap(), "m", &OpenOptions::new()).unwrap();
    assert_eq!(again, model);

    let mut constant = node("c", "Constant", &[]);
    constant.attribute = vec![with(none().encode_to_vec())];
    graph.node.push(encode(&constant));
    let model = read(&model_of(&graph)).unwrap();
    assert_eq!(
        model.warnings,
        [
            "1 values, types or nodes hold more than is understood (unknown fields, names that occur twice); that is dropped"
        ]
    );
}

#[test]
fn promotion_is_kept() {
    let model = read(&model_of(&graph())).unwrap();
    assert!(model.primitives[0].promotes);
    let again = Model::from_bytes(model.to_bytes().unwrap(), "m", &OpenOptions::new()).unwrap();
    assert_eq!(again, model);
}

#[test]
fn layouts_and_the_data_pipeline_are_read() {
    let layout = LayoutProto {
        name: text("fc.weight"),
        device_arrangement_int: vec![2, 4],
        tensor_map_int: vec![1, -1],
        slice_shape_int: vec![8, 16],
        uniform_split: Some(true),
        peer_rank: Some(3),
        ..Default::default()
    };
    let step = PreprocessOpProto { op_type: text("\"Map\""), offload: Some(true), ..Default::default() };
    let model = read(&ModelProto {
        parallel: Some(encode(&ParallelProto { layout: vec![encode(&layout)] })),
        preprocessor: Some(encode(&PreprocessorProto { op: vec![encode(&step)] })),
        ..model_of(&graph())
    })
    .unwrap();
    let [layout] = &*model.layouts else { panic!("{:?}", model.layouts) };
    assert_eq!((&*layout.name, &*layout.tensor_map, layout.peer_rank), ("fc.weight", &[1, -1][..], Some(3)));
    let steps = model.preprocessing().unwrap();
    assert_eq!((&*steps[0].op_type, steps[0].offload), ("\"Map\"", Some(true)));
    let again = Model::from_bytes(model.to_bytes().unwrap(), "m", &OpenOptions::new()).unwrap();
    assert_eq!(again, model);
}
