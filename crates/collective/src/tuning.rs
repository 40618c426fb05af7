//! Sizes at which collectives over shared memory go another way.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::shared::sized;
use crate::{Error, MAX_RANKS, Result};

/// Sizes at which collectives over shared memory go another way, in bytes. They are the same at all ranks of a job:
/// those of the rank that comes first count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Smallest block for which ranks look at each other's buffers, where these are registered: 64 bytes or more.
    pub direct: usize,
    /// Largest contribution to AllReduce that each rank reduces for itself, where buffers are not registered. Above it,
    /// each reduces a part.
    pub one_shot: usize,
    /// How much of a block is copied for the others before one looks what they have copied, where buffers are not
    /// registered: 8 KiB to 256 KiB.
    pub chunk: usize,
    /// Smallest block whose results are written past the caches.
    pub stream: usize,
}

impl Tuning {
    /// Names of the fields in files, in the order of [`Tuning::values`].
    pub const NAMES: [&str; 4] = ["direct", "one_shot", "chunk", "stream"];

    /// What is used unless somebody has measured, for so many ranks: where they outnumber the cores, each look at the
    /// others means a change of the process, so that larger blocks are copied to have one look less.
    pub fn untuned(ranks: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let direct = sized(if ranks > cores { 4 << 10 } else { 512 }, 512);
        Tuning { direct, one_shot: sized(8 << 10, 64), chunk: MAX_CHUNK, stream: 16 << 20 }
    }

    /// The fields.
    pub fn values(self) -> [usize; 4] {
        [self.direct, self.one_shot, self.chunk, self.stream]
    }

    /// With such fields, or the nearest that are allowed.
    pub fn of([direct, one_shot, chunk, stream]: [usize; 4]) -> Self {
        let chunk = chunk.clamp(MIN_CHUNK, MAX_CHUNK) / LINE * LINE;
        Tuning { direct: direct.max(LINE), one_shot, chunk, stream }
    }
}

/// Bytes of the largest chunk.
pub(crate) const MAX_CHUNK: usize = sized(256 << 10, 192);
/// Bytes of the smallest: a line for each of the most ranks.
const MIN_CHUNK: usize = sized(LINE * MAX_RANKS, LINE);
const LINE: usize = 64;
/// Most bytes that are read of a file.
const MAX_FILE: u64 = 1 << 20;

/// What `mslite bench collective --tune FILE` has measured on a machine: a tuning for each of some numbers of ranks.
///
/// In a file it is `{"tunings": [{"ranks": 2, "direct": 512, ...}, ...]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tunings(Vec<(usize, Tuning)>);

impl Tunings {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::InvalidArgument`] for a file that is none.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(format!("cannot read the tunings {}", path.display()), error);
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        let invalid =
            |why: String| Error::InvalidArgument(format!("{} has no tunings: {why}", path.display()));
        let value: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let entries =
            value["tunings"].as_array().ok_or_else(|| invalid("\"tunings\" is no list".to_owned()))?;
        let mut tunings = Tunings::default();
        for value in entries {
            let (ranks, tuning) = entry(value).map_err(invalid)?;
            tunings.set(ranks, tuning);
        }
        Ok(tunings)
    }

    /// What a file of them contains.
    pub fn as_json(&self) -> Value {
        let entry = |(ranks, tuning): &(usize, Tuning)| {
            let values = Tuning::NAMES.into_iter().zip(tuning.values());
            let fields = std::iter::once(("ranks", *ranks)).chain(values);
            fields.map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>().into()
        };
        json!({ "tunings": self.0.iter().map(entry).collect::<Vec<Value>>() })
    }

    /// Sets the tuning for so many ranks.
    pub fn set(&mut self, ranks: usize, tuning: Tuning) {
        self.0.retain(|(there, _)| *there != ranks);
        self.0.push((ranks, tuning));
        self.0.sort_by_key(|(ranks, _)| *ranks);
    }

    /// The tuning for so many ranks, or for the nearest number below; [`Tuning::untuned`] if there is none.
    pub fn for_ranks(&self, ranks: usize) -> Tuning {
        let below = self.0.iter().rev().find(|(there, _)| *there <= ranks);
        below.map_or_else(|| Tuning::untuned(ranks), |(_, tuning)| *tuning)
    }
}

fn entry(value: &Value) -> Result<(usize, Tuning), String> {
    let number = |name: &str| {
        let number = value[name].as_u64().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| format!("{name:?} is no number in {value}"))
    };
    let ranks = number("ranks")?;
    let mut values = [0; Tuning::NAMES.len()];
    for (value, name) in values.iter_mut().zip(Tuning::NAMES) {
        *value = number(name)?;
    }
    Ok((ranks, Tuning::of(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_number_of_ranks_below_counts() {
        let mut tunings = Tunings::default();
        let tuning = |direct| Tuning { direct, ..Tuning::untuned(2) };
        tunings.set(8, tuning(8));
        tunings.set(2, tuning(7));
        tunings.set(2, tuning(2));
        assert_eq!(tunings.for_ranks(1), Tuning::untuned(1));
        assert_eq!([2, 7, 8, 100].map(|ranks| tunings.for_ranks(ranks).direct), [2, 2, 8, 8]);
    }

    #[test]
    fn files_keep_tunings_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        let mut tunings = Tunings::default();
        tunings.set(4, Tuning::of([1, 2, 1 << 30, 4]));
        std::fs::write(&path, tunings.as_json().to_string()).unwrap();
        assert_eq!(Tunings::read(&path).unwrap(), tunings);
        assert_eq!((tunings.for_ranks(4).chunk, tunings.for_ranks(4).direct), (MAX_CHUNK, LINE));
        for text in ["", "{}", r#"{"tunings": [{"ranks": 2}]}"#, r#"{"tunings": [{"ranks": -2}]}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Tunings::read(&path), Err(Error::InvalidArgument(_))), "{text}");
        }
        assert!(matches!(Tunings::read(folder.path()), Err(Error::Io { .. })));
        // In whatever order they stand, the later of two counts.
        let entry = |ranks: usize, direct: usize| {
            let tuning = Tuning { direct, ..Tuning::untuned(2) };
            Tunings(vec![(ranks, tuning)]).as_json()["tunings"][0].clone()
        };
        let text = json!({ "tunings": [entry(8, 100), entry(2, 200), entry(8, 300)] }).to_string();
        std::fs::write(&path, text).unwrap();
        let tunings = Tunings::read(&path).unwrap();
        assert_eq!([2, 8].map(|ranks| tunings.for_ranks(ranks).direct), [200, 300]);
    }
}
