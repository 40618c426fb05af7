//! Types of results, op by op: numpy's rules, and counting.

use mslite_graph_opt::Graph;
use mslite_graph_opt::infer::broadcast;
use mslite_tensor::Shape;
use proptest::prelude::*;

/// The types of `op`'s results as text, or why its operands do not fit.
fn infer(op: &str, operands: &[&str]) -> Result<String, String> {
    let inputs: String =
        operands.iter().enumerate().map(|(i, spec)| format!("input %{i} \"{i}\" : {spec}\n")).collect();
    let names: Vec<String> = (0..operands.len()).map(|i| format!("%{i}")).collect();
    let text = |results: &str| format!("graph \"g\" {{\n{inputs}{results}{op} {}\n}}", names.join(", "));
    // The number of results is not written: the first that fits.
    let attempts = ["", "%a = ", "%a, %b = "].map(|results| text(results).parse::<Graph>());
    let errors: Vec<String> =
        attempts.iter().filter_map(|a| a.as_ref().err().map(|e| e.to_string())).collect();
    match attempts.into_iter().find_map(|attempt| attempt.ok()) {
        Some(graph) => {
            let node = graph.nodes().next().unwrap().1;
            let types = node.results.iter().map(|&value| graph.spec(value).to_string());
            Ok(types.collect::<Vec<_>>().join(" "))
        }
        None => Err(errors[1].clone()),
    }
}

fn check(cases: &[(&str, &[&str], &str)]) {
    for (op, operands, expected) in cases {
        let actual = infer(op, operands);
        match expected.strip_prefix('!') {
            None => assert_eq!(actual.as_deref(), Ok(*expected), "{op} {operands:?}"),
            Some(reason) => {
                let error = actual.expect_err(op);
                assert!(error.contains(reason), "{op} {operands:?}: {error}");
            }
        }
    }
}

#[test]
fn element_wise() {
    check(&[
        ("relu", &["i32[2, n]"], "i32[2, n]"),
        ("exp", &["f16[*]"], "f16[*]"),
        ("exp", &["i32[2]"], "!not defined for i32"),
        ("is_nan", &["f32[2]"], "bool[2]"),
        ("not", &["f32[2]"], "!not defined for f32"),
        ("add", &["f32[2, 1]", "f32[3]"], "f32[2, 3]"),
        ("add", &["f32[2]", "f32[3]"], "!2 against 3"),
        ("add", &["f32[n, 1]", "f32[n]"], "f32[n, n]"),
        ("add", &["f32[n]", "f32[3]"], "f32[3]"),
        ("add", &["f32[n]", "f32[m]"], "f32[max(m / n)]"),
        ("add", &["f32[2]", "f32[*]"], "f32[*]"),
        ("add", &["f32[2]", "f16[2]"], "!differ in type"),
        ("less", &["i8[2]", "i8[]"], "bool[2]"),
        ("div", &["i8[2]", "i8[2]"], "!not defined for i8"),
        ("and", &["f32[2]", "f32[2]"], "!not defined for f32"),
        ("select", &["bool[2, 1]", "f32[3]", "f32[]"], "f32[2, 3]"),
        ("select", &["i8[2]", "f32[2]", "f32[2]"], "!the condition must be bool"),
        ("cast(to=bf16)", &["bool[n]"], "bf16[n]"),
        ("add", &["f32[2]"], "!takes 2 operands"),
    ]);
}

#[test]
fn gates_and_normalised_sums() {
    check(&[
        ("gated(f=silu)", &["f16[2, 6]"], "f16[2, 3]"),
        ("gated(f=silu)", &["f32[n, 2*m]"], "f32[n, m]"),
        ("gated(f=silu)", &["f32[2, 5]"], "!no halves"),
        ("gated(f=is_nan)", &["f32[2, 4]"], "!no halves"),
        ("gated(f=relu)", &["f32[]"], "!no halves"),
        ("add_norm(axis=1, epsilon=0.0)", &["f32[2, 3]", "f32[3]", "f32[3]"], "f32[2, 3]"),
        (
            "add_norm(axis=1, epsilon=0.0, centred=true, sum=true)",
            &["f32[n, 3]", "f32[3]", "f32[n, 3]", "f32[3]", "f32[3]"],
            "f32[n, 3] f32[n, 3]",
        ),
        ("add_norm(axis=1, epsilon=0.0)", &["f32[3]", "f32[2, 3]", "f32[3]"], "!does not broadcast"),
        ("add_norm(axis=1, epsilon=0.0)", &["f32[2, 3]", "f16[3]", "f32[3]"], "!differ in type"),
        ("add_norm(axis=1, epsilon=0.0)", &["f32[2, 3]", "f32[3]"], "!takes 3 or 4 operands"),
    ]);
}

#[test]
fn heads() {
    let attention = |packed: &str| format!("attention(heads=[2, 2, 2, 2], scale=1.0, {packed})");
    let joined = attention("query=4x8, key=2x8+32, value=2x8+48, result=4x8");
    check(&[
        ("rope", &["f32[2, 5, 24]", "f32[5, 8]", "f32[5, 8]"], "f32[2, 5, 24]"),
        ("rope", &["f32[2, 5, 20]", "f32[5, 8]", "f32[5, 8]"], "!does not rotate pairs"),
        ("rope", &["f32[2, 5, 9]", "f32[5, 3]", "f32[5, 3]"], "!does not rotate pairs"),
        ("rope", &["f32[2, 5, 8]", "f32[4, 8]", "f32[5, 8]"], "!4"),
        (&joined, &["f32[b, n, 64]", "f32[b, n, 64]", "f32[b, n, 64]"], "f32[b, n, 32]"),
        (&joined, &["f32[b, n, 64]", "f32[b, n, 60]", "f32[b, n, 60]"], "!has no heads 2x8+48"),
        (&joined, &["f32[b, n, 8, 8]", "f32[b, n, 64]", "f32[b, n, 64]"], "!not 3 axes"),
        (&attention("result=4x8+8"), &["f32[1, 2, 4, 8]"; 3], "!cannot be packed"),
        (&attention("result=2x16"), &["f32[1, 2, 4, 8]"; 3], "!cannot be packed"),
        (&attention("query=4x9223372036854775807"), &["f32[1, 2, 4]"; 3], "!too many columns"),
        (
            "attention(heads=[1, 2, 2, 2], scale=1.0, query=4x8)",
            &["f32[1, 2, 32]", "f32[1, 2, 4, 8]", "f32[1, 2, 4, 8]"],
            "!axis 2",
        ),
    ]);
}

#[test]
fn reductions() {
    check(&[
        ("reduce(kind=sum, axes=[0, 2])", &["f32[2, n, 4]"], "f32[n]"),
        ("reduce(kind=max, axes=[1], keep_dims=true)", &["f32[2, n, 4]"], "f32[2, 1, 4]"),
        ("reduce(kind=sum, axes=[])", &["f32[2]"], "f32[2]"),
        ("reduce(kind=sum, axes=[1])", &["f32[2]"], "!axis 1 is outside"),
        ("reduce(kind=sum, axes=[1, 0])", &["f32[2, 2]"], "!not sorted"),
        ("reduce(kind=all, axes=[0])", &["f32[2]"], "!needs bool"),
        ("arg_reduce(axis=1, dtype=i64)", &["f32[2, 3]"], "i64[2]"),
        ("arg_reduce(axis=0, dtype=i32, keep_dims=true)", &["f32[n, 3]"], "i32[1, 3]"),
        ("cumulative(axis=2)", &["i32[2, 3]"], "!axis 2 is outside"),
        ("cumulative(axis=1)", &["i32[2, n]"], "i32[2, n]"),
        ("softmax(axis=1)", &["f16[2, n]"], "f16[2, n]"),
        ("softmax(axis=1)", &["i32[2, 3]"], "!needs a float"),
        ("layer_norm(axis=1, epsilon=1e-5)", &["f32[2, 3]", "f32[3]", "f32[3]"], "f32[2, 3]"),
        ("layer_norm(axis=1, epsilon=1e-5)", &["f32[2, 3]", "f32[3]"], "!takes 1 or 3 operands"),
        ("rms_norm(axis=1, epsilon=1e-5)", &["f32[2, 3]", "f32[5, 2, 3]"], "!more axes"),
        ("top_k(k=2, axis=1, largest=true)", &["f32[n, 3]"], "f32[n, 2] i32[n, 2]"),
        ("top_k(k=4, axis=1)", &["f32[n, 3]"], "!4 of 3 elements"),
    ]);
}

#[test]
fn products() {
    check(&[
        ("matmul", &["f32[2, 3]", "f32[3, 4]"], "f32[2, 4]"),
        ("matmul(transpose_a=true, transpose_b=true)", &["f32[3, 2]", "f32[4, 3]"], "f32[2, 4]"),
        ("matmul", &["f32[b, 1, 2, 3]", "f32[5, 3, 4]"], "f32[b, 5, 2, 4]"),
        ("matmul", &["f32[3]", "f32[3]"], "f32[]"),
        ("matmul", &["f32[3]", "f32[b, 3, 4]"], "f32[b, 4]"),
        ("matmul", &["f32[b, 2, 3]", "f32[3]"], "f32[b, 2]"),
        ("matmul", &["f32[]", "f32[3]"], "!scalar"),
        ("matmul", &["f32[2, 3]", "f32[2, 3]"], "!inner extents 3 and 2 differ"),
        ("matmul(activation=relu)", &["f32[2, 3]", "f32[3, 4]", "f32[4]"], "f32[2, 4]"),
        ("matmul(activation=exp)", &["i32[2, 3]", "i32[3, 4]"], "!not defined for i32"),
        ("matmul(activation=is_nan)", &["f32[2, 3]", "f32[3, 4]"], "!no activation"),
        ("matmul", &["f32[2, 3]", "f32[3, 4]", "f32[3]"], "!a bias of 3 does not fit"),
        ("matmul", &["f32[3]", "f32[3]", "f32[1]"], "!must be a vector"),
        (
            "conv2d(strides=[2, 1], padding=[1, 1, 0, 0], dilations=[1, 2], groups=1)",
            &["f32[n, 3, 8, 9]", "f32[4, 3, 3, 3]"],
            "f32[n, 4, 4, 5]",
        ),
        (
            "conv2d(strides=[2, 2], padding=same, dilations=[1, 1], groups=2)",
            &["f32[1, 4, 7, 8]", "f32[6, 2, 3, 3]", "f32[6]"],
            "f32[1, 6, 4, 4]",
        ),
        (
            "conv2d(strides=[1, 1], padding=same, dilations=[1, 1], groups=1)",
            &["f32[1, 4, 7, 8]", "f32[6, 2, 3, 3]"],
            "!4 channels do not fit 1 groups of 2",
        ),
        (
            "conv2d(strides=[0, 1], padding=same, dilations=[1, 1], groups=1)",
            &["f32[1, 2, 7, 8]", "f32[6, 2, 3, 3]"],
            "!stride must not be 0",
        ),
        (
            "conv2d(strides=[1, 1], padding=[18446744073709551615, 18446744073709551615, 0, 0], dilations=[1, 1], groups=1)",
            &["f32[1, 2, 7, 8]", "f32[6, 2, 9, 9]"],
            "!a window of 9 does not fit 8",
        ),
        (
            "pool2d(kernel=[3, 2], strides=[2, 2], padding=[0, 0, 0, 0], ceil_mode=true)",
            &["f32[1, 2, 8, 8]"],
            "f32[1, 2, 4, 4]",
        ),
    ]);
}

#[test]
fn layouts() {
    check(&[
        ("reshape(dims=[6])", &["f32[2, 3]"], "f32[6]"),
        ("reshape(dims=[5])", &["f32[2, 3]"], "!has 6 elements"),
        ("reshape(dims=[2*n])", &["f32[2, n]"], "f32[2*n]"),
        ("reshape(dims=[-2])", &["f32[n]"], "!negative extent"),
        ("transpose(perm=[2, 0, 1])", &["f32[2, 3, n]"], "f32[n, 2, 3]"),
        ("transpose(perm=[0, 0])", &["f32[2, 3]"], "!not a permutation"),
        ("broadcast(dims=[4, 2, n])", &["f32[2, 1]"], "f32[4, 2, n]"),
        ("broadcast(dims=[3])", &["f32[2]"], "!does not broadcast"),
        ("broadcast(dims=[-1, 2])", &["f32[2]"], "!negative extent"),
        ("concat(axis=1)", &["f32[2, 3]", "f32[2, n]"], "f32[2, n + 3]"),
        ("concat(axis=1)", &["f32[2, 3]", "f32[3, 3]"], "!cannot be joined"),
        ("slice(starts=[4, 0], sizes=[3, n], steps=[-2, 1])", &["f32[5, n]"], "f32[3, n]"),
        ("slice(starts=[3], sizes=[3], steps=[-2])", &["f32[5]"], "!leave axis 0"),
        ("slice(starts=[0], sizes=[1], steps=[0])", &["f32[5]"], "!step must not be 0"),
        ("slice(starts=[0], sizes=[-1], steps=[1])", &["f32[n]"], "!negative extent"),
        ("pad(low=[1, -1], high=[2, 0], mode=constant)", &["f32[n, 3]", "f32[]"], "f32[n + 3, 2]"),
        ("pad(low=[1], high=[0], mode=constant)", &["f32[3]", "f32[1]"], "!must have rank 0"),
        ("pad(low=[-2], high=[-2], mode=edge)", &["f32[3]"], "!negative extent"),
        ("triangle(diagonal=0)", &["f32[3]"], "!not a matrix"),
        ("extents(dims=[n, 3])", &[], "i64[2]"),
    ]);
}

#[test]
fn indexing() {
    check(&[
        ("gather(axis=1, batch_dims=0)", &["f32[2, 3, 4]", "i32[5, n]"], "f32[2, 5, n, 4]"),
        ("gather(axis=1, batch_dims=1)", &["f32[2, 3, 4]", "i32[2, n]"], "f32[2, n, 4]"),
        ("gather(axis=0, batch_dims=1)", &["f32[2, 3]", "i32[2]"], "!do not share 1 leading axes"),
        ("gather(axis=0, batch_dims=0)", &["f32[2, 3]", "f32[2]"], "!indices must be integers"),
        ("gather_elements(axis=0)", &["f32[2, 3]", "i64[5, 3]"], "f32[5, 3]"),
        ("gather_nd", &["f32[2, 3, 4]", "i64[n, 2]"], "f32[n, 4]"),
        ("gather_nd", &["f32[2]", "i64[n, 2]"], "!indices of 2 numbers"),
        ("scatter_nd(kind=add)", &["f32[2, 3]", "i64[n, 1]", "f32[n, 3]"], "f32[2, 3]"),
        ("scatter_nd(kind=add)", &["f32[2, 3]", "i64[5, 1]", "f32[5, 2]"], "!do not fit"),
        ("one_hot(depth=4, axis=1)", &["i32[2, n]", "f16[]", "f16[]"], "f16[2, 4, n]"),
    ]);
}

#[test]
fn collectives() {
    let op = |kind: &str, rest: &str| format!("collective(op={kind} group=\"g\"{rest})");
    check(&[
        (&op("all_reduce(sum)", ""), &["f32[n, 2]"], "f32[n, 2]"),
        (&op("all_gather", ", size=4"), &["f32[n, 2]"], "f32[4*n, 2]"),
        (&op("all_gather", ""), &["f32[n, 2]"], "!size of the group is not known"),
        (&op("reduce_scatter(sum)", ", size=4"), &["f32[8, 2]"], "f32[2, 2]"),
        (&op("reduce_scatter(sum)", ", size=4"), &["f32[6]"], "!6 rows cannot be divided among 4"),
        (&op("all_to_all", ", size=2"), &["f32[6]"], "f32[6]"),
        (&op("send(dest=1, tag=0)", ""), &["f32[6]"], ""),
        (&op("receive(src=1, tag=0)", ", receives=f32[n]"), &[], "f32[n]"),
        (&op("receive(src=1, tag=0)", ""), &[], "!type is not known"),
        (&op("barrier", ""), &["f32[6]"], "!takes 0 operands"),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broadcasting_aligns_from_the_right(
        x in prop::collection::vec(0..3usize, 0..4),
        y in prop::collection::vec(0..3usize, 0..4),
    ) {
        let rank = x.len().max(y.len());
        let at = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
        let dims: Option<Vec<usize>> = (0..rank)
            .map(|axis| match (at(&x, axis), at(&y, axis)) {
                (1, n) | (n, 1) => Some(n),
                (m, n) => (m == n).then_some(n),
            })
            .collect();
        let actual = broadcast(&Shape::fixed(&x), &Shape::fixed(&y)).ok();
        prop_assert_eq!(actual, dims.map(|dims| Shape::fixed(&dims)));
    }

    #[test]
    fn windows_are_counted(n in 1..20usize, k in 1..5usize, s in 1..4usize, d in 1..3usize, low in 0..3usize, high in 0..3usize) {
        let op = format!("conv2d(strides=[{s}, 1], padding=[{low}, {high}, 0, 0], dilations=[{d}, 1], groups=1)");
        let last = |start: usize| start * s + (k - 1) * d;
        let count = (0..).take_while(|&start| last(start) < n + low + high).count();
        let actual = infer(&op, &[&format!("f32[1, 1, {n}, 1]"), &format!("f32[1, 1, {k}, 1]")]);
        match count {
            0 => prop_assert!(actual.is_err()),
            count => prop_assert_eq!(actual, Ok(format!("f32[1, 1, {count}, 1]"))),
        }
    }
}
