use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// A configuration file: sections of keys and values.
///
/// The rules are MindSpore Lite's: lines of up to two characters, comments (`#`), lines before the first section
/// and lines without `=` mean nothing; of a repeated section or key the first counts; values may be empty and
/// keep their quotes; a section without keys is as good as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    sections: Vec<(String, Vec<(String, String)>)>,
}

/// Lines that a file may have at most.
const MAX_LINES: usize = 100_100;

/// Lines with content that a file may have at most.
const MAX_USEFUL_LINES: usize = 100_000;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// `InvalidArgument` when it cannot be read or is too long.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |reason: String| {
            let message = format!("cannot use the configuration file {}: {reason}", path.display());
            Error::new(ErrorKind::InvalidArgument, message)
        };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        Config::parse(&text).map_err(fail)
    }

    /// Reads text.
    ///
    /// # Errors
    /// A sentence when it has too many lines.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
        let mut useful = 0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.len() <= 2 || line.starts_with('#') {
                continue;
            }
            useful += 1;
            if useful > MAX_USEFUL_LINES || number >= MAX_LINES {
                return Err(format!("it has more than {MAX_USEFUL_LINES} lines"));
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                all.push((name.trim().to_owned(), Vec::new()));
            } else if let (Some((_, keys)), Some((key, value))) = (all.last_mut(), line.split_once('=')) {
                keys.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let mut config = Config::default();
        for (name, keys) in all {
            if !keys.is_empty() && !config.sections.iter().any(|(known, _)| *known == name) {
                config.sections.push((name, keys));
            }
        }
        Ok(config)
    }

    /// The value of a key in a section.
    pub fn value(&self, section: &str, key: &str) -> Option<&str> {
        let (_, keys) = self.sections.iter().find(|(name, _)| name == section)?;
        keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Names of the sections, in order.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_occurrence_counts() {
        let text = "early=1\n[a]\n x = 1 \nx=2\n# y=3\nz=\nnoise\n[empty]\n[a]\nx=9\n[b]\nq=\"p\"\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.sections().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.value("a", "x"), Some("1"));
        assert_eq!(config.value("a", "z"), None);
        assert_eq!(config.value("a", "y"), None);
        assert_eq!(config.value("b", "q"), Some("\"p\""));
        assert_eq!(config.value("empty", "x"), None);
    }

    #[test]
    fn long_files_are_refused() {
        assert!(Config::parse(&"[abc]\n".repeat(MAX_USEFUL_LINES)).is_ok());
        assert!(Config::parse(&"[abc]\n".repeat(MAX_USEFUL_LINES + 1)).is_err());
    }
}
