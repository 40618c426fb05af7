// The program: what is open, selected and searched, the panel, and how keys, mouse and address change them.

/** How many boxes the page opens with; more when there would be hardly any. */
const FIRST_BOXES = 48, HARDLY_ANY = 8, MOST_FIRST_BOXES = 160;
const LIST_LENGTH = 200;
/** The least scale at which the page opens. */
const READABLE = 0.7;

const $ = id => document.getElementById(id);
const canvas = $("graph"), panel = $("panel"), search = $("search");
const painter = new Painter(canvas);
let tree = new Tree(false);
let expanded = firstExpanded();
const state = { selected: null, matches: new Set(), below: new Map() };
let found = [], current = -1;

painter.request = () => {
  if (painter.pending) return;
  painter.pending = true;
  requestAnimationFrame(() => {
    painter.pending = false;
    painter.draw(tree, state);
  });
};

/** The scopes open at the start: level by level while there are not too many boxes. */
function firstExpanded() {
  const open = new Set();
  let level = tree.root.children.filter(item => item.scope?.graph === 0), boxes = level.length;
  while (level.length) {
    const next = [];
    for (const item of level) {
      const limit = boxes <= HARDLY_ANY ? MOST_FIRST_BOXES : FIRST_BOXES;
      if (boxes + item.children.length > limit && boxes > 1) continue;
      open.add(item.key);
      boxes += item.children.length;
      next.push(...item.children.filter(child => child.isScope));
    }
    level = next;
  }
  return open;
}

/** Lays out and draws again; the top of the item `anchor` stays where it is in the window. */
function refresh(anchor) {
  const before = anchor && { x: anchor.x + anchor.w / 2, y: anchor.y };
  performance.mark("layout-start");
  layout(tree, expanded, item => painter.measure(item));
  performance.measure("layout", "layout-start");
  if (anchor) {
    painter.camera.x += (before.x - anchor.x - anchor.w / 2) * painter.camera.scale;
    painter.camera.y += (before.y - anchor.y) * painter.camera.scale;
  }
  countBelow();
  painter.request();
}

function countBelow() {
  state.below.clear();
  for (const item of found) {
    const box = item.rep;
    if (box && box !== item) state.below.set(box, (state.below.get(box) ?? 0) + 1);
  }
}

function toggle(item) {
  if (!item?.isScope || item.type === "model") return;
  if (!expanded.delete(item.key)) expanded.add(item.key);
  refresh(item);
  showPanel();
  saveAddress();
}

/** Opens everything around an item, and shows it. */
function reveal(item) {
  item = item.inlined ?? item;
  for (let at = item.parent; at; at = at.parent) expanded.add(at.key);
  refresh();
  select(item);
  painter.centre(item);
  painter.request();
}

function select(item) {
  state.selected = item && item.type !== "model" ? item : null;
  showPanel();
  painter.request();
  saveAddress();
}

// Search

function textOf(item) {
  if (item.searchText === undefined) {
    const parts = item.node
      ? [item.node.name, item.node.operator, item.node.symbol, ...parametersOf(item.node).map(p => p.name)]
      : [item.label, item.port?.symbol ?? ""];
    item.searchText = parts.join("\n").toLowerCase();
  }
  return item.searchText;
}

/** Finds the items whose name, operator or parameters have all of the words. */
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  found = words.length ? [...tree.items.values()].filter(item => words.every(word => textOf(item).includes(word))) : [];
  state.matches = new Set(found);
  current = -1;
  countBelow();
  showCount();
  painter.request();
  saveAddress();
}

function showCount() {
  const nothing = search.value.trim() ? "none" : "";
  $("matches").textContent = !found.length ? nothing : current < 0 ? `${found.length} found` : `${current + 1} of ${found.length}`;
}

function step(by) {
  if (!found.length) return;
  current = current < 0 && by < 0 ? found.length - 1 : (current + by + found.length) % found.length;
  showCount();
  reveal(found[current]);
}

// The panel

function element(tag, content = [], properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...[content].flat(Infinity).filter(part => part !== null && part !== undefined));
  return made;
}

function link(text, item) {
  if (!item) return text;
  return element("a", text, { href: "#", onclick: event => { event.preventDefault(); reveal(item); } });
}

function section(title, rows, numeric = -1) {
  if (!rows.length) return [];
  const look = (cell, i) => i === numeric ? "number" : i === 0 && /^\d+$/.test(cell) ? "index" : "";
  const cells = row => row.map((cell, i) => element("td", cell, { className: look(cell, i) }));
  const shown = rows.slice(0, LIST_LENGTH).map(row => element("tr", cells(row)));
  if (rows.length > LIST_LENGTH) shown.push(element("tr", element("td", `and ${rows.length - LIST_LENGTH} more`)));
  return [element("h3", title), element("table", element("tbody", shown))];
}

function code(text) {
  return element("code", text);
}

function showPanel() {
  const item = state.selected;
  const parts = !item ? overview() : item.node ? nodePanel(item) : item.port ? portPanel(item) : scopePanel(item);
  panel.replaceChildren(...parts.flat(Infinity));
  panel.scrollTop = 0;
}

function path(item) {
  const links = [];
  for (let at = item.parent; at && at.type !== "model"; at = at.parent) links.unshift(link(at.label, at), " / ");
  return element("p", links, { className: "faint" });
}

function itemOfNode(node) {
  return tree.items.get(`node:${node.symbol}`);
}

/** What an operand is: a link, a parameter, or a constant. */
function operand(symbol) {
  const value = resolved(symbol) ?? symbol;
  const parameter = parameterOf.get(value);
  if (parameter) return [[`parameter ${parameter.name}`], [code(`${parameter.dtype}[${parameter.shape.join(", ")}]`), ` ${size(parameter.bytes)}`]];
  const node = nodeOf.get(value);
  if (node?.kind === "constant") return ["constant", code(shorten(JSON.stringify(node.value)))];
  if (node) return [link(`${node.operator}`, tree.source(symbol)), code(node.type)];
  const input = inputOf.get(value);
  if (input) return [link(`input ${input.name}`, tree.items.get(`input:${value}`)), code(input.type)];
  const graph = data.graphs.find(graph => graph.name === value);
  return graph ? [link(`function ${graph.name}`, tree.scopes[graph.scope]), ""] : [value, ""];
}

function shorten(text) {
  return text.length > 160 ? `${text.slice(0, 159)}…` : text;
}

function readersPanel(symbol) {
  const rows = realReaders(symbol).map(node => [link(node.operator, itemOfNode(node)), code(node.name)]);
  return section(`Read by ${plural(rows.length, "node")}`, rows);
}

function nodePanel(item) {
  const { node } = item;
  const collective = node.kind === "collective";
  const effects = data.effects.filter(effect => effect.node === node.symbol);
  const called = data.graphs.find(graph => graph.name === node.calls);
  const attributes = Object.entries(node.attributes ?? {}).map(([name, value]) => [name, code(shorten(JSON.stringify(value)))]);
  return [
    element("h2", node.operator, { className: collective ? "collective" : "" }),
    path(item),
    element("p", [code(node.type)]),
    element("p", [node.name || node.symbol], { className: "faint" }),
    called ? element("p", ["calls ", link(called.name, tree.scopes[called.scope])]) : [],
    effects.map(effect => element("p", `effect on ${effect.kind}${effect.parameter ? `, parameter ${effect.parameter}` : ""}`)),
    section("Operands", node.inputs.map((symbol, i) => [String(i), ...operand(symbol)])),
    readersPanel(node.symbol),
    parameterSection(parametersOf(node)),
    section("Attributes", attributes),
    section("Symbol", [[code(node.symbol)]]),
  ];
}

function portPanel(item) {
  const { port } = item;
  return [
    element("h2", port.name),
    element("p", [`${item.type} of ${data.graphs[item.graph].name}`], { className: "faint" }),
    element("p", code(port.type)),
    item.type === "input" ? readersPanel(port.symbol) : section("Value", [operand(port.symbol)]),
  ];
}

function parameterSection(parameters) {
  const bytes = parameters.reduce((sum, p) => sum + p.bytes, 0);
  const rows = parameters.map(p => [p.name, code(`${p.dtype}[${p.shape.join(", ")}]`), size(p.bytes)]);
  return section(`${plural(parameters.length, "parameter")}, ${size(bytes)}`, rows, 2);
}

function operatorSection(operators) {
  const rows = Object.entries(operators).sort((a, b) => b[1] - a[1]).map(([op, count]) => [op, String(count)]);
  return section("Operators", rows, 1);
}

function scopePanel(item) {
  const { operations, collectives, operators, outputs, output_count } = contents(item);
  const more = output_count > outputs.length ? [[`and ${output_count - outputs.length} more`]] : [];
  const children = item.children.filter(child => child.isScope);
  return [
    element("h2", item.label),
    path(item),
    element("p", [plural(operations, "node"), collectives ? element("span", `, ${plural(collectives, "collective")}`, { className: "collective" }) : null]),
    element("p", element("button", item.open ? "Collapse" : "Expand", { onclick: () => toggle(item) })),
    section("Outputs", [...outputs.map(type => [code(type)]), ...more]),
    section("Scopes", children.map(child => [link(child.label, child), plural(contents(child).operations, "node")]), 1),
    operatorSection(operators),
    collectiveSection(data.collectives.filter(c => isWithin(tree.items.get(`node:${c.node}`), item))),
    parameterSection(item.parameters),
  ];
}

function collectiveSection(collectives) {
  const row = (c, i) => [
    `${i + 1}`, [link(`${c.operator}${c.reduction ? ` ${c.reduction}` : ""}`, tree.items.get(`node:${c.node}`)), element("br"), c.group ?? ""],
    c.bytes === null ? "?" : size(c.bytes),
  ];
  return section("Collectives, in order", collectives.map(row), 2);
}

function overview() {
  const operators = Object.fromEntries(data.operators.map(({ operator, count }) => [operator, count]));
  const port = kind => (p, i) => [link(p.name, tree.items.get(kind === "input" ? `input:${p.symbol}` : `output:0:${i}`)), code(p.type)];
  const effects = data.effects.map(e => [link(e.operator, tree.items.get(`node:${e.node}`)), e.parameter ?? e.kind]);
  return [
    element("h2", $("file").textContent),
    element("p", [data.name], { className: "faint" }),
    element("p", `MindSpore ${data.model_version || "?"}, format ${data.format_version || "?"}, feature level ${data.level}`),
    element("p", `${plural(data.nodes - data.constants, "node")}, ${plural(data.parameters.length, "parameter")} of ${size(data.parameter_bytes)}`),
    section("Inputs", data.inputs.map(port("input"))),
    section("Outputs", data.outputs.map(port("output"))),
    collectiveSection(data.collectives),
    section("Effects", effects),
    section("Functions", data.functions.map((f, i) => [link(f.name, tree.scopes[data.graphs[i + 1].scope]), plural(f.nodes, "node")]), 1),
    legend(),
    operatorSection(operators),
    section("Warnings", data.warnings.map(warning => [warning])),
  ];
}

function legend() {
  const kinds = [["collective", "collective: exchange with other ranks"], ["contraction", "product, convolution, attention"],
    ["reduction", "normalisation, pooling, reduction"], ["elementwise", "arithmetic, activation"],
    ["movement", "shape, selection, tuples"], ["state", "writes state"], ["control", "calls and branches"],
    ["order", "order of effects only"], ["port", "input, output"], ["other", "anything else"]];
  const swatch = ([kind, text]) => {
    const square = element("span", [], { className: "swatch" });
    square.style.background = `var(--${kind})`;
    return element("li", [square, text]);
  };
  const keys = [["/", "search"], ["n N", "next, previous match"], ["Enter", "open or close the selected scope"],
    ["arrows", "follow edges, go to neighbours"], ["u", "select the scope around"], ["e c", "expand, collapse"],
    ["f", "fit to the window"], ["+ -", "zoom"], ["o", "nodes that only order effects"], ["Esc", "select nothing"]];
  const key = ([names, text]) => element("tr", [element("td", names.split(" ").map(name => [element("kbd", name), " "])), element("td", text)]);
  return [element("h3", "Legend"), element("ul", kinds.map(swatch)), element("h3", "Keys"),
    element("table", element("tbody", keys.map(key))),
    element("p", "Drag to move, wheel to zoom, double click to open or close a scope. Selected: green edges come in, orange ones go out.", { className: "faint" })];
}

// The address: #search=...&select=...&open=... is the state, for links and going back

function saveAddress() {
  const fields = new URLSearchParams();
  if (search.value.trim()) fields.set("search", search.value);
  if (state.selected) fields.set("select", state.selected.key);
  if (tree.showOrder) fields.set("order", "1");
  try {
    history.replaceState(null, "", `#${fields}`);
  } catch {
    // Some browsers limit how often; the address is a convenience.
  }
}

function loadAddress() {
  const fields = new URLSearchParams(location.hash.slice(1));
  if (fields.get("order")) setOrder(true);
  const selected = tree.items.get(fields.get("select") ?? "");
  if (fields.get("search")) {
    search.value = fields.get("search");
    find(search.value);
    if (!selected) step(1);
  }
  if (selected) reveal(selected);
}

// Commands

function setOrder(show) {
  const key = state.selected?.key;
  tree = new Tree(show);
  $("order").setAttribute("aria-pressed", String(show));
  refresh();
  find(search.value);
  select(tree.items.get(key) ?? null);
}

function expand() {
  const closed = [], selected = state.selected;
  const visit = item => {
    if (item.isScope && !item.open) closed.push(item);
    if (item.open) item.children.forEach(visit);
  };
  visit(selected?.isScope ? selected : tree.root);
  closed.forEach(item => expanded.add(item.key));
  refresh(selected ?? undefined);
  showPanel();
  if (!selected) fitAll();
}

function collapse() {
  const selected = state.selected;
  const scope = selected?.open ? selected : selected?.parent;
  if (scope && scope.type !== "model") {
    const close = item => { expanded.delete(item.key); item.children.filter(child => child.isScope).forEach(close); };
    close(scope);
    refresh(scope);
    select(scope);
  } else {
    expanded = firstExpanded();
    refresh();
    fitAll();
  }
}

function fitAll() {
  painter.fit(tree.root);
  painter.request();
}

/** The nearest visible box along an edge, or beside. */
function neighbour(direction) {
  const { selected } = state;
  if (!selected) return tree.root.children[0];
  if (direction === "left" || direction === "right") {
    const boxes = selected.parent.children.filter(item => item !== selected && Math.abs(item.y - selected.y) < selected.h / 2 + item.h / 2);
    const beside = boxes.filter(item => direction === "left" ? item.x < selected.x : item.x > selected.x);
    return beside.sort((a, b) => Math.abs(a.x - selected.x) - Math.abs(b.x - selected.x))[0];
  }
  if (selected.open && direction === "down") return selected.children[0];
  const inside = item => isWithin(item, selected);
  const [from, to] = direction === "down" ? [0, 1] : [1, 0];
  return tree.edges.find(edge => inside(edge[from]) && !inside(edge[to]))?.[to].rep;
}

function go(direction) {
  const item = neighbour(direction);
  if (!item) return;
  select(item);
  painter.centre(item);
  painter.request();
}

function zoomBy(factor) {
  painter.zoom(factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
  painter.request();
}

const COMMANDS = {
  "/": () => search.focus(), "n": () => step(1), "N": () => step(-1), "f": fitAll, "e": expand, "c": collapse,
  "o": () => setOrder(!tree.showOrder), "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8),
  "Enter": () => toggle(state.selected), " ": () => toggle(state.selected), "Escape": () => select(null), "?": () => select(null),
  "u": () => state.selected && select(state.selected.parent), "ArrowUp": () => go("up"), "ArrowDown": () => go("down"),
  "ArrowLeft": () => go("left"), "ArrowRight": () => go("right"),
};

function listenToKeys() {
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === search || event.target.closest("button, a")) return;
    const command = COMMANDS[event.key];
    if (!command) return;
    event.preventDefault();
    command();
  });
  search.addEventListener("input", () => find(search.value));
  search.addEventListener("keydown", event => {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") canvas.focus();
  });
  const buttons = { next: () => step(1), previous: () => step(-1), expand, collapse, fit: fitAll, help: () => select(null),
    order: () => setOrder(!tree.showOrder), file: () => select(null) };
  for (const [id, command] of Object.entries(buttons)) $(id).addEventListener("click", command);
}

function listenToPointers() {
  const down = new Map();
  let moved = 0;
  const at = event => ({ x: event.offsetX, y: event.offsetY });
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus();
    down.set(event.pointerId, at(event));
    moved = 0;
  });
  canvas.addEventListener("pointermove", event => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const now = at(event), other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const distance = point => Math.hypot(point.x - other.x, point.y - other.y);
      painter.zoom(distance(now) / Math.max(1, distance(before)), other.x, other.y);
    } else {
      painter.camera.x += now.x - before.x;
      painter.camera.y += now.y - before.y;
    }
    moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    canvas.classList.toggle("moving", moved > 4);
    down.set(event.pointerId, now);
    painter.request();
  });
  const up = event => {
    if (down.delete(event.pointerId) && moved <= 4 && event.type === "pointerup") click(at(event));
    canvas.classList.remove("moving");
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("dblclick", event => toggle(painter.hit(tree, event.offsetX, event.offsetY)));
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    painter.zoom(Math.exp(-event.deltaY * lines / (event.ctrlKey ? 150 : 600)), event.offsetX, event.offsetY);
    painter.request();
  }, { passive: false });
}

/** A click on the sign of a scope opens or closes it; elsewhere it selects. */
function click({ x, y }) {
  const item = painter.hit(tree, x, y);
  const { camera } = painter;
  const inX = item && (x - camera.x) / camera.scale - item.x, inY = item && (y - camera.y) / camera.scale - item.y;
  const sign = item?.isScope && inY < 28 && (item.open ? inX < 24 : inX > item.w - 30);
  if (sign) toggle(item);
  select(item);
}

function start() {
  painter.resize();
  refresh();
  painter.fit(tree.root, READABLE);
  showPanel();
  listenToKeys();
  listenToPointers();
  new ResizeObserver(() => {
    painter.resize();
    painter.draw(tree, state);
  }).observe(canvas);
  loadAddress();
  requestAnimationFrame(() => performance.mark("drawn"));
}

start();
