//! What is written as MindIR is read back as it was.

use mslite_graph_opt::{Error, Graph, ImportOptions, export, import};
use mslite_mindir::{Model, OpenOptions};

/// The graph as it is read from the bytes that it is written to.
fn written(graph: &Graph) -> Graph {
    let bytes = export(graph).unwrap().to_bytes().unwrap();
    let model = Model::from_bytes(bytes, "g.mindir", &OpenOptions::new()).unwrap();
    import(&model, &ImportOptions::default()).unwrap()
}

/// Nodes, inputs, states and outputs, without the numbers of values.
fn lines(graph: &Graph) -> Vec<String> {
    let text = graph.to_string();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("constant"));
    let unnumbered = |line: &str| {
        line.split('%')
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned())
            .collect::<Vec<_>>()
            .join("%")
    };
    lines.map(unnumbered).collect()
}

/// Checks that a graph is read back as it was.
fn stays(text: &str) {
    let graph: Graph = text.parse().unwrap();
    let again = written(&graph);
    assert_eq!(lines(&again), lines(&graph), "{again}");
}

/// Checks that a graph, whose operations are spelt out, is read back as another one.
fn becomes(text: &str, expected: &str) {
    let again = written(&text.parse().unwrap());
    let expected: Graph = expected.parse().unwrap();
    assert_eq!(lines(&again), lines(&expected), "{again}");
}

#[test]
fn elementwise_functions_stay() {
    use mslite_graph_opt::ir::op::{Binary, Unary};
    // These are spelt out.
    for f in Unary::PLAIN.iter().filter(|f| !matches!(f, Unary::Gelu | Unary::SwapParts)) {
        let dtype = if *f == Unary::Not { "bool" } else { "f32" };
        stays(&format!(
            "graph \"g\" {{\ninput %x \"x\" : {dtype}[2]\n%y = {} %x @\"a/b\"\noutput \"y\" %y\n}}",
            f.name()
        ));
    }
    for f in Binary::PLAIN {
        let dtype = if matches!(f, Binary::And | Binary::Or | Binary::Xor) { "i32" } else { "f32" };
        stays(&format!(
            "graph \"g\" {{\ninput %x \"x\" : {dtype}[3, 2]\ninput %w \"w\" : {dtype}[2]\n%y = {} %x, %w @\"a\"\noutput \"y\" %y\n}}",
            f.name()
        ));
    }
}

#[test]
fn operations_stay() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[2, 3, 8, 8]
            input %i "i" : i32[5]
            input %w "w" : f32[4, 3, 3, 3]
            input %m "m" : f32[8, 6]
            input %c "c" : bool[8, 8]
            %0 = conv2d(strides=[2, 1], padding=[1, 1, 2, 2], dilations=[1, 1], groups=1) %x, %w @"conv"
            %1 = conv2d(strides=[1, 1], padding=same, dilations=[1, 2], groups=1) %x, %w @"conv2"
            %2 = pool2d(kernel=[2, 3], strides=[2, 2], padding=[1, 1, 0, 0]) %x @"pool"
            %3 = pool2d(average=true, kernel=[2, 3], strides=[2, 2], padding=same) %x @"pool2"
            %4 = pool2d(average=true, kernel=[2, 2], strides=[2, 2], padding=[1, 1, 1, 1], ceil_mode=true, count_padding=true) %x @"pool3"
            %5 = matmul %x, %m @"product"
            %6 = matmul(transpose_b=true) %x, %x @"scores"
            %7 = matmul(transpose_a=true) %m, %m @"gram"
            %8 = reduce(kind=sum, axes=[1, 3]) %x @"sum"
            %9 = reduce(kind=mean, axes=[2], keep_dims=true) %x @"mean"
            %10 = arg_reduce(largest=true, axis=2, dtype=i64) %x @"arg"
            %11 = cumulative(product=true, axis=1, reverse=true) %x @"run"
            %12 = softmax(axis=1) %x @"soft"
            %13 = softmax(axis=3, log=true) %x @"log"
            %14 = transpose(perm=[0, 2, 3, 1]) %x @"turn"
            %15 = reshape(dims=[6, 64]) %x @"flat"
            %16 = broadcast(dims=[7, 5]) %i @"spread"
            %17 = concat(axis=2) %x, %x @"join"
            %18 = slice(starts=[0, 1, 2, 0], sizes=[2, 2, 3, 8], steps=[1, 1, 1, 1]) %x @"cut"
            %19 = slice(starts=[1, 0, 7, 1], sizes=[2, 3, 3, 4], steps=[-1, 1, -2, 2]) %x @"strides"
            %20 = gather(axis=2, batch_dims=0) %x, %i @"rows"
            %21 = select %c, %x, %x @"choose"
            %22 = cast(to=f16) %x @"narrow"
            %23 = triangle(upper=true, diagonal=1) %m @"upper"
            %24 = triangle(diagonal=0) %m @"lower"
            %25 = pad(low=[0, 0, 1, 2], high=[0, 0, 3, 4], mode=reflect) %x @"mirror"
            %26, %27 = top_k(k=2, axis=3, largest=true) %x @"top"
            output "a" %0
            output "b" %1
            output "c" %2
            output "d" %3
            output "e" %4
            output "f" %5
            output "g" %6
            output "h" %7
            output "i" %8
            output "j" %9
            output "k" %10
            output "l" %11
            output "m" %12
            output "n" %13
            output "o" %14
            output "p" %15
            output "q" %16
            output "r" %17
            output "s" %18
            output "t" %19
            output "u" %20
            output "v" %21
            output "w" %22
            output "x" %23
            output "y" %24
            output "z" %25
            output "0" %26
            output "1" %27
        }"#,
    );
}

#[test]
fn fused_operations_are_spelt_out() {
    becomes(
        r#"graph "g" {
            input %x "x" : f32[2, 4]
            input %w "w" : f32[4, 3]
            input %b "b" : f32[3]
            %0 = matmul(activation=relu) %x, %w, %b @"dense"
            output "y" %0
        }"#,
        r#"graph "g" {
            input %x "x" : f32[2, 4]
            input %w "w" : f32[4, 3]
            input %b "b" : f32[3]
            %0 = matmul %x, %w @"dense"
            %1 = add %0, %b @"dense"
            %2 = relu %1 @"dense"
            output "y" %2
        }"#,
    );
    becomes(
        r#"graph "g" {
            input %q "q" : f16[1, 4, 2, 8]
            input %k "k" : f16[1, 4, 6, 8]
            input %v "v" : f16[1, 4, 6, 8]
            input %m "m" : f32[2, 6]
            %0 = attention(heads=[1, 1, 1, 2], scale=0.5) %q, %k, %v, %m @"heads"
            output "y" %0
        }"#,
        r#"graph "g" {
            input %q "q" : f16[1, 4, 2, 8]
            input %k "k" : f16[1, 4, 6, 8]
            input %v "v" : f16[1, 4, 6, 8]
            input %m "m" : f32[2, 6]
            constant %s "" : f32[] = [0.5]
            %0 = matmul(transpose_b=true) %q, %k @"heads"
            %1 = cast(to=f32) %0 @"heads"
            %2 = mul %1, %s @"heads"
            %3 = add %2, %m @"heads"
            %4 = softmax(axis=3) %3 @"heads"
            %5 = cast(to=f16) %4 @"heads"
            %6 = matmul %5, %v @"heads"
            %7 = transpose(perm=[0, 2, 1, 3]) %6 @"heads"
            output "y" %7
        }"#,
    );
}

#[test]
fn states_are_written_at_the_end() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[2]
            state %a "first" : f32[2] = [1.0, 2.0]
            state %b "second" : f32[2] = [3.0, 4.0]
            %0 = add %a, %x @"sum"
            output "y" %0
            output "before" %a
            next %a = %b
            next %b = %0
        }"#,
    );
}

#[test]
fn unknown_extents_are_computed() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[x_0, 4, x_2]
            input %y "y" : i32[y_0]
            input %v "v" : i32[]
            %0 = reshape(dims=[4 * x_0, x_2]) %x @"flat"
            %1 = reshape(dims=[x_0, x_2, 4]) %x @"turned"
            %2 = broadcast(dims=[x_2, y_0]) %y @"spread"
            %3 = slice(starts=[0, 1, 0], sizes=[x_0, 2, x_2 - 1], steps=[1, 1, 1]) %x @"cut"
            %4 = extents(dims=[floor(x_0 / 2), 3 * y_0 + 1]) @"sizes"
            %5 = one_hot(depth=x_0, axis=1) %y, %v, %v @"hot"
            output "a" %0
            output "b" %1
            output "c" %2
            output "d" %3
            output "e" %4
            output "f" %5
        }"#,
    );
}

#[test]
fn collectives_stay_in_order() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[4, 6]
            %0 = collective(op=all_reduce(max) group="hccl_world_group") %x @"a"
            %1 = collective(op=all_gather group="tp", size=2) %0 @"b"
            %2 = collective(op=reduce_scatter(sum) group="tp", size=2) %1 @"c"
            %3 = collective(op=broadcast(root=1) group="tp") %2 @"d"
            collective(op=send(dest=1, tag=3) group="tp") %3 @"e"
            %4 = collective(op=receive(src=1, tag=0) group="tp", receives=f32[2, 3]) @"f"
            %5 = collective(op=reduce(sum, root=0) group="tp", size=2, ranks=[0, 3]) %4 @"g"
            %6 = collective(op=gather(root=0) group="tp", size=2) %5 @"h"
            %7 = collective(op=scatter(root=0) group="tp", size=2) %6 @"i"
            collective(op=barrier group="tp") @"j"
            output "y" %7
            output "z" %3
        }"#,
    );
}

#[test]
fn branches_and_loops_stay() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[2]
            input %c "c" : bool[]
            %0 = if %c, %x, %x : f32[2] @"if" {
                graph "then" {
                    input %0 "captured1" : f32[2]
                    %1 = exp %0 : f32[2] @"a"
                    output "result0" %1
                }
                graph "otherwise" {
                    input %0 "captured1" : f32[2]
                    %1 = neg %0 : f32[2] @"b"
                    output "result0" %1
                }
            }
            output "y" %0
        }"#,
    );
}

#[test]
fn functions_take_weights_and_extents_from_around() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[x_0]
            input %y "y" : f32[2]
            input %c "c" : bool[]
            %0 = if %c, %y, %y : f32[2] @"if" {
                graph "then" {
                    input %0 "captured1" : f32[2]
                    constant %w "weight" : f32[2] = [1.0, 2.0]
                    %1 = mul %0, %w : f32[2] @"a"
                    output "result0" %1
                }
                graph "otherwise" {
                    input %0 "captured1" : f32[2]
                    %1 = broadcast(dims=[x_0, 2]) %0 : f32[x_0, 2] @"b"
                    %2 = reduce(kind=max, axes=[0]) %1 : f32[2] @"b"
                    output "result0" %2
                }
            }
            output "y" %0
        }"#,
    );
    // What decides about the next turn is spelt otherwise by the import.
    let text = r#"graph "g" {
            input %x "x" : f32[x_0]
            input %y "y" : f32[2]
            constant %limit "" : f32[] = [100.0]
            %0 = loop(carried=1) %y : f32[2] @"while" {
                graph "body" {
                    input %0 "carried1" : f32[2]
                    constant %limit "" : f32[] = [100.0]
                    constant %w "weight" : f32[2] = [1.5, 2.0]
                    %1 = mul %0, %w : f32[2] @"a"
                    %2 = broadcast(dims=[x_0, 2]) %1 : f32[x_0, 2] @"b"
                    %3 = reduce(kind=sum, axes=[0, 1]) %2 : f32[] @"b"
                    %4 = less %3, %limit : bool[] @"b"
                    output "result0" %4
                    output "result1" %1
                    output "result2" %1
                }
            }
            output "y" %0
        }"#;
    let again = written(&text.parse().unwrap()).to_string();
    for part in ["loop(carried=1)", "\"weight\" : f32[2] = [1.5, 2.0]", "broadcast(dims=[x_0, 2])"] {
        assert_eq!(again.matches(part).count(), 1, "{part} in {again}");
    }
}

#[test]
fn primitives_that_nobody_knows_stay() {
    stays(
        r#"graph "g" {
            input %x "x" : f32[4]
            input %y "y" : f32[4]
            %0 = opaque(primitive="Strange", attributes={arg1=3, arg2=[1, 2], arg4="mode", arg5=none}) %x, %y : f32[4] @"a"
            %1, %2 = opaque(primitive="Pair", attributes={axis=-1, name="n"}) %0 : f32[4], i32[] @"b"
            output "u" %1
            output "v" %2
        }"#,
    );
}

#[test]
fn what_cannot_be_written_is_refused() {
    let refused = |text: &str, reason: &str| {
        let error = export(&text.parse::<Graph>().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    refused(
        "graph \"g\" {\ninput %x \"x\" : f16[2, 2]\n%y = matmul(wide=true) %x, %x @\"dense/MatMul\"\noutput \"y\" %y\n}",
        "a wide product at dense/MatMul is not supported",
    );
    refused(
        "graph \"g\" {\ninput %x \"x\" : f32[2 * n]\n%y = slice(starts=[0], sizes=[n], steps=[1]) %x @\"a\"\noutput \"y\" %y\n}",
        "fix the extent n",
    );
}
