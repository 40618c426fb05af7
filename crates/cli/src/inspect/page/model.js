// What can be drawn: a tree of items (graphs, scopes, nodes, inputs, outputs), and edges between its leaves.

const data = JSON.parse(document.getElementById("data").textContent);

/** Scopes with more children are divided into groups, in file order. */
const MAX_CHILDREN = 240;
const GROUP_SIZE = 100;
/** Nodes that only order effects are followed so far. */
const MAX_CHAIN = 256;

const parameterOf = new Map(data.parameters.map(p => [p.symbol, p]));
const nodeOf = new Map();
const inputOf = new Map();
for (const [g, graph] of data.graphs.entries()) {
  graph.nodes.forEach((node, n) => nodeOf.set(node.symbol, Object.assign(node, { graph: g, index: n })));
  graph.inputs.forEach((input, i) => inputOf.set(input.symbol, { ...input, graph: g, index: i }));
}
const readersOf = new Map();
for (const node of nodeOf.values()) {
  for (const symbol of new Set(node.inputs)) {
    if (!readersOf.has(symbol)) readersOf.set(symbol, []);
    readersOf.get(symbol).push(node);
  }
}

/** The symbol whose value an operand has, seen through Load and Depend; null for a bare order of effects. */
function resolved(symbol) {
  for (let i = 0; i < MAX_CHAIN; i++) {
    const node = nodeOf.get(symbol);
    if (node?.kind !== "order") return symbol;
    if (node.operator !== "Load" && node.operator !== "Depend") return null;
    if (!node.inputs.length) return null;
    symbol = node.inputs[0];
  }
  return symbol;
}

/** Nodes that compute with a value, seen through what only orders effects. */
function realReaders(symbol) {
  const found = new Set(), pending = [symbol];
  for (let i = 0; i < MAX_CHAIN && pending.length; i++) {
    const value = pending.pop();
    for (const node of readersOf.get(value) ?? []) {
      if (node.kind !== "order") found.add(node);
      else if (node.inputs[0] === value && node.operator !== "UpdateState") pending.push(node.symbol);
    }
  }
  return [...found];
}

/** The parameters that a node reads. */
function parametersOf(node) {
  return node.inputs.map(symbol => parameterOf.get(resolved(symbol))).filter(Boolean);
}

class Item {
  constructor(type, key, label, order) {
    Object.assign(this, { type, key, label, order, parent: null, depth: 0, children: [] });
    Object.assign(this, { x: 0, y: 0, w: 0, h: 0, lines: [], rep: null, id: 0, routes: [] });
  }
  get isScope() { return this.type === "scope" || this.type === "group" || this.type === "model"; }
  add(child) {
    child.parent = this;
    this.children.push(child);
  }
}

/** All items and edges; `showOrder` tells whether nodes that only order effects are among them. */
class Tree {
  constructor(showOrder) {
    this.showOrder = showOrder;
    this.items = new Map();
    this.root = new Item("model", "model", data.name, 0);
    this.scopes = data.scopes.map((scope, i) => this.scopeItem(scope, i));
    data.graphs.forEach((graph, g) => this.addGraph(graph, g));
    for (const scope of this.scopes) this.attach(scope);
    this.inline(this.root);
    this.finish(this.root, 0);
    this.edges = this.findEdges();
  }

  scopeItem(scope, i) {
    const label = scope.parent === null && scope.graph === 0 ? "model" : scope.name;
    const item = new Item("scope", `scope:${scope.graph}:${scope.path}`, label, Infinity);
    return Object.assign(item, { scope, number: i });
  }

  addGraph(graph, g) {
    const home = this.scopes[graph.scope];
    graph.inputs.forEach((input, i) => {
      home.add(Object.assign(new Item("input", `input:${input.symbol}`, input.name, -1e6 + i), { port: input, graph: g }));
    });
    graph.nodes.forEach((node, n) => {
      if (node.kind === "constant" || (node.kind === "order" && !this.showOrder)) return;
      const item = Object.assign(new Item("node", `node:${node.symbol}`, node.operator, n), { node });
      this.scopes[node.scope].add(item);
      for (let i = node.scope; i !== null; i = data.scopes[i].parent) {
        this.scopes[i].order = Math.min(this.scopes[i].order, n);
      }
    });
    graph.outputs.forEach((output, i) => {
      const item = new Item("output", `output:${g}:${i}`, output.name, 1e9 + i);
      home.add(Object.assign(item, { port: output, graph: g }));
    });
  }

  attach(item) {
    const { parent } = item.scope;
    if (parent !== null && item.order < Infinity) this.scopes[parent].add(item);
    if (parent === null && (item.scope.graph === 0 || item.children.length || item.order < Infinity)) this.root.add(item);
  }

  /** Scopes with a single node in them are drawn as that node. */
  inline(item) {
    const children = item.children;
    item.children = [];
    for (const child of children) {
      if (child.isScope) this.inline(child);
      const only = child.isScope && child.scope?.parent !== null && child.children.length === 1 ? child.children[0] : null;
      if (only?.type === "node") child.inlined = only;
      item.add(child.inlined ?? child);
      if (child.inlined) child.parent = item;
    }
  }

  finish(item, depth) {
    item.depth = depth;
    item.id = this.items.size;
    this.items.set(item.key, item);
    item.children.sort((a, b) => a.order - b.order);
    while (item.children.length > MAX_CHILDREN) this.group(item);
    for (const child of item.children) this.finish(child, depth + 1);
  }

  /** Puts successive children into groups. */
  group(item) {
    const all = item.children.splice(0);
    for (let i = 0; i < all.length; i += GROUP_SIZE) {
      const members = all.slice(i, i + GROUP_SIZE);
      const first = all[0].first ?? 1;
      const from = members[0].first ?? first + i, to = members.at(-1).last ?? first + i + members.length - 1;
      const group = new Item("group", `group:${item.key}:${from}-${to}`, `part ${from} to ${to}`, members[0].order);
      Object.assign(group, { first: from, last: to });
      members.forEach(member => group.add(member));
      item.add(group);
    }
  }

  /** The item of a symbol that a node reads; undefined for parameters and constants. */
  source(symbol) {
    const value = this.showOrder ? symbol : resolved(symbol);
    return this.items.get(`node:${value}`) ?? this.items.get(`input:${value}`);
  }

  findEdges() {
    const edges = [];
    for (const item of this.items.values()) {
      const symbols = item.type === "node" ? item.node.inputs : item.type === "output" ? [item.port.symbol] : [];
      for (const symbol of symbols) {
        const source = this.source(symbol);
        if (source && source !== item) edges.push([source, item]);
      }
    }
    return edges;
  }
}

/** What is in an item, in numbers. */
function contents(item) {
  if (item.scope) return item.scope;
  if (item.counted) return item.counted;
  const sum = { operations: 0, collectives: 0, parameters: 0, parameter_bytes: 0, operators: {}, outputs: [], output_count: 0 };
  for (const child of item.children) {
    if (child.node) {
      sum.operations += 1;
      sum.collectives += child.node.kind === "collective" ? 1 : 0;
      sum.operators[child.node.operator] = (sum.operators[child.node.operator] ?? 0) + 1;
    } else if (child.isScope) {
      const below = contents(child);
      for (const key of ["operations", "collectives", "parameters", "parameter_bytes"]) sum[key] += below[key];
      for (const [op, count] of Object.entries(below.operators)) sum.operators[op] = (sum.operators[op] ?? 0) + count;
    }
  }
  return item.counted = sum;
}

const kindOfOperator = new Map([...nodeOf.values()].map(node => [node.operator, node.kind]));

/** How many nodes of each kind are in a scope. */
function kindsIn(item) {
  if (item.kinds) return item.kinds;
  const kinds = new Map();
  for (const [operator, count] of Object.entries(contents(item).operators)) {
    const kind = kindOfOperator.get(operator);
    if (kind !== "order") kinds.set(kind, (kinds.get(kind) ?? 0) + count);
  }
  return item.kinds = kinds;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  for (bytes /= 1024; bytes >= 1023.95 && i + 1 < units.length; i++) bytes /= 1024;
  return `${bytes.toFixed(1)} ${units[i]}`;
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
