//! What every Cargo.toml says, and where Cargo.lock points.

use super::{Files, Finding};
use crate::workspace::Crate;

/// The one source of foreign crates; a mirror belongs to a user's own configuration.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(crates: &[Crate], files: &Files) -> Vec<Finding> {
    let mut findings: Vec<Finding> = crates.iter().flat_map(|member| check_member(member, files)).collect();
    findings.extend(files.get("Cargo.lock").into_iter().flat_map(|lock| check_lock(lock)));
    findings
}

fn check_member(member: &Crate, files: &Files) -> Vec<Finding> {
    let path = format!("{}/Cargo.toml", member.folder);
    let mut messages: Vec<String> =
        member.missing_fields.iter().map(|field| format!("no {field} in [package]; add it")).collect();
    let expected = expected_names(&member.folder);
    if !expected.contains(&member.name) {
        messages.push(format!("package {} should be called {}", member.name, expected.join(" or ")));
    }
    let manifest = files.get(&path).map_or("", String::as_str);
    if !inherits_lints(manifest) {
        messages.push("lints of the workspace do not apply; add [lints] workspace = true".to_owned());
    }
    messages.into_iter().map(|message| Finding::new(&path, 1, message)).collect()
}

/// Names that the package of a folder may have; the facade carries the project's own.
fn expected_names(folder: &str) -> Vec<String> {
    let name = folder.rsplit('/').next().unwrap_or_default();
    match name {
        "lite" => vec!["mslite".to_owned()],
        "xtask" => vec!["xtask".to_owned()],
        _ => vec![format!("mslite-{name}")],
    }
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.find(|line| !line.is_empty() && !line.starts_with('#')) == Some("workspace = true")
}

fn check_lock(lock: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, line) in lock.lines().enumerate() {
        let Some(source) = line.strip_prefix("source = ") else { continue };
        if source.trim_matches('"') != SOURCE {
            let message = format!("foreign source {source}; depend on a release on crates.io");
            findings.push(Finding::new("Cargo.lock", i + 1, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, manifest: &str) -> Vec<String> {
        let member = Crate { name: name.to_owned(), folder: "crates/tensor".to_owned(), ..Crate::default() };
        let files = Files::from([("crates/tensor/Cargo.toml".to_owned(), manifest.to_owned())]);
        check(&[member], &files).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn lints_come_from_the_workspace() {
        let good = "[package]\n\n[lints]\n# all of them\nworkspace = true\n";
        assert!(member("mslite-tensor", good).is_empty());
        for bad in ["[package]\nworkspace = true\n", "[lints]\n[lints.rust]\nworkspace = true\n", ""] {
            assert_eq!(member("mslite-tensor", bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn packages_are_called_after_their_folders() {
        let names = member("tensor", "[lints]\nworkspace = true\n");
        assert_eq!(names, ["package tensor should be called mslite-tensor"]);
        assert_eq!(expected_names("crates/lite"), ["mslite"]);
    }

    #[test]
    fn absent_fields_are_named() {
        let member = Crate { missing_fields: vec!["readme".to_owned()], ..Crate::default() };
        assert_eq!(check_member(&member, &Files::new())[0].message, "no readme in [package]; add it");
    }

    #[test]
    fn foreign_sources_are_found() {
        let good = format!("[[package]]\nname = \"a\"\nsource = \"{SOURCE}\"\n");
        assert!(check_lock(&good).is_empty());
        let bad = "[[package]]\nname = \"a\"\nsource = \"git+https://example.org/a#1\"\n";
        assert_eq!(check_lock(bad)[0].line, 3);
    }
}
