"use strict";
// The graph as a tree of blocks (by module path), and which of its parts are visible.

const LARGEST_BLOCK = 48; // children of one block before they are put into ranges
const FIRST_VIEW = 26; // boxes of the first view
const MOST_BOXES = 400; // boxes that "expand all" shows

function readModel(data) {
  const nodes = data.nodes.map((node, index) => ({
    kind: "node",
    id: "n" + index,
    index,
    primitive: data.primitives[node.p],
    op: node.o,
    path: node.m,
    shape: node.s,
    params: node.q.map((i) => data.params[i]),
    first: index,
    count: 1,
  }));
  const edges = [];
  for (let i = 0; i < data.edges.length; i += 2) edges.push([data.edges[i], data.edges[i + 1]]);
  const root = blockTree(nodes);
  const blocks = [];
  each(root, (item) => {
    if (item.kind === "block") blocks.push(item);
  });
  return { data, nodes, edges, root, blocks, byId: index(root) };
}

function blockTree(nodes) {
  let made = 0;
  const block = (name, path, parent) => ({
    kind: "block", id: "b" + made++, name, path, parent, children: [], byName: new Map(), open: false,
  });
  const root = block("", "", null);
  for (const node of nodes) {
    let at = root;
    for (const part of node.path ? node.path.split(".") : []) {
      let next = at.byName.get(part);
      if (!next) {
        next = block(part, at.path ? at.path + "." + part : part, at);
        at.byName.set(part, next);
        at.children.push(next);
      }
      at = next;
    }
    at.children.push(node);
  }
  simplify(root);
  if (root.children.length === 1 && root.children[0].kind === "block") root.children = root.children[0].children;
  divide(root, block);
  finish(root, null, 0);
  root.open = true;
  return root;
}

// A block of one block is one block; one of at most two nodes is no block.
function simplify(block) {
  const kept = [];
  for (const child of block.children) {
    if (child.kind === "node") {
      kept.push(child);
      continue;
    }
    simplify(child);
    const only = child.children.length === 1 ? child.children[0] : null;
    if (only && only.kind === "block") {
      only.name = child.name + "." + only.name;
      kept.push(only);
    } else if (child.children.length <= 2 && child.children.every((c) => c.kind === "node")) {
      kept.push(...child.children);
    } else {
      kept.push(child);
    }
  }
  block.children = kept;
}

// Very many children are put into ranges, so that every view stays readable.
function divide(block, make) {
  for (const child of block.children) if (child.kind === "block") divide(child, make);
  while (block.children.length > LARGEST_BLOCK) {
    const ranges = [];
    const size = Math.max(8, Math.ceil(Math.sqrt(block.children.length)));
    for (let i = 0; i < block.children.length; i += size) {
      const part = block.children.slice(i, i + size);
      const range = make(label(part[0], block) + " … " + label(part[part.length - 1], block), block.path, block);
      range.isRange = true;
      range.children = part;
      ranges.push(part.length > 1 ? range : part[0]);
    }
    block.children = ranges;
  }
}

function label(item, block) {
  if (item.kind === "block") return item.isRange ? item.name.split(" … ")[0] : item.name;
  return relative(item.path, block.path) || item.primitive.name;
}

function relative(path, base) {
  return base && (path === base || path.startsWith(base + ".")) ? path.slice(base.length + 1) : path;
}

function finish(item, parent, depth) {
  item.parent = parent;
  item.depth = depth;
  if (item.kind === "node") {
    item.name = relative(item.path, parent.path);
    return item;
  }
  delete item.byName;
  if (/^\d/.test(item.name) && !item.isRange && parent && parent.path) {
    item.name = parent.path.split(".").pop() + "." + item.name; // an index alone says little
  }
  item.types = new Map();
  item.params = [];
  item.count = 0;
  for (const child of item.children) {
    finish(child, item, depth + 1);
    item.count += child.count;
    item.params = item.params.concat(child.params);
    const counts = child.kind === "node" ? [[child.primitive, 1]] : child.types;
    for (const [type, n] of counts) item.types.set(type, (item.types.get(type) || 0) + n);
  }
  item.first = Math.min(...item.children.map((c) => c.first));
  item.children.sort((a, b) => a.first - b.first);
  return item;
}

function each(item, visit) {
  visit(item);
  if (item.kind === "block") for (const child of item.children) each(child, visit);
}

function index(root) {
  const found = new Map();
  each(root, (item) => found.set(item.id, item));
  return found;
}

function ancestors(item) {
  const found = [];
  for (let at = item.parent; at; at = at.parent) found.push(at);
  return found;
}

// Items on view: boxes (nodes and closed blocks) and frames (open blocks), in the order of the graph.
function visible(model) {
  const boxes = [];
  const frames = [];
  const walk = (item) => {
    if (item.kind === "block" && item.open) {
      if (item.parent) frames.push(item);
      item.children.forEach(walk);
    } else {
      boxes.push(item);
    }
  };
  walk(model.root);
  return { boxes, frames };
}

// The box that stands for each node of the graph, and the edges between boxes with how many each stands for.
function visibleEdges(model, boxes) {
  const owner = new Array(model.nodes.length);
  for (const box of boxes) each(box, (item) => item.kind === "node" && (owner[item.index] = box));
  const found = new Map();
  for (const [source, target] of model.edges) {
    const a = owner[source];
    const b = owner[target];
    if (a === b) continue;
    const key = a.id + ">" + b.id;
    const edge = found.get(key) || { id: key, source: a, target: b, count: 0 };
    edge.count += 1;
    found.set(key, edge);
  }
  return [...found.values()];
}

// Open level after level while no more than `most` boxes come into view; true if nothing stays closed.
function openLevels(model, most) {
  for (;;) {
    const { boxes } = visible(model);
    const closed = boxes.filter((box) => box.kind === "block");
    if (!closed.length) return true;
    const more = closed.reduce((sum, block) => sum + block.children.length - 1, 0);
    if (boxes.length + more <= most) {
      closed.forEach((block) => (block.open = true));
      continue;
    }
    // Not all fit: open those of the level that do, in order, if they are more than the first few.
    let room = most - boxes.length;
    if (most < MOST_BOXES) return false;
    for (const block of closed) {
      room -= block.children.length - 1;
      if (room < 0) return false;
      block.open = true;
    }
  }
}

function closeAll(model) {
  for (const block of model.blocks) block.open = block === model.root;
}

function status(params) {
  const kinds = new Set(params.map((p) => p.k).filter(Boolean));
  if (!kinds.size) return "";
  return kinds.size > 1 ? "mixed" : [...kinds][0];
}

function values(params) {
  return params.reduce((sum, p) => sum + (p.t ? 0 : p.e), 0);
}

function short(number) {
  for (const [limit, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (number >= limit) return Number((number / limit).toPrecision(3)) + unit;
  }
  return String(number);
}

function plural(count, one, many) {
  return count.toLocaleString("en") + " " + (count === 1 ? one : many || one + "s");
}

function sizes(p) {
  return p.s === null ? plural(p.e, "value") : p.s.join("×") || "scalar";
}
