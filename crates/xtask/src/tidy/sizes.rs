//! Sizes of files and functions.

use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, ItemImpl, ItemMod, Signature, TraitItemFn};

use super::Finding;
use super::rust::{Source, is_test};

/// Most lines of a file, without the tests at its end.
const FILE_LINES: usize = 800;
/// Most lines of a function's body.
const BODY_LINES: usize = 90;
/// Bodies above this many lines are counted and reported.
const LONG_BODY_LINES: usize = 55;

/// A function outside tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    path: String,
    line: usize,
    name: String,
    /// Lines between its braces, at least 1.
    body_lines: usize,
}

/// All functions outside tests.
pub(super) fn functions(sources: &[Source]) -> Vec<Function> {
    sources.iter().flat_map(functions_of).collect()
}

pub(super) fn check(sources: &[Source], functions: &[Function]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = sources.iter().filter_map(check_file).collect();
    for function in functions.iter().filter(|function| function.body_lines > BODY_LINES) {
        let Function { path, line, name, body_lines } = function;
        let message = format!("body of `{name}` has {body_lines} lines of at most {BODY_LINES}; divide it");
        findings.push(Finding::new(path, *line, message));
    }
    findings
}

/// Figures about the functions, for people.
pub(super) fn summary(functions: &[Function]) -> String {
    let mut sizes: Vec<usize> = functions.iter().map(|function| function.body_lines).collect();
    sizes.sort_unstable();
    let at = |share: f64| sizes.get((sizes.len() as f64 * share) as usize).copied().unwrap_or_default();
    let long = sizes.iter().filter(|&&lines| lines > LONG_BODY_LINES).count();
    format!(
        "functions: {}; lines of a body: median {}, 90% up to {}, largest {}, {long} over {LONG_BODY_LINES}",
        sizes.len(),
        at(0.5),
        at(0.9),
        sizes.last().copied().unwrap_or_default()
    )
}

fn check_file(source: &Source) -> Option<Finding> {
    if let Err((line, reason)) = &source.file {
        return Some(Finding::new(&source.path, *line, format!("is no valid Rust: {reason}; mend it")));
    }
    let lines = source.product_lines();
    let too_long = !source.is_tests() && lines > FILE_LINES;
    let message = || format!("{lines} lines without tests, of at most {FILE_LINES}; divide it by purpose");
    too_long.then(|| Finding::new(&source.path, FILE_LINES + 1, message()))
}

fn functions_of(source: &Source) -> Vec<Function> {
    let mut visitor = Visitor { path: &source.path, found: Vec::new() };
    if let Some(file) = source.product() {
        visitor.visit_file(file);
    }
    visitor.found
}

struct Visitor<'a> {
    path: &'a str,
    found: Vec<Function>,
}

impl Visitor<'_> {
    fn add(&mut self, signature: &Signature, body: &Block) {
        let braces = body.brace_token.span;
        let (open, close) = (braces.open().start().line, braces.close().start().line);
        self.found.push(Function {
            path: self.path.to_owned(),
            line: signature.ident.span().start().line,
            name: signature.ident.to_string(),
            body_lines: (close - open).saturating_sub(1).max(1),
        });
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        if !is_test(&block.attrs) {
            visit::visit_item_impl(self, block);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_test(&function.attrs) {
            self.add(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, method: &'ast ImplItemFn) {
        if !is_test(&method.attrs) {
            self.add(&method.sig, &method.block);
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_trait_item_fn(&mut self, method: &'ast TraitItemFn) {
        if let Some(body) = &method.default {
            self.add(&method.sig, body);
        }
        visit::visit_trait_item_fn(self, method);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rust::source;
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let sources = [source(path, text)];
        check(&sources, &functions(&sources)).iter().map(Finding::to_string).collect()
    }

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    work();\n".repeat(lines))
    }

    #[test]
    fn bodies_are_measured_wherever_they_are() {
        let text = "fn a() {}\nimpl T {\n    fn b(&self) {\n        1;\n        2;\n    }\n}\n\
                    trait U {\n    fn c();\n    fn d() { 3 }\n}\n";
        let sources = [source("crates/a/src/a.rs", text)];
        let found: Vec<_> = functions(&sources).into_iter().map(|f| (f.name, f.line, f.body_lines)).collect();
        let expected = [("a", 1, 1), ("b", 3, 2), ("d", 10, 1)];
        assert_eq!(found, expected.map(|(name, line, lines)| (name.to_owned(), line, lines)));
    }

    #[test]
    fn long_bodies_are_found_outside_tests() {
        assert!(findings("crates/a/src/a.rs", &function("long", BODY_LINES)).is_empty());
        let long = function("long", BODY_LINES + 1);
        let expected = "crates/a/src/a.rs:1: body of `long` has 91 lines of at most 90; divide it";
        assert_eq!(findings("crates/a/src/a.rs", &long), [expected]);
        assert!(findings("crates/a/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n")).is_empty());
        assert!(findings("crates/a/tests/a.rs", &long).is_empty());
    }

    #[test]
    fn long_files_are_found() {
        let consts = |n: usize| (0..n).map(|i| format!("const A{i}: u8 = 0;\n")).collect::<String>();
        assert!(findings("crates/a/src/a.rs", &consts(FILE_LINES)).is_empty());
        let found = findings("crates/a/src/a.rs", &consts(FILE_LINES + 1));
        assert!(found[0].starts_with("crates/a/src/a.rs:801: 801 lines"), "{found:?}");
    }

    #[test]
    fn what_does_not_parse_is_found() {
        assert!(findings("crates/a/src/a.rs", "fn a() {}\nfn {\n")[0].contains("a.rs:2: is no valid Rust"));
    }

    #[test]
    fn figures_are_those_of_the_functions() {
        let text: String = (1..=10).map(|i| function(&format!("f{i}"), i * 6)).collect();
        let summary = summary(&functions(&[source("crates/a/src/a.rs", &text)]));
        let expected = "functions: 10; lines of a body: median 36, 90% up to 60, largest 60, 1 over 55";
        assert_eq!(summary, expected);
    }
}
