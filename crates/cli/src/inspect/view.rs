//! Everything that is shown of a model, gathered once for all forms.

use std::collections::{BTreeMap, HashMap};

use mslite_mindir::{Callee, Collective, Graph, Model, Monad, Node, NodeKind, Type, Value};
use serde::Serialize;
use serde_json::Value as Json;

use super::kind::{Kind, kind};
use super::links::{Links, Place, operator};
use super::scopes::{Scope, Scopes};
use super::value::{json, type_bytes, type_text};

/// What a model file holds. Serialised, it is what `--json` prints and what the page reads.
#[derive(Debug, Serialize)]
pub(crate) struct View<'a> {
    pub(crate) name: &'a str,
    pub(crate) producer: &'a str,
    pub(crate) model_version: &'a str,
    pub(crate) format_version: &'a str,
    pub(crate) level: i64,
    pub(crate) encryption: Option<String>,
    pub(crate) warnings: &'a [String],
    pub(crate) inputs: Vec<Port<'a>>,
    pub(crate) outputs: Vec<Port<'a>>,
    /// Nodes of every kind, in all graphs.
    pub(crate) nodes: usize,
    pub(crate) constants: usize,
    pub(crate) operators: Vec<Count>,
    pub(crate) parameters: Vec<Parameter<'a>>,
    pub(crate) parameter_bytes: u64,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) collectives: Vec<Exchange<'a>>,
    pub(crate) effects: Vec<Effect<'a>>,
    pub(crate) functions: Vec<Function<'a>>,
    pub(crate) graphs: Vec<GraphView<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    pub(crate) symbol: &'a str,
    #[serde(rename = "type")]
    pub(crate) ty: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Count {
    pub(crate) operator: String,
    pub(crate) count: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Parameter<'a> {
    pub(crate) name: &'a str,
    pub(crate) symbol: &'a str,
    pub(crate) dtype: String,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: u64,
    /// The innermost scope with all readers, by number.
    pub(crate) scope: usize,
    /// Whether it is a hash map; type and shape are those of its values then.
    pub(crate) map: bool,
    pub(crate) quantized: bool,
}

/// A collective.
#[derive(Debug, Serialize)]
pub(crate) struct Exchange<'a> {
    pub(crate) operator: &'a str,
    pub(crate) group: Option<&'a str>,
    pub(crate) reduction: Option<&'a str>,
    pub(crate) ranks: Option<Vec<i64>>,
    /// The other rank of a message, or the root.
    pub(crate) peer: Option<i64>,
    pub(crate) input: String,
    pub(crate) output: String,
    /// Bytes of the larger of both; none when a type does not tell.
    pub(crate) bytes: Option<u64>,
    pub(crate) node: &'a str,
    pub(crate) graph: &'a str,
    pub(crate) scope: &'a str,
}

/// A node that does more than compute its result.
#[derive(Debug, Serialize)]
pub(crate) struct Effect<'a> {
    /// `memory`, `io` or `message`.
    pub(crate) kind: &'static str,
    pub(crate) operator: String,
    /// The parameter that it is about, as a rule the one that it writes.
    pub(crate) parameter: Option<&'a str>,
    pub(crate) node: &'a str,
    pub(crate) graph: &'a str,
    pub(crate) scope: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) inputs: usize,
    pub(crate) nodes: usize,
    /// Nodes that call it, or name it as an operand.
    pub(crate) callers: usize,
    pub(crate) outputs: Vec<String>,
}

/// A graph with its nodes.
#[derive(Debug, Serialize)]
pub(crate) struct GraphView<'a> {
    pub(crate) name: &'a str,
    /// Number of the scope that is this graph.
    pub(crate) scope: usize,
    pub(crate) inputs: Vec<Port<'a>>,
    pub(crate) outputs: Vec<Port<'a>>,
    pub(crate) nodes: Vec<NodeView<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeView<'a> {
    pub(crate) symbol: &'a str,
    /// The scoped name, as in the file.
    pub(crate) name: &'a str,
    /// The scope, by number.
    pub(crate) scope: usize,
    pub(crate) operator: String,
    pub(crate) kind: Kind,
    /// Symbols of the operands.
    pub(crate) inputs: Vec<&'a str>,
    #[serde(rename = "type")]
    pub(crate) ty: String,
    /// Of its primitive.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<&'a str, Json>,
    /// Of a constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Json>,
    /// The graph that it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calls: Option<&'a str>,
}

impl<'a> View<'a> {
    pub(crate) fn of(model: &'a Model) -> Self {
        let summary = model.summary();
        let links = Links::of(model);
        let mut scopes = Scopes::of(model, &links);
        let parameters = parameters(&model.graph, &links, &mut scopes);
        let mut operators: Vec<Count> =
            summary.operators.iter().map(|(op, &count)| Count { operator: op.to_string(), count }).collect();
        operators.sort_by(|a, b| b.count.cmp(&a.count).then(a.operator.cmp(&b.operator)));
        View {
            name: &model.graph.name,
            producer: &model.producer,
            model_version: &model.model_version,
            format_version: &model.format_version,
            level: model.level,
            encryption: model.encryption.map(|mode| mode.to_string()),
            warnings: &model.warnings,
            inputs: inputs(&model.graph),
            outputs: outputs(&model.graph),
            nodes: summary.nodes,
            constants: summary.constants,
            operators,
            parameter_bytes: parameters.iter().map(|p| p.bytes).sum(),
            parameters,
            collectives: model.collectives().map(|c| Exchange::of(&c, &links)).collect(),
            effects: effects(model, &links),
            functions: functions(model),
            graphs: model
                .graphs()
                .enumerate()
                .map(|(g, graph)| graph_view(g, graph, &links, &scopes))
                .collect(),
            scopes: scopes.list,
        }
    }
}

fn inputs(graph: &Graph) -> Vec<Port<'_>> {
    graph.inputs.iter().map(|input| port(&input.name, &input.symbol, input.ty.as_ref())).collect()
}

fn outputs(graph: &Graph) -> Vec<Port<'_>> {
    graph.outputs.iter().map(|output| port(&output.name, &output.symbol, output.ty.as_ref())).collect()
}

fn port<'a>(name: &'a str, symbol: &'a str, ty: Option<&Type>) -> Port<'a> {
    Port { name, symbol, ty: type_text(ty) }
}

fn parameters<'a>(graph: &'a Graph, links: &Links<'a>, scopes: &mut Scopes) -> Vec<Parameter<'a>> {
    let mut list = Vec::new();
    for parameter in &graph.parameters {
        let bytes = parameter.data.data.len() as u64;
        list.push(Parameter {
            name: &parameter.name,
            symbol: &parameter.symbol,
            dtype: parameter.dtype().to_string(),
            shape: parameter.dims(),
            bytes,
            scope: scopes.add_parameter(&links.real_readers(&parameter.symbol), bytes),
            map: false,
            quantized: !parameter.quantization.is_empty(),
        });
    }
    for map in &graph.map_parameters {
        let bytes = [&map.keys, &map.values, &map.status].iter().map(|part| part.data.len() as u64).sum();
        list.push(Parameter {
            name: &map.name,
            symbol: &map.symbol,
            dtype: map.values.dtype.to_string(),
            shape: &map.values.dims,
            bytes,
            scope: scopes.add_parameter(&links.real_readers(&map.symbol), bytes),
            map: true,
            quantized: false,
        });
    }
    list
}

impl<'a> Exchange<'a> {
    fn of(collective: &Collective<'a>, links: &Links<'a>) -> Self {
        let attributes = &collective.primitive.attributes;
        let ranks = ["group_rank_ids", "rank_list", "group_ranks"].into_iter();
        let peers = ["dest_rank", "src_rank", "root_rank"].into_iter();
        let node = collective.node;
        let input = node.inputs.first().and_then(|symbol| links.ty(symbol));
        let input = input.filter(|ty| !matches!(ty, Type::Monad(_)));
        let bytes = [input, node.ty.as_ref()].into_iter().flatten().filter_map(type_bytes).max();
        Exchange {
            operator: &collective.primitive.op_type,
            group: attributes.value("group").and_then(Value::as_str),
            reduction: attributes.value("op").and_then(Value::as_str),
            ranks: ranks.filter_map(|name| attributes.ints(name).ok()).next(),
            peer: peers.filter_map(|name| attributes.int(name).ok()).next(),
            input: type_text(input),
            output: type_text(node.ty.as_ref()),
            bytes,
            node: &node.symbol,
            graph: &collective.graph.name,
            scope: &node.scope,
        }
    }
}

fn effects<'a>(model: &'a Model, links: &Links<'a>) -> Vec<Effect<'a>> {
    let mut list = Vec::new();
    for graph in model.graphs() {
        for node in graph.nodes.iter().filter(|node| !links.is_order(node)) {
            let Some(kind) = effect_kind(model, links, node) else { continue };
            list.push(Effect {
                kind,
                operator: operator(node),
                parameter: node.inputs.first().and_then(|symbol| links.parameter(symbol)),
                node: &node.symbol,
                graph: &graph.name,
                scope: &node.scope,
            });
        }
    }
    list
}

/// What a node does besides computing: as its attributes say, or the chain of effects that it takes. Calls do what
/// the nodes of the function do.
fn effect_kind(model: &Model, links: &Links<'_>, node: &Node) -> Option<&'static str> {
    let primitive = node.primitive()?;
    let flag = |name| primitive.attributes.value(name).and_then(Value::as_bool) == Some(true);
    match &*primitive.op_type {
        "Send" | "Receive" => return Some("message"),
        "MakeTuple" | "TupleGetItem" | "Return" | "Switch" | "Partial" => return None,
        "Assign" | "AssignAdd" | "AssignSub" => return Some("memory"),
        "Print" => return Some("io"),
        _ if flag("side_effect_mem") => return Some("memory"),
        _ if flag("side_effect_io") => return Some("io"),
        _ => {}
    }
    node.inputs.iter().find_map(|symbol| match monad(model, links, symbol)? {
        Monad::Memory => Some("memory"),
        Monad::Io => Some("io"),
    })
}

fn monad(model: &Model, links: &Links<'_>, symbol: &str) -> Option<Monad> {
    match (model.node(symbol).and_then(Node::constant), links.ty(symbol)) {
        (Some(Value::Monad(monad)), _) | (_, Some(Type::Monad(monad))) => Some(*monad),
        _ => None,
    }
}

fn functions<'a>(model: &'a Model) -> Vec<Function<'a>> {
    let mut callers: HashMap<&str, usize> = HashMap::new();
    for node in model.graphs().flat_map(|graph| &graph.nodes) {
        let called = match &node.kind {
            NodeKind::Call(Callee::Graph(name)) => Some(name),
            NodeKind::Constant(Value::Function(name)) => Some(name),
            _ => None,
        };
        let operands = node.inputs.iter().filter(|symbol| model.graph_named(symbol).is_some());
        for name in operands.chain(called) {
            *callers.entry(name).or_default() += 1;
        }
    }
    let view = |graph: &'a Graph| Function {
        name: &graph.name,
        inputs: graph.inputs.len(),
        nodes: graph.nodes.len(),
        callers: callers.get(&*graph.name).copied().unwrap_or(0),
        outputs: graph.outputs.iter().map(|output| type_text(output.ty.as_ref())).collect(),
    };
    model.functions.iter().map(view).collect()
}

fn graph_view<'a>(number: usize, graph: &'a Graph, links: &Links<'a>, scopes: &Scopes) -> GraphView<'a> {
    let nodes = graph.nodes.iter().enumerate();
    GraphView {
        name: &graph.name,
        scope: scopes.root(number),
        inputs: inputs(graph),
        outputs: outputs(graph),
        nodes: nodes.map(|(n, node)| node_view((number, n), node, links, scopes)).collect(),
    }
}

fn node_view<'a>(place: Place, node: &'a Node, links: &Links<'a>, scopes: &Scopes) -> NodeView<'a> {
    let attributes = node.primitive().map(|p| p.attributes.iter().map(|(name, value)| (name, json(value))));
    NodeView {
        symbol: &node.symbol,
        name: &node.scope,
        scope: scopes.at(place),
        operator: operator(node),
        kind: kind(node, links.is_order(node)),
        inputs: node.inputs.iter().map(|symbol| &**symbol).collect(),
        ty: type_text(node.ty.as_ref()),
        attributes: attributes.into_iter().flatten().collect(),
        value: node.constant().map(json),
        calls: match &node.kind {
            NodeKind::Call(Callee::Graph(name) | Callee::Closure(name)) => Some(name),
            _ => None,
        },
    }
}
