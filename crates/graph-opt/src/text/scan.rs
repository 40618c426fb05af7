//! Lexical helpers. Errors are sentences; the caller knows the line.

use std::fmt::Write;

/// A reading's answer, or what is wrong.
pub(super) type Scanned<T> = Result<T, String>;

/// How deep brackets may nest.
pub(super) const MAX_DEPTH: usize = 64;

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor { rest: text.trim() }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        if let Some(rest) = rest {
            self.rest = rest.trim_start();
        }
        rest.is_some()
    }

    pub(super) fn expect(&mut self, token: &str) -> Scanned<()> {
        if self.eat(token) { Ok(()) } else { Err(format!("expected `{token}` at {}", shown(self.rest))) }
    }

    pub(super) fn end(&self) -> Scanned<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("unexpected {}", shown(self.rest))) }
    }

    /// Letters, digits, `_` and `.`; possibly none.
    pub(super) fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// A name of a value, without its `%`.
    pub(super) fn value(&mut self) -> Scanned<&'a str> {
        let word = self.rest.strip_prefix('%').map(|rest| {
            self.rest = rest;
            self.word()
        });
        word.filter(|word| !word.is_empty())
            .ok_or_else(|| format!("expected a value such as `%1` at {}", shown(self.rest)))
    }

    /// A quoted string.
    pub(super) fn quoted(&mut self) -> Scanned<String> {
        let end = closing_quote(self.rest)
            .ok_or_else(|| format!("expected a quoted string at {}", shown(self.rest)))?;
        unquote(self.take(end))
    }

    /// A part in brackets, without them, if one comes next.
    pub(super) fn bracketed(&mut self, brackets: [char; 2]) -> Scanned<Option<&'a str>> {
        if !self.rest.starts_with(brackets[0]) {
            return Ok(None);
        }
        let end = closing_bracket(self.rest)?;
        let inner = self.take(end);
        let inner = inner.strip_prefix(brackets[0]).and_then(|inner| inner.strip_suffix(brackets[1]));
        inner.map(Some).ok_or_else(|| format!("expected `{}`", brackets[1]))
    }

    fn take(&mut self, end: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        taken
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// The beginning of some text, for messages.
pub(super) fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(40).collect();
    match beginning.len() {
        0 => "the end of the line".to_owned(),
        n if n < text.len() => format!("`{beginning}...`"),
        _ => format!("`{beginning}`"),
    }
}

/// Parts between commas outside brackets and quotes; none in blank text.
pub(super) fn split(text: &str) -> Scanned<Vec<&str>> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    if text.trim().is_empty() {
        return Ok(parts);
    }
    while let Some(c) = text[at..].chars().next() {
        match c {
            ',' => {
                parts.push(text[start..at].trim());
                start = at + 1;
                at += 1;
            }
            '(' | '[' | '{' => at += closing_bracket(&text[at..])?,
            '"' => at += closing_quote(&text[at..]).ok_or("a string does not end")?,
            c => at += c.len_utf8(),
        }
    }
    parts.push(text[start..].trim());
    Ok(parts)
}

/// Where the bracket that the text begins with has been closed.
fn closing_bracket(text: &str) -> Scanned<usize> {
    let (mut expected, mut at) = (Vec::new(), 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => {
                at += closing_quote(&text[at..]).ok_or("a string does not end")?;
                continue;
            }
            '(' => expected.push(')'),
            '[' => expected.push(']'),
            '{' => expected.push('}'),
            ')' | ']' | '}' if expected.pop() != Some(c) => return Err(format!("`{c}` closes nothing")),
            _ => {}
        }
        at += c.len_utf8();
        if expected.is_empty() {
            return Ok(at);
        }
        if expected.len() > MAX_DEPTH {
            return Err(format!("brackets nest deeper than {MAX_DEPTH}"));
        }
    }
    Err("a bracket is not closed".to_owned())
}

/// Where the string that the text begins with has ended.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.strip_prefix('"')?.char_indices() {
        match c {
            '"' if !escaped => return Some(at + 2),
            c => escaped = c == '\\' && !escaped,
        }
    }
    None
}

pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "{}", c.escape_unicode()).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What [`quote`] has quoted.
pub(super) fn unquote(text: &str) -> Scanned<String> {
    let fail = || format!("{} is not a quoted string", shown(text));
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(fail)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '"' => return Err(fail()),
            '\\' => match chars.next().ok_or_else(fail)? {
                'u' => {
                    let (code, rest) = unicode(chars.as_str()).ok_or_else(fail)?;
                    chars = rest.chars();
                    code
                }
                escaped => escaped,
            },
            c => c,
        };
        out.push(c);
    }
    Ok(out)
}

fn unicode(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = text.strip_prefix('{')?.split_once('}')?;
    Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commas_inside_brackets_and_quotes_do_not_split() {
        assert_eq!(
            split(r#"a, f(b, [c, "d,)"]), "x\",y""#).unwrap(),
            ["a", r#"f(b, [c, "d,)"])"#, r#""x\",y""#]
        );
        assert_eq!(split("  ").unwrap(), Vec::<&str>::new());
        for bad in ["(", "(]", "\"", "[\"]", &"[".repeat(100)] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn quoting_round_trips(text in "\\PC*|[\\x00-\\x7f]*|[\"\\\\]*") {
            let quoted = quote(&text);
            prop_assert!(!quoted.contains('\n'));
            prop_assert_eq!(closing_quote(&quoted), Some(quoted.len()));
            prop_assert_eq!(unquote(&quoted), Ok(text));
        }

        #[test]
        fn no_text_panics(text in "[\\[\\](){}\"\\\\,a%é ]*") {
            let _ = (split(&text), unquote(&text), Cursor::new(&text).bracketed(['(', ')']));
        }
    }
}
