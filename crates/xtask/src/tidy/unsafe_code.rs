//! Where `unsafe` may be: in modules that allow it by name and say why.

use std::collections::BTreeSet;

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ExprLit, ExprUnsafe, ItemForeignMod, ItemImpl, ItemMod, ItemTrait, Lit, Meta, Signature,
    Token,
};

use super::Finding;
use super::rust::Source;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let scans: Vec<(&str, Scan)> = scans(sources).collect();
    let allowed: Vec<String> = scans.iter().flat_map(|(_, scan)| scan.modules.iter().cloned()).collect();
    scans.iter().flat_map(|(path, scan)| check_file(path, scan, &allowed)).collect()
}

/// The files that hold unsafe code, with their reasons.
pub(super) fn summary(sources: &[Source]) -> String {
    let mut lines = vec!["unsafe code is allowed in:".to_owned()];
    for (path, scan) in scans(sources) {
        let reasons: BTreeSet<&String> = scan.allows.iter().filter_map(|a| a.reason.as_ref()).collect();
        lines.extend(reasons.into_iter().map(|reason| format!("  {path}: {reason}")));
    }
    if lines.len() == 1 { "unsafe code: none".to_owned() } else { lines.join("\n") }
}

fn scans(sources: &[Source]) -> impl Iterator<Item = (&str, Scan)> {
    sources.iter().filter_map(|source| {
        let file = source.file.as_ref().ok()?;
        let mut scan = Scan { path: source.path.clone(), ..Scan::default() };
        scan.visit_file(file);
        Some((source.path.as_str(), scan))
    })
}

fn check_file(path: &str, scan: &Scan, allowed: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_product_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    for allow in &scan.allows {
        if allow.reason.is_none() {
            findings.push(Finding::new(path, allow.line, "allows unsafe code without a reason; add one"));
        }
        if allow.is_inner && is_product_root {
            let message = "allows unsafe code in the whole crate; move the attribute to one module";
            findings.push(Finding::new(path, allow.line, message));
        }
    }
    let is_allowed = !scan.allows.is_empty() || allowed.iter().any(|module| is_inside(path, module));
    if let (false, Some(line)) = (is_allowed, scan.uses.first()) {
        let message = "unsafe outside a module marked #[allow(unsafe_code, reason = \"...\")]; move it there";
        findings.push(Finding::new(path, *line, message));
    }
    findings
}

/// Whether a file belongs to a module, given as the path of its file without `.rs`.
fn is_inside(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// What a file says about unsafe code.
#[derive(Default)]
struct Scan {
    path: String,
    allows: Vec<Allow>,
    /// Modules in other files for which this file allows it, as in [`is_inside`].
    modules: Vec<String>,
    /// Lines with `unsafe`.
    uses: Vec<usize>,
}

struct Allow {
    line: usize,
    reason: Option<String>,
    is_inner: bool,
}

impl Scan {
    fn note(&mut self, keyword: Option<&Token![unsafe]>) {
        self.uses.extend(keyword.map(|token| token.span.start().line));
    }

    /// Where the module `name` of this file is, without `.rs`.
    fn module(&self, name: &str) -> String {
        let stem = self.path.trim_end_matches(".rs");
        let folder = ["/lib", "/main", "/mod"].iter().find_map(|root| stem.strip_suffix(root));
        format!("{}/{name}", folder.unwrap_or(stem))
    }
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.allows.extend(allow(attribute));
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.content.is_none() && module.attrs.iter().any(|attribute| allow(attribute).is_some()) {
            let module = self.module(&module.ident.to_string());
            self.modules.push(module);
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast ExprUnsafe) {
        self.note(Some(&block.unsafe_token));
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        self.note(signature.unsafety.as_ref());
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        self.note(block.unsafety.as_ref());
        visit::visit_item_impl(self, block);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.note(item.unsafety.as_ref());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, block: &'ast ItemForeignMod) {
        self.note(block.unsafety.as_ref());
        visit::visit_item_foreign_mod(self, block);
    }
}

/// What an attribute says if it is `allow(unsafe_code, ...)`.
fn allow(attribute: &Attribute) -> Option<Allow> {
    let path = attribute.path();
    if !path.is_ident("allow") && !path.is_ident("expect") {
        return None;
    }
    let items = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    if !items.iter().any(|item| item.path().is_ident("unsafe_code")) {
        return None;
    }
    Some(Allow {
        line: attribute.pound_token.span.start().line,
        reason: items.iter().find_map(reason),
        is_inner: matches!(attribute.style, syn::AttrStyle::Inner(_)),
    })
}

fn reason(item: &Meta) -> Option<String> {
    let pair = item.require_name_value().ok().filter(|pair| pair.path.is_ident("reason"))?;
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rust::source;
    use super::*;

    const ALLOW: &str = "#[allow(unsafe_code, reason = \"memory of others\")]";

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| source(path, text)).collect();
        check(&sources).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn unsafe_needs_a_marked_module() {
        let code = "fn a() { unsafe { b() } }\n";
        assert!(findings(&[("c/src/a.rs", code)])[0].starts_with("c/src/a.rs:1: unsafe outside a module"));
        let marked = format!("{ALLOW}\nmod a {{ {code} }}\n");
        assert!(findings(&[("c/src/a.rs", &marked)]).is_empty());
        for item in ["unsafe fn a() {}", "unsafe impl Send for A {}", "unsafe extern \"C\" {}"] {
            assert_eq!(findings(&[("c/src/a.rs", item)]).len(), 1, "{item}");
        }
    }

    #[test]
    fn a_mark_on_a_declaration_covers_the_module_s_files() {
        let root = format!("{ALLOW}\nmod shared;\nmod other;\n");
        let code = "unsafe fn a() {}\n";
        let files = |path| [("c/src/lib.rs", root.as_str()), (path, code)];
        assert!(findings(&files("c/src/shared.rs")).is_empty());
        assert!(findings(&files("c/src/shared/ring.rs")).is_empty());
        assert_eq!(findings(&files("c/src/other.rs")).len(), 1);
        assert_eq!(findings(&files("c/src/shared_too.rs")).len(), 1);
    }

    #[test]
    fn marks_have_reasons_and_do_not_open_whole_crates() {
        let no_reason = "#[allow(unsafe_code)]\nmod a {}\n";
        assert!(findings(&[("c/src/a.rs", no_reason)])[0].contains("without a reason"));
        let whole = "#![allow(unsafe_code, reason = \"all\")]\n";
        assert!(findings(&[("c/src/lib.rs", whole)])[0].contains("in the whole crate"));
        assert!(findings(&[("c/tests/allocations.rs", whole)]).is_empty());
    }

    #[test]
    fn the_summary_lists_reasons() {
        let sources = [source("c/src/a.rs", &format!("{ALLOW}\nmod a {{}}\n"))];
        assert_eq!(summary(&sources), "unsafe code is allowed in:\n  c/src/a.rs: memory of others");
    }
}
