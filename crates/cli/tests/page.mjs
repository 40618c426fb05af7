// Checks the layout of a page that `mslite inspect --html` has written: node page.mjs PAGE SOURCES
// Prints what it has counted as JSON; an assertion that fails ends it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [page, sources] = process.argv.slice(2);
const text = readFileSync(page, "utf8").split('id="data">')[1].split("</script>")[0];
const program = ["model.js", "layout.js"].map(file => readFileSync(join(sources, file), "utf8")).join("\n");
const document = { getElementById: () => ({ textContent: text }) };
const { Tree, layout, contents } = new Function("document", `${program}; return { Tree, layout, contents };`)(document);

const measure = item => Object.assign(item, { w: 60 + item.label.length, h: 40 });
const scopesOf = tree => [...tree.items.values()].filter(item => item.isScope).map(item => item.key);

function checkBoxes(item) {
  for (const [i, child] of item.children.entries()) {
    assert(child.x >= item.x && child.x + child.w <= item.x + item.w + 0.01, `${child.key} is within ${item.key}`);
    assert(child.y >= item.y && child.y + child.h <= item.y + item.h + 0.01, `${child.key} is within ${item.key}`);
    for (const other of item.children.slice(i + 1)) {
      const apart = child.x + child.w <= other.x || other.x + other.w <= child.x
        || child.y + child.h <= other.y || other.y + other.h <= child.y;
      assert(apart, `${child.key} and ${other.key} overlap`);
    }
    if (child.open) checkBoxes(child);
  }
}

/** Every edge is drawn in the scope that has both ends, and lines go down unless they go back. */
function checkRoutes(tree) {
  let back = 0;
  const routes = [...tree.items.values()].filter(item => item.open).flatMap(item => item.routes);
  for (const route of routes) {
    back += route.back ? 1 : 0;
    const heights = route.points.map(([, y]) => y);
    if (!route.back) assert(heights.every((y, i) => i === 0 || y >= heights[i - 1] - 0.01), "a line goes up");
    assert(heights.every(Number.isFinite));
  }
  for (const [source, target] of tree.edges.map(([a, b]) => [a.rep, b.rep]).filter(([a, b]) => a !== b)) {
    assert(routes.some(route => route.source === source && route.targets.has(target)), `${source.key} -> ${target.key}`);
  }
  return back;
}

function check(showOrder) {
  const tree = new Tree(showOrder);
  layout(tree, new Set(), measure);
  checkBoxes(tree.root);
  checkRoutes(tree);
  layout(tree, new Set(scopesOf(tree)), measure);
  checkBoxes(tree.root);
  const items = [...tree.items.values()];
  return { nodes: items.filter(item => item.node).length, edges: tree.edges.length, back: checkRoutes(tree) };
}

assert(contents(new Tree(false).scopes[0]).operations >= 0);
console.log(JSON.stringify({ plain: check(false), order: check(true) }));
