//! NCCL over the stand-in keeps the contract of collectives.

mod standins;

use std::path::Path;

use mslite_collective::World;
use mslite_collective::nccl::NcclOptions;

/// What NCCL does not have.
fn is_unsupported(reduction: &str, dtype: &str) -> bool {
    match dtype {
        "i16" | "u16" => true,
        "c64" | "c128" => reduction == "prod",
        _ => reduction == "mean" && (dtype.starts_with('i') || dtype.starts_with('u')),
    }
}

#[test]
fn the_standin_conforms() {
    let open = |control: World, library: &Path| {
        let (device, path) = (control.rank(), Some(library.to_owned()));
        let options = NcclOptions { device, library: path.clone(), driver: path, compare: true };
        options.open(control)
    };
    standins::conform(open, is_unsupported);
}
