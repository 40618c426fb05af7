//! The text form: nothing is lost, and no text does harm.

mod support;

use mslite_graph_opt::{Error, Graph};
use proptest::prelude::*;
use support::generate::{Palette, graphs};

const EXAMPLE: &str = r#"
# Names of values are free; types and origins may be left out.
graph "mlp" {
  input %x "x" : f32[batch, 3]
  state %count "count" : i64[] = [41]
  constant %w "weight" : f32[3, 2] = [1, 2.5, -0.0, nan, inf, 1e-3]
  constant %one "" : i64[] = [1]
  %h = matmul(activation=clip(low=0.0, high=6.0)) %x, %w @"Default/\"a\"\u{a}"
  %v, %i = top_k(k=1, axis=1, largest=true) %h : f32[batch, 1], i32[batch, 1]
  collective(op=send(dest=1, tag=-3) group="g, \"h\"", ranks=[0, 1]) %v
  %n = add %count, %one
  output "values" %v
  output "indices" %i
  next %count = %n
}
"#;

const NORMAL: &str = r#"graph "mlp" {
  input %0 "x" : f32[batch, 3]
  state %1 "count" : i64[] = [41]
  constant %2 "weight" : f32[3, 2] = [1.0, 2.5, -0.0, nan, inf, 0.001]
  constant %3 "" : i64[] = [1]
  %4 = matmul(activation=clip(low=0.0, high=6.0)) %0, %2 : f32[batch, 2] @"Default/\"a\"\u{a}"
  %5, %6 = top_k(k=1, axis=1, largest=true) %4 : f32[batch, 1], i32[batch, 1]
  collective(op=send(dest=1, tag=-3) group="g, \"h\"", ranks=[0, 1]) %5
  %7 = add %1, %3 : i64[]
  output "values" %5
  output "indices" %6
  next %1 = %7
}
"#;

#[test]
fn free_text_gets_the_normal_form() {
    let graph: Graph = EXAMPLE.parse().unwrap();
    assert_eq!(graph.to_string(), NORMAL);
    assert_eq!(graph.nodes().next().unwrap().1.origin.as_ref(), "Default/\"a\"\n");
}

const CONTROL: &str = r#"graph "g" {
  input %0 "c" : bool[]
  input %1 "x" : f32[rows]
  constant %2 "" : i32[] = [0]
  %3 = if %0, %1, %1 : f32[rows] @"branch" {
    graph "then" {
      input %0 "x" : f32[rows]
      constant %1 "" : i32[] = [3]
      %2, %3 = loop(carried=1) %1, %0 : f32[rows], i32[] @"turns" {
        graph "body" {
          input %0 "i" : i32[]
          input %1 "x" : f32[rows]
          constant %2 "" : i32[] = [1]
          %3 = sub %0, %2 : i32[]
          %4 = greater %3, %2 : bool[]
          %5 = neg %1 : f32[rows]
          output "again" %4
          output "i" %3
          output "x" %5
          output "i" %3
        }
      }
      output "y" %2
    }
    graph "otherwise" {
      input %0 "x" : f32[rows]
      output "y" %0
    }
  }
  output "y" %3
}
"#;

#[test]
fn graphs_inside_operations_follow_their_node() {
    let graph: Graph = CONTROL.parse().unwrap();
    assert_eq!(graph.to_string(), CONTROL);
    let names: Vec<&str> = graph.nodes_within().map(|(_, node)| node.op.name()).collect();
    assert_eq!(names, ["if", "loop", "sub", "greater", "neg"]);
    let fixed = mslite_graph_opt::specialise(&graph, &[&[], &[4]]).unwrap();
    assert_eq!(fixed.to_string(), CONTROL.replace("rows", "4"));
}

#[test]
fn graphs_inside_operations_must_fit() {
    for (from, to, reason) in [
        ("input %0 \"c\" : bool[]", "input %0 \"c\" : i32[]", "the condition is i32[], not bool[]"),
        ("if %0, %1, %1", "if %0, %1", "takes 1 inputs, not 0"),
        ("if %0, %1, %1", "if %0, %1, %2", "takes f32[rows], not i32[]"),
        ("output \"y\" %2", "output \"y\" %3", "one graph gives i32[], the other f32[rows]"),
        ("output \"y\" %2\n", "output \"y\" %2\noutput \"z\" %2\n", "one graph gives 2 results, the other 1"),
        ("output \"again\" %4", "output \"again\" %3", "the condition is i32[], not bool[]"),
        (
            "output \"i\" %3\n",
            "output \"i\" %4\n",
            "a carried value is i32[] in the first turn and then bool[]",
        ),
        ("carried=1", "carried=4", "does not give a condition and 4 carried values"),
        ("graph \"otherwise\"", "state", "expected `graph`"),
        ("  output \"y\" %0\n    }", "  state %9 \"s\" : i32[] = [0]\n output \"y\" %0\n}", "has states"),
        ("%4 = greater %3, %2 : bool[]", "%4 = greater %3, %2 : bool[] {", "expected `graph`"),
        (
            "input %1 \"x\" : f32[rows]\n",
            "input %1 \"x\" : f32[rows] {\ngraph \"g\" {\n}\n}\n",
            "only nodes have graphs inside",
        ),
    ] {
        let text = CONTROL.replacen(from, to, 1);
        assert_ne!(text, CONTROL, "{from}");
        let error = text.parse::<Graph>().unwrap_err().to_string();
        assert!(error.contains(reason), "{to}: {error}");
    }
    let deep = "%0 = if %c {\ngraph \"g\" {\n".repeat(10_000);
    assert!(format!("graph \"g\" {{\n{deep}").parse::<Graph>().is_err());
}

#[test]
fn a_summary_leaves_data_out_and_cannot_be_read() {
    let text = "graph \"g\" {\nconstant %0 \"\" : u8[20] = hex:0102030405060708090a0b0c0d0e0f1011121314\n}";
    let graph: Graph = text.parse().unwrap();
    let summary = graph.summary().to_string();
    assert!(summary.contains("= <20 elements>"), "{summary}");
    let error = summary.parse::<Graph>().unwrap_err().to_string();
    assert_eq!(error, "line 2: the data was left out of this text (a summary); write the graph in full");
}

#[test]
fn errors_name_the_line() {
    for (from, to, line, reason) in [
        ("%x, %w @", "%x, %wrong @", 8, "%wrong is not defined before"),
        ("f32[batch, 1], i32", "f32[batch, 2], i32", 9, "not what is written"),
        ("%n = add", "%n = sum", 11, "`sum` is not an operation"),
        ("k=1, ", "", 9, "attribute k is missing"),
        ("k=1", "k=1, j=2", 9, "attribute `j` is not expected here"),
        ("%v, %i = top_k", "%v = top_k", 9, "top_k has 2 results, not 1"),
        ("next %count", "next %x", 14, "is not a state"),
        ("f32[3, 2] = [1,", "f32[3, 2] = [", 6, "24 bytes, but there are 20"),
        ("f32[3, 2]", "f32[3, -2]", 6, "-2 is not an extent"),
        ("\n}", "", 14, "the graph has no `}`"),
        ("%count, %one", "%count, %w", 11, "differ in type"),
        ("%one \"\"", "%w \"\"", 7, "%w is defined twice"),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE, "{from}");
        match text.parse::<Graph>() {
            Err(Error::Parse { line: actual, reason: text }) => {
                assert_eq!(actual, line, "{text}");
                assert!(text.contains(reason), "{text}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn extents_that_grow_from_node_to_node_stay_small() {
    let mut text = "graph \"g\" {\ninput %a \"a\" : f32[p]\ninput %b \"b\" : f32[q]\n".to_owned();
    for i in 0..200 {
        let (x, y) = match i {
            0 => ("a".to_owned(), "b".to_owned()),
            1 => ("b".to_owned(), "0".to_owned()),
            i => ((i - 2).to_string(), (i - 1).to_string()),
        };
        text += &format!("%{i} = add %{x}, %{y}\n");
    }
    let graph: Graph = (text + "}").parse().unwrap();
    for (_, node) in graph.nodes() {
        let shape = &graph.spec(node.results[0]).shape;
        assert!(shape.to_string().len() < 10_000, "{shape}");
    }
    assert_eq!(graph.to_string().parse::<Graph>().unwrap().to_string(), graph.to_string());
}

#[test]
fn text_made_to_harm_is_refused_or_harmless() {
    let sums = |n: usize| (0..n).map(|i| format!("a{i} + b{i}")).collect::<Vec<_>>();
    let functions = sums(40).into_iter().map(|sum| format!("floor({sum} / 1)")).collect::<Vec<_>>();
    let opaque = |value: String| format!("%0 = opaque(primitive=\"p\", attributes={{a={value}}}) : f32[]");
    for (item, is_harmless) in [
        (opaque("[".repeat(100_000)), false),
        (opaque("[".repeat(100) + &"]".repeat(100)), false),
        (opaque("[".repeat(60) + &"]".repeat(60)), true),
        (opaque("[1,".repeat(100_000)), false),
        (format!("input %x \"x\" : f32[{}]", functions.join("*")), false),
        (format!("input %x \"x\" : f32[{}1{}]", "floor(".repeat(50_000), " / 1)".repeat(50_000)), false),
        (format!("input %x \"x\" : f32[{}]\n%y = reshape(dims=[7]) %x", sums(60).join(", ")), true),
        (format!("constant %c \"\" : f32[{}] = []", usize::MAX), false),
        ("constant %c \"\" : f32[0, 9223372036854775807] = []".to_owned(), true),
        ("input %x \"x\" : f32[9223372036854775807, 9223372036854775807]\n%y = add %x, %x".to_owned(), true),
        (format!("%x = {} : f32[]", "a".repeat(100_000)), false),
    ] {
        let graph = format!("graph \"g\" {{\n{item}\n}}").parse::<Graph>();
        assert_eq!(graph.is_ok(), is_harmless, "{:.100} {:?}", item, graph.err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost(graph in graphs(Palette::All, 40)) {
        let text = graph.to_string();
        let read = text.parse::<Graph>();
        prop_assert_eq!(read.as_ref(), Ok(&graph), "{}", text);
    }

    #[test]
    fn no_text_does_harm(
        graph in graphs(Palette::All, 20),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..5usize, "[-{}()\\[\\]=,%@:\"0-9a-z \n]{0,3}"), 1..8),
    ) {
        let mut text: Vec<char> = graph.to_string().chars().collect();
        for (at, length, new) in edits {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars());
        }
        if let Ok(graph) = text.into_iter().collect::<String>().parse::<Graph>() {
            prop_assert_eq!(graph.to_string().parse::<Graph>().map_err(|e| e.to_string()), Ok(graph));
        }
    }
}
