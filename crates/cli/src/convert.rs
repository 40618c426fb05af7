//! `mslite convert`: the same model in other files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use mslite::{Error, ErrorKind, Key, Mode, Result};
use mslite_mindir::{Layout, Model, OpenOptions, SaveOptions, Saved};
use serde_json::json;

use crate::inspect::as_error;
use crate::output;
use crate::run::parse_key;

/// Writes a model in another layout: in one file or with separate weights, encrypted or not. What the model computes
/// stays the same.
///
/// With separate weights, OUT `net.mindir` becomes `net_graph.mindir` and the folder `net_variables`. A model that is
/// there stays whole until the new one is complete.
///
/// Examples:
///   mslite convert net_graph.mindir net.mindir --layout single
///   mslite convert net.mindir secret.mindir --encrypt AES-GCM --new-key hex:00112233445566778899aabbccddeeff
///   mslite convert secret.mindir net.mindir --key hex:00112233445566778899aabbccddeeff --decrypt
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ConvertArgs {
    /// Model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where to write it
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Which files to write; auto: one while the weights take up to 1 GiB
    #[arg(long, value_enum, value_name = "L", default_value_t = Files::Auto)]
    layout: Files,
    /// With `--layout split`: bytes after which the next data file is begun
    #[arg(long, value_name = "BYTES")]
    data_file_size: Option<u64>,
    /// Key of an encrypted MODEL: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Option<Key>,
    /// Encryption mode of MODEL: AES-GCM, AES-CBC or SM4-CBC; by default the one that the file names
    #[arg(long, value_name = "M", requires = "key")]
    dec_mode: Option<Mode>,
    /// Encrypt what is written: AES-GCM, AES-CBC or SM4-CBC
    #[arg(long, value_name = "M", requires = "new_key", conflicts_with = "decrypt")]
    encrypt: Option<Mode>,
    /// Key to encrypt with
    #[arg(long, value_name = "K", value_parser = parse_key, requires = "encrypt")]
    new_key: Option<Key>,
    /// Write an encrypted MODEL in plain
    #[arg(long)]
    decrypt: bool,
    /// Print one JSON object: the files that were written, with their bytes
    #[arg(long)]
    json: bool,
}

/// Which files a model consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Files {
    Auto,
    Single,
    Split,
}

pub(crate) fn convert(args: &ConvertArgs) -> Result<ExitCode> {
    let save = save_options(args)?;
    let mut open = OpenOptions::new();
    open.key = args.key.clone();
    open.mode = args.dec_mode;
    let model = Model::open(&args.model, &open).map_err(as_error)?;
    if model.encryption.is_some() && args.encrypt.is_none() && !args.decrypt {
        let message = format!(
            "{} is encrypted: say how to encrypt what is written (--encrypt, --new-key), or --decrypt",
            args.model.display()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let saved = model.save(&args.out, &save).map_err(as_error)?;
    let files = with_sizes(saved)?;
    match args.json {
        true => {
            let files: Vec<_> = files
                .iter()
                .map(|(path, bytes)| json!({ "path": path.to_string_lossy(), "bytes": bytes }))
                .collect();
            output::print(&format!("{}\n", json!({ "files": files, "warnings": model.warnings })))?;
        }
        false => {
            for warning in &model.warnings {
                eprintln!("warning: {warning}");
            }
            let line =
                |(path, bytes): &(PathBuf, u64)| format!("{} {}\n", path.display(), output::size(*bytes));
            output::print(&files.iter().map(line).collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn save_options(args: &ConvertArgs) -> Result<SaveOptions> {
    let layout = match (args.layout, args.data_file_size) {
        (Files::Split, Some(data_file_size)) => Layout::Split { data_file_size },
        (Files::Split, None) => Layout::SPLIT,
        (_, Some(_)) => {
            let message = "--data-file-size needs --layout split";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        (Files::Auto, None) => Layout::Auto,
        (Files::Single, None) => Layout::Single,
    };
    let options = SaveOptions::new().layout(layout);
    Ok(match (args.encrypt, &args.new_key) {
        (Some(mode), Some(key)) => options.encrypt(mode, key.clone()),
        _ => options,
    })
}

/// The files that were written, with their bytes.
fn with_sizes(saved: Saved) -> Result<Vec<(PathBuf, u64)>> {
    let size = |path: PathBuf| {
        let bytes = path.metadata().map_err(|error| {
            Error::new(ErrorKind::Internal, format!("cannot examine {}", path.display())).caused_by(error)
        })?;
        Ok((path, bytes.len()))
    };
    std::iter::once(saved.graph).chain(saved.data).map(size).collect()
}
