//! `mslite inspect`: what a model file holds, as text, JSON, Graphviz or a page.

mod dot;
mod kind;
mod links;
mod page;
mod scopes;
mod text;
mod value;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mslite::{Error, ErrorKind, Key, Mode, Result};
use mslite_mindir::{Model, OpenOptions};

pub(crate) use value::{preview, type_text};
pub(crate) use view::View;

use crate::output;
use crate::run::parse_key;

/// Shows what a model file holds, without running it: inputs and outputs, scopes with their operators, parameters
/// and outputs, collectives in order, effects, functions.
///
/// Examples:
///   mslite inspect slice0.mindir
///   mslite inspect net.mindir --depth 0
///   mslite inspect net.mindir --html net.html
///   mslite inspect net.mindir --dot | dot -Tsvg -o net.svg
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct InspectArgs {
    /// Model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Show so many levels of scopes; 0 shows all of them, and every list in full
    #[arg(long, value_name = "N", default_value_t = 3)]
    depth: usize,
    /// Print one JSON object with everything, nodes included, as the README of mslite-cli describes it
    #[arg(long, conflicts_with_all = ["dot", "html"])]
    json: bool,
    /// Write the graph in Graphviz's language, scopes as clusters; without FILE to standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    dot: Option<PathBuf>,
    /// Write a page that shows the graph in any browser: one file, which needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Key of an encrypted model: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Option<Key>,
    /// Encryption mode of the model: AES-GCM, AES-CBC or SM4-CBC; by default the one that the file names
    #[arg(long, value_name = "M", requires = "key")]
    dec_mode: Option<Mode>,
}

pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode> {
    let mut options = OpenOptions::new();
    options.key = args.key.clone();
    options.mode = args.dec_mode;
    let model = Model::open(&args.model, &options).map_err(as_error)?;
    let view = View::of(&model);
    if args.json {
        output::print(&(json(&view)? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.dot {
        match path.as_os_str() == "-" {
            true => output::print(&dot::dot(&model, &view))?,
            false => output::write(path, dot::dot(&model, &view).as_bytes())?,
        }
    }
    if let Some(path) = &args.html {
        output::write(path, page::page(&file_name(&args.model), &json(&view)?).as_bytes())?;
    }
    if args.dot.is_none() && args.html.is_none() {
        let full = args.depth == 0;
        output::print_styled(&text::text(&view, args.depth, (!full).then(output::width)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An error of the reader as one of the command.
pub(crate) fn as_error(error: mslite_mindir::Error) -> Error {
    use mslite_mindir::Error as E;
    let kind = match &error {
        E::Unsupported { .. } => ErrorKind::Unsupported,
        E::Invalid { .. } | E::External { .. } => ErrorKind::InvalidModel,
        _ => ErrorKind::InvalidArgument,
    };
    match error {
        E::Io { file, action, source } => {
            Error::new(kind, format!("{}: cannot {action}", file.display())).caused_by(source)
        }
        error => Error::new(kind, error.to_string()),
    }
}

fn json(view: &View<'_>) -> Result<String> {
    serde_json::to_string(view)
        .map_err(|error| Error::new(ErrorKind::Internal, "cannot describe the model").caused_by(error))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io;

    use super::*;

    #[test]
    fn errors_of_the_system_keep_their_cause() {
        let source = io::ErrorKind::StorageFull.into();
        let error = as_error(mslite_mindir::Error::Io { file: "net.mindir".into(), action: "write", source });
        assert_eq!(error.to_string(), "net.mindir: cannot write: no storage space");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    }
}
