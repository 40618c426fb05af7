//! From messages to the model: names, graphs, nodes, and the checks that span them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::attribute::{
    attributes, data_type, fixed_dims, packed_tensor, quantization, size_bytes, tensor_type, ty, value,
};
use crate::place::Place;
use crate::proto::{
    AttributeProto, GraphProto, MapTensorProto, ModelProto, NodeProto, PrimitiveProto, TensorProto,
    UserInfoEntry, ValueInfoProto,
};
use crate::weights::Weights;
use crate::{
    Attributes, Callee, Definition, Graph, Input, MapParameter, Model, Monad, Node, NodeKind, Output,
    PackedTensor, Parameter, Primitive, PrimitiveKind, Result, Symbol, Type,
};

/// Run Python code of the file; MindSpore refuses them, too.
const UNSAFE_OPERATORS: [&str; 3] = ["PyExecute", "PyInterpret", "PyFunc"];

/// Decodes and checks a whole model.
pub(crate) fn decode_model(file: &Path, bytes: &Bytes, weights: Weights<'_>) -> Result<Model> {
    let root = Place::root(file, bytes);
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
        Decoder { weights, symbols: HashMap::new(), primitives: Vec::new(), arities: Vec::new() };
    decoder.primitives(&root, &proto)?;
    let level = level(&root, &proto, &decoder.primitives)?;
    let mut graphs = decoder.graphs(&root, entry, &proto.functions)?;
    let functions = graphs.split_off(1);
    Ok(Model {
        format_version: root.text("ir_version", &proto.ir_version)?,
        producer: root.text("producer_name", &proto.producer_name)?,
        producer_version: root.text("producer_version", &proto.producer_version)?,
        model_version: root.text("model_version", &proto.model_version)?,
        level,
        graph: graphs.remove(0),
        functions,
        primitives: decoder.primitives,
        user_info: user_info(&root, &proto)?,
        warnings: warnings(&proto),
        preprocessor: proto.preprocessor,
        encryption: None,
        symbols: decoder.symbols,
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

fn warnings(proto: &ModelProto) -> Vec<String> {
    let absent = |field: &Option<Bytes>| field.as_ref().is_none_or(|text| text.is_empty());
    let mut warnings = Vec::new();
    if absent(&proto.producer_name) {
        warnings.push("the file does not name its producer (producer_name)".to_owned());
    }
    if absent(&proto.model_version) {
        warnings.push("the file does not say which release wrote it (model_version)".to_owned());
    }
    warnings
}

fn user_info(root: &Place<'_>, proto: &ModelProto) -> Result<BTreeMap<String, String>> {
    let mut info = BTreeMap::new();
    for (i, bytes) in proto.user_info.iter().enumerate() {
        let place = root.entry("user_info", i, bytes);
        let entry: UserInfoEntry = place.decode()?;
        let key = place.field("key", &entry.key).as_text()?;
        info.insert(key.to_owned(), place.field("value", &entry.value).as_text()?.to_owned());
    }
    Ok(info)
}

struct Decoder<'a> {
    weights: Weights<'a>,
    symbols: HashMap<Symbol, Definition>,
    primitives: Vec<Arc<Primitive>>,
    /// Number of inputs of each graph.
    arities: Vec<usize>,
}

impl Decoder<'_> {
    fn primitives(&mut self, root: &Place<'_>, proto: &ModelProto) -> Result<()> {
        for (i, bytes) in proto.primitives.iter().enumerate() {
            let place = root.entry("primitives", i, bytes);
            let proto: PrimitiveProto = place.decode()?;
            let symbol = self.define(&place, place.text("name", &proto.name)?, Definition::Primitive(i))?;
            let op_type = op_type(&place, &place.text("op_type", &proto.op_type)?)?;
            let attribute = proto.attribute.iter().enumerate();
            self.primitives.push(Arc::new(Primitive {
                symbol,
                kind: match proto.prim_type {
                    Some(2) => PrimitiveKind::Function,
                    _ => PrimitiveKind::Attribute,
                },
                attributes: attributes(&op_type, attribute.map(|(i, a)| place.entry("attribute", i, a)))?,
                instance_name: place.text("instance_name", &proto.instance_name)?,
                op_type,
            }));
        }
        Ok(())
    }

    /// Decodes all graphs, the entry graph first. Their names are known before any body is read.
    fn graphs(&mut self, root: &Place<'_>, entry: &Bytes, functions: &[Bytes]) -> Result<Vec<Graph>> {
        let entry = std::iter::once(root.field("graph", entry));
        let functions = functions.iter().enumerate();
        let places: Vec<_> = entry.chain(functions.map(|(i, f)| root.entry("functions", i, f))).collect();
        let mut heads = Vec::with_capacity(places.len());
        for (number, place) in places.iter().enumerate() {
            let proto: GraphProto = place.decode()?;
            let name = self.define(place, place.text("name", &proto.name)?, Definition::Graph(number))?;
            self.arities.push(proto.input.len());
            heads.push((place, proto, name));
        }
        let bodies = heads.into_iter().enumerate();
        bodies.map(|(number, (place, proto, name))| self.graph(number, place, &proto, name)).collect()
    }

    fn graph(&mut self, number: usize, place: &Place<'_>, proto: &GraphProto, name: Symbol) -> Result<Graph> {
        let mut graph = Graph {
            attributes: entries(&name, place, "attribute", &proto.attribute)?,
            name,
            inputs: Vec::with_capacity(proto.input.len()),
            parameters: Vec::with_capacity(proto.parameter.len()),
            map_parameters: Vec::with_capacity(proto.map_parameter.len()),
            nodes: Vec::with_capacity(proto.node.len()),
            outputs: Vec::with_capacity(proto.output.len()),
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
        let symbol = place.text("name", &proto.name)?;
        let symbol = self.define(place, symbol, Definition::Input { graph, index })?;
        let (name, ty) = value_info(place, &proto, &symbol)?;
        Ok(Input { symbol, name, ty })
    }

    fn output(&self, place: &Place<'_>) -> Result<Output> {
        let proto: ValueInfoProto = place.decode()?;
        let (symbol, _) = self.resolve(place, &place.text("name", &proto.name)?)?;
        let (name, ty) = value_info(place, &proto, &symbol)?;
        Ok(Output { symbol, name, ty })
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
            let root = Place::root(&path, &bytes);
            let proto: GraphProto = root.decode()?;
            for (i, bytes) in proto.parameter.iter().enumerate() {
                self.parameter(&root.entry("parameter", i, bytes), 0, parameters)?;
            }
        }
        Ok(())
    }

    fn parameter(&mut self, place: &Place<'_>, graph: usize, parameters: &mut Vec<Parameter>) -> Result<()> {
        let proto: TensorProto = place.decode()?;
        let definition = Definition::Parameter { graph, index: parameters.len() };
        let symbol = self.define(place, place.text("name", &proto.name)?, definition)?;
        if let Some(compression @ 1..) = proto.compression_type {
            return Err(place.unsupported(format!("weight compression (compression_type {compression})")));
        }
        parameters.push(Parameter {
            name: after_first_colon(&symbol).into(),
            data: self.parameter_data(place, &proto)?,
            quantization: quantization(place, &proto)?,
            symbol,
        });
        Ok(())
    }

    fn parameter_data(&mut self, place: &Place<'_>, proto: &TensorProto) -> Result<PackedTensor> {
        if let Some(data) = &proto.raw_data {
            return packed_tensor(place, proto, data);
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
            _ => Ok(PackedTensor { dtype, dims, data }),
        }
    }

    fn map_parameter(&mut self, place: &Place<'_>, graph: usize, index: usize) -> Result<MapParameter> {
        let proto: MapTensorProto = place.decode()?;
        let definition = Definition::MapParameter { graph, index };
        let symbol = self.define(place, place.text("name", &proto.name)?, definition)?;
        let part = |name, bytes: &Option<Bytes>| {
            let bytes = bytes.as_ref().ok_or_else(|| place.invalid(format!("the hash map has no {name}")))?;
            let place = place.field(name, bytes);
            let proto: TensorProto = place.decode()?;
            let data = proto.raw_data.as_ref().ok_or_else(|| place.invalid("the tensor has no data"))?;
            packed_tensor(&place, &proto, data)
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
            symbol,
        })
    }

    fn node(&mut self, place: &Place<'_>, graph: usize, index: usize) -> Result<Node> {
        let proto: NodeProto = place.decode()?;
        let [output] = &*proto.output else {
            return Err(place.invalid(format!("the node has {} outputs instead of one", proto.output.len())));
        };
        let symbol: Symbol = place.field("output", output).as_text()?.into();
        let inputs = proto.input.iter().enumerate();
        let inputs: Vec<Symbol> = inputs
            .map(|(i, bytes)| {
                let place = place.entry("input", i, bytes);
                Ok(self.resolve(&place, place.as_text()?)?.0)
            })
            .collect::<Result<_>>()?;
        let op_type = place.text("op_type", &proto.op_type)?;
        let (kind, ty) = match &*op_type {
            "" => return Err(place.invalid("the node has no op_type")),
            "Constant" => (constant(place, &proto)?, None),
            op_type => self.call(place, &proto, op_type, inputs.len())?,
        };
        Ok(Node {
            // Defined last: a node is not its own operand.
            symbol: self.define(place, symbol.clone(), Definition::Node { graph, index })?,
            name: between_colons(&symbol).into(),
            inputs,
            kind,
            scope: place.text("domain", &proto.domain)?,
            ty,
            attributes: entries(&symbol, place, "node_attr", &proto.node_attr)?,
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
        Ok((NodeKind::Call(callee), split_type(place, proto)?.0))
    }

    fn define(&mut self, place: &Place<'_>, symbol: Symbol, definition: Definition) -> Result<Symbol> {
        if symbol.is_empty() {
            return Err(place.invalid("it has no name"));
        }
        if self.symbols.insert(symbol.clone(), definition).is_some() {
            return Err(place.invalid(format!("the name {symbol:?} is defined twice")));
        }
        Ok(symbol)
    }

    fn resolve(&self, place: &Place<'_>, name: &str) -> Result<(Symbol, Definition)> {
        match self.symbols.get_key_value(name) {
            Some((symbol, &definition)) => Ok((symbol.clone(), definition)),
            None => Err(place.invalid(format!("{name:?} is not defined, or only further down"))),
        }
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
    let place = place.entry("attribute", 0, bytes);
    let attribute: AttributeProto = place.decode()?;
    Ok(NodeKind::Constant(value(&place, &attribute)?))
}

/// A primitive from a node that names the operator and carries its attributes.
fn bare_primitive(place: &Place<'_>, proto: &NodeProto, name: &str) -> Result<(Primitive, Option<Type>)> {
    let op_type = op_type(place, name)?;
    let (ty, rest) = split_type(place, proto)?;
    let rest = rest.iter().map(|&i| place.entry("attribute", i, &proto.attribute[i]));
    let primitive = Primitive {
        symbol: op_type.clone(),
        kind: PrimitiveKind::Attribute,
        attributes: attributes(&op_type, rest)?,
        instance_name: "".into(),
        op_type,
    };
    Ok((primitive, ty))
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

fn op_type(place: &Place<'_>, name: &str) -> Result<Arc<str>> {
    let name = name.strip_prefix("S-Prim-").unwrap_or(name);
    if name.is_empty() {
        return Err(place.invalid("the primitive has no op_type"));
    }
    if UNSAFE_OPERATORS.contains(&name) {
        return Err(place.invalid(format!("the operator {name} runs code of the file, which is refused")));
    }
    Ok(name.into())
}

/// Name for users and type of a graph's input or output.
fn value_info(
    place: &Place<'_>,
    proto: &ValueInfoProto,
    symbol: &Symbol,
) -> Result<(Arc<str>, Option<Type>)> {
    if let Some(bytes) = proto.tensor.first() {
        let place = place.entry("tensor", 0, bytes);
        let tensor: TensorProto = place.decode()?;
        let public = place.text("name", &tensor.name)?;
        let name = if public.is_empty() { after_first_colon(symbol).into() } else { public };
        return Ok((name, Some(Type::Tensor(tensor_type(&place, &tensor)?))));
    }
    let name = after_first_colon(symbol).into();
    if let Some(bytes) = &proto.attr_info {
        let place = place.field("attr_info", bytes);
        return Ok((name, Some(ty(&place, &place.decode()?)?)));
    }
    let denotation = place.text("denotation", &proto.denotation)?;
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
