//! From messages to the model: names, graphs, nodes, and the checks that span them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::attribute::{
    PART, attributes, data_type, fixed_dims, quantization, raw_tensor, size_bytes, tensor_type, ty, value,
};
use crate::layout::layouts;
use crate::names::Names;
use crate::place::{Fields, Place, Source};
use crate::proto::{
    AttributeProto, GraphProto, MapTensorProto, ModelProto, NodeProto, PrimitiveProto, TensorProto,
    UserInfoEntry, ValueInfoProto,
};
use crate::weights::Weights;
use crate::{
    Attributes, Callee, Definition, Graph, Input, MapParameter, Model, Monad, Node, NodeKind, Output,
    Parameter, Primitive, PrimitiveKind, RawTensor, Result, Symbol, Type,
};

/// Run Python code of the file; MindSpore refuses them, too.
const UNSAFE_OPERATORS: [&str; 3] = ["PyExecute", "PyInterpret", "PyFunc"];

/// Before the type of an operator that promotes its operands.
pub(crate) const PROMOTES: &str = "S-Prim-";

// The fields that have a place in the model; all others are kept as they are.
const MODEL: Fields = Fields::of(&[1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14]);
const GRAPH: Fields = Fields::of(&[1, 2, 3, 5, 6, 8, 10]);
const NODE: Fields = Fields::of(&[1, 2, 3, 4, 5, 7, 8, 9]);
const PRIMITIVE: Fields = Fields::of(&[1, 2, 3, 4, 5]);
const VALUE_INFO: Fields = Fields::of(&[1, 2, 4, 5]);
const PARAMETER: Fields = Fields::of(&[1, 2, 7, 9, 12, 13, 16, 17]);
const MAP_PARAMETER: Fields = Fields::of(&[1, 2, 3, 4, 5]);

/// Decodes and checks a whole model.
pub(crate) fn decode_model(file: &Path, bytes: &Bytes, weights: Weights<'_>) -> Result<Model> {
    let source = Source::new(file, bytes);
    let root = Place::root(&source);
    if bytes.is_empty() {
        return Err(root.invalid("the file is empty"));
    }
    let proto: ModelProto = root.decode()?;
    let Some(entry) = &proto.graph else {
        return Err(root.invalid("not a MindIR model: it has no graph"));
    };
    if proto.little_endian == Some(false) {
        return Err(root.unsupported("big-endian data"));
    }
    let mut decoder =
        Decoder { weights, names: Names::default(), primitives: Vec::new(), arities: Vec::new(), clipped: 0 };
    decoder.primitives(&root, &proto)?;
    let level = level(&root, &proto, &decoder.primitives)?;
    let mut graphs = decoder.graphs(&root, entry, &proto.functions)?;
    let functions = graphs.split_off(1);
    Ok(Model {
        format_version: root.text(&proto.ir_version),
        producer: root.text(&proto.producer_name),
        producer_version: root.text(&proto.producer_version),
        model_version: root.text(&proto.model_version),
        level,
        graph: graphs.remove(0),
        functions,
        primitives: decoder.primitives,
        user_info: user_info(&root, &proto)?,
        layouts: layouts(&root, &proto)?,
        warnings: warnings(&proto, source.clipped() + decoder.clipped),
        extra: root.extra(MODEL),
        preprocessor: proto.preprocessor,
        encryption: None,
        names: decoder.names,
    })
}

fn level(root: &Place<'_>, proto: &ModelProto, primitives: &[Arc<Primitive>]) -> Result<i64> {
    let uses_functions = primitives.iter().any(|primitive| primitive.kind == PrimitiveKind::Function);
    match proto.mind_ir_version {
        Some(level @ 0..=Model::MAX_LEVEL) => Ok(level),
        Some(level) => Err(root.unsupported(format!(
            "feature level {level} (mind_ir_version; the highest supported one is {})",
            Model::MAX_LEVEL
        ))),
        None if uses_functions => Ok(Model::MAX_LEVEL),
        None => Ok(0),
    }
}

fn warnings(proto: &ModelProto, clipped: usize) -> Vec<String> {
    let absent = |field: &Option<Bytes>| field.as_ref().is_none_or(|text| text.is_empty());
    let mut warnings = Vec::new();
    if absent(&proto.producer_name) {
        warnings.push("the file does not name its producer (producer_name)".to_owned());
    }
    if absent(&proto.model_version) {
        warnings.push("the file does not say which release wrote it (model_version)".to_owned());
    }
    if clipped > 0 {
        warnings.push(format!(
            "{clipped} values, types or nodes hold more than is understood (unknown fields, names that occur \
             twice); that is dropped"
        ));
    }
    warnings
}

fn user_info(root: &Place<'_>, proto: &ModelProto) -> Result<BTreeMap<String, String>> {
    let mut info = BTreeMap::new();
    for (i, bytes) in proto.user_info.iter().enumerate() {
        let place = root.entry("user_info", i, bytes);
        let entry: UserInfoEntry = place.decode()?;
        let key = place.field("key", &entry.key).as_text();
        info.insert(key.to_string(), place.field("value", &entry.value).as_text().to_string());
    }
    Ok(info)
}

struct Decoder<'a> {
    weights: Weights<'a>,
    names: Names,
    primitives: Vec<Arc<Primitive>>,
    /// Number of inputs of each graph.
    arities: Vec<usize>,
    /// Messages that lost fields in files beside the graph file.
    clipped: usize,
}

impl Decoder<'_> {
    fn primitives(&mut self, root: &Place<'_>, proto: &ModelProto) -> Result<()> {
        for (i, bytes) in proto.primitives.iter().enumerate() {
            let place = root.entry("primitives", i, bytes);
            let proto: PrimitiveProto = place.decode()?;
            let symbol = self.define(&place, place.text(&proto.name), Definition::Primitive(i))?;
            let (op_type, promotes) = op_type(&place, &place.text(&proto.op_type))?;
            let attribute = proto.attribute.iter().enumerate();
            self.primitives.push(Arc::new(Primitive {
                symbol,
                kind: match proto.prim_type {
                    Some(2) => PrimitiveKind::Function,
                    _ => PrimitiveKind::Attribute,
                },
                attributes: attributes(&op_type, attribute.map(|(i, a)| place.entry("attribute", i, a)))?,
                instance_name: place.text(&proto.instance_name),
                extra: place.extra(PRIMITIVE),
                op_type,
                promotes,
            }));
        }
        Ok(())
    }

    /// Decodes all graphs, the entry graph first. Their names are known before any body is read.
    fn graphs(&mut self, root: &Place<'_>, entry: &Bytes, functions: &[Bytes]) -> Result<Vec<Graph>> {
        let place = |number: usize| match number.checked_sub(1) {
            None => root.field("graph", entry),
            Some(i) => root.entry("functions", i, &functions[i]),
        };
        let mut heads = Vec::new();
        for number in 0..=functions.len() {
            let place = place(number);
            let proto: GraphProto = place.decode()?;
            let name = self.define(&place, place.text(&proto.name), Definition::Graph(number))?;
            self.arities.push(proto.input.len());
            heads.push((proto, name));
        }
        let bodies = heads.into_iter().enumerate();
        bodies.map(|(number, (proto, name))| self.graph(number, &place(number), &proto, name)).collect()
    }

    fn graph(&mut self, number: usize, place: &Place<'_>, proto: &GraphProto, name: Symbol) -> Result<Graph> {
        // Not allocated ahead: an empty message takes two bytes in the file.
        let mut graph = Graph {
            attributes: entries(&name, place, "attribute", &proto.attribute)?,
            name,
            inputs: Vec::new(),
            parameters: Vec::new(),
            map_parameters: Vec::new(),
            nodes: Vec::new(),
            outputs: Vec::new(),
            extra: place.extra(GRAPH),
        };
        for (index, bytes) in proto.input.iter().enumerate() {
            graph.inputs.push(self.input(&place.entry("input", index, bytes), number, index)?);
        }
        self.parameters(number, place, proto, &mut graph)?;
        for (index, bytes) in proto.node.iter().enumerate() {
            graph.nodes.push(self.node(&place.entry("node", index, bytes), number, index)?);
        }
        for (index, bytes) in proto.output.iter().enumerate() {
            graph.outputs.push(self.output(&place.entry("output", index, bytes))?);
        }
        if graph.outputs.is_empty() {
            return Err(place.invalid("the graph has no output"));
        }
        Ok(graph)
    }

    fn input(&mut self, place: &Place<'_>, graph: usize, index: usize) -> Result<Input> {
        let proto: ValueInfoProto = place.decode()?;
        let symbol = place.text(&proto.name);
        let symbol = self.define(place, symbol, Definition::Input { graph, index })?;
        let (name, ty) = value_info(place, &proto, &symbol)?;
        let (denotation, extra) = (place.text(&proto.denotation), place.extra(VALUE_INFO));
        Ok(Input { symbol, name, ty, denotation, extra })
    }

    fn output(&self, place: &Place<'_>) -> Result<Output> {
        let proto: ValueInfoProto = place.decode()?;
        let (symbol, _) = self.resolve(place, &place.text(&proto.name))?;
        let (name, ty) = value_info(place, &proto, &symbol)?;
        let (denotation, extra) = (place.text(&proto.denotation), place.extra(VALUE_INFO));
        Ok(Output { symbol, name, ty, denotation, extra })
    }

    fn parameters(
        &mut self,
        number: usize,
        place: &Place<'_>,
        proto: &GraphProto,
        graph: &mut Graph,
    ) -> Result<()> {
        for (i, bytes) in proto.parameter.iter().enumerate() {
            self.parameter(&place.entry("parameter", i, bytes), number, &mut graph.parameters)?;
        }
        for (index, bytes) in proto.map_parameter.iter().enumerate() {
            let place = place.entry("map_parameter", index, bytes);
            graph.map_parameters.push(self.map_parameter(&place, number, index)?);
        }
        if number == 0 && graph.parameters.is_empty() && graph.map_parameters.is_empty() {
            self.legacy_parameters(&mut graph.parameters)?;
        }
        Ok(())
    }

    fn legacy_parameters(&mut self, parameters: &mut Vec<Parameter>) -> Result<()> {
        for (path, bytes) in self.weights.legacy_files()? {
            let source = Source::new(&path, &bytes);
            let root = Place::root(&source);
            let proto: GraphProto = root.decode()?;
            for (i, bytes) in proto.parameter.iter().enumerate() {
                self.parameter(&root.entry("parameter", i, bytes), 0, parameters)?;
            }
            self.clipped += source.clipped();
        }
        Ok(())
    }

    fn parameter(&mut self, place: &Place<'_>, graph: usize, parameters: &mut Vec<Parameter>) -> Result<()> {
        let proto: TensorProto = place.decode()?;
        let definition = Definition::Parameter { graph, index: parameters.len() };
        let symbol = self.define(place, place.text(&proto.name), definition)?;
        if let Some(compression @ 1..) = proto.compression_type {
            return Err(place.unsupported(format!("weight compression (compression_type {compression})")));
        }
        parameters.push(Parameter {
            name: after_first_colon(&symbol).into(),
            data: self.parameter_data(place, &proto)?,
            ref_key: proto.ref_key.as_ref().map(|key| place.field("ref_key", key).as_text()),
            quantization: quantization(place, &proto)?,
            extra: place.extra(PARAMETER),
            symbol,
        });
        Ok(())
    }

    fn parameter_data(&mut self, place: &Place<'_>, proto: &TensorProto) -> Result<RawTensor> {
        if let Some(data) = &proto.raw_data {
            place.clip(proto.external_data.is_some());
            return raw_tensor(place, proto, data);
        }
        let Some(external) = &proto.external_data else {
            return Err(place.invalid("the parameter has no data"));
        };
        let dtype = data_type(place, proto)?;
        let dims = fixed_dims(place, proto)?;
        let expected = size_bytes(place, dtype, &dims)?;
        let place = place.field("external_data", external);
        let data = self.weights.window(&place)?;
        match expected {
            Some(expected) if expected != data.len() => {
                let size = data.len();
                Err(place
                    .invalid(format!("{dtype}{dims:?} needs {expected} bytes, but its length is {size}")))
            }
            _ => Ok(RawTensor { dtype, dims, data }),
        }
    }

    fn map_parameter(&mut self, place: &Place<'_>, graph: usize, index: usize) -> Result<MapParameter> {
        let proto: MapTensorProto = place.decode()?;
        let definition = Definition::MapParameter { graph, index };
        let symbol = self.define(place, place.text(&proto.name), definition)?;
        let part = |name, bytes: &Option<Bytes>| {
            let bytes = bytes.as_ref().ok_or_else(|| place.invalid(format!("the hash map has no {name}")))?;
            let place = place.field(name, bytes);
            let proto: TensorProto = place.decode()?;
            place.clip_to(PART);
            let data = proto.raw_data.as_ref().ok_or_else(|| place.invalid("the tensor has no data"))?;
            raw_tensor(&place, &proto, data)
        };
        let Some(default) = &proto.default_value else {
            return Err(place.invalid("the hash map has no default_value"));
        };
        let default = place.field("default_value", default);
        Ok(MapParameter {
            name: after_first_colon(&symbol).into(),
            default: value(&default, &default.decode()?)?,
            keys: part("key_tensor", &proto.key_tensor)?,
            values: part("value_tensor", &proto.value_tensor)?,
            status: part("status_tensor", &proto.status_tensor)?,
            extra: place.extra(MAP_PARAMETER),
            symbol,
        })
    }

    fn node(&mut self, place: &Place<'_>, graph: usize, index: usize) -> Result<Node> {
        let proto: NodeProto = place.decode()?;
        let [output] = &*proto.output else {
            return Err(place.invalid(format!("the node has {} outputs instead of one", proto.output.len())));
        };
        let symbol: Symbol = place.field("output", output).as_text();
        place.clip(proto.name.as_ref().is_some_and(|name| name != output));
        let inputs = proto.input.iter().enumerate();
        let inputs: Vec<Symbol> = inputs
            .map(|(i, bytes)| {
                let place = place.entry("input", i, bytes);
                Ok(self.resolve(&place, &place.as_text())?.0)
            })
            .collect::<Result<_>>()?;
        let op_type = place.text(&proto.op_type);
        let (kind, ty) = match &*op_type {
            "" => return Err(place.invalid("the node has no op_type")),
            "Constant" => (constant(place, &proto)?, None),
            op_type => self.call(place, &proto, op_type, inputs.len())?,
        };
        self.check_partial(place, &kind, &inputs)?;
        Ok(Node {
            // Defined last: a node is not its own operand.
            symbol: self.define(place, symbol.clone(), Definition::Node { graph, index })?,
            name: between_colons(&symbol).into(),
            inputs,
            kind,
            scope: place.text(&proto.domain),
            ty,
            attributes: entries(&symbol, place, "node_attr", &proto.node_attr)?,
            primal_attributes: entries(&symbol, place, "primal_attr", &proto.primal_attr)?,
            extra: place.extra(NODE),
        })
    }

    fn call(
        &self,
        place: &Place<'_>,
        proto: &NodeProto,
        op_type: &str,
        arguments: usize,
    ) -> Result<(NodeKind, Option<Type>)> {
        let Some(target) = op_type.strip_prefix("REF::") else {
            let (primitive, ty) = bare_primitive(place, proto, op_type)?;
            return Ok((NodeKind::Call(Callee::Primitive(Arc::new(primitive))), ty));
        };
        if target.starts_with("MetaFuncGraph::") || target.starts_with("ClassType::") {
            return Err(place.unsupported(format!("a call of the front end's object {target}")));
        }
        let (symbol, definition) = self.resolve(place, target)?;
        let callee = match definition {
            Definition::Primitive(index) => Callee::Primitive(self.primitives[index].clone()),
            Definition::Graph(number) => {
                let expected = self.arities[number];
                if expected != arguments {
                    return Err(place.invalid(format!(
                        "the call passes {arguments} arguments, but {symbol} takes {expected}"
                    )));
                }
                Callee::Graph(symbol)
            }
            _ => Callee::Closure(symbol),
        };
        let (ty, rest) = split_type(place, proto)?;
        place.clip(!rest.is_empty());
        Ok((NodeKind::Call(callee), ty))
    }

    /// `Partial` binds arguments of a function, its first operand.
    fn check_partial(&self, place: &Place<'_>, kind: &NodeKind, inputs: &[Symbol]) -> Result<()> {
        match kind {
            NodeKind::Call(Callee::Primitive(primitive)) if &*primitive.op_type == "Partial" => {}
            _ => return Ok(()),
        }
        let function = inputs.first().and_then(|input| self.names.definition(input));
        match function {
            None | Some(Definition::Parameter { .. } | Definition::MapParameter { .. }) => {
                Err(place.invalid("the first operand of Partial is no function"))
            }
            Some(_) => Ok(()),
        }
    }

    fn define(&mut self, place: &Place<'_>, symbol: Symbol, definition: Definition) -> Result<Symbol> {
        self.names.define(&symbol, definition).map_err(|reason| place.invalid(reason))?;
        Ok(symbol)
    }

    fn resolve(&self, place: &Place<'_>, name: &str) -> Result<(Symbol, Definition)> {
        self.names.resolve(name).map_err(|reason| place.invalid(reason))
    }
}

fn entries(
    owner: &Arc<str>,
    place: &Place<'_>,
    field: &'static str,
    entries: &[Bytes],
) -> Result<Attributes> {
    attributes(owner, entries.iter().enumerate().map(|(i, bytes)| place.entry(field, i, bytes)))
}

fn constant(place: &Place<'_>, proto: &NodeProto) -> Result<NodeKind> {
    let Some(bytes) = proto.attribute.first() else {
        return Err(place.invalid("the constant has no value"));
    };
    place.clip(proto.attribute.len() > 1);
    let place = place.entry("attribute", 0, bytes);
    let attribute: AttributeProto = place.decode()?;
    Ok(NodeKind::Constant(value(&place, &attribute)?))
}

/// A primitive from a node that names the operator and carries its attributes.
fn bare_primitive(place: &Place<'_>, proto: &NodeProto, name: &str) -> Result<(Primitive, Option<Type>)> {
    let (op_type, promotes) = op_type(place, name)?;
    let (ty, rest) = split_type(place, proto)?;
    let rest = rest.iter().map(|&i| place.entry("attribute", i, &proto.attribute[i]));
    let attributes = attributes(&op_type, rest)?;
    let primitive = Primitive::new(op_type, PrimitiveKind::Attribute, attributes);
    Ok((Primitive { promotes, ..primitive }, ty))
}

/// The type among a node's attributes, and the indices of the others.
///
/// The type is the first attribute called `shape`, or in textual files the one with a form such as `shape:...`.
fn split_type(place: &Place<'_>, proto: &NodeProto) -> Result<(Option<Type>, Vec<usize>)> {
    let mut found = None;
    let mut rest = Vec::new();
    for (i, bytes) in proto.attribute.iter().enumerate() {
        let place = place.entry("attribute", i, bytes);
        let attribute: AttributeProto = place.decode()?;
        let form = attribute.ref_attr_name.as_deref().unwrap_or_default();
        let named = form.is_empty() && attribute.name.as_deref() == Some(b"shape");
        if found.is_none() && (named || form.starts_with(b"shape:")) {
            found = Some(ty(&place, &attribute)?);
        } else {
            rest.push(i);
        }
    }
    Ok((found, rest))
}

/// The operator type, and whether it promotes operands.
fn op_type(place: &Place<'_>, text: &str) -> Result<(Arc<str>, bool)> {
    let name = text.strip_prefix(PROMOTES).unwrap_or(text);
    if name.is_empty() {
        return Err(place.invalid("the primitive has no op_type"));
    }
    if UNSAFE_OPERATORS.contains(&name) {
        return Err(place.invalid(format!("the operator {name} runs code of the file, which is refused")));
    }
    Ok((name.into(), name.len() < text.len()))
}

/// Name for users and type of a graph's input or output.
fn value_info(
    place: &Place<'_>,
    proto: &ValueInfoProto,
    symbol: &Symbol,
) -> Result<(Arc<str>, Option<Type>)> {
    let name = after_first_colon(symbol).into();
    place.clip(proto.tensor.len() + usize::from(proto.attr_info.is_some()) > 1);
    if let Some(bytes) = proto.tensor.first() {
        let place = place.entry("tensor", 0, bytes);
        let ty = tensor_type(&place, &place.decode()?)?;
        let name = if ty.name.is_empty() { name } else { ty.name.clone() };
        return Ok((name, Some(Type::Tensor(ty))));
    }
    if let Some(bytes) = &proto.attr_info {
        let place = place.field("attr_info", bytes);
        return Ok((name, Some(ty(&place, &place.decode()?)?)));
    }
    let denotation = place.text(&proto.denotation);
    let ty = match &*denotation {
        "" => None,
        "UMonadType" => Some(Type::Monad(Monad::Memory)),
        "IOMonadType" => Some(Type::Monad(Monad::Io)),
        _ => Some(Type::Other(denotation)),
    };
    Ok((name, ty))
}

fn after_first_colon(symbol: &str) -> &str {
    symbol.split_once(':').map_or(symbol, |(_, name)| name)
}

fn between_colons(symbol: &str) -> &str {
    let name = after_first_colon(symbol);
    if name.len() == symbol.len() { name } else { name.rsplit_once(':').map_or(name, |(name, _)| name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_are_cut_at_colons() {
        assert_eq!(after_first_colon("net_1:fc1.weight:x"), "fc1.weight:x");
        assert_eq!(between_colons("net_1:CNode_12:1"), "CNode_12");
        assert_eq!(between_colons("U0.1:U7"), "U7");
        assert_eq!(between_colons("ValueNode_27"), "ValueNode_27");
    }
}
