//! The messages of package `mind_ir`, as they are on the wire.
//!
//! Two things differ from the schema on purpose. Strings are bytes, because proto2 does not promise UTF-8. And
//! a message field holds the child's bytes, a window of the file: children are decoded one by one when they are
//! visited, so that memory stays in proportion to the file and every error knows its byte offset.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) ir_version: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) producer_name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) producer_version: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) domain: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) model_version: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) doc_string: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) graph: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub(crate) functions: Vec<Bytes>,
    /// A message since release 1.6, text in 1.5.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) preprocessor: Option<Bytes>,
    #[prost(bool, optional, tag = "10")]
    pub(crate) little_endian: Option<bool>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub(crate) parallel: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "12")]
    pub(crate) primitives: Vec<Bytes>,
    #[prost(int64, optional, tag = "13")]
    pub(crate) mind_ir_version: Option<i64>,
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub(crate) user_info: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserInfoEntry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) node: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) parameter: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) doc_string: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) input: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) output: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) bprop_hash: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub(crate) attribute: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) bprop_filepath: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub(crate) map_parameter: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) input: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) output: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) op_type: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) attribute: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) doc_string: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) domain: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub(crate) node_attr: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(crate) primal_attr: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PrimitiveProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) op_type: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) attribute: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) instance_name: Option<Bytes>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) prim_type: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfoProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) tensor: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) doc_string: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) denotation: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) attr_info: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) data_type: Option<i32>,
    /// This and the other typed lists are of no use to MindSpore, which reads only `raw_data`.
    #[prost(float, repeated, packed = "false", tag = "3")]
    pub(crate) float_data: Vec<f32>,
    #[prost(int32, repeated, packed = "false", tag = "4")]
    pub(crate) int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) string_data: Vec<Bytes>,
    #[prost(int64, repeated, packed = "false", tag = "6")]
    pub(crate) int64_data: Vec<i64>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub(crate) doc_string: Option<Bytes>,
    /// Present with no bytes is not the same as absent: it tells tensors from type values.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) raw_data: Option<Bytes>,
    #[prost(double, repeated, packed = "false", tag = "10")]
    pub(crate) double_data: Vec<f64>,
    #[prost(uint64, repeated, packed = "false", tag = "11")]
    pub(crate) uint64_data: Vec<u64>,
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub(crate) external_data: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "13")]
    pub(crate) ref_key: Option<Bytes>,
    #[prost(int64, repeated, packed = "false", tag = "14")]
    pub(crate) min_dims: Vec<i64>,
    #[prost(int64, repeated, packed = "false", tag = "15")]
    pub(crate) max_dims: Vec<i64>,
    #[prost(int32, optional, tag = "16")]
    pub(crate) compression_type: Option<i32>,
    #[prost(bytes = "bytes", repeated, tag = "17")]
    pub(crate) quant_params: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExternalDataProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) location: Option<Bytes>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) offset: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) length: Option<i64>,
    /// In releases 1.6 to 2.0; never filled.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) checksum: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QuantParamProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) quant_algo_name: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) attribute: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapTensorProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) default_value: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) key_tensor: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) value_tensor: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) status_tensor: Option<Bytes>,
}

/// Field 18 is not here: see [`SeqInfoField`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) name: Option<Bytes>,
    #[prost(float, optional, tag = "2")]
    pub(crate) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) i: Option<i64>,
    #[prost(double, optional, tag = "4")]
    pub(crate) d: Option<f64>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) s: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) t: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) g: Option<Bytes>,
    #[prost(float, repeated, packed = "false", tag = "8")]
    pub(crate) floats: Vec<f32>,
    #[prost(double, repeated, packed = "false", tag = "9")]
    pub(crate) doubles: Vec<f64>,
    #[prost(int64, repeated, packed = "false", tag = "10")]
    pub(crate) ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub(crate) strings: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "12")]
    pub(crate) tensors: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "13")]
    pub(crate) graphs: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "14")]
    pub(crate) doc_string: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub(crate) ref_attr_name: Option<Bytes>,
    #[prost(int32, optional, tag = "16")]
    pub(crate) kind: Option<i32>,
    #[prost(bytes = "bytes", repeated, tag = "17")]
    pub(crate) values: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "19")]
    pub(crate) functor: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "20")]
    pub(crate) graph_holder: Option<Bytes>,
}

/// Field 18 of an attribute, by itself: a message now, but an enumeration (`type_val`) in release 1.5, which
/// would make decoding the whole attribute fail.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SeqInfoField {
    #[prost(message, optional, tag = "18")]
    pub(crate) seq_info: Option<SeqInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SeqInfoProto {
    #[prost(bool, optional, tag = "1")]
    pub(crate) is_dyn_len: Option<bool>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) tuple_elem_item: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunctorProto {
    #[prost(int32, optional, tag = "1")]
    pub(crate) kind: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) name: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) values: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScalarGraphHolderProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) scalar_node: Vec<Bytes>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub(crate) input_shape_index: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScalarNodeProto {
    #[prost(int64, optional, tag = "1")]
    pub(crate) scalar_op_type: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub(crate) in_index: Vec<i64>,
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub(crate) value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreprocessorProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) op: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreprocessOpProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) input_columns: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) output_columns: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) project_columns: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) op_type: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) operations: Option<Bytes>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) offload: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ParallelProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) layout: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LayoutProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) name: Option<Bytes>,
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub(crate) device_arrangement_int: Vec<i64>,
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub(crate) tensor_map_int: Vec<i64>,
    #[prost(int64, repeated, packed = "false", tag = "4")]
    pub(crate) slice_shape_int: Vec<i64>,
    #[prost(int64, optional, tag = "5")]
    pub(crate) field_size: Option<i64>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) uniform_split: Option<bool>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) opt_shard_group: Option<Bytes>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) pipeline_shared: Option<bool>,
    #[prost(bool, optional, tag = "9")]
    pub(crate) is_send: Option<bool>,
    #[prost(int64, optional, tag = "10")]
    pub(crate) peer_rank: Option<i64>,
    #[prost(int64, optional, tag = "11")]
    pub(crate) sr_tag: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "12")]
    pub(crate) opt_shard_slice_shape_int: Vec<i64>,
}

/// Package `mindspore.straspb`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ParallelGroupMap {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) items: Vec<Bytes>,
    #[prost(message, optional, tag = "2")]
    pub(crate) restore_ranks: Option<ParallelGroupRanks>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ParallelGroupItem {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) group_name: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    pub(crate) ranks: Option<ParallelGroupRanks>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ParallelGroupRanks {
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub(crate) dim: Vec<u32>,
}

/// `AttributeProto.AttributeType`, the numbers above the plain element types.
pub(crate) mod kind {
    pub(crate) const FLOAT: i32 = 1;
    pub(crate) const UINT8: i32 = 2;
    pub(crate) const INT8: i32 = 3;
    pub(crate) const UINT16: i32 = 4;
    pub(crate) const INT16: i32 = 5;
    pub(crate) const INT32: i32 = 6;
    pub(crate) const INT64: i32 = 7;
    pub(crate) const STRING: i32 = 8;
    pub(crate) const BOOL: i32 = 9;
    pub(crate) const FLOAT16: i32 = 10;
    pub(crate) const DOUBLE: i32 = 11;
    pub(crate) const UINT32: i32 = 12;
    pub(crate) const UINT64: i32 = 13;
    pub(crate) const BFLOAT16: i32 = 16;
    pub(crate) const TENSOR: i32 = 17;
    pub(crate) const TENSORS: i32 = 19;
    pub(crate) const TUPLE: i32 = 20;
    pub(crate) const LIST: i32 = 21;
    pub(crate) const DICT: i32 = 22;
    pub(crate) const UMONAD: i32 = 23;
    pub(crate) const IOMONAD: i32 = 24;
    pub(crate) const NONE: i32 = 25;
    pub(crate) const PRIMITIVECLOSURE: i32 = 26;
    pub(crate) const FUNCGRAPHCLOSURE: i32 = 27;
    pub(crate) const PARTIALCLOSURE: i32 = 28;
    pub(crate) const UNIONFUNCCLOSURE: i32 = 29;
    pub(crate) const CSR_TENSOR: i32 = 30;
    pub(crate) const COO_TENSOR: i32 = 31;
    pub(crate) const ROW_TENSOR: i32 = 32;
    pub(crate) const CLASS_TYPE: i32 = 33;
    pub(crate) const NAME_SPACE: i32 = 34;
    pub(crate) const SYMBOL: i32 = 35;
    pub(crate) const TYPE_NULL: i32 = 36;
    pub(crate) const MAP_TENSOR: i32 = 37;
    pub(crate) const FUNCTOR: i32 = 38;
    pub(crate) const SCALAR: i32 = 39;
    pub(crate) const SCALAR_GRAPH_HOLDER: i32 = 40;
}
