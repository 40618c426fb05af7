// Layered layout of what is visible. Every expanded scope is laid out by itself, innermost first; an edge that
// crosses the border of a scope goes through a port on that border.

const GAP_X = 22, GAP_Y = 34, PAD = 16, HEAD = 30;
/** Points of long edges in one scope; edges beyond that go straight. */
const MAX_BENDS = 6000;
const ORDER_SWEEPS = 8, PLACE_SWEEPS = 12;

/** Lays out the tree; `expanded` holds the keys of open scopes, `measure` sets size and text of closed boxes. */
function layout(tree, expanded, measure) {
  const containers = [];
  const visit = (item, rep) => {
    item.open = item.isScope && !rep && (item.type === "model" || expanded.has(item.key));
    item.rep = rep ?? (item.open ? null : item);
    if (item.open) {
      Object.assign(item, { links: new Map(), inPorts: new Map(), outPorts: new Map(), routes: [] });
      containers.push(item);
    } else if (!rep) {
      measure(item);
    }
    for (const child of item.children) visit(child, rep ?? (item.open ? null : item));
  };
  visit(tree.root, null);
  distribute(tree.edges);
  for (const container of containers.reverse()) arrange(container);
  absolute(tree.root, 0, 0);
  return containers.reduce((count, container) => count + container.children.length, 0);
}

/** Gives each visible edge to the scopes that it goes through. */
function distribute(edges) {
  const seen = new Set();
  for (const [source, target] of edges) {
    const u = source.rep, v = target.rep;
    const key = u.id * 4194304 + v.id;
    if (u === v || seen.has(key)) continue;
    seen.add(key);
    let a = u, b = v;
    while (a.parent !== b.parent) {
      if (a.parent.depth >= b.parent.depth) {
        addLink(a.parent, `out ${u.id}`, a, null, u, v);
        a = a.parent;
      } else {
        addLink(b.parent, `in ${u.id} ${b.id}`, null, b, u, v);
        b = b.parent;
      }
    }
    addLink(a.parent, `${u.id} ${a.id} ${b.id}`, a, b, u, v);
  }
}

function addLink(container, key, from, to, source, target) {
  const known = container.links.get(key);
  if (known) known.targets.add(target);
  else container.links.set(key, { from, to, source, targets: new Set([target]) });
}

/** Places the children of an open scope and routes its edges. */
function arrange(container) {
  const { vertices, links } = verticesOf(container);
  rank(vertices, links);
  const layers = split(vertices, links);
  sortLayers(layers);
  placeAcross(layers);
  placeDown(container, layers);
  route(container, links);
}

function verticesOf(container) {
  const of = new Map();
  const vertex = (item, port) => ({
    item, port, w: item ? item.w : 4, h: item ? item.h : 0, rank: 0, before: [], after: [], x: 0, y: 0,
  });
  for (const child of container.children) of.set(child, vertex(child, null));
  const vertices = [...of.values()], links = [];
  const port = (kind, source) => {
    const key = `${kind} ${source.id}`;
    if (!of.has(key)) {
      of.set(key, vertex(null, { kind, source }));
      vertices.push(of.get(key));
    }
    return of.get(key);
  };
  for (const link of container.links.values()) {
    const from = link.from ? of.get(link.from) : port("in", link.source);
    const to = link.to ? of.get(link.to) : port("out", link.source);
    links.push(Object.assign(link, { a: from, b: to, bends: [], back: false }));
  }
  return { vertices, links };
}

/** Longest paths from the top. Ports of entry are above everything, those of exit below. */
function rank(vertices, links) {
  const inner = vertices.filter(v => v.item), position = new Map();
  const next = new Map(inner.map(v => [v, []])), missing = new Map(inner.map(v => [v, 0]));
  for (const { a, b } of links) {
    if (a.item && b.item) {
      next.get(a).push(b);
      missing.set(b, missing.get(b) + 1);
    }
  }
  const left = new Set(inner);
  while (left.size) {
    let best = null;
    for (const v of left) {
      best ??= v;
      if (missing.get(v) <= 0) {
        best = v;
        break;
      }
    }
    left.delete(best);
    position.set(best, position.size);
    for (const v of next.get(best)) missing.set(v, missing.get(v) - 1);
  }
  for (const link of links) {
    link.back = Boolean(link.a.item && link.b.item && position.get(link.a) >= position.get(link.b));
  }
  const forward = links.filter(link => !link.back);
  const first = vertices.some(v => v.port?.kind === "in") ? 1 : 0;
  for (const v of inner) v.rank = first;
  const outgoing = new Map(inner.map(v => [v, []])), hasBefore = new Set();
  for (const { a, b } of forward) {
    if (a.item) outgoing.get(a).push(b);
    hasBefore.add(b);
  }
  const inOrder = [...position.keys()];
  for (const a of inOrder) for (const b of outgoing.get(a)) if (b.item) b.rank = Math.max(b.rank, a.rank + 1);
  for (const a of inOrder.reverse()) {
    const readers = outgoing.get(a).filter(b => b.item);
    if (!hasBefore.has(a) && readers.length) a.rank = Math.max(a.rank, Math.min(...readers.map(b => b.rank)) - 1);
  }
  const last = inner.reduce((most, v) => Math.max(most, v.rank), first) + 1;
  for (const v of vertices) if (v.port) v.rank = v.port.kind === "in" ? 0 : last;
}

/** Layers with bends of long edges in them. */
function split(vertices, links) {
  const layers = [];
  const put = v => (layers[v.rank] ??= []).push(v);
  vertices.forEach(put);
  for (let r = 0; r < layers.length; r++) layers[r] ??= [];
  let budget = MAX_BENDS;
  const spans = links.filter(link => !link.back).sort((p, q) => (p.b.rank - p.a.rank) - (q.b.rank - q.a.rank));
  for (const link of spans) {
    const count = link.b.rank - link.a.rank - 1;
    let at = link.a;
    if (count > 0 && (budget -= count) >= 0) {
      for (let r = link.a.rank + 1; r < link.b.rank; r++) {
        const bend = { item: null, port: null, bend: true, w: 6, h: 0, rank: r, before: [], after: [], x: 0, y: 0 };
        join(at, bend, link);
        put(bend);
        link.bends.push(bend);
        at = bend;
      }
    }
    join(at, link.b, link);
  }
  return layers;
}

function join(a, b, link) {
  const weight = a.bend && b.bend ? 8 : a.bend || b.bend ? 2 : 1;
  a.after.push({ other: b, own: offset(a, link, "outPorts"), there: offset(b, link, "inPorts"), weight });
  b.before.push({ other: a, own: offset(b, link, "inPorts"), there: offset(a, link, "outPorts"), weight });
}

/** Where an edge meets a box, from the middle of the box. */
function offset(vertex, link, ports) {
  const x = vertex.item?.open ? vertex.item[ports].get(link.source) : undefined;
  return x === undefined ? 0 : x - vertex.w / 2;
}

/** Orders layers by the means of their neighbours, to have few crossings. */
function sortLayers(layers) {
  for (const layer of layers) layer.forEach((v, i) => { v.at = i; });
  const sort = (layer, side) => {
    for (const v of layer) {
      const near = v[side];
      v.mean = near.length ? near.reduce((sum, n) => sum + n.other.at + n.there / 4000, 0) / near.length : v.at;
    }
    layer.sort((p, q) => p.mean - q.mean || p.at - q.at);
    layer.forEach((v, i) => { v.at = i; });
  };
  for (let sweep = 0; sweep < ORDER_SWEEPS; sweep++) {
    if (sweep % 2 === 0) for (let r = 1; r < layers.length; r++) sort(layers[r], "before");
    else for (let r = layers.length - 2; r >= 0; r--) sort(layers[r], "after");
  }
}

function placeAcross(layers) {
  for (const layer of layers) {
    let x = 0;
    for (const v of layer) {
      v.x = x + v.w / 2;
      x += v.w + GAP_X;
    }
    for (const v of layer) v.x -= x / 2;
  }
  for (let sweep = 0; sweep < PLACE_SWEEPS; sweep++) {
    const sides = sweep >= PLACE_SWEEPS - 4 ? ["before", "after"] : [sweep % 2 ? "after" : "before"];
    const order = sweep % 2 ? [...layers].reverse() : layers;
    for (const layer of order) pull(layer, sides);
  }
}

/** Moves a layer to where its neighbours want it, in order and without overlap: isotonic regression. */
function pull(layer, sides) {
  const blocks = [];
  let shift = 0;
  layer.forEach((v, i) => {
    if (i > 0) shift += layer[i - 1].w / 2 + v.w / 2 + (v.bend && layer[i - 1].bend ? 8 : GAP_X);
    let weight = 0.01, sum = 0.01 * v.x;
    for (const side of sides) {
      for (const near of v[side]) {
        weight += near.weight;
        sum += near.weight * (near.other.x + near.there - near.own);
      }
    }
    if (v.item?.open) weight += weight / 2; // toward the axis, or chains of open scopes would drift away
    v.shift = shift;
    let block = { weight, sum: sum - weight * shift, members: [v] };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight > block.sum / block.weight) {
      const last = blocks.pop();
      block = { weight: last.weight + block.weight, sum: last.sum + block.sum, members: last.members.concat(block.members) };
    }
    blocks.push(block);
  });
  for (const block of blocks) for (const v of block.members) v.x = block.sum / block.weight + v.shift;
}

function placeDown(container, layers) {
  const head = container.type === "model" ? 0 : HEAD;
  let left = Infinity, right = -Infinity, y = head + PAD;
  for (const layer of layers) {
    for (const v of layer) {
      left = Math.min(left, v.x - v.w / 2);
      right = Math.max(right, v.x + v.w / 2);
    }
  }
  if (left > right) left = right = 0;
  const room = Math.max(right - left, container.type === "model" ? 0 : 120);
  const margin = PAD + (room - (right - left)) / 2 - left;
  for (const layer of layers) {
    const height = layer.reduce((most, v) => Math.max(most, v.h), 0);
    for (const v of layer) {
      v.x += margin;
      v.y = y;
      v.height = height;
      if (v.item) Object.assign(v.item, { dx: v.x - v.w / 2, dy: y + (height - v.h) / 2 });
      if (v.port) container[`${v.port.kind}Ports`].set(v.port.source, v.x);
    }
    y += height + (layer.some(v => v.item) ? GAP_Y : PAD);
  }
  container.w = room + 2 * PAD;
  container.h = Math.max(y - GAP_Y + PAD, head + 2 * PAD);
}

/** Points of the edges, from the top of the scope or a box to the bottom of the scope or another. */
function route(container, links) {
  for (const { a, b, bends, source, targets, back } of links) {
    const start = a.item ? [a.x + offset(a, { source }, "outPorts"), a.item.dy + a.h] : [a.x, 0];
    const end = b.item ? [b.x + offset(b, { source }, "inPorts"), b.item.dy] : [b.x, container.h];
    const points = [start];
    for (const bend of bends) points.push([bend.x, bend.y], [bend.x, bend.y + bend.height]);
    points.push(end);
    container.routes.push({ points, source, targets, back });
  }
}

function absolute(item, x, y) {
  Object.assign(item, { x, y });
  if (item.open) for (const child of item.children) absolute(child, x + child.dx, y + child.dy);
}
