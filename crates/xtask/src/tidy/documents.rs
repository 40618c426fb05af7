//! Documents that must be there, and must know every crate.

use std::collections::BTreeSet;

use super::{Files, Finding};
use crate::workspace::{Crate, Target};

/// Files of the root, and a phrase that each contains.
const ROOT: &[(&str, &str)] = &[
    ("README.md", "cargo xtask test"),
    ("ARCHITECTURE.md", CODE_MAP),
    ("CHANGELOG.md", "## [Unreleased]"),
    ("LICENSE-MIT", "Permission is hereby granted"),
    ("LICENSE-APACHE", "END OF TERMS AND CONDITIONS"),
];
const CODE_MAP: &str = "## Code map";
const README_DOCS: &str = "#![doc = include_str!(\"../README.md\")]";

pub(super) fn check(crates: &[Crate], files: &Files) -> Vec<Finding> {
    let mut findings: Vec<Finding> = ROOT
        .iter()
        .filter(|(path, phrase)| !files.get(*path).is_some_and(|text| text.contains(phrase)))
        .map(|(path, phrase)| Finding::new(*path, 1, format!("absent or without \"{phrase}\"; write it")))
        .collect();
    findings.extend(crates.iter().flat_map(|member| check_readme(member, files)));
    for (path, heading) in [("ARCHITECTURE.md", CODE_MAP), ("README.md", "## Crates")] {
        let text = files.get(path).map_or("", String::as_str);
        findings.extend(check_map(path, text, heading, crates));
    }
    findings
}

/// Every crate has a README with an example, which is also its documentation.
fn check_readme(member: &Crate, files: &Files) -> Vec<Finding> {
    let path = format!("{}/README.md", member.folder);
    let Some(readme) = files.get(&path) else {
        return vec![Finding::new(path, 1, "absent; write what the crate is for, with an example")];
    };
    let mut findings = Vec::new();
    let has_library = member.targets.iter().any(|target| target.is_library);
    if has_library && !has_block(readme, |language| language == "rust" || language == "rust,no_run") {
        findings.push(Finding::new(&path, 1, "no runnable example; add a block that begins with ```rust"));
    } else if !has_block(readme, |_| true) {
        findings.push(Finding::new(&path, 1, "no example; add a code block"));
    }
    let documented = member.targets.iter().filter(|target| target.is_library || !has_library);
    findings.extend(documented.filter_map(|target| check_crate_docs(target, files)));
    findings
}

fn check_crate_docs(target: &Target, files: &Files) -> Option<Finding> {
    let includes = files.get(&target.source).is_some_and(|text| text.contains(README_DOCS));
    let message = || format!("the README is not the crate's documentation; add {README_DOCS}");
    (!includes).then(|| Finding::new(&target.source, 1, message()))
}

/// Whether a Markdown text has a fenced block whose language fits.
fn has_block(markdown: &str, fits: impl Fn(&str) -> bool) -> bool {
    let fences = markdown.lines().filter_map(|line| line.strip_prefix("```"));
    fences.step_by(2).any(fits)
}

/// The section under `heading` names exactly the crates that exist, as `crates/NAME`.
fn check_map(path: &str, text: &str, heading: &str, crates: &[Crate]) -> Vec<Finding> {
    let first = text.lines().position(|line| line == heading).map_or(1, |i| i + 1);
    let named = named_crates(text, heading);
    let present: BTreeSet<&str> =
        crates.iter().filter_map(|member| member.folder.strip_prefix("crates/")).collect();
    let unnamed = present.iter().filter(|name| !named.iter().any(|(_, n)| n == *name));
    let absent = named.iter().filter(|(_, name)| !present.contains(name));
    unnamed
        .map(|name| {
            let message = format!("\"{heading}\" does not name `crates/{name}`; say what it is for");
            Finding::new(path, first, message)
        })
        .chain(absent.map(|(line, name)| {
            let message = format!("\"{heading}\" names `crates/{name}`, which does not exist; remove it");
            Finding::new(path, *line, message)
        }))
        .collect()
}

/// Crates that a section names, each with the first line that does.
fn named_crates<'a>(text: &'a str, heading: &str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != heading).skip(1);
    let mut named: Vec<(usize, &str)> = Vec::new();
    for (i, line) in lines.take_while(|(_, line)| !line.starts_with("## ")) {
        for rest in line.split("crates/").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
            let name = &rest[..end];
            if !name.is_empty() && !named.iter().any(|(_, n)| *n == name) {
                named.push((i + 1, name));
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, is_library: bool) -> Crate {
        let folder = format!("crates/{name}");
        let source = format!("{folder}/src/{}.rs", if is_library { "lib" } else { "main" });
        Crate { folder, targets: vec![Target { is_library, source }], ..Crate::default() }
    }

    fn files(texts: &[(&str, &str)]) -> Files {
        texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    fn messages(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.message.as_str()).collect()
    }

    #[test]
    fn a_library_needs_a_rust_example_in_its_documentation() {
        let library = member("a", true);
        let good =
            [("crates/a/README.md", "# a\n```rust\nlet x;\n```\n"), ("crates/a/src/lib.rs", README_DOCS)];
        assert!(check_readme(&library, &files(&good)).is_empty());
        let shell =
            [("crates/a/README.md", "```sh\na\n```\n```rust,ignore\n```"), ("crates/a/src/lib.rs", "")];
        let findings = check_readme(&library, &files(&shell));
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[1].path, "crates/a/src/lib.rs");
        assert!(messages(&check_readme(&library, &Files::new()))[0].starts_with("absent"));
    }

    #[test]
    fn a_program_needs_any_example() {
        let program = member("b", false);
        let good = [("crates/b/README.md", "```sh\nb\n```\n"), ("crates/b/src/main.rs", README_DOCS)];
        assert!(check_readme(&program, &files(&good)).is_empty());
        let bare = [("crates/b/README.md", "# b\n"), ("crates/b/src/main.rs", README_DOCS)];
        assert_eq!(messages(&check_readme(&program, &files(&bare))), ["no example; add a code block"]);
    }

    #[test]
    fn the_map_names_what_exists() {
        let text =
            "# x\ncrates/ghost\n## Code map\n- `crates/a`: a\n- `crates/b-c/src`: b\n## Next\ncrates/d\n";
        let crates = [member("a", true), member("d", true)];
        let findings = check_map("M.md", text, CODE_MAP, &crates);
        assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [3, 5]);
        assert!(findings[0].message.contains("does not name `crates/d`"));
        assert!(findings[1].message.contains("names `crates/b-c`, which does not exist"));
    }

    #[test]
    fn documents_of_the_root_are_required() {
        let findings = check(&[], &files(&[("LICENSE-MIT", "MIT License\n")]));
        let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]);
    }
}
