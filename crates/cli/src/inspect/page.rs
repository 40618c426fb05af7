//! A model as a page for browsers: one file, which loads nothing.

use std::fmt::Write as _;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("page/model.js"),
    include_str!("page/layout.js"),
    include_str!("page/canvas.js"),
    include_str!("page/app.js"),
];

/// The page over a view in JSON.
pub(crate) fn page(file: &str, json: &str) -> String {
    let mut page = String::with_capacity(TEMPLATE.len() + json.len() + (64 << 10));
    for part in TEMPLATE.split("@@") {
        match part {
            "FILE" => page += &escaped_text(file),
            "STYLE" => page += STYLE,
            "SCRIPT" => page += &script(),
            "DATA" => escape_json(json, &mut page),
            text => page += text,
        }
    }
    page
}

/// The scripts in one function, so that the page defines nothing global.
fn script() -> String {
    format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat())
}

/// JSON without a character that could end the element around it.
fn escape_json(json: &str, page: &mut String) {
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(page, "\\u{:04x}", u32::from(c));
            }
            c => page.push(c),
        }
    }
}

fn escaped_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</script><script>alert(1)</script><!--<script>&\u{2028}@@DATA@@";

    #[test]
    fn names_do_not_break_out() {
        let json = serde_json::to_string(&serde_json::json!({ "name": HOSTILE })).unwrap();
        let page = page(HOSTILE, &json);
        assert_eq!(page.matches("</script>").count(), 2, "the data's and the program's");
        assert_eq!(page.matches("<script").count(), 2);
        assert!(!page.contains("alert(1)</script"));
        let (_, data) = page.split_once("id=\"data\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        let read: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(read["name"], HOSTILE);
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = page("model.mindir", "{}");
        for text in ["http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "eval("] {
            assert!(!page.contains(text), "{text}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}
