//! Writing models.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

use bytes::Bytes;

use crate::crypto::{self, RECORD_SIZE};
use crate::encode::{External, Pieces, encode_model};
use crate::weights::HEADER_SIZE;
use crate::{Error, Key, Mode, Model, Parameter, Result, text};

/// Weights above this size go to files of their own unless the caller says otherwise; MindSpore does the same.
const SINGLE_LIMIT: u64 = 1 << 30;
/// The largest message that protobuf decodes.
const MESSAGE_LIMIT: usize = i32::MAX as usize;
/// Bytes before the first tensor of a data file.
const HEADER: u64 = HEADER_SIZE as u64;
/// Tensors in data files start at multiples of this.
const ALIGNMENT: u64 = 64;

/// Which files a model is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// One file while the weights take up to 1 GiB, separate weights beyond.
    #[default]
    Auto,
    /// One file.
    Single,
    /// `NAME_graph.mindir`, with the weights in `NAME_variables/data_0` and so on.
    Split {
        /// Bytes of weights after which the next data file is begun; MindSpore uses 2^40.
        data_file_size: u64,
    },
}

impl Layout {
    /// Separate weights, in one data file up to 1 TiB.
    pub const SPLIT: Layout = Layout::Split { data_file_size: 1 << 40 };
}

/// How to write a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveOptions {
    /// Which files.
    pub layout: Layout,
    /// Encryption of every file.
    pub encryption: Option<(Mode, Key)>,
}

impl SaveOptions {
    /// Options for plain files.
    pub fn new() -> Self {
        SaveOptions::default()
    }

    /// With a layout.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Encrypted.
    pub fn encrypt(mut self, mode: Mode, key: Key) -> Self {
        self.encryption = Some((mode, key));
        self
    }
}

/// The files that [`Model::save`] has written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Saved {
    /// The graph file, which is the only file unless the weights are separate.
    pub graph: PathBuf,
    /// Files with weights.
    pub data: Vec<PathBuf>,
}

impl Model {
    /// Writes the model: to `path`, or with separate weights, where `path` is `NAME.mindir`, to
    /// `NAME_graph.mindir` and files in `NAME_variables`.
    ///
    /// Each file is written beside its place, synchronised and renamed, the graph file last; until then a model
    /// that was there stays whole. Data files of a model that is replaced are removed afterwards. Links are
    /// replaced or refused, not followed.
    ///
    /// # Errors
    /// After an error the old model is still there, unless it is one of synchronising the folder or of removing old
    /// data files: then the new one is in place.
    ///
    /// [`Error::Io`], [`Error::KeySize`], [`Error::Inconsistent`]; [`Error::TooLarge`] for a graph file above
    /// 2 GiB.
    pub fn save(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<Saved> {
        let path = path.as_ref();
        if let Some((mode, key)) = &options.encryption {
            key.check(*mode, path)?;
        }
        let weights = self.graph.parameters.iter().map(|parameter| parameter.data.data.len() as u64);
        match options.layout {
            Layout::Split { data_file_size } => self.save_split(path, data_file_size, options),
            Layout::Auto if weights.sum::<u64>() > SINGLE_LIMIT => {
                self.save(path, &options.clone().layout(Layout::SPLIT))
            }
            Layout::Auto | Layout::Single => {
                write_graph(path, &pieces_of(self, None, path)?, options)?;
                sync(folder_of(path))?;
                Ok(Saved { graph: path.to_owned(), data: Vec::new() })
            }
        }
    }

    /// The model as the bytes of a single plain file.
    ///
    /// # Errors
    /// [`Error::Inconsistent`].
    pub fn to_bytes(&self) -> Result<Bytes> {
        let pieces = encode_model(self, None)?;
        let mut bytes = Vec::with_capacity(pieces.len());
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        Ok(bytes.into())
    }

    fn save_split(&self, path: &Path, data_file_size: u64, options: &SaveOptions) -> Result<Saved> {
        let stem = stem(path)?;
        let graph = path.with_file_name(format!("{stem}_graph.mindir"));
        let folder = path.with_file_name(format!("{stem}_variables"));
        let plan = Plan::new(&self.graph.parameters, data_file_size);
        let old = DataNames::in_folder(&folder)?;
        let first = old.following(plan.files.len(), &folder)?;
        let name = |file: usize| format!("data_{}", first + file as u64);
        let location = |file: usize| format!("{stem}_variables/{}", name(file));
        let externals = plan.externals(location, self.graph.parameters.len());
        let pieces = pieces_of(self, Some(&externals), &graph)?;
        make_folder(&folder)?;
        let data: Vec<PathBuf> = (0..plan.files.len()).map(|file| folder.join(name(file))).collect();
        let written = plan.write(&data, options).and_then(|()| sync(&folder));
        let written = written.and_then(|()| write_graph(&graph, &pieces, options));
        if written.is_err() {
            data.iter().for_each(|path| drop(fs::remove_file(path)));
        }
        written?;
        // The new graph has its name: from here on, an error must not remove what it refers to.
        sync(folder_of(&graph))?;
        old.files.iter().try_for_each(|path| fs::remove_file(path).map_err(|e| fail(path, "remove", e)))?;
        Ok(Saved { graph, data })
    }
}

/// The graph file's bytes.
fn pieces_of(model: &Model, external: Option<&[External]>, path: &Path) -> Result<Pieces> {
    let pieces = encode_model(model, external)?;
    match pieces.len() {
        ..=MESSAGE_LIMIT => Ok(pieces),
        size => Err(Error::TooLarge { file: path.to_owned(), size: size as u64 }),
    }
}

/// The contents of the data files.
struct Plan<'a> {
    files: Vec<DataFile<'a>>,
}

struct DataFile<'a> {
    /// Index of a weight, where it starts, and its bytes.
    entries: Vec<(usize, u64, &'a Bytes)>,
    size: u64,
}

impl<'a> Plan<'a> {
    /// Weights sorted by name, as MindSpore has them.
    fn new(parameters: &'a [Parameter], data_file_size: u64) -> Self {
        let mut order: Vec<usize> = (0..parameters.len()).collect();
        order.sort_by_key(|&i| &parameters[i].name);
        // Without weights there is no file: one would be taken for a file of release 1.x.
        let mut files: Vec<DataFile<'_>> = Vec::new();
        for index in order {
            let data = &parameters[index].data.data;
            match files.last_mut() {
                Some(file) if file.size < data_file_size.saturating_add(HEADER) => file.push(index, data),
                _ => files.push(DataFile::new(index, data)),
            }
        }
        Plan { files }
    }

    fn write(&self, paths: &[PathBuf], options: &SaveOptions) -> Result<()> {
        let mut files = self.files.iter().zip(paths);
        files.try_for_each(|(file, path)| write_file(path, options, |sink| file.write(sink)))
    }

    fn externals(&self, location: impl Fn(usize) -> String, count: usize) -> Vec<External> {
        let mut externals = vec![External::default(); count];
        for (i, file) in self.files.iter().enumerate() {
            for &(index, offset, data) in &file.entries {
                externals[index] = External { location: location(i), offset, length: data.len() as u64 };
            }
        }
        externals
    }
}

impl<'a> DataFile<'a> {
    fn new(index: usize, data: &'a Bytes) -> Self {
        let mut file = DataFile { entries: Vec::new(), size: HEADER };
        file.push(index, data);
        file
    }

    fn push(&mut self, index: usize, data: &'a Bytes) {
        self.entries.push((index, self.size, data));
        self.size += (data.len() as u64).next_multiple_of(ALIGNMENT);
    }

    fn write(&self, sink: &mut Sink<'_>) -> io::Result<()> {
        let mut header = [0; HEADER_SIZE];
        header[0] = 1;
        sink.section(&[&header])?;
        for (_, _, data) in &self.entries {
            let padding = data.len().next_multiple_of(ALIGNMENT as usize) - data.len();
            sink.section(&[data, &[0; ALIGNMENT as usize][..padding]])?;
        }
        Ok(())
    }
}

/// A file that is written, perhaps encrypted.
struct Sink<'a> {
    file: BufWriter<&'a File>,
    encryption: Option<&'a (Mode, Key)>,
}

impl Sink<'_> {
    /// Writes slices; in an encrypted file, they fill records of their own.
    fn section(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        let Some((mode, key)) = self.encryption else {
            return slices.iter().try_for_each(|slice| self.file.write_all(slice));
        };
        let mut record = Vec::new();
        for slice in slices {
            let mut rest = *slice;
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(rest.len().min(RECORD_SIZE - record.len()));
                record.extend_from_slice(head);
                rest = tail;
                if record.len() == RECORD_SIZE {
                    self.file.write_all(&crypto::encrypt(&record, *mode, key)?)?;
                    record.clear();
                }
            }
        }
        if !record.is_empty() {
            self.file.write_all(&crypto::encrypt(&record, *mode, key)?)?;
        }
        Ok(())
    }
}

fn write_graph(path: &Path, pieces: &Pieces, options: &SaveOptions) -> Result<()> {
    let slices: Vec<&[u8]> = pieces.iter().map(|piece| &**piece).collect();
    write_file(path, options, |sink| sink.section(&slices))
}

/// Writes a file whole or not at all; its name lasts once the folder is synchronised.
fn write_file(
    path: &Path,
    options: &SaveOptions,
    write: impl FnOnce(&mut Sink<'_>) -> io::Result<()>,
) -> Result<()> {
    let temporary = Temporary::beside(path)?;
    let mut sink = Sink { file: BufWriter::new(&temporary.file), encryption: options.encryption.as_ref() };
    let written = write(&mut sink).and_then(|()| sink.file.flush());
    written.and_then(|()| temporary.file.sync_all()).map_err(|error| fail(path, "write", error))?;
    drop(sink);
    temporary.rename(path)
}

/// A file that is removed again unless it is renamed.
struct Temporary {
    file: File,
    path: Option<PathBuf>,
}

impl Temporary {
    fn beside(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default();
        let mut number = 0;
        loop {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{number}.tmp", process::id()));
            let hidden = path.with_file_name(hidden);
            // Neither a file that is there nor a link is opened.
            match FileOptions::new().write(true).create_new(true).open(&hidden) {
                Ok(file) => return Ok(Temporary { file, path: Some(hidden) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(fail(&hidden, "create", error)),
            }
        }
    }

    fn rename(mut self, path: &Path) -> Result<()> {
        if let Some(temporary) = self.path.take() {
            fs::rename(&temporary, path).map_err(|error| {
                self.path = Some(temporary);
                fail(path, "write", error)
            })?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// Makes new names in a folder outlast a crash: they are in the folder's own data.
fn sync(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| fail(folder, "synchronise", error))
}

/// Makes a folder, or finds that one is there, and not a link to one.
fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = path.symlink_metadata().map_err(|error| fail(path, "open", error))?;
            if metadata.is_dir() {
                return Ok(());
            }
            Err(fail(path, "write to", io::Error::other("it is a link or a file, not a folder")))
        }
        made => made.map_err(|error| fail(path, "create", error)),
    }
}

/// What bears the name of a data file in a folder.
#[derive(Default)]
struct DataNames {
    /// The highest number, be it that of a file or of something else.
    last: Option<u64>,
    /// Regular files.
    files: Vec<PathBuf>,
}

impl DataNames {
    fn in_folder(folder: &Path) -> Result<Self> {
        let mut names = DataNames::default();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries.map_err(|error| fail(folder, "list", error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| fail(folder, "list", error))?;
            let Some(number) = entry.file_name().to_str().and_then(data_number) else { continue };
            names.last = names.last.max(Some(number));
            if entry.file_type().map_err(|error| fail(folder, "list", error))?.is_file() {
                names.files.push(entry.path());
            }
        }
        Ok(names)
    }

    /// The first of so many numbers that are not in use, so that the model that is there stays whole.
    fn following(&self, count: usize, folder: &Path) -> Result<u64> {
        let first = self.last.map_or(Some(0), |last| last.checked_add(1));
        first.filter(|first| first.checked_add(count as u64).is_some()).ok_or_else(|| {
            let last = self.last.unwrap_or_default();
            let reason = format!("there is no room for numbers above data_{last}; remove it");
            fail(folder, "write to", io::Error::other(reason))
        })
    }
}

/// The number in the name of a data file, if it is one that is written here.
fn data_number(name: &str) -> Option<u64> {
    let number: u64 = name.strip_prefix("data_")?.parse().ok()?;
    (name == format!("data_{number}")).then_some(number)
}

/// `NAME` of `NAME.mindir` or `NAME_graph.mindir`. The graph file holds it, as text.
fn stem(path: &Path) -> Result<&str> {
    let stem = path.file_stem().and_then(OsStr::to_str).filter(|stem| text::bytes(stem) == stem.as_bytes());
    let Some(stem) = stem else {
        let reason = "the name of a model with separate weights has to be UTF-8";
        return Err(fail(path, "write", io::Error::new(io::ErrorKind::InvalidInput, reason)));
    };
    Ok(stem.strip_suffix("_graph").filter(|short| !short.is_empty()).unwrap_or(stem))
}

fn fail(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Io { file: path.to_owned(), action, source }
}
