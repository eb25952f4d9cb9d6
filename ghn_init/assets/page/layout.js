"use strict";
// Where every visible box and frame stands: layers from top to bottom, by dagre.

const NODE = { width: 212, height: 44 };
const BLOCK = { width: 212, height: 60 };
const HEADER = 26; // height of a frame's title
const PAD = 14;

function layout(model) {
  const { boxes, frames } = visible(model);
  const edges = visibleEdges(model, boxes);
  const graph = new dagre.graphlib.Graph({ compound: true });
  graph.setGraph({ rankdir: "TB", nodesep: 26, ranksep: 30, edgesep: 16, marginx: 30, marginy: 30 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const frame of frames) graph.setNode(frame.id, {});
  for (const box of boxes) graph.setNode(box.id, { ...(box.kind === "node" ? NODE : BLOCK) });
  for (const item of frames.concat(boxes)) {
    if (item.parent && item.parent !== model.root) graph.setParent(item.id, item.parent.id);
  }
  for (const edge of edges) graph.setEdge(edge.source.id, edge.target.id, { weight: Math.min(edge.count, 4) });
  dagre.layout(graph);
  for (const box of boxes) {
    const at = graph.node(box.id);
    Object.assign(box, { x: at.x, y: at.y, width: at.width, height: at.height });
  }
  for (const edge of edges) edge.points = graph.edge(edge.source.id, edge.target.id).points;
  frames.slice().reverse().forEach(enclose);
  const size = bounds(boxes.concat(frames));
  return { boxes, frames, edges, size };
}

// A frame is as large as what is in it, with room for its title (inner frames come first).
function enclose(frame) {
  const size = bounds(frame.children);
  frame.width = Math.max(size.width + 2 * PAD, 110);
  frame.height = size.height + PAD + HEADER;
  frame.x = size.x;
  frame.y = size.y + (PAD - HEADER) / 2;
}

function bounds(items) {
  const left = Math.min(...items.map((i) => i.x - i.width / 2));
  const right = Math.max(...items.map((i) => i.x + i.width / 2));
  const top = Math.min(...items.map((i) => i.y - i.height / 2));
  const bottom = Math.max(...items.map((i) => i.y + i.height / 2));
  return { x: (left + right) / 2, y: (top + bottom) / 2, width: right - left, height: bottom - top, left, right, top, bottom };
}
