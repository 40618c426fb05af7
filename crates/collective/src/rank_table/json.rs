//! JSON values that know their place.

use serde_json::{Map, Value};

use super::{RankTableError, Result};

/// A value and its place, such as `server_list[0].device`.
#[derive(Clone)]
pub(super) struct Place<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Place<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Place { value, path: String::new() }
    }

    pub(super) fn path(&self) -> String {
        if self.path.is_empty() { "at its top".to_owned() } else { self.path.clone() }
    }

    pub(super) fn invalid(&self, reason: impl Into<String>) -> RankTableError {
        RankTableError::Invalid { place: self.path(), reason: reason.into() }
    }

    fn object(&self) -> Result<&'a Map<String, Value>> {
        self.value
            .as_object()
            .ok_or_else(|| self.invalid(format!("it must be an object, not {}", self.kind())))
    }

    /// A field; text that is empty, and null, stand for one that is not there.
    pub(super) fn field(&self, name: &str) -> Result<Option<Place<'a>>> {
        let value = self.object()?.get(name).filter(|value| !value.is_null() && *value != "");
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Ok(value.map(|value| Place { value, path }))
    }

    pub(super) fn required(&self, name: &str) -> Result<Place<'a>> {
        self.field(name)?.ok_or_else(|| self.invalid(format!("{name:?} is missing")))
    }

    pub(super) fn items(&self) -> Result<Vec<Place<'a>>> {
        let Some(items) = self.value.as_array() else {
            return Err(self.invalid(format!("it must be a list, not {}", self.kind())));
        };
        let item = |(i, value)| Place { value, path: format!("{}[{i}]", self.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Text; numbers count as text, too.
    pub(super) fn text(&self) -> Result<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.invalid(format!("it must be text, not {}", self.kind()))),
        }
    }

    /// A number, or text that is one, up to `most`.
    pub(super) fn number(&self, most: u64) -> Result<u64> {
        let number = match self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|&number| number <= most).ok_or_else(|| {
            let shown: String = self.value.to_string().chars().take(40).collect();
            self.invalid(format!("it must be a number from 0 to {most}, not {shown}"))
        })
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}
