//! HCCL over the stand-in keeps the contract of collectives.

mod standins;

use std::path::Path;

use mslite_collective::World;
use mslite_collective::hccl::HcclOptions;

/// What HCCL does not have.
fn is_unsupported(reduction: &str, dtype: &str) -> bool {
    match dtype {
        "c64" => matches!(reduction, "prod" | "mean"),
        "f64" | "c128" => dtype == "f64" || reduction != "max" && reduction != "min",
        "bool" => false,
        _ => reduction == "mean" || dtype.starts_with('u'),
    }
}

#[test]
fn the_standin_conforms() {
    let open = |control: World, library: &Path| {
        let (device, path) = (control.rank(), Some(library.to_owned()));
        let options = HcclOptions {
            device,
            library: path.clone(),
            driver: path,
            compare: true,
            ..HcclOptions::default()
        };
        options.open(control)
    };
    standins::conform(open, is_unsupported);
}
