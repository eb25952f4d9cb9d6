"use strict";
// The picture: frames, edges and boxes of a layout, with zoom.

function createView(model, root, handlers) {
  const svg = d3.select(root);
  const world = svg.append("g").attr("class", "world");
  const layers = ["frames", "edges", "boxes"].map((name) => world.append("g").attr("class", name));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const zoom = d3.zoom().scaleExtent([0.04, 3]).on("zoom", (event) => {
    world.attr("transform", event.transform);
    map.follow(event.transform);
  });
  svg.call(zoom).on("dblclick.zoom", null);
  const map = createOverview(svg, zoom);
  const view = { current: null, selected: null, type: null, matches: new Set(), focused: null };

  view.render = (anchor) => {
    const before = anchor && screen(anchor);
    view.current = layout(model);
    const quick = still.matches || view.current.boxes.length > 250 || !view.drawn;
    drawFrames(layers[0], view.current, handlers, quick);
    drawEdges(layers[1], view.current, quick);
    drawBoxes(layers[2], view.current, handlers, quick);
    view.drawn = true;
    map.draw(view.current);
    if (before) keepInPlace(anchor, before);
    view.mark();
  };

  // Where an item is on the screen, so that it can stay there when what is around it moves.
  const transform = () => d3.zoomTransform(root);
  const screen = (item) => transform().apply([item.x, item.y - item.height / 2]);
  const keepInPlace = (item, [x, y]) => {
    const [nowX, nowY] = screen(item);
    const k = transform().k;
    svg.call(zoom.translateBy, (x - nowX) / k, (y - nowY) / k);
  };

  view.mark = () => {
    const { boxes, frames, edges } = view.current;
    const chosen = view.selected;
    const near = new Set(chosen ? edges.filter((e) => e.source === chosen || e.target === chosen).map((e) => e.id) : []);
    const tabbable = boxes.concat(frames).includes(view.focused) ? view.focused : boxes[0];
    world.selectAll(".item")
      .classed("selected", (d) => d === chosen)
      .classed("match", (d) => matches(d, view.matches))
      .classed("dim", (d) => view.type !== null && !has(d, view.type))
      .attr("aria-current", (d) => (d === chosen ? "true" : null))
      .attr("tabindex", (d) => (d === tabbable ? 0 : -1));
    world.selectAll(".edge")
      .classed("near", (d) => near.has(d.id))
      .classed("dim", () => view.type !== null);
  };

  view.element = (item) => root.querySelector(`[data-id="${item.id}"]`);
  view.focus = (item) => {
    view.focused = item;
    view.mark();
    view.bringIntoView(item);
    view.element(item).focus({ preventScroll: true });
  };
  view.bringIntoView = (item) => {
    const t = transform();
    const [x, y] = t.apply([item.x, item.kind === "block" && item.open ? item.y - item.height / 2 : item.y]);
    const { clientWidth: w, clientHeight: h } = root;
    const inside = x > 80 && x < w - 80 && y > 50 && y < h - 50;
    if (!inside || t.k < 0.35) view.centre(item);
  };
  view.centre = (item) => {
    const k = Math.max(transform().k, 0.7);
    const y = item.kind === "block" && item.open ? item.y - item.height / 2 + 60 : item.y;
    const to = d3.zoomIdentity.translate(root.clientWidth / 2 - item.x * k, root.clientHeight / 2 - y * k).scale(k);
    animate(to);
  };
  const animate = (to) => {
    if (still.matches || !view.drawn || document.hidden) svg.call(zoom.transform, to);
    else svg.transition("view").duration(250).call(zoom.transform, to);
  };
  view.zoomBy = (factor) => svg.call(zoom.scaleBy, factor);
  view.pan = (x, y) => svg.call(zoom.translateBy, x / transform().k, y / transform().k);
  // All of it; where that would be too small to read, its beginning.
  view.fit = (whole) => {
    const { size } = view.current;
    const { clientWidth: w, clientHeight: h } = root;
    const all = Math.min(1, w / (size.width + 60), h / (size.height + 60));
    const k = whole ? all : Math.max(all, Math.min(0.85, w / (size.width + 60)), 0.3);
    const top = (size.height + 60) * k > h ? 24 - size.top * k : (h - size.height * k) / 2 - size.top * k;
    animate(d3.zoomIdentity.translate(w / 2 - size.x * k, top).scale(k));
  };
  return view;
}

const has = (item, type) => (item.kind === "node" ? item.primitive === type : item.types.has(type));
const matches = (item, params) => params.size > 0 && item.params.some((p) => params.has(p));

function place(selection, quick) {
  const at = (d) => `translate(${d.x - d.width / 2},${d.y - d.height / 2})`;
  if (quick) selection.interrupt().attr("transform", at);
  else selection.transition().duration(250).attr("transform", at);
}

function appear(selection, quick) {
  selection.attr("transform", (d) => `translate(${d.x - d.width / 2},${d.y - d.height / 2})`);
  if (!quick) selection.style("opacity", 0).transition("appear").duration(300).style("opacity", 1);
}

function drawFrames(layer, current, handlers, quick) {
  const frames = layer.selectAll("g.frame").data(current.frames, (d) => d.id);
  frames.exit().remove();
  const made = frames.enter().append("g").attr("class", (d) => "item frame depth" + (d.depth % 2))
    .attr("data-id", (d) => d.id).attr("role", "button").attr("aria-expanded", "true")
    .attr("aria-label", (d) => `block ${d.path || d.name}, open: ${plural(d.count, "node")}`);
  made.append("rect").attr("class", "area").attr("rx", 10);
  const title = made.append("g").attr("class", "title").on("click", (event, d) => handlers.toggle(d));
  title.append("rect").attr("class", "bar").attr("rx", 6).attr("x", 6).attr("y", 4).attr("height", 18);
  title.append("text").attr("x", 14).attr("y", 17).text((d) => "− " + clip(d.name, 40));
  title.append("title").text((d) => `${d.path || d.name}: close`);
  made.on("focus", (event, d) => handlers.focused(d));
  appear(made, quick);
  const all = made.merge(frames).order();
  place(frames, quick);
  all.select("rect.area").attr("width", (d) => d.width).attr("height", (d) => d.height);
  all.select("rect.bar").attr("width", (d) => Math.min(d.width - 12, 7.2 * clip("− " + d.name, 42).length + 16));
}

function drawEdges(layer, current, quick) {
  const line = d3.line((p) => p.x, (p) => p.y).curve(d3.curveBasis);
  const edges = layer.selectAll("path.edge").data(current.edges, (d) => d.id);
  edges.exit().remove();
  const made = edges.enter().append("path").attr("class", "edge").attr("marker-end", "url(#arrow)");
  made.append("title");
  const all = made.merge(edges);
  all.attr("d", (d) => line(d.points)).attr("stroke-width", (d) => 1.4 + Math.min(2, Math.log2(d.count) / 2));
  all.select("title").text((d) => `${name(d.source)} → ${name(d.target)}` + (d.count > 1 ? ` (${d.count} edges)` : ""));
  if (!quick) all.style("opacity", 0).transition().delay(120).duration(200).style("opacity", 1).on("end", function () { this.style.opacity = ""; });
}

function drawBoxes(layer, current, handlers, quick) {
  const boxes = layer.selectAll("g.box").data(current.boxes, (d) => d.id);
  boxes.exit().remove();
  const made = boxes.enter().append("g").attr("class", (d) => "item box " + d.kind + " is-" + (status(d.params) || "plain"))
    .attr("data-id", (d) => d.id).attr("role", "button")
    .attr("aria-expanded", (d) => (d.kind === "block" ? "false" : null))
    .attr("aria-label", describe)
    .on("click", (event, d) => (d.kind === "block" ? handlers.toggle(d) : handlers.select(d)))
    .on("focus", (event, d) => handlers.focused(d));
  made.filter((d) => d.kind === "node").call(drawNode);
  made.filter((d) => d.kind === "block").call(drawBlock);
  made.append("title").text(describe);
  appear(made, quick);
  made.merge(boxes).order();
  place(boxes, quick);
}

function drawNode(made) {
  made.append("rect").attr("class", "card").attr("width", NODE.width).attr("height", NODE.height).attr("rx", 7);
  made.append("rect").attr("class", "tint").attr("width", NODE.width).attr("height", NODE.height).attr("rx", 7)
    .attr("fill", (d) => d.primitive.colour);
  made.each(function (d) {
    drawSign(d3.select(this), d.primitive, 23).attr("transform", `translate(23,${NODE.height / 2})`);
  });
  const second = (d) => clip(d.name || (d.op === d.primitive.name ? "" : d.op), 21);
  const first = (d) => (second(d) ? 18 : 27);
  made.append("text").attr("class", "name").attr("x", 44).attr("y", first).text((d) => d.primitive.name);
  made.append("text").attr("class", "shape").attr("x", NODE.width - 10).attr("y", first).text((d) => shapeOf(d));
  made.append("text").attr("class", "where").attr("x", 44).attr("y", 34).text(second);
  badge(made, NODE.width - 13, NODE.height - 12);
}

function drawBlock(made) {
  const { width, height } = BLOCK;
  made.append("rect").attr("class", "card behind").attr("x", 5).attr("y", 5).attr("width", width).attr("height", height).attr("rx", 8);
  made.append("rect").attr("class", "card").attr("width", width).attr("height", height).attr("rx", 8);
  made.append("text").attr("class", "name").attr("x", 12).attr("y", 20).text((d) => clip(d.name, 22));
  made.append("text").attr("class", "sign-open").attr("x", width - 14).attr("y", 21).text("+");
  made.append("text").attr("class", "where").attr("x", 12).attr("y", 37)
    .text((d) => plural(d.count, "node") + (d.params.length ? ", " + short(values(d.params)) + " values" : ""));
  made.each(function (d) {
    const bar = d3.select(this).append("g").attr("class", "mix");
    let x = 12;
    for (const [type, count] of d.types) {
      const w = ((width - 24) * count) / d.count;
      bar.append("rect").attr("x", x).attr("y", 46).attr("width", w).attr("height", 6).attr("fill", type.colour);
      x += w;
    }
  });
  badge(made, width - 14, 37);
}

function badge(made, x, y) {
  made.filter((d) => status(d.params)).append("text").attr("class", (d) => "badge " + status(d.params))
    .attr("x", x).attr("y", y).attr("dy", "0.1em").text((d) => STATUS[status(d.params)][0]);
}

const clip = (text, most) => (text.length > most ? "…" + text.slice(1 - most) : text);
const name = (item) => (item.kind === "node" ? `${item.primitive.name} ${item.path}`.trim() : item.path || item.name);

function shapeOf(node) {
  if (!node.shape) return "";
  const text = (node.params.length ? node.shape : node.shape.slice(2)).join("×");
  const room = 21 - node.primitive.name.length;
  return text.length > room ? text.slice(0, room - 1) + "…" : text;
}

function describe(item) {
  const kind = status(item.params);
  const tail = kind ? ", " + STATUS[kind][1] : "";
  if (item.kind === "block") {
    return `block ${item.path || item.name}, closed: ${plural(item.count, "node")}, ${plural(item.params.length, "parameter")}${tail}`;
  }
  const shape = item.shape ? ", " + item.shape.join("×") : "";
  return `${item.primitive.name}${item.path ? " " + item.path : ""}${shape}${tail}`;
}
