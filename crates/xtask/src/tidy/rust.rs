//! Parsed Rust files.

use syn::spanned::Spanned;
use syn::{Attribute, Ident, Item};

/// A Rust file.
pub(super) struct Source {
    /// Relative to the root.
    pub(super) path: String,
    /// Number of lines.
    pub(super) lines: usize,
    /// The syntax tree, or why there is none, with the line.
    pub(super) file: Result<syn::File, (usize, String)>,
}

impl Source {
    pub(super) fn parse((path, text): (&String, &String)) -> Self {
        let file = syn::parse_file(text).map_err(|e| (e.span().start().line, e.to_string()));
        Source { path: path.clone(), lines: text.lines().count(), file }
    }

    /// The syntax tree if the file is not made of tests alone.
    pub(super) fn product(&self) -> Option<&syn::File> {
        self.file.as_ref().ok().filter(|_| !self.is_tests())
    }

    /// Whether it holds nothing but tests or benchmarks.
    pub(super) fn is_tests(&self) -> bool {
        let folders = ["/tests/", "/benches/"];
        folders.iter().any(|folder| self.path.contains(folder)) || self.path.ends_with("/tests.rs")
    }

    /// Lines without the tests at the end.
    pub(super) fn product_lines(&self) -> usize {
        let Ok(file) = &self.file else { return self.lines };
        match file.items.last() {
            Some(Item::Mod(module)) if is_test(&module.attrs) => module.span().start().line - 1,
            _ => self.lines,
        }
    }
}

/// Whether attributes mark a test, or something compiled for tests only.
pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        path.is_ident("test")
            || (path.is_ident("cfg") && attribute.parse_args::<Ident>().is_ok_and(|ident| ident == "test"))
    })
}

#[cfg(test)]
pub(super) fn source(path: &str, text: &str) -> Source {
    Source::parse((&path.to_owned(), &text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(source("crates/a/src/a.rs", text).product_lines(), 2);
        assert_eq!(source("crates/a/src/a.rs", "fn a() {}\nmod tests {}\n").product_lines(), 2);
    }

    #[test]
    fn files_of_tests_are_known_by_their_path() {
        assert!(source("crates/a/tests/a.rs", "").is_tests());
        assert!(source("crates/a/src/b/tests.rs", "").is_tests());
        assert!(!source("crates/a/src/attests.rs", "").is_tests());
    }
}
