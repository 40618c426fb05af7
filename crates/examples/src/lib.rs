#![doc = include_str!("../README.md")]

use std::path::{Path, PathBuf};

/// The folder of a shipped model. It holds `model.mindir`, its slices `rank0.mindir`, `rank1.mindir`, ..., and
/// MindSpore's `inputs.npz` and `outputs.npz`.
pub fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}
