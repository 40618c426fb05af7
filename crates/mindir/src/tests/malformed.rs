//! Every kind of malformed input that the format's description lists is refused, with the reason and the place.

use super::*;
use crate::{Error, Location};

/// A case: what is malformed, the bytes, and what the message says.
type Case = (&'static str, Bytes, &'static str);

fn model_with(change: impl FnOnce(&mut ModelProto)) -> Bytes {
    let mut model = model_of(&graph());
    change(&mut model);
    encode(&model)
}

fn graph_with(change: impl FnOnce(&mut GraphProto)) -> Bytes {
    let mut graph = graph();
    change(&mut graph);
    encode(&model_of(&graph))
}

fn weight_with(change: impl FnOnce(&mut TensorProto)) -> Bytes {
    let mut weight = weight();
    change(&mut weight);
    graph_with(|graph| graph.parameter = vec![encode(&weight)])
}

/// The sound model with one more node.
fn node_added(change: impl FnOnce(&mut NodeProto)) -> Bytes {
    let mut added = node("g:b:2", "REF::Add:1", &["g:x", "g:w"]);
    change(&mut added);
    graph_with(|graph| graph.node.push(encode(&added)))
}

/// The sound model with one more constant.
fn constant(attribute: &AttributeProto) -> Bytes {
    node_added(|node| {
        *node = super::node("c", "Constant", &[]);
        node.attribute = vec![encode(attribute)];
    })
}

fn tensors(tensor: &TensorProto) -> AttributeProto {
    AttributeProto { kind: Some(kind::TENSORS), tensors: vec![encode(tensor)], ..Default::default() }
}

fn damaged_files() -> Vec<Case> {
    let sound = encode(&model_of(&graph()));
    let cut = sound.slice(..sound.len() - 5);
    let tail = [&*sound, b"\x07garbage"].concat().into();
    let mut long = sound.to_vec();
    // The length of the graph, whose key follows three strings.
    let at = long.iter().position(|&byte| byte == 0x3a).unwrap();
    long[at + 1] |= 0x7f;
    vec![
        ("empty file", Bytes::new(), "empty"),
        ("truncated file", cut, "truncated"),
        ("garbage tail", tail, "another format"),
        ("length past the end", long.into(), "truncated"),
        ("overlong varint", Bytes::from_static(&[0xff; 16]), "another format"),
        ("group that never ends", Bytes::from_static(&[0x0b, 0x0b, 0x0b]), "another format"),
        ("other wire type", Bytes::from_static(&[0x38, 0x01]), "wire type"),
        ("no graph", model_with(|model| model.graph = None), "no graph"),
        ("level 4", model_with(|model| model.mind_ir_version = Some(4)), "feature level 4"),
        ("level -1", model_with(|model| model.mind_ir_version = Some(-1)), "feature level -1"),
        ("big-endian", model_with(|model| model.little_endian = Some(false)), "big-endian"),
    ]
}

fn graphs() -> Vec<Case> {
    let undefined = |symbol: &'static str| node_added(|node| node.input = text(symbol).into_iter().collect());
    let calls = |op_type: &'static str| node_added(|node| node.op_type = text(op_type));
    let hash_map = encode(&MapTensorProto { name: text("g:m"), ..Default::default() });
    vec![
        ("graph without name", graph_with(|graph| graph.name = None), "no name"),
        ("graph without output", graph_with(|graph| graph.output.clear()), "no output"),
        ("undefined output", graph_with(|graph| graph.output = vec![value_info("y")]), "not defined"),
        ("duplicate node", graph_with(|graph| graph.node.push(graph.node[0].clone())), "defined twice"),
        ("duplicate input", graph_with(|graph| graph.input.push(graph.input[0].clone())), "defined twice"),
        (
            "duplicate weight",
            graph_with(|graph| graph.parameter = vec![encode(&weight()); 2]),
            "defined twice",
        ),
        ("duplicate primitive", model_with(|model| model.primitives.push(encode(&add()))), "defined twice"),
        ("duplicate function", model_with(|model| model.functions.push(encode(&graph()))), "defined twice"),
        ("undefined operand", undefined("g:nothing"), "not defined"),
        (
            "use before definition",
            graph_with(|graph| {
                graph.node.insert(0, encode(&node("g:b:2", "REF::Add:1", &["g:a:1"])));
            }),
            "further down",
        ),
        ("node that takes itself", undefined("g:b:2"), "not defined"),
        ("undefined primitive", calls("REF::Sub:2"), "not defined"),
        ("front end's object", calls("REF::ClassType::Cell"), "front end"),
        ("unsafe operator", calls("PyExecute"), "runs code"),
        ("node without output", node_added(|node| node.output.clear()), "0 outputs"),
        ("node with two outputs", node_added(|node| node.output.push(Bytes::new())), "2 outputs"),
        ("node without operator", node_added(|node| node.op_type = None), "no op_type"),
        ("constant without value", node_added(|node| node.op_type = text("Constant")), "no value"),
        (
            "partial of a weight",
            node_added(|node| {
                *node = super::node("g:b:2", "Partial", &["g:w"]);
            }),
            "no function",
        ),
        (
            "partial of nothing",
            node_added(|node| {
                *node = super::node("g:b:2", "Partial", &[]);
            }),
            "no function",
        ),
        (
            "hash map without parts",
            graph_with(|graph| graph.map_parameter = vec![hash_map]),
            "no default_value",
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let data = |size: usize| Some(Bytes::from(vec![0; size]));
    let dims = |dims: &'static [i64]| weight_with(|weight| weight.dims = dims.into());
    vec![
        ("weight without data", weight_with(|weight| weight.raw_data = None), "no data"),
        ("weight with short data", weight_with(|weight| weight.raw_data = data(7)), "needs 8 bytes"),
        ("weight with long data", weight_with(|weight| weight.raw_data = data(12)), "needs 8 bytes"),
        ("unknown element type", weight_with(|weight| weight.data_type = Some(99)), "not an element type"),
        ("no element type", weight_with(|weight| weight.data_type = None), "needs an element type"),
        ("negative extent", dims(&[-1]), "negative"),
        ("overflowing extents", dims(&[i64::MAX, 3]), "too large"),
        ("extents that overflow in bytes", dims(&[i64::MAX / 2]), "too large"),
        (
            "extents below -2",
            graph_with(|graph| {
                let tensor = TensorProto { dims: vec![-3], data_type: Some(1), ..Default::default() };
                graph.input[0] = encode(&ValueInfoProto {
                    name: text("g:x"),
                    tensor: vec![encode(&tensor)],
                    ..Default::default()
                });
            }),
            "below -1",
        ),
        ("rank 100", weight_with(|weight| weight.dims = vec![1; 100]), "rank 100"),
        ("compressed weight", weight_with(|weight| weight.compression_type = Some(3)), "compression"),
        (
            "quantisation without name",
            weight_with(|weight| weight.quant_params = vec![Bytes::new()]),
            "no algorithm",
        ),
        (
            "constant with short data",
            constant(&tensors(&TensorProto { raw_data: data(3), ..weight() })),
            "needs 8 bytes",
        ),
        ("constant without type", constant(&AttributeProto::default()), "no type"),
        (
            "tensors without tensor",
            constant(&AttributeProto { kind: Some(kind::TENSORS), ..Default::default() }),
            "holds no tensor",
        ),
        (
            "dictionary entry without value",
            constant(&AttributeProto {
                kind: Some(kind::DICT),
                values: vec![Bytes::new()],
                ..Default::default()
            }),
            "exactly one value",
        ),
        (
            "deep nesting",
            {
                let wrap = |inner: AttributeProto, _| AttributeProto {
                    kind: Some(kind::TUPLE),
                    values: vec![encode(&inner)],
                    ..Default::default()
                };
                constant(&(0..500).fold(none(), wrap))
            },
            "nest deeper",
        ),
        (
            "text that spells no sequence",
            constant(&AttributeProto { ref_attr_name: text("scalar:Tuple[value1"), ..Default::default() }),
            "cannot read",
        ),
    ]
}

fn place(error: &Error) -> &Location {
    match error {
        Error::Invalid { at, .. } | Error::Unsupported { at, .. } | Error::External { at, .. } => at,
        error => panic!("{error} has no place"),
    }
}

#[test]
fn all_of_it_is_refused_with_reason_and_offset() {
    for (what, bytes, reason) in [damaged_files(), graphs(), sizes()].concat() {
        let size = bytes.len() as u64;
        let error = Model::from_bytes(bytes, "m.mindir", &OpenOptions::new()).expect_err(what);
        assert_says(error.to_string(), reason);
        let offset = place(&error).offset;
        assert!(offset.is_some_and(|offset| offset <= size), "{what}: {offset:?} of {size}");
    }
}

#[test]
fn what_looks_similar_is_accepted() {
    let function = |name: &'static str, callee: &str| {
        let call = node(&format!("{name}:c:1"), &format!("REF::{callee}"), &[&format!("{name}:x")]);
        encode(&GraphProto {
            name: text(name),
            input: vec![value_info(&format!("{name}:x"))],
            node: vec![encode(&call)],
            output: vec![value_info(&format!("{name}:c:1"))],
            ..Default::default()
        })
    };
    let functions = vec![function("a", "b"), function("b", "a")];
    let partial = node_added(|node| *node = super::node("g:b:2", "Partial", &["g", "g:x"]));
    let raw_wins = weight_with(|weight| weight.external_data = Some(Bytes::new()));
    for (what, bytes) in [
        ("functions that call each other", model_with(|model| model.functions = functions)),
        ("partial of a graph", partial),
        ("data in the file and outside", raw_wins),
        ("no level", model_with(|model| model.mind_ir_version = None)),
    ] {
        assert!(Model::from_bytes(bytes, "m.mindir", &OpenOptions::new()).is_ok(), "{what}");
    }
}
