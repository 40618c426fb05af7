//! What a context accepts and refuses.

use std::path::{Path, PathBuf};

use mslite::{BuildOptions, Context, Error, ErrorKind, Level, Model, ModelType, Target, World};

/// A model that is shipped with the workspace: its unsliced MatMul.
fn model_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2/model.mindir")
}

fn build(change: impl FnOnce(&mut Context)) -> Result<Model, Error> {
    let mut context = Context::new();
    context.ranks = mslite::Ranks::Alone;
    change(&mut context);
    Model::build_from_file(model_path(), ModelType::MindIr, &context)
}

#[test]
fn absent_devices_are_unavailable_and_named() {
    for (target, name) in [(Target::Gpu, "gpu"), (Target::Ascend, "ascend")] {
        for targets in [vec![target.clone()], vec![target.clone(), Target::Cpu]] {
            let error = build(|context| context.target = targets).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("cpu"), "{text}");
        }
    }
}

#[test]
fn unknown_backends_and_no_targets_are_refused() {
    let error = build(|context| context.target = vec![Target::Backend("quantum".to_owned())]).unwrap_err();
    assert!(error.to_string().contains("quantum"), "{error}");
    let error = build(|context| context.target.clear()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn threads_are_bounded() {
    assert!(build(|context| context.cpu.thread_num = 2).is_ok());
    let error = build(|context| context.cpu.thread_num = usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn missing_files_are_named() {
    let error = build(|context| context.group_info_file = Some("no/such.pb".into())).unwrap_err();
    assert!(error.to_string().contains("no/such.pb"), "{error}");
    let options = BuildOptions::default().with_config("no/such.ini");
    let error = Model::build_with(model_path(), ModelType::MindIr, &Context::new(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("no/such.ini"), "{error}");
}

#[test]
fn unknown_passes_are_named() {
    let options = BuildOptions::default().with_level(Level::O0).without_pass("fussion");
    let error = Model::build_with(model_path(), ModelType::MindIr, &Context::new(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("fussion"), "{error}");
}

#[test]
fn a_rank_of_a_world_knows_its_place() {
    let worlds = World::threads(3, std::time::Duration::from_secs(1)).unwrap();
    for (rank, world) in worlds.into_iter().enumerate() {
        let mut context = Context::new();
        context.ranks = mslite::Ranks::World(world.into());
        assert_eq!((context.rank_id().unwrap(), context.group_size().unwrap()), (rank, 3));
    }
}

#[test]
fn a_configuration_stays_with_its_model() {
    let folder = std::env::temp_dir().join(format!("mslite-context-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("net.ini");
    std::fs::write(&path, "[ascend_context]\nplugin_custom_ops=All\n").unwrap();
    let options = BuildOptions::default().with_config(&path);
    let model = Model::build_with(model_path(), ModelType::MindIr, &Context::new(), &options).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(model.config().value("ascend_context", "plugin_custom_ops"), Some("All"));
}
