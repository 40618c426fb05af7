// What can be drawn: a tree of items (graphs, scopes, nodes, inputs, outputs), and edges between its leaves.

const data = JSON.parse(document.getElementById("data").textContent);

/** Scopes with more children are divided into groups, in file order. */
const MAX_CHILDREN = 240;
const GROUP_SIZE = 100;
/** Nodes that only order effects are followed so far. */
const MAX_CHAIN = 256;
/** Steps that are spent on dividing scopes. */
const MAX_EFFORT = 3e6;

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
    Object.assign(this, { x: 0, y: 0, w: 0, h: 0, lines: [], rep: null, id: 0, routes: [], parameters: [], leaving: new Set() });
  }
  get isScope() { return this.type === "scope" || this.type === "group" || this.type === "model"; }
  add(child) {
    child.parent = this;
    this.children.push(child);
  }
}

/** The scopes from a graph down to each scope. */
const pathOf = [];
data.scopes.forEach((scope, i) => pathOf.push(scope.parent === null ? [i] : [...pathOf[scope.parent], i]));

/** All items and edges; `showOrder` tells whether nodes that only order effects are among them. */
class Tree {
  constructor(showOrder) {
    this.showOrder = showOrder;
    this.leaves = new Map();
    this.scopes = [];
    this.pieceCounts = new Map();
    this.effort = 0;
    this.root = new Item("model", "model", data.name, 0);
    const graphs = data.graphs.map((graph, g) => this.addLeaves(graph, g));
    this.edges = this.findEdges();
    graphs.forEach((nodes, g) => this.addScope(data.graphs[g].scope, nodes, nodes.filter(Boolean), this.root));
    this.inline(this.root);
    this.items = new Map();
    this.finish(this.root, 0);
    this.findHomes();
    this.findOutputs();
  }

  /** Makes the nodes, inputs and outputs of a graph; answers with the nodes by their place in the file. */
  addLeaves(graph, g) {
    const leaf = (type, key, label, order, more) => {
      const item = Object.assign(new Item(type, `${type}:${key}`, label, order), { before: [], graph: g }, more);
      this.leaves.set(item.key, item);
      return item;
    };
    graph.inputs.forEach((port, i) => leaf("input", port.symbol, port.name, i - 1e6, { port }));
    graph.outputs.forEach((port, i) => leaf("output", `${g}:${i}`, port.name, 1e9 + i, { port }));
    return graph.nodes.map((node, n) => {
      const hidden = node.kind === "constant" || (node.kind === "order" && !this.showOrder);
      return hidden ? null : leaf("node", node.symbol, node.operator, n, { node });
    });
  }

  /** Adds a scope with the given nodes in and below it; `nodes` are all of the graph. */
  addScope(number, nodes, members, parent) {
    const scope = data.scopes[number], isGraph = scope.parent === null;
    if (isGraph && scope.graph > 0 && !members.length) return;
    const pieces = isGraph ? [members] : this.pieces(nodes, members);
    pieces.forEach(piece => {
      const item = this.scopeItem(number, isGraph ? scope.graph : piece[0].order);
      item.partial = pieces.length > 1 || Boolean(parent.partial);
      parent.add(item);
      if (isGraph) this.addPorts(item, scope.graph);
      const below = new Map();
      for (const member of piece) {
        const child = pathOf[member.node.scope][scope.depth + 1];
        if (child === undefined) item.add(member);
        else if (below.has(child)) below.get(child).push(member);
        else below.set(child, [member]);
      }
      for (const [child, inside] of below) this.addScope(child, nodes, inside, item);
    });
  }

  scopeItem(number, order) {
    const scope = data.scopes[number];
    const name = scope.parent === null && scope.graph === 0 ? "model" : scope.name;
    const count = (this.pieceCounts.get(number) ?? 0) + 1, again = count > 1;
    this.pieceCounts.set(number, count);
    const item = new Item("scope", `scope:${scope.graph}:${scope.path}${again ? `#${count}` : ""}`, again ? `${name} (${count})` : name, order);
    this.scopes[number] ??= item;
    return Object.assign(item, { scope });
  }

  addPorts(item, g) {
    for (const leaf of this.leaves.values()) if (leaf.port && leaf.graph === g) item.add(leaf);
  }

  /** Divides the nodes of a scope so that no path leaves a piece and comes back: MindSpore puts nodes of several
   * cells in one scope when the cells share code, and drawn as one box they would tie the graph in knots. */
  pieces(nodes, members) {
    const from = members[0].order, to = members.at(-1).order;
    this.effort += to - from;
    if (this.effort > MAX_EFFORT) return [members];
    const inside = new Set(members), reached = new Map();
    for (let n = from; n <= to; n++) {
      const item = nodes[n];
      if (!item) continue;
      const isInside = inside.has(item);
      let piece = isInside ? 0 : -1;
      for (const source of item.before) {
        const there = reached.get(source);
        if (there !== undefined) piece = Math.max(piece, isInside && !inside.has(source) ? there + 1 : there);
      }
      if (piece >= 0) reached.set(item, piece);
    }
    const pieces = [];
    for (const member of members) (pieces[reached.get(member)] ??= []).push(member);
    return pieces.filter(Boolean);
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
    return this.leaves.get(`node:${value}`) ?? this.leaves.get(`input:${value}`);
  }

  /** Gives each parameter to the innermost scope with all of its readers, and those around. */
  findHomes() {
    for (const parameter of data.parameters) {
      const readers = realReaders(parameter.symbol).map(node => this.leaves.get(`node:${node.symbol}`)).filter(Boolean);
      let home = readers[0]?.parent ?? this.root;
      for (const reader of readers) while (!isWithin(reader, home)) home = home.parent;
      for (let at = home; at; at = at.parent) at.parameters.push(parameter);
    }
  }

  /** What leaves the scopes that were divided; of the others the file's description tells. */
  findOutputs() {
    for (const [source, target] of this.edges) {
      for (let at = source.parent; at?.partial && !isWithin(target, at); at = at.parent) at.leaving.add(source);
    }
  }

  findEdges() {
    const edges = [];
    for (const item of this.leaves.values()) {
      const symbols = item.type === "node" ? item.node.inputs : item.type === "output" ? [item.port.symbol] : [];
      for (const symbol of symbols) {
        const source = this.source(symbol);
        if (!source || source === item) continue;
        edges.push([source, item]);
        item.before.push(source);
      }
    }
    return edges;
  }
}

function isWithin(item, scope) {
  for (let at = item; at; at = at.parent) if (at === scope) return true;
  return false;
}

/** What is in a scope, in numbers. */
function contents(item) {
  if (item.scope && !item.partial) return item.scope;
  if (item.counted) return item.counted;
  const outputs = [...item.leaving].map(source => source.node?.type ?? "");
  const sum = { operations: 0, collectives: 0, operators: {}, outputs: outputs.slice(0, 4), output_count: outputs.length };
  sum.parameters = item.parameters.length;
  sum.parameter_bytes = item.parameters.reduce((bytes, p) => bytes + p.bytes, 0);
  const count = (operator, times) => { sum.operators[operator] = (sum.operators[operator] ?? 0) + times; };
  for (const child of item.children) {
    if (child.node) {
      sum.operations += 1;
      sum.collectives += child.node.kind === "collective" ? 1 : 0;
      count(child.node.operator, 1);
    } else if (child.isScope) {
      const below = contents(child);
      sum.operations += below.operations;
      sum.collectives += below.collectives;
      Object.entries(below.operators).forEach(([operator, times]) => count(operator, times));
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
