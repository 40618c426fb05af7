//! What is measured.

use std::fmt;
use std::str::FromStr;

use mslite::{Error, ErrorKind, Result};

use crate::run::MAX_RANKS;

/// A model on so many ranks, with so many threads each; what is left out, flags say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) model: String,
    pub(super) ranks: Option<u16>,
    pub(super) threads: Option<usize>,
}

impl Setup {
    pub(super) fn check(&self) -> Result<()> {
        let lacks_ranks = self.model.contains("{rank}") && self.ranks.is_none_or(|ranks| ranks == 1);
        if !lacks_ranks {
            return Ok(());
        }
        let message = format!("{self}: how many ranks? Give --ranks N, or write {},ranks=N", self.model);
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }
}

impl FromStr for Setup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut model, mut ranks, mut threads) = (text, None, None);
        while let Some((rest, (name, value))) = last_option(model) {
            let wrong = |most: i64| format!("{name} is {value:?}, no number from 1 to {most}");
            let number = value.parse().ok().filter(|&number: &i64| number > 0);
            let set_before = match name {
                "ranks" => {
                    let number = number.filter(|&n| n <= MAX_RANKS).and_then(|n| u16::try_from(n).ok());
                    ranks.replace(number.ok_or_else(|| wrong(MAX_RANKS))?).is_some()
                }
                "threads" => {
                    let number = number.and_then(|n| usize::try_from(n).ok());
                    threads.replace(number.ok_or_else(|| wrong(i64::MAX))?).is_some()
                }
                _ => {
                    return Err(format!(
                        "{name:?} is unknown: it is ranks=N or threads=T that may follow a model"
                    ));
                }
            };
            if set_before {
                return Err(format!("{name} is there twice"));
            }
            model = rest;
        }
        match model {
            "" => Err("there is no model".to_owned()),
            _ => Ok(Setup { model: model.to_owned(), ranks, threads }),
        }
    }
}

/// Takes `name=value` off the end.
fn last_option(text: &str) -> Option<(&str, (&str, &str))> {
    let (rest, last) = text.rsplit_once(',')?;
    let (name, value) = last.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
    is_name.then_some((rest, (name, value)))
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model)?;
        self.ranks.iter().try_for_each(|ranks| write!(f, ",ranks={ranks}"))?;
        self.threads.iter().try_for_each(|threads| write!(f, ",threads={threads}"))
    }
}

/// Extents of all inputs, as MindSpore Lite's benchmark writes them: `1,32,32,1:1,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shapes(pub(super) Vec<Vec<usize>>);

impl FromStr for Shapes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let extent = |text: &str| {
            text.parse().map_err(|_| format!("{text:?} is no extent; shapes are written as in 1,32,32,1:1,1"))
        };
        let shape = |text: &str| match text {
            "" => Ok(Vec::new()),
            _ => text.split(',').map(extent).collect(),
        };
        text.split(':').map(shape).collect::<Result<_, _>>().map(Shapes)
    }
}

impl fmt::Display for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |dims: &Vec<usize>| dims.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        f.write_str(&self.0.iter().map(shape).collect::<Vec<_>>().join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setups_are_read_and_written() {
        let setup = |model: &str, ranks, threads| Ok(Setup { model: model.to_owned(), ranks, threads });
        for (text, expected) in [
            ("net.mindir", setup("net.mindir", None, None)),
            ("a,b.mindir,ranks=2", setup("a,b.mindir", Some(2), None)),
            ("s{rank}.mindir,ranks=2,threads=1", setup("s{rank}.mindir", Some(2), Some(1))),
        ] {
            assert_eq!(text.parse(), expected);
            assert_eq!(expected.unwrap().to_string(), text);
        }
        assert_eq!("m,threads=3,ranks=4".parse(), setup("m", Some(4), Some(3)));
        for text in
            ["", ",ranks=2", "m,ranks=0", "m,ranks=9999", "m,threads=x", "m,ranks=1,ranks=2", "m,size=3"]
        {
            assert!(text.parse::<Setup>().is_err(), "{text}");
        }
    }

    #[test]
    fn slices_need_a_number_of_ranks() {
        let checked = |text: &str| text.parse::<Setup>().unwrap().check();
        assert!(checked("net").is_ok() && checked("net{rank},ranks=2").is_ok());
        assert!(checked("net{rank}").unwrap_err().to_string().contains("ranks=N"));
    }

    #[test]
    fn shapes_are_those_of_mindspore_lite() {
        for (text, shapes) in
            [("1,32,32,1:1,1", vec![vec![1, 32, 32, 1], vec![1, 1]]), ("7:", vec![vec![7], vec![]])]
        {
            assert_eq!(text.parse(), Ok(Shapes(shapes.clone())));
            assert_eq!(Shapes(shapes).to_string(), text);
        }
        for text in ["-1,2", "a", "1,,2", "1;2"] {
            assert!(text.parse::<Shapes>().is_err(), "{text}");
        }
    }
}
