//! What cargo and git know of the workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// The workspace: where it is, and its crates.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Root folder.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// Member crates, sorted by name.
    pub(crate) crates: Vec<Crate>,
}

/// A member of the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Crate {
    /// Package name.
    pub(crate) name: String,
    /// Its folder, relative to the root, with `/`.
    pub(crate) folder: String,
    /// Root files of its library and its binaries, relative to the root.
    pub(crate) targets: Vec<Target>,
    /// What it depends on, other members and foreign crates.
    pub(crate) dependencies: Vec<Dependency>,
    /// Fields of `[package]` that tidy requires and that are absent.
    pub(crate) missing_fields: Vec<String>,
}

/// A library or a binary of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether it is a library, whose documentation examples run as tests.
    pub(crate) is_library: bool,
    /// Root file, relative to the root of the workspace.
    pub(crate) source: String,
}

/// An edge of the dependency graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Package name.
    pub(crate) name: String,
    /// Whether only tests, examples and benches see it.
    pub(crate) is_dev: bool,
}

impl Workspace {
    /// Asks `cargo metadata`.
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let started_from =
            std::env::var_os("CARGO_MANIFEST_DIR").map(|dir| Path::new(&dir).join("Cargo.toml"));
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(started_from.unwrap_or(manifest))
            .output()
            .map_err(|e| format!("cargo does not start: {e}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("cargo metadata printed no valid JSON: {e}"))?;
        Ok(Workspace::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &Value) -> Self {
        let root = PathBuf::from(text(metadata, "workspace_root"));
        let mut crates: Vec<Crate> =
            items(metadata, "packages").map(|package| Crate::from_metadata(package, &root)).collect();
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Workspace { target: PathBuf::from(text(metadata, "target_directory")), root, crates }
    }

    /// Paths, relative to the root, of the files that git tracks or would track; without git, of all files
    /// outside hidden folders and `target`.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output();
        let mut files = match listed {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
                .split_terminator('\0')
                .map(str::to_owned)
                .filter(|path| self.root.join(path).is_file())
                .collect(),
            _ => walk(&self.root).map_err(|e| format!("cannot list {}: {e}", self.root.display()))?,
        };
        files.sort();
        Ok(files)
    }
}

impl Crate {
    fn from_metadata(package: &Value, root: &Path) -> Self {
        let relative = |path: &str| relative(Path::new(path), root);
        let manifest = relative(text(package, "manifest_path"));
        let required = ["description", "license", "repository", "rust_version", "readme"];
        Crate {
            name: text(package, "name").to_owned(),
            folder: manifest.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned(),
            targets: items(package, "targets")
                .filter_map(|target| {
                    let kinds: Vec<&str> = items(target, "kind").filter_map(Value::as_str).collect();
                    let is_library = kinds.iter().any(|kind| kind.ends_with("lib"));
                    (is_library || kinds.contains(&"bin"))
                        .then(|| Target { is_library, source: relative(text(target, "src_path")) })
                })
                .collect(),
            dependencies: items(package, "dependencies")
                .map(|dependency| Dependency {
                    name: text(dependency, "name").to_owned(),
                    is_dev: dependency["kind"] == "dev",
                })
                .collect(),
            missing_fields: required
                .iter()
                .filter(|field| package[**field].as_str().is_none_or(str::is_empty))
                .map(|field| field.replace('_', "-"))
                .collect(),
        }
    }
}

/// The cargo that started this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn relative(path: &Path, root: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

fn walk(root: &Path) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_file() {
                files.push(relative(&entry.path(), root));
            } else if entry.file_type()?.is_dir() && name != "target" && name != ".git" {
                folders.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_becomes_crates() {
        let metadata = json!({
            "workspace_root": "/w",
            "target_directory": "/w/target",
            "packages": [{
                "name": "mslite-a",
                "manifest_path": "/w/crates/a/Cargo.toml",
                "description": "it does a",
                "license": "MIT",
                "repository": null,
                "rust_version": "1.90",
                "readme": "README.md",
                "targets": [
                    {"kind": ["lib"], "src_path": "/w/crates/a/src/lib.rs"},
                    {"kind": ["test"], "src_path": "/w/crates/a/tests/t.rs"},
                ],
                "dependencies": [{"name": "b", "kind": null}, {"name": "c", "kind": "dev"}],
            }],
        });
        let workspace = Workspace::from_metadata(&metadata);
        let dependency = |name: &str, is_dev| Dependency { name: name.to_owned(), is_dev };
        let expected = Crate {
            name: "mslite-a".to_owned(),
            folder: "crates/a".to_owned(),
            targets: vec![Target { is_library: true, source: "crates/a/src/lib.rs".to_owned() }],
            dependencies: vec![dependency("b", false), dependency("c", true)],
            missing_fields: vec!["repository".to_owned()],
        };
        assert_eq!(workspace.crates, [expected]);
    }

    #[test]
    fn files_are_found_with_and_without_git() {
        let workspace = Workspace::load().unwrap();
        let this = "crates/xtask/src/workspace.rs".to_owned();
        assert!(workspace.files().unwrap().contains(&this));
        assert!(walk(&workspace.root).unwrap().contains(&this));
    }
}
