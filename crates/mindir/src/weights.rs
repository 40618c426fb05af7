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

/// The data files of one model, each opened when it is first needed.
pub(crate) struct Weights<'a> {
    graph_file: &'a Path,
    options: &'a OpenOptions,
    files: HashMap<String, Bytes>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(graph_file: &'a Path, options: &'a OpenOptions) -> Self {
        Weights { graph_file, options, files: HashMap::new() }
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
        if let Some(data) = self.files.get(location) {
            return Ok(data.clone());
        }
        let path = self.resolve(place, location)?;
        let data = self.read(&path)?;
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
        self.files.insert(location.to_owned(), data.clone());
        Ok(data)
    }

    /// The path behind a location, which must not lead out of the graph file's folder.
    fn resolve(&self, place: &Place<'_>, location: &str) -> Result<PathBuf> {
        let relative = Path::new(location);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if location.is_empty() || !plain {
            return Err(place.external(location, "not a path below the model's folder"));
        }
        let path = self.folder().join(relative);
        match self.leads_out(&path) {
            Ok(false) => Ok(path),
            Ok(true) => Err(place.external(location, "a link leads out of the model's folder")),
            Err(error) => {
                Err(place.external(location, format!("cannot resolve {}: {error}", path.display())))
            }
        }
    }

    fn leads_out(&self, path: &Path) -> io::Result<bool> {
        Ok(!path.canonicalize()?.starts_with(self.folder().canonicalize()?))
    }

    /// The data files of releases 1.2 to 1.5: every file in `NAME_variables` beside `NAME_graph.mindir`, sorted
    /// by name. None when the graph file is not called so, or the folder does not exist.
    pub(crate) fn legacy_files(&self) -> Result<Vec<(PathBuf, Bytes)>> {
        let stem = self.graph_file.file_name().and_then(|name| name.to_str());
        let Some(stem) = stem.and_then(|name| name.strip_suffix("_graph.mindir")) else {
            return Ok(Vec::new());
        };
        let folder = self.graph_file.with_file_name(format!("{stem}_variables"));
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let fail = |source| Error::Io { file: folder.clone(), action: "list", source };
        let mut files = Vec::new();
        for entry in folder.read_dir().map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if self.leads_out(&path).map_err(fail)? {
                return Err(fail(io::Error::other("a link leads out of the model's folder")));
            }
            let data = self.read(&path)?;
            files.push((path, data));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(files)
    }

    fn read(&self, path: &Path) -> Result<Bytes> {
        Ok(open::decrypted(path, file::map(path)?, self.options)?.0)
    }

    fn folder(&self) -> &Path {
        match self.graph_file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}
