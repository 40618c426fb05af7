//! What `mslite inspect` says about models that MindSpore has exported, and about hostile ones.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use support::wire::{attribute_text, field, number, tensor, value_info};
use support::{errors, models, mslite};

fn read_json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn inspect(model: &Path, further: &[&str]) -> String {
    let output = mslite().arg("inspect").arg(model).args(further).output().unwrap();
    assert!(output.status.success(), "{}: {}", model.display(), errors(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn inspect_json(model: &Path) -> Json {
    serde_json::from_str(&inspect(model, &["--json"])).unwrap()
}

/// The files of every case with what meta.json says about them.
fn cases() -> Vec<(PathBuf, Json)> {
    let Ok(folders) = std::fs::read_dir(models().join("dev")) else {
        println!("skipped: no models beside the checkout");
        return Vec::new();
    };
    let folders = folders.map(|folder| folder.unwrap().path());
    folders.map(|folder| (folder.clone(), read_json(&folder.join("meta.json")))).collect()
}

/// The models of a case that need no key, with the part of meta.json that is about them.
fn described(folder: &Path, meta: &Json, part: &str) -> Vec<(PathBuf, Json)> {
    let of_ranks = meta[part].get("rank0").is_some();
    let names: Vec<&String> = match (of_ranks, meta[part].as_object()) {
        (true, Some(ranks)) => ranks.keys().collect(),
        _ => Vec::new(),
    };
    let mut list: Vec<(PathBuf, Json)> =
        names.iter().map(|name| (folder.join(format!("{name}.mindir")), meta[part][*name].clone())).collect();
    if !of_ranks && meta[part].is_object() && meta["ranks"] == 1 && meta.get("encryption").is_none() {
        list.push((folder.join("model.mindir"), meta[part].clone()));
    }
    list.retain(|(path, _)| path.exists() && !folder.ends_with("w_enc_gcm"));
    list
}

#[test]
fn counts_agree_with_the_index() {
    let format = models().join("format");
    if !format.exists() {
        println!("skipped: no models beside the checkout");
        return;
    }
    let index = read_json(&format.join("index.json"));
    // The index counts what is in the graph file; these have all of their weights outside.
    let weights_outside = |file: &str| file.starts_with("legacy/split");
    let mut seen = 0;
    for entry in index.as_array().unwrap().iter().filter(|entry| entry.get("nodes").is_some()) {
        let file = entry["file"].as_str().unwrap();
        let view = inspect_json(&format.join(file));
        let length = |name: &str| view[name].as_array().unwrap().len();
        assert_eq!(view["nodes"], entry["nodes"], "{file}");
        assert_eq!(length("functions"), entry["functions"], "{file}");
        if !weights_outside(file) {
            assert_eq!(length("parameters"), entry["params"], "{file}");
        }
        let mut operators: Vec<&Json> =
            view["operators"].as_array().unwrap().iter().map(|count| &count["operator"]).collect();
        operators.sort_by_key(|operator| operator.as_str());
        assert_eq!(operators, entry["op_types"].as_array().unwrap().iter().collect::<Vec<_>>(), "{file}");
        seen += 1;
    }
    assert!(seen > 270, "only {seen} files");
}

#[test]
fn operators_are_counted_as_in_the_description() {
    let mut seen = 0;
    for (folder, meta) in cases() {
        for (path, expected) in described(&folder, &meta, "ops") {
            let view = inspect_json(&path);
            let counts = view["operators"].as_array().unwrap().iter();
            let counts: BTreeMap<&str, u64> = counts
                .map(|count| (count["operator"].as_str().unwrap(), count["count"].as_u64().unwrap()))
                .collect();
            let expected = expected.as_object().unwrap().iter();
            let expected: BTreeMap<&str, u64> = expected
                .filter(|(name, _)| !name.starts_with("call:"))
                .map(|(name, count)| (name.as_str(), count.as_u64().unwrap()))
                .collect();
            assert_eq!(counts, expected, "{}", path.display());
            seen += 1;
        }
    }
    println!("{seen} models");
}

#[test]
fn parameters_are_those_of_the_description_and_belong_to_scopes() {
    for (folder, meta) in cases().iter().filter(|(_, meta)| meta["io"]["param_bytes"].is_u64()) {
        let path = folder.join("model.mindir");
        if folder.ends_with("w_enc_gcm") || !path.exists() {
            continue;
        }
        let view = inspect_json(&path);
        let name = folder.display();
        assert_eq!(view["parameters"].as_array().unwrap().len(), meta["io"]["parameters"], "{name}");
        assert_eq!(view["parameter_bytes"], meta["io"]["param_bytes"], "{name}");
        let scopes = view["scopes"].as_array().unwrap();
        let sum = |key: &str| -> u64 {
            let roots = scopes.iter().filter(|scope| scope["parent"].is_null());
            roots.map(|scope| scope[key].as_u64().unwrap()).sum()
        };
        assert_eq!(sum("parameter_bytes"), view["parameter_bytes"], "{name}");
        assert_eq!(sum("operations"), view["nodes"].as_u64().unwrap() - view["constants"].as_u64().unwrap());
        for (i, scope) in scopes.iter().enumerate() {
            assert!(scope["parent"].as_u64().is_none_or(|parent| parent < i as u64), "{name}");
        }
    }
}

#[test]
fn collectives_are_those_of_the_description() {
    let mut seen = 0;
    for (folder, meta) in cases() {
        for (path, expected) in described(&folder, &meta, "collectives") {
            let view = inspect_json(&path);
            let found = view["collectives"].as_array().unwrap();
            for entry in expected.as_array().unwrap() {
                let same = |c: &&Json| c["operator"] == entry["op"] && c["group"] == entry["group"];
                let same = found.iter().filter(same).collect::<Vec<_>>();
                assert_eq!(Some(same.len() as u64), entry["count"].as_u64(), "{}: {entry}", path.display());
                let agrees = |c: &&Json, key: &str, value: &Json| value.is_null() || c[key] == *value;
                let whole = |c: &&Json| {
                    agrees(c, "reduction", &entry["reduce"]) && agrees(c, "ranks", &entry["group_rank_ids"])
                };
                assert!(same.iter().any(whole), "{}: {entry}", path.display());
                seen += 1;
            }
        }
    }
    println!("{seen} kinds of collectives");
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models").join(name)
}

/// `y = x @ w` with x of 8x24 and w of 24x16, in f32; a rank has half of the rows.
#[test]
fn an_example_is_described() {
    let view = inspect_json(&example("matmul_row_tp2/rank1.mindir"));
    let parameter = &view["parameters"][0];
    assert_eq!(parameter["shape"], serde_json::json!([12, 16]));
    assert_eq!(parameter["bytes"], 12 * 16 * 4);
    assert_eq!(view["collectives"].as_array().unwrap().len(), 1);
    let exchange = &view["collectives"][0];
    assert_eq!((&exchange["operator"], &exchange["reduction"]), (&"AllReduce".into(), &"sum".into()));
    assert_eq!(exchange["ranks"], serde_json::json!([0, 1]));
    assert_eq!(exchange["bytes"], 8 * 16 * 4);
    assert_eq!(view["outputs"][0]["type"], "f32[8, 16]");
    let text = inspect(&example("matmul_row_tp2/rank1.mindir"), &[]);
    for part in ["AllReduce sum", "512 B", "ranks 0 1", "f32[12, 16]", "768 B"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// In these networks a parameter is named after the cells on the way to it, as is the scope of the nodes of its cell.
#[test]
fn parameters_belong_to_the_scope_of_their_cell() {
    for name in ["d_gpt2_tp2_fp32", "d_llama_tp2_fp32"] {
        let path = models().join("dev").join(name).join("rank0.mindir");
        if !path.exists() {
            println!("skipped: no models beside the checkout");
            return;
        }
        let view = inspect_json(&path);
        for parameter in view["parameters"].as_array().unwrap() {
            let scope = &view["scopes"][parameter["scope"].as_u64().unwrap() as usize]["path"];
            let cells = scope.as_str().unwrap().split('/').skip(1);
            let cells: Vec<&str> = cells.map(|part| part.split('-').next().unwrap()).collect();
            let name = parameter["name"].as_str().unwrap();
            let cell = name.rsplit_once('.').map_or("", |(cell, _)| cell);
            assert!(cells.join(".") == cell || cells.is_empty() && name == "pos.w", "{name} is in {scope}");
        }
    }
}

#[test]
fn effects_are_what_writes_state() {
    let Some((folder, _)) = cases().into_iter().find(|(folder, _)| folder.ends_with("w_state_counter"))
    else {
        return;
    };
    let view = inspect_json(&folder.join("model.mindir"));
    let effects = view["effects"].as_array().unwrap().iter();
    let mut effects: Vec<_> = effects.map(|e| (e["operator"].as_str(), e["parameter"].as_str())).collect();
    effects.sort_unstable();
    assert_eq!(effects, [(Some("Assign"), Some("avg")), (Some("AssignAdd"), Some("calls"))]);
}

#[test]
fn text_fits_a_terminal() {
    for (folder, meta) in cases() {
        for (path, _) in described(&folder, &meta, "ops") {
            let text = inspect(&path, &[]);
            assert!(!text.contains('\u{1b}'), "styles without a terminal");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn depth_says_how_many_levels_are_shown() {
    let Some((folder, _)) = cases().into_iter().find(|(folder, _)| folder.ends_with("w_resnet18")) else {
        return;
    };
    let path = folder.join("model.mindir");
    let shallow = inspect(&path, &["--depth", "2"]);
    assert!(shallow.contains("body-SequentialCell") && !shallow.contains("1-Basic"));
    let full = inspect(&path, &["--depth", "0"]);
    assert!(full.contains("1-BatchNorm2d") && full.contains("body.7.b.1.moving_variance"));
    assert!(!full.contains('…') && !full.contains("shows all"));
}

const HOSTILE: &str = "</script><script>alert(1)</script><!--\"'&\\@@DATA@@\u{1b}[31m\u{202e}\n";

/// A model `y = Add(x, w)` in which every name is hostile.
fn hostile_model() -> Vec<u8> {
    let symbol = |name: &str| format!("g:{name}{HOSTILE}");
    let shape = [field(1, b"shape"), number(16, 19), field(12, &tensor("", &[2], None))].concat();
    let node = [
        field(1, symbol("x").as_bytes()),
        field(1, symbol("w").as_bytes()),
        field(2, symbol("y").as_bytes()),
        field(3, symbol("y").as_bytes()),
        field(4, format!("REF::{HOSTILE}").as_bytes()),
        field(5, &shape),
        field(7, format!("Default/{HOSTILE}/{HOSTILE}-op0").as_bytes()),
    ];
    let graph = [
        field(1, &node.concat()),
        field(2, format!("g{HOSTILE}").as_bytes()),
        field(3, &tensor(&symbol("w"), &[2], Some(&[0; 8]))),
        field(5, &value_info(&symbol("x"), &[2])),
        field(6, &value_info(&symbol("y"), &[2])),
    ];
    let primitive = [
        field(1, HOSTILE.as_bytes()),
        field(2, format!("Add{HOSTILE}").as_bytes()),
        field(3, &attribute_text(HOSTILE, HOSTILE)),
    ];
    let model = [
        field(1, b"1.1"),
        field(2, HOSTILE.as_bytes()),
        field(5, b"2.10.0"),
        field(7, &graph.concat()),
        number(10, 1),
        field(12, &primitive.concat()),
        number(13, 3),
    ];
    model.concat()
}

#[test]
fn hostile_names_stay_names() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("<img src=x onerror=alert(1)>.mindir");
    std::fs::write(&model, hostile_model()).unwrap();
    let text = inspect(&model, &[]);
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && text.contains("\\u{1b}[31m"), "{text}");
    let dot = inspect(&model, &["--dot"]);
    check_quotes(&dot);
    let (html, json) = (folder.path().join("a.html"), inspect_json(&model));
    inspect(&model, &["--html", html.to_str().unwrap()]);
    let page = std::fs::read_to_string(&html).unwrap();
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    assert!(!page.contains("<img") && !page.contains("<!--"));
    let (_, data) = page.split_once("type=\"application/json\" id=\"data\">").unwrap();
    let data: Json = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data, json);
    assert_eq!(data["graphs"][0]["nodes"][0]["attributes"][HOSTILE], HOSTILE);
    assert!(data["parameters"][0]["name"].as_str().unwrap().contains(HOSTILE));
}

/// Checks that outside of quoted strings there is nothing but the language's own words.
fn check_quotes(dot: &str) {
    let (mut outside, mut quoted, mut escaped) = (String::new(), false, false);
    for c in dot.chars() {
        match (quoted, escaped, c) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, _, '"') => quoted = !quoted,
            (true, ..) => assert!(!c.is_control()),
            (false, ..) => outside.push(c),
        }
    }
    assert!(!quoted && !outside.contains("script") && !outside.contains("alert"), "{outside}");
    assert_eq!(outside.matches('{').count(), outside.matches('}').count());
}

#[test]
fn dot_has_every_scope_and_collective() {
    let model = example("matmul_row_tp2/rank0.mindir");
    let (dot, view) = (inspect(&model, &["--dot", "-"]), inspect_json(&model));
    check_quotes(&dot);
    assert_eq!(dot.matches("subgraph cluster_").count(), view["scopes"].as_array().unwrap().len());
    assert_eq!(dot.matches("shape=octagon").count(), 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.dot");
    assert_eq!(inspect(&model, &["--dot", file.to_str().unwrap()]), "");
    assert_eq!(std::fs::read_to_string(file).unwrap(), dot);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent/a.html");
    let mut command = mslite();
    command.arg("inspect").arg(example("matmul_row_tp2/model.mindir")).arg("--html").arg(&absent);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("cannot write") && errors(&output).contains("absent/a.html"));
}

/// The page's program, run where there is a `node`: all is drawn, nothing overlaps, and lines go down.
#[test]
fn the_page_lays_graphs_out() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::process::Command::new("node").arg("--version").output().is_err() {
        println!("skipped: no node");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dev = [
        "d_gpt2_tp2_fp32/rank0",
        "w_resnet18/model",
        "w_unet/model",
        "w_while/model",
        "w_state_counter/model",
    ];
    let dev = dev.iter().map(|name| models().join("dev").join(format!("{name}.mindir")));
    for model in dev.filter(|path| path.exists()).chain([example("matmul_row_tp2/rank0.mindir")]) {
        let html = folder.path().join("a.html");
        inspect(&model, &["--html", html.to_str().unwrap()]);
        let mut node = std::process::Command::new("node");
        let node = node.arg(here.join("tests/page.mjs")).arg(&html).arg(here.join("src/inspect/page"));
        let output = node.output().unwrap();
        assert!(output.status.success(), "{}: {}", model.display(), errors(&output));
        let counts: Json = serde_json::from_slice(&output.stdout).unwrap();
        let view = inspect_json(&model);
        let nodes =
            view["graphs"].as_array().unwrap().iter().flat_map(|graph| graph["nodes"].as_array().unwrap());
        let kinds: Vec<&str> = nodes.map(|node| node["kind"].as_str().unwrap()).collect();
        let count = |hidden: &[&str]| kinds.iter().filter(|kind| !hidden.contains(kind)).count();
        assert_eq!(counts["order"]["nodes"], count(&["constant"]), "{}", model.display());
        assert_eq!(counts["plain"]["nodes"], count(&["constant", "order"]), "{}", model.display());
        assert_eq!(counts["plain"]["back"], 0, "{}", model.display());
    }
}
