// Drawing. Everything is in the units of the layout; `camera` maps them to the window.

const FONT = 'system-ui, "Segoe UI", Roboto, sans-serif';
const LEAST_SCALE = 0.02, MOST_SCALE = 3;
const MAX_WIDTH = 250;

class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.camera = { x: 0, y: 0, scale: 1 };
    this.widths = new Map();
    this.readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.readColours();
      this.request?.();
    });
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.colour = name => style.getPropertyValue(`--${name}`).trim();
    const names = ["text", "faint", "edge", "scope", "scope-line", "surface", "select", "in", "out", "match", "on-kind",
      "collective", "contraction", "reduction", "elementwise", "movement", "state", "control", "order", "port", "other"];
    this.colours = Object.fromEntries(names.map(name => [name, this.colour(name)]));
  }

  resize() {
    const ratio = devicePixelRatio || 1, { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    this.ratio = ratio;
  }

  textWidth(text, font) {
    const key = font + text;
    let width = this.widths.get(key);
    if (width === undefined) {
      this.context.font = font;
      this.widths.set(key, width = this.context.measureText(text).width);
    }
    return width;
  }

  fitted(text, font, width) {
    text = text.length > 80 ? `${text.slice(0, 79)}…` : text;
    if (this.textWidth(text, font) <= width) return text;
    let end = Math.floor(text.length * width / this.textWidth(text, font));
    while (end > 1 && this.textWidth(`${text.slice(0, end)}…`, font) > width) end--;
    return `${text.slice(0, end)}…`;
  }

  /** Text and size of a closed box. */
  measure(item) {
    if (item.lines.length) return;
    const lines = boxLines(item);
    item.lines = lines.map((text, i) => {
      const font = i === 0 ? `600 13px ${FONT}` : `11px ${FONT}`;
      return { text: this.fitted(text, font, MAX_WIDTH - 24), font };
    });
    const badge = item.isScope ? 28 : 0;
    const widest = Math.max(...item.lines.map(line => this.textWidth(line.text, line.font)));
    item.w = Math.max(item.isScope ? 120 : 76, Math.ceil(widest) + 24 + badge);
    item.h = 12 + 16 * item.lines.length + (item.isScope ? 6 : 0);
  }

  /** Draws the tree. `state`: selected item, set of matches, counts of matches below closed scopes. */
  draw(tree, state) {
    const { context: c, camera, ratio } = this;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.setTransform(ratio * camera.scale, 0, 0, ratio * camera.scale, ratio * camera.x, ratio * camera.y);
    const { scale } = camera;
    this.window = { left: -camera.x / scale, top: -camera.y / scale, right: (width - camera.x) / scale, bottom: (height - camera.y) / scale };
    this.state = state;
    this.selectedRoutes = [];
    c.textBaseline = "middle";
    this.container(tree.root);
    for (const [item, route, colour] of this.selectedRoutes) this.route(item, route, colour, 2.5);
  }

  isOutside(item) {
    const { left, top, right, bottom } = this.window;
    return item.x > right || item.y > bottom || item.x + item.w < left || item.y + item.h < top;
  }

  container(item) {
    if (this.isOutside(item)) return;
    if (item.type !== "model") this.frame(item);
    const { selected } = this.state, { colours } = this;
    const width = Math.max(1, 0.6 / this.camera.scale);
    for (const route of item.routes) {
      if (selected && route.source === selected) this.selectedRoutes.push([item, route, colours.out]);
      else if (selected && route.targets.has(selected)) this.selectedRoutes.push([item, route, colours.in]);
      else this.route(item, route, colours.edge, width);
    }
    for (const child of item.children) {
      if (child.open) this.container(child);
      else this.box(child);
    }
  }

  frame(item) {
    const { context: c, colours, state } = this;
    const depth = item.depth % 2;
    c.beginPath();
    c.roundRect(item.x, item.y, item.w, item.h, 10);
    c.fillStyle = depth ? colours.scope : colours.surface;
    c.fill();
    this.outline(item, colours["scope-line"], 1);
    if (this.camera.scale * 13 < 4) return;
    c.fillStyle = item === state.selected ? colours.select : colours.text;
    c.font = `600 13px ${FONT}`;
    c.fillText(this.fitted(`− ${item.label}`, c.font, item.w - 20), item.x + 10, item.y + 16);
  }

  outline(item, colour, width) {
    const { context: c, colours, state } = this;
    const matches = state.matches.has(item), selected = item === state.selected;
    c.strokeStyle = selected ? colours.select : matches ? colours.match : colour;
    c.lineWidth = selected || matches ? Math.max(3, 2 / this.camera.scale) : width;
    c.stroke();
  }

  route(container, { points, back }, colour, width) {
    const { context: c } = this, { x, y } = container;
    const { left, top, right, bottom } = this.window;
    const ys = [points[0][1], points.at(-1)[1]], xs = points.map(point => point[0]);
    if (x + Math.min(...xs) > right + 50 || x + Math.max(...xs) < left - 50) return;
    if (y + Math.min(...ys) > bottom + 200 || y + Math.max(...ys) < top - 200) return;
    c.beginPath();
    c.moveTo(x + points[0][0], y + points[0][1]);
    for (let i = 1; i < points.length; i++) {
      const [px, py] = points[i - 1], [qx, qy] = points[i];
      const bow = back ? 60 : Math.max(6, Math.abs(qy - py) / 2);
      if (px === qx && !back) c.lineTo(x + qx, y + qy);
      else c.bezierCurveTo(x + px, y + py + bow, x + qx, y + qy - bow, x + qx, y + qy);
    }
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.setLineDash(back ? [6, 4] : []);
    c.stroke();
    c.setLineDash([]);
    if (this.camera.scale > 0.35 && points.at(-1)[1] !== container.h) this.arrow(x + points.at(-1)[0], y + points.at(-1)[1], colour);
  }

  arrow(x, y, colour) {
    const { context: c } = this;
    c.beginPath();
    c.moveTo(x, y);
    c.lineTo(x - 3.5, y - 7);
    c.lineTo(x + 3.5, y - 7);
    c.fillStyle = colour;
    c.fill();
  }

  box(item) {
    if (this.isOutside(item)) return;
    const { context: c, colours, camera } = this;
    const kind = item.node?.kind;
    if (item.isScope && camera.scale > 0.15) {
      c.beginPath();
      c.roundRect(item.x + 4, item.y + 4, item.w, item.h, 8);
      c.fillStyle = colours["scope-line"];
      c.fill();
    }
    c.beginPath();
    if (kind === "collective") octagon(c, item);
    else c.roundRect(item.x, item.y, item.w, item.h, item.node ? 6 : item.isScope ? 8 : item.h / 2);
    c.fillStyle = item.isScope ? colours.surface : colours[kind ?? "port"];
    c.fill();
    const collective = kind === "collective";
    this.outline(item, collective ? colours.text : colours["scope-line"], collective ? 2.5 : 1);
    if (camera.scale * 13 >= 4) this.boxText(item, collective);
    if (item.isScope) this.kindBar(item);
    this.badges(item);
  }

  /** The kinds of nodes in a closed scope, by their shares. */
  kindBar(item) {
    const { context: c, colours } = this;
    const kinds = [...kindsIn(item)].sort(), all = kinds.reduce((sum, [, count]) => sum + count, 0);
    let x = item.x + 12;
    for (const [kind, count] of kinds) {
      const width = (item.w - 24) * count / all;
      c.fillStyle = colours[kind];
      c.fillRect(x, item.y + item.h - 9, width, 5);
      x += width;
    }
  }

  boxText(item, collective) {
    const { context: c, colours } = this;
    item.lines.forEach((line, i) => {
      c.font = line.font;
      c.fillStyle = collective ? "#ffffff" : item.isScope && i ? colours.faint : item.node ? colours["on-kind"] : colours.text;
      const x = item.isScope ? item.x + 12 : item.x + (item.w - this.textWidth(line.text, line.font)) / 2;
      c.fillText(line.text, x, item.y + 15 + 16 * i);
    });
    if (item.isScope) {
      c.font = `600 15px ${FONT}`;
      c.fillStyle = colours.select;
      c.fillText("+", item.x + item.w - 20, item.y + 15);
    }
  }

  /** Collectives and matches in a closed scope. */
  badges(item) {
    if (!item.isScope) return;
    const { collectives } = contents(item), found = this.state.below.get(item);
    let x = item.x + item.w;
    if (collectives) x = this.badge(`⇄ ${collectives}`, x, item.y, this.colours.collective, "#ffffff") - 4;
    if (found) this.badge(`${found} found`, x, item.y, this.colours.match, "#1c2330");
  }

  badge(text, right, y, colour, ink) {
    const { context: c } = this, font = `600 11px ${FONT}`;
    const width = this.textWidth(text, font) + 12;
    c.beginPath();
    c.roundRect(right - width + 4, y - 9, width, 18, 9);
    c.fillStyle = colour;
    c.fill();
    c.font = font;
    c.fillStyle = ink;
    c.fillText(text, right - width + 10, y + 0.5);
    return right - width;
  }

  /** The item at a point of the window. */
  hit(tree, px, py) {
    const { camera } = this;
    const x = (px - camera.x) / camera.scale, y = (py - camera.y) / camera.scale;
    const has = item => x >= item.x && x <= item.x + item.w && y >= item.y && y <= item.y + item.h;
    let at = tree.root, found = null;
    while (at) {
      const child = at.children.find(has);
      found = child ?? found;
      at = child?.open ? child : null;
    }
    return found;
  }

  zoom(factor, px, py) {
    const { camera } = this;
    const scale = Math.min(MOST_SCALE, Math.max(LEAST_SCALE, camera.scale * factor));
    camera.x = px - (px - camera.x) * scale / camera.scale;
    camera.y = py - (py - camera.y) * scale / camera.scale;
    camera.scale = scale;
  }

  /** Shows an item as large as it fits; not larger than natural size, and not smaller than `least`. */
  fit(item, least = LEAST_SCALE) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min(1, (width - 32) / item.w, (height - 32) / item.h);
    this.camera.scale = Math.max(least, scale);
    this.camera.x = width / 2 - (item.x + item.w / 2) * this.camera.scale;
    this.camera.y = scale < least ? 16 - item.y * this.camera.scale : height / 2 - (item.y + item.h / 2) * this.camera.scale;
  }

  centre(item) {
    const { clientWidth: width, clientHeight: height } = this.canvas, { camera } = this;
    camera.scale = Math.max(camera.scale, 0.6);
    camera.x = width / 2 - (item.x + item.w / 2) * camera.scale;
    camera.y = height / 2 - (item.y + Math.min(item.h, height / camera.scale) / 2) * camera.scale;
  }
}

function octagon(c, { x, y, w, h }) {
  const cut = 9;
  c.moveTo(x + cut, y);
  for (const [px, py] of [[w - cut, 0], [w, cut], [w, h - cut], [w - cut, h], [cut, h], [0, h - cut], [0, cut]]) {
    c.lineTo(x + px, y + py);
  }
  c.closePath();
}

function boxLines(item) {
  if (item.node) {
    const lines = [item.label, item.node.type];
    const own = parametersOf(item.node);
    if (own.length) lines.push(`${own[0].name}${own.length > 1 ? ` +${own.length - 1}` : ""}`);
    if (item.node.kind === "collective" && item.node.attributes?.group) lines.push(String(item.node.attributes.group));
    return lines;
  }
  if (item.port) return [item.label, item.port.type];
  const { operations, parameters, parameter_bytes, outputs, output_count } = contents(item);
  const lines = [item.label, plural(operations, "node") + (parameters ? ` · ${size(parameter_bytes)}` : "")];
  if (outputs.length) lines.push(outputs[0] + (output_count > 1 ? ` +${output_count - 1}` : ""));
  return lines;
}
