//! Rules of the import on small models, some of them hostile.

mod wire;

use mslite_graph_opt::ir::op::Binary;
use mslite_graph_opt::ir::{Def, ValueId};
use mslite_graph_opt::{Error, Graph, ImportOptions, Op, import};
use mslite_mindir::{Model, OpenOptions};
use wire::{Function, model};

fn shared(file: &str) -> Option<Graph> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models").join(file);
    let model = path.is_file().then(|| Model::open(&path, &OpenOptions::new()).unwrap())?;
    Some(import(&model, &ImportOptions::default()).unwrap())
}

fn imported(functions: &[Function]) -> Result<Graph, Error> {
    let bytes = model(functions);
    let model = Model::from_bytes(bytes.into(), "memory.mindir", &OpenOptions::new()).unwrap();
    import(&model, &ImportOptions::default())
}

/// The binary function that makes a value, and its operands.
fn binary(graph: &Graph, value: ValueId) -> (Binary, ValueId, ValueId) {
    let (_, node) = graph.producer(value).unwrap();
    match &node.op {
        Op::Binary(f) => (*f, node.operands[0], node.operands[1]),
        op => panic!("{} is no binary function", op.name()),
    }
}

#[test]
fn loads_see_the_writes_that_their_monad_follows() {
    // a = x; y = a + b; b = b + y; outputs (y, b)
    let Some(graph) = shared("format/effects_order.mindir") else { return };
    let [a, b] = graph.states() else { panic!("there are two states") };
    let x = graph.inputs()[0].value;
    assert_eq!(a.next, x, "a is assigned x");
    let y = graph.outputs()[0].value;
    assert_eq!(binary(&graph, y), (Binary::Add, x, b.value), "y reads a after and b before their writes");
    assert_eq!(binary(&graph, b.next), (Binary::Add, b.value, y));
    let (f, read, _) = binary(&graph, graph.outputs()[1].value);
    assert_eq!((f, read), (Binary::Mul, b.next), "the second output reads b after its write");
}

#[test]
fn states_are_read_as_they_were_before_the_run() {
    let Some(graph) = shared("format/kv_cache_assign.mindir") else { return };
    let [cache] = graph.states() else { panic!("there is one state") };
    let (_, joined) = graph.producer(cache.next).unwrap();
    let (_, kept) = graph.producer(joined.operands[0]).unwrap();
    assert_eq!((&*cache.name, kept.operands[0]), ("key_cache", cache.value));
    assert!(
        graph.nodes().any(|(_, node)| node.op == Op::Binary(Binary::Mul) && node.operands[0] == cache.next)
    );
}

#[test]
fn unknown_extents_are_named_after_inputs() {
    let Some(graph) = shared("dev/w_dyn_batch/model.mindir") else { return };
    assert_eq!(graph.spec(graph.inputs()[0].value).to_string(), "f32[x_0, 12]");
    assert_eq!(graph.spec(graph.outputs()[0].value).to_string(), "f32[x_0, 5]");
}

#[test]
fn weights_are_shared_with_the_file() {
    let Some(graph) = shared("dev/w_mlp/model.mindir") else { return };
    let weights = graph.values().filter(|(_, value)| match &value.def {
        Def::Constant(constant) => !constant.name.is_empty(),
        _ => false,
    });
    assert!(weights.count() > 0, "weights keep their names");
}

#[test]
fn a_function_that_calls_itself_is_named() {
    let mut main = Function::new("main");
    main.input("x").call("f", "f", &["main:x"]).output("main:f:1");
    let mut f = Function::new("f");
    f.input("x").call("again", "f", &["f:x"]).output("f:again:1");
    let error = imported(&[main, f]).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("function f")), "{error}");
}

#[test]
fn calls_that_double_are_stopped() {
    let mut functions = vec![Function::new("main")];
    functions[0].input("x").call("y", "f0", &["main:x"]).output("main:y:1");
    for i in 0..40 {
        let mut f = Function::new(&format!("f{i}"));
        f.input("x");
        match i {
            39 => f.apply("y", "ReLU", &["f39:x"]),
            _ => {
                let next = format!("f{}", i + 1);
                f.call("a", &next, &[&format!("f{i}:x")]).call("y", &next, &[&format!("f{i}:a:1")])
            }
        }
        .output(&format!("f{i}:y:1"));
        functions.push(f);
    }
    let error = imported(&functions).unwrap_err().to_string();
    assert!(error.contains("inline to more than"), "{error}");
}

#[test]
fn tuples_that_double_are_stopped() {
    let mut main = Function::new("main");
    main.input("x").apply("t0", "MakeTuple", &["main:x", "main:x"]);
    for i in 1..60 {
        let last = format!("main:t{}:1", i - 1);
        main.apply(&format!("t{i}"), "MakeTuple", &[&last, &last]);
    }
    main.output("main:t59:1");
    let error = imported(&[main]).unwrap_err().to_string();
    assert!(error.contains("too deep or are too large"), "{error}");
}

#[test]
fn extents_that_grow_without_end_are_refused() {
    let mut main = Function::new("main");
    main.open_input("x0").open_input("x1").apply("y0", "Neg", &["main:x0"]).apply("y1", "Neg", &["main:x1"]);
    for i in 2..400 {
        let (one, two) = (format!("main:y{}:1", i - 2), format!("main:y{}:1", i - 1));
        main.apply(&format!("y{i}"), "Add", &[&one, &two]);
    }
    main.output("main:y399:1");
    let error = imported(&[main]).unwrap_err().to_string();
    assert!(error.contains("its extents are too complicated"), "{error}");
}

#[test]
fn long_ranges_take_no_memory() {
    let mut main = Function::new("main");
    main.input("x").int("start", 0).int("end", 1 << 40).int("step", 1);
    main.apply("y", "Range", &["start", "end", "step"]).output("main:y:1");
    let graph = imported(&[main]).unwrap();
    assert_eq!(graph.spec(graph.outputs()[0].value).to_string(), format!("i64[{}]", 1i64 << 40));
    let bytes: usize = graph
        .values()
        .filter_map(|(id, _)| graph.constant(id))
        .map(|constant| constant.tensor.size_bytes())
        .sum();
    assert!(bytes < 100, "{bytes} bytes of constants");
}

#[test]
fn results_that_inference_does_not_make_cannot_be_used() {
    let mut main = Function::new("main");
    main.input("x").apply("y", "Dropout", &["main:x"]).output("main:y:1");
    let error = imported(&[main]).unwrap_err().to_string();
    assert!(error.contains("output \"y_1\""), "{error}");
}

#[test]
fn unknown_primitives_without_a_type_name_their_scope() {
    let mut main = Function::new("main");
    main.input("x").apply("y", "Mystery", &["main:x"]).output("main:y:1");
    let error = imported(&[main]).unwrap_err().to_string();
    assert!(error.contains("Mystery at Default/y"), "{error}");
}
