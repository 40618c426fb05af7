//! Golden tests: each file under `tests/passes/<pass>` holds a graph before and, after `---`, what the pass makes
//! of it, behind the rewrites as comments. With `MSLITE_BLESS=1` the second part is written anew: look at the
//! difference before you keep it. A line `# evaluator` in the first part lets constants be computed; `# to bf16` and
//! `# keep PATTERN` are for the pass `precision`.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mslite_graph_opt::Graph;
use mslite_graph_opt::pass::{
    Level, OptimiseOptions, Pass, Precision, agreed_passes, optimise, standard_passes,
};
use mslite_tensor::DType;
use support::evaluate::Reference;

const SEPARATOR: &str = "---\n";

#[test]
fn dead_code() {
    check("dead_code");
}

#[test]
fn constant_folding() {
    check("constant_folding");
}

#[test]
fn algebra() {
    check("algebra");
}

#[test]
fn control_flow() {
    check("control_flow");
}

#[test]
fn layout() {
    check("layout");
}

#[test]
fn common_subexpressions() {
    check("common_subexpressions");
}

#[test]
fn fusion() {
    check("fusion");
}

#[test]
fn recognition() {
    check("recognition");
}

#[test]
fn attention() {
    check("attention");
}

#[test]
fn collectives() {
    check("collectives");
}

#[test]
fn overlap() {
    check("overlap");
}

#[test]
fn invariant_code() {
    check("invariant_code");
}

#[test]
fn weight_folding() {
    check("weight_folding");
}

#[test]
fn row_motion() {
    check("row_motion");
}

#[test]
fn joined_products() {
    check("joined_products");
}

#[test]
fn add_norm() {
    check("add_norm");
}

#[test]
fn wide_sums() {
    check("wide_sums");
}

#[test]
fn precision() {
    check("precision");
}

/// The passes that a rank applies by itself, those that all ranks apply together, and those that are asked for.
fn all_passes(text: &str) -> Vec<Arc<dyn Pass>> {
    let named = |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
    let dtype = named("# to ").next().map_or(DType::F16, |name| name.parse().unwrap());
    let precision = named("# keep ").fold(Precision::new(dtype).unwrap(), Precision::keeping);
    let standard = standard_passes().into_iter().chain(agreed_passes(Level::default()));
    standard.chain([Arc::new(precision) as Arc<dyn Pass>]).collect()
}

#[test]
fn every_pass_has_a_folder() {
    let mut names: Vec<_> = all_passes("").iter().map(|pass| pass.name().to_owned()).collect();
    names.sort();
    let folders =
        entries(&root()).into_iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    assert_eq!(folders.collect::<Vec<_>>(), names);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn check(pass: &str) {
    let mut wrong = Vec::new();
    for path in entries(&root().join(pass)) {
        let text = fs::read_to_string(&path).unwrap();
        let before = text.split(SEPARATOR).next().unwrap();
        let after = after(pass, before).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = format!("{before}{SEPARATOR}{after}");
        if std::env::var_os("MSLITE_BLESS").is_some() {
            fs::write(&path, expected).unwrap();
        } else if text != expected {
            wrong.push(format!("{} should be\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn after(pass: &str, before: &str) -> Result<String, mslite_graph_opt::Error> {
    let graph: Graph = before.parse()?;
    let passes = all_passes(before).into_iter().filter(|candidate| candidate.name() == pass).collect();
    let evaluator = before.lines().any(|line| line == "# evaluator").then(|| Arc::new(Reference) as _);
    let (graph, report) =
        optimise(&graph, &OptimiseOptions { passes, evaluator, ..OptimiseOptions::default() })?;
    let rewrites =
        report.rewrites.iter().map(|rewrite| format!("# {} at {}\n", rewrite.rule, rewrite.origin));
    Ok(format!("{}{graph}", rewrites.collect::<String>()))
}
