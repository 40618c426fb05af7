//! `cargo xtask tidy`: rules of the workspace that neither compiler nor clippy checks.
//!
//! Each check is a function from what cargo and the files say to findings.

mod documents;
mod floors;
mod manifests;
mod rust;
mod sizes;
mod text;
mod unsafe_code;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::ExitCode;

use serde_json::json;

use crate::Result;
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Args {
    /// Print findings as a JSON array of {path, line, message}.
    #[arg(long)]
    json: bool,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// File, relative to the root.
    path: String,
    /// Line, from 1.
    line: usize,
    /// What is wrong, and what to do.
    message: String,
}

/// Texts of the workspace's files by path; bytes that are no UTF-8 are replaced.
type Files = BTreeMap<String, String>;

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let files = read(workspace)?;
    let sources: Vec<rust::Source> =
        files.iter().filter(|(path, _)| path.ends_with(".rs")).map(rust::Source::parse).collect();
    let functions = sizes::functions(&sources);
    let mut findings = [
        floors::check(&workspace.crates),
        manifests::check(&workspace.crates, &files),
        documents::check(&workspace.crates, &files),
        sizes::check(&sources, &functions),
        unsafe_code::check(&sources),
        text::check(&files),
    ]
    .concat();
    findings.sort();
    if args.json {
        println!("{}", to_json(&findings));
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
        println!("{}", sizes::summary(&functions));
        println!("{}", unsafe_code::summary(&sources));
        println!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Finding { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

fn read(workspace: &Workspace) -> Result<Files> {
    let mut files = Files::new();
    for path in workspace.files()? {
        let bytes = fs::read(workspace.root.join(&path)).map_err(|e| format!("cannot read {path}: {e}"))?;
        files.insert(path, String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(files)
}

fn to_json(findings: &[Finding]) -> serde_json::Value {
    findings.iter().map(|f| json!({"path": f.path, "line": f.line, "message": f.message})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_that_editors_understand() {
        let finding = Finding::new("crates/a/src/lib.rs", 3, "too long; split it");
        assert_eq!(finding.to_string(), "crates/a/src/lib.rs:3: too long; split it");
        let expected = r#"[{"line":3,"message":"too long; split it","path":"crates/a/src/lib.rs"}]"#;
        assert_eq!(to_json(&[finding]).to_string(), expected);
    }
}
