//! The parts of a model beside its graphs: tensor layouts and the data pipeline.

use std::path::Path;
use std::sync::Arc;

use crate::place::{Place, Source};
use crate::proto::{LayoutProto, ModelProto, ParallelProto, PreprocessOpProto, PreprocessorProto};
use crate::{Model, Result, text};

/// How a tensor is spread over devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorLayout {
    /// Name of the tensor.
    pub name: Arc<str>,
    /// Extents of the grid of devices.
    pub device_arrangement: Vec<i64>,
    /// For each axis of the tensor, the axis of the grid that cuts it, counted from the last; -1 for none.
    pub tensor_map: Vec<i64>,
    /// Extents of a device's slice.
    pub slice_shape: Vec<i64>,
    /// Length of a field, for embedding tables that are cut by fields.
    pub field_size: Option<i64>,
    /// Whether all slices have the same extents.
    pub uniform_split: Option<bool>,
    /// Group over which an optimizer cuts the tensor further.
    pub opt_shard_group: Arc<str>,
    /// Extents of a slice that an optimizer cut further.
    pub opt_shard_slice_shape: Vec<i64>,
    /// Whether several stages of a pipeline share the tensor.
    pub pipeline_shared: Option<bool>,
    /// Whether this stage sends it.
    pub is_send: Option<bool>,
    /// The rank it is exchanged with.
    pub peer_rank: Option<i64>,
    /// Tag of that exchange.
    pub sr_tag: Option<i64>,
}

/// A step of the data pipeline; all of it JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreprocessOp {
    /// Columns that it takes.
    pub input_columns: Arc<str>,
    /// Columns that it makes.
    pub output_columns: Arc<str>,
    /// Columns that it passes on.
    pub project_columns: Arc<str>,
    /// Its type, such as `"Map"` with the quotes.
    pub op_type: Arc<str>,
    /// Operations on the columns.
    pub operations: Arc<str>,
    /// Whether it runs on the device.
    pub offload: Option<bool>,
}

impl Model {
    /// The steps of the data pipeline. Files of release 1.5 hold plain text instead, which is an error here.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid); offsets count from the start of [`Model::preprocessor`].
    pub fn preprocessing(&self) -> Result<Vec<PreprocessOp>> {
        let bytes = self.preprocessor.clone().unwrap_or_default();
        let source = Source::new(Path::new("preprocessor"), &bytes);
        let root = Place::root(&source);
        let proto: PreprocessorProto = root.decode()?;
        let places = proto.op.iter().enumerate().map(|(i, bytes)| root.entry("op", i, bytes));
        places.map(|place| preprocess_op(&place)).collect()
    }
}

fn preprocess_op(place: &Place<'_>) -> Result<PreprocessOp> {
    let proto: PreprocessOpProto = place.decode()?;
    Ok(PreprocessOp {
        input_columns: place.text(&proto.input_columns),
        output_columns: place.text(&proto.output_columns),
        project_columns: place.text(&proto.project_columns),
        op_type: place.text(&proto.op_type),
        operations: place.text(&proto.operations),
        offload: proto.offload,
    })
}

/// The tensor layouts of a model.
pub(crate) fn layouts(root: &Place<'_>, proto: &ModelProto) -> Result<Vec<TensorLayout>> {
    let Some(bytes) = &proto.parallel else {
        return Ok(Vec::new());
    };
    let place = root.field("parallel", bytes);
    let proto: ParallelProto = place.decode()?;
    let places = proto.layout.iter().enumerate().map(|(i, bytes)| place.entry("layout", i, bytes));
    places.map(|place| layout(&place)).collect()
}

fn layout(place: &Place<'_>) -> Result<TensorLayout> {
    let proto: LayoutProto = place.decode()?;
    Ok(TensorLayout {
        name: place.text(&proto.name),
        device_arrangement: proto.device_arrangement_int,
        tensor_map: proto.tensor_map_int,
        slice_shape: proto.slice_shape_int,
        field_size: proto.field_size,
        uniform_split: proto.uniform_split,
        opt_shard_group: place.text(&proto.opt_shard_group),
        opt_shard_slice_shape: proto.opt_shard_slice_shape_int,
        pipeline_shared: proto.pipeline_shared,
        is_send: proto.is_send,
        peer_rank: proto.peer_rank,
        sr_tag: proto.sr_tag,
    })
}

/// The message of a layout.
pub(crate) fn layout_proto(layout: &TensorLayout) -> LayoutProto {
    LayoutProto {
        name: text::field(&layout.name),
        device_arrangement_int: layout.device_arrangement.clone(),
        tensor_map_int: layout.tensor_map.clone(),
        slice_shape_int: layout.slice_shape.clone(),
        field_size: layout.field_size,
        uniform_split: layout.uniform_split,
        opt_shard_group: text::field(&layout.opt_shard_group),
        pipeline_shared: layout.pipeline_shared,
        is_send: layout.is_send,
        peer_rank: layout.peer_rank,
        sr_tag: layout.sr_tag,
        opt_shard_slice_shape_int: layout.opt_shard_slice_shape.clone(),
    }
}
