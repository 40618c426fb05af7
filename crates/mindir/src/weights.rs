//! Weights outside the graph file.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::place::Place;
use crate::proto::ExternalDataProto;
use crate::{Error, OpenOptions, Result, file, open};

/// Bytes before the first tensor of a data file; the first is 1 for little-endian, the others are 0.
pub(crate) const HEADER_SIZE: usize = 64;

/// Where a model's data files are, if not beside its graph file.
///
/// A function from locations to contents is one.
pub trait WeightFiles {
    /// The contents of a data file.
    ///
    /// `location` is a relative path of plain parts with slashes between them, such as `net_variables/data_0`. It
    /// is asked for once. An encrypted file is returned as it is.
    ///
    /// # Errors
    /// Whatever keeps it from being read; opening the model fails with this reason.
    fn read(&self, location: &str) -> io::Result<Bytes>;

    /// The locations of all files in a folder. Graph files of releases 1.2 to 1.5 do not name their data files:
    /// without this, such models have no weights.
    ///
    /// # Errors
    /// As [`WeightFiles::read`]; a folder that does not exist holds no files.
    fn list(&self, _folder: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl<F: Fn(&str) -> io::Result<Bytes>> WeightFiles for F {
    fn read(&self, location: &str) -> io::Result<Bytes> {
        self(location)
    }
}

/// Data files beside the graph file.
pub(crate) struct Beside<'a> {
    pub(crate) graph_file: &'a Path,
    pub(crate) options: &'a OpenOptions,
}

impl WeightFiles for Beside<'_> {
    fn read(&self, location: &str) -> io::Result<Bytes> {
        let path = folder(self.graph_file).join(location);
        let resolved = path.canonicalize().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot resolve {}: {error}", path.display()))
        })?;
        if !resolved.starts_with(folder(self.graph_file).canonicalize()?) {
            return Err(io::Error::other("a link leads out of the model's folder"));
        }
        file::map(&resolved, self.options).map_err(|error| io::Error::other(error.to_string()))
    }

    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        let path = folder(self.graph_file).join(name);
        if !path.is_dir() {
            return Ok(Vec::new());
        }
        let entries = path.read_dir()?.map(|entry| {
            let file = entry?.file_name().into_string();
            file.map(|file| format!("{name}/{file}")).map_err(|_| io::Error::other("a name is not UTF-8"))
        });
        entries.collect()
    }
}

/// The data files of one model, each read when it is first needed.
pub(crate) struct Weights<'a> {
    graph_file: &'a Path,
    options: &'a OpenOptions,
    files: &'a dyn WeightFiles,
    read: HashMap<String, Bytes>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(graph_file: &'a Path, options: &'a OpenOptions, files: &'a dyn WeightFiles) -> Self {
        Weights { graph_file, options, files, read: HashMap::new() }
    }

    /// The bytes that an `ExternalDataProto` refers to.
    pub(crate) fn window(&mut self, place: &Place<'_>) -> Result<Bytes> {
        let proto: ExternalDataProto = place.decode()?;
        let location = proto.location.clone().unwrap_or_default();
        let location = place.field("location", &location).as_utf8()?;
        let data = self.file(place, location)?;
        let number = |value: Option<i64>| usize::try_from(value.unwrap_or(0)).ok();
        let range = number(proto.offset)
            .zip(number(proto.length))
            .and_then(|(offset, length)| Some(offset..offset.checked_add(length)?))
            .filter(|range| range.end <= data.len());
        match range {
            Some(range) => Ok(data.slice(range)),
            None => Err(place.external(
                location,
                format!(
                    "offset {} and length {} do not lie within its {} bytes",
                    proto.offset.unwrap_or(0),
                    proto.length.unwrap_or(0),
                    data.len()
                ),
            )),
        }
    }

    fn file(&mut self, place: &Place<'_>, location: &str) -> Result<Bytes> {
        let Some(location) = &plain(location) else {
            return Err(place.external(location, "not a path below the model's folder"));
        };
        if let Some(data) = self.read.get(location) {
            return Ok(data.clone());
        }
        let data = self.files.read(location);
        let data = data.map_err(|error| place.external(location, error.to_string()))?;
        let data = open::decrypted(&self.path(location), data, self.options)?.0;
        match data.first() {
            _ if data.len() < HEADER_SIZE => {
                return Err(place.external(location, "the file is shorter than its header of 64 bytes"));
            }
            Some(1) => {}
            _ => {
                return Err(
                    place.external(location, "its header does not say little-endian (byte 0 is not 1)")
                );
            }
        }
        self.read.insert(location.to_owned(), data.clone());
        Ok(data)
    }

    /// The data files of releases 1.2 to 1.5: every file in `NAME_variables` beside `NAME_graph.mindir`, sorted
    /// by name. None when the graph file is not called so, or the folder does not exist.
    pub(crate) fn legacy_files(&self) -> Result<Vec<(PathBuf, Bytes)>> {
        let stem = self.graph_file.file_name().and_then(|name| name.to_str());
        let Some(stem) = stem.and_then(|name| name.strip_suffix("_graph.mindir")) else {
            return Ok(Vec::new());
        };
        let folder = format!("{stem}_variables");
        let fail = |path: &str, action| {
            let file = self.path(path);
            move |source| Error::Io { file, action, source }
        };
        let mut locations = self.files.list(&folder).map_err(fail(&folder, "list"))?;
        locations.sort();
        let read = |location: String| {
            let data = self.files.read(&location).map_err(fail(&location, "read"))?;
            let path = self.path(&location);
            let data = open::decrypted(&path, data, self.options)?.0;
            Ok((path, data))
        };
        locations.into_iter().map(read).collect()
    }

    fn path(&self, location: &str) -> PathBuf {
        folder(self.graph_file).join(location)
    }
}

/// A location with one slash between its parts; `None` if it may lead elsewhere than below the model's folder.
fn plain(location: &str) -> Option<String> {
    let part = |part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    };
    let parts = Path::new(location).components().map(part).collect::<Option<Vec<_>>>()?;
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn folder(graph_file: &Path) -> &Path {
    match graph_file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
