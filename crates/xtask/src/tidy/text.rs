//! What no file may contain: paths and hosts of one machine, and unfinished work.

use super::{Files, Finding};

/// Top-level folders that exist on some developer's machine only.
const MACHINE_FOLDERS: &[&str] = &["work", "root", "farm"];
/// Top-level folders below which any fixed name belongs to one machine.
const SHARED_FOLDERS: &[&str] = &["home", "tmp"];
/// Parts of host names from which packages come.
const PACKAGE_HOSTS: &[&str] = &["registry", "artifact", "mirror", "nexus"];
/// Words that mark unfinished work, in any text.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
/// Macros that mark unfinished work, in Rust.
const MACROS: &[&str] = &[concat!("dbg", "!"), concat!("todo", "!"), concat!("unimplemented", "!")];

pub(super) fn check(files: &Files) -> Vec<Finding> {
    let checked = files.iter().filter(|(path, _)| *path != "Cargo.lock");
    checked.flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut add = |message: String| findings.push(Finding::new(path, i + 1, message));
        if let Some(found) = machine_path(line) {
            add(format!("path of one machine: {found}; derive it or pass it in"));
        }
        if let Some(host) = package_host(line) {
            add(format!("host of a package registry: {host}; leave it to the user's configuration"));
        }
        if let Some(table) = source_table(path, line) {
            add(format!("{table} replaces a package source; leave it to the user's configuration"));
        }
        if let Some(marker) = unfinished(path, line) {
            add(format!("{marker}: finish it, or open an issue and remove the mark"));
        }
    }
    findings
}

/// An absolute path that means something on one machine only.
fn machine_path(line: &str) -> Option<&str> {
    line.match_indices('/').find_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| is_name(c) || "./}>)]~*$".contains(c)) {
            return None;
        }
        let path = &line[at..];
        let (folder, rest) = split_name(&path[1..]);
        let (name, _) = split_name(rest.strip_prefix('/').unwrap_or_default());
        let is_machine =
            MACHINE_FOLDERS.contains(&folder) || (SHARED_FOLDERS.contains(&folder) && !name.is_empty());
        let length = 1 + folder.len() + if name.is_empty() { 0 } else { 1 + name.len() };
        is_machine.then(|| &path[..length])
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Splits after the leading letters, digits, `_` and `-`.
fn split_name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
}

/// The host of a URL that serves packages.
fn package_host(line: &str) -> Option<&str> {
    line.split("://").skip(1).find_map(|rest| {
        let end = rest.find(|c: char| !is_name(c) && c != '.').unwrap_or(rest.len());
        let host = &rest[..end];
        let is_index = host.starts_with("index.");
        (is_index || PACKAGE_HOSTS.iter().any(|part| host.contains(part))).then_some(host)
    })
}

/// A table of cargo's configuration that says where packages come from.
fn source_table<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let is_configuration = path.contains(".cargo/");
    let tables = ["[source", "[registr"];
    (is_configuration && tables.iter().any(|table| line.trim_start().starts_with(table))).then_some(line)
}

fn unfinished(path: &str, line: &str) -> Option<&'static str> {
    let is_rust = path.ends_with(".rs");
    let words = MARKERS.iter().find(|word| has_word(line, word));
    let macros = MACROS.iter().filter(|_| is_rust).find(|name| has_word(line, name));
    words.or(macros).copied()
}

/// Whether `word` stands in a line and is not part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_end = word.ends_with('!');
        !before.is_some_and(is_name) && (open_end || !after.is_some_and(is_name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_machine_are_found() {
        for (folder, name) in [("work", "main"), ("root", ".cargo"), ("home", "me"), ("tmp", "x.npz")] {
            for quote in ["\"", "`", " ", "(", "="] {
                let line = format!("see {quote}/{folder}/{name}{quote}");
                assert!(machine_path(&line).is_some(), "{line}");
            }
        }
        let line = format!("cd /{}", "work");
        assert_eq!(machine_path(&line), Some(&line[3..]));
    }

    #[test]
    fn paths_of_every_machine_pass() {
        for line in [
            "use ../work/x",
            "https://example.org/home/me",
            "crates/root/src",
            "/dev/shm/mslite",
            "a / b, and /workspace/x or /tmp/ alone",
            "mktemp -d /tmp/{name}",
            "{dir}/work",
        ] {
            assert_eq!(machine_path(line), None, "{line}");
        }
    }

    #[test]
    fn hosts_of_registries_are_found() {
        let line = format!("url = \"https://{}.example.org/simple\"", "registry");
        assert_eq!(package_host(&line), Some("registry.example.org"));
        assert!(package_host(&format!("sparse+http://{}.local:80/x", "index")).is_some());
        assert!(package_host("https://docs.rs/index and https://crates.io/crates/registry").is_none());
        assert!(source_table(".cargo/config.toml", "[source.crates-io]").is_some());
        assert!(source_table("README.md", "[source](a)").is_none());
    }

    #[test]
    fn unfinished_work_is_found() {
        let line = format!("    // {}: later", MARKERS[0]);
        assert_eq!(unfinished("a.md", &line), Some(MARKERS[0]));
        assert_eq!(unfinished("a.rs", &format!("{}(x)", MACROS[0])), Some(MACROS[0]));
        assert_eq!(unfinished("a.md", &format!("{}(x)", MACROS[0])), None);
        assert_eq!(unfinished("a.rs", &format!("my_{}(x), {}S", MACROS[1], MARKERS[0])), None);
    }

    #[test]
    fn findings_carry_the_line() {
        let text = format!("fine\ncd /{}/x\n", "root");
        let findings = check_file("a.sh", &text);
        assert_eq!((findings.len(), findings[0].line), (1, 2));
    }
}
