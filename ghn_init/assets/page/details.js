"use strict";
// The panel beside the picture: what is selected, all parameters, the summary. Text is only ever set as text.

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) made.append(child);
  return made;
}

function showSelection(panel, model, item, handlers) {
  if (!item) {
    panel.replaceChildren(el("p", { class: "hint" }, "Select a box of the picture, or search for a parameter."));
    return;
  }
  const parts = item.kind === "node" ? nodeDetails(model, item, handlers) : blockDetails(item, handlers);
  panel.replaceChildren(...parts.filter(Boolean));
}

function nodeDetails(model, node, handlers) {
  const sign = d3.create("svg").attr("class", "inline-sign").attr("viewBox", "-17 -17 34 34").attr("aria-hidden", "true");
  drawSign(sign, node.primitive, 23);
  const neighbours = (pairs, title) => linkList(title, pairs.map((i) => model.nodes[i]), handlers);
  return [
    el("h2", {}, sign.node(), node.primitive.name),
    facts([
      ["module", node.path || "(top)"],
      ["operation", node.op],
      ["node", `${node.index} of ${model.nodes.length}`],
      ["shape seen by the GHN", node.shape ? node.shape.join(" × ") : "none"],
    ]),
    node.params.length ? null : el("p", { class: "hint" }, "This operation has no parameters."),
    ...node.params.map((p) => parameter(p, model)),
    neighbours(model.edges.filter((e) => e[1] === node.index).map((e) => e[0]), "Reads"),
    neighbours(model.edges.filter((e) => e[0] === node.index).map((e) => e[1]), "Is read by"),
  ];
}

function blockDetails(block, handlers) {
  const counts = new Map();
  for (const p of block.params) if (p.k) counts.set(p.k, (counts.get(p.k) || 0) + 1);
  const norm = (key) => {
    const known = block.params.filter((p) => p[key] && !p.t);
    return known.length ? Math.sqrt(known.reduce((sum, p) => sum + p[key][3] ** 2, 0)) : null;
  };
  const norms = [norm("b"), norm("a")];
  return [
    el("h2", {}, block.name),
    facts([
      ["module", block.path || "(top)"],
      ["nodes", block.count.toLocaleString("en")],
      ["parameters", `${block.params.length.toLocaleString("en")} (${short(values(block.params))} values)`],
      ...[...counts].map(([kind, n]) => [STATUS[kind][0] + " " + kind, n.toLocaleString("en")]),
      ...(norms[1] === null ? [] : [["norm", (norms[0] === null ? "?" : number(norms[0])) + " → " + number(norms[1])]]),
    ]),
    el("h3", {}, "Operations"),
    el("ul", { class: "plain" }, [...block.types].map(([type, n]) => el("li", {}, `${type.symbol} ${type.name} × ${n}`))),
    linkList("In it", block.children, handlers),
  ];
}

function facts(rows) {
  return el("dl", {}, rows.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, String(value))]));
}

function linkList(title, items, handlers) {
  if (!items.length) return null;
  const most = 60;
  const entries = items.slice(0, most).map((item) =>
    el("li", {}, el("button", { type: "button", class: "link", onclick: () => handlers.reveal(item) }, name(item)))
  );
  if (items.length > most) entries.push(el("li", {}, `and ${items.length - most} more`));
  return el("section", {}, el("h3", {}, title), el("ul", { class: "plain" }, entries));
}

function parameter(p, model) {
  const before = p.b;
  const after = p.a;
  const head = [el("h3", { class: "parameter" }, p.n), el("p", { class: "meta" }, (p.s ? sizes(p) + ", " : "") + plural(p.e, "value"))];
  if (p.k) head.push(el("p", { class: "verdict " + p.k }, `${STATUS[p.k][0]} ${p.k}` + (p.w ? ": " + p.w : "")));
  if (p.t) head.push(el("p", { class: "meta" }, "tied to " + p.t));
  if (!before && !after) {
    if (model.data.measured) head.push(el("p", { class: "hint" }, p.t ? "Measured under its first name." : "Its values are not in memory here."));
    else if (p.k) head.push(el("p", { class: "hint" }, "Not measured: ghn_init.apply(..., statistics=True) adds norms and histograms."));
    return el("section", { class: "tensor" }, head);
  }
  return el("section", { class: "tensor" }, head, histogram(before, after), table(before, after));
}

const MOMENTS = [["mean", 1], ["std", 2], ["norm", 3], ["min", 4], ["max", 5]];

function table(before, after) {
  const cell = (stats, i) => el("td", {}, stats ? number(stats[i]) : "?");
  const rows = MOMENTS.map(([label, i]) => el("tr", {}, el("th", { scope: "row" }, label), cell(before, i), cell(after, i)));
  if ((before && before[6]) || (after && after[6])) {
    rows.push(el("tr", {}, el("th", { scope: "row" }, "not finite"), ...[before, after].map((s) => el("td", {}, s ? String(s[6]) : "?"))));
  }
  const top = el("tr", {}, el("th", {}), el("th", { scope: "col" }, "before"), el("th", { scope: "col" }, "after"));
  return el("table", { class: "moments" }, el("thead", {}, top), el("tbody", {}, rows));
}

// Both on one axis, as densities; a constant is a single line.
function histogram(before, after) {
  const known = [before, after].filter((s) => s && s[0]);
  if (!known.length) return null;
  let low = Math.min(...known.map((s) => s[4]));
  let high = Math.max(...known.map((s) => s[5]));
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  const x = d3.scaleLinear([low - margin, high + margin], [0, 320]);
  const peak = Math.max(...known.map((s) => Math.max(...densities(s, x).map((d) => d[2]))));
  const y = d3.scaleLinear([0, peak || 1], [92, 8]);
  const same = before && after && JSON.stringify(before) === JSON.stringify(after);
  const label = same ? "Histogram of the values, unchanged" : "Histograms of the values before and after";
  const svg = d3.create("svg").attr("class", "histogram").attr("viewBox", "0 0 320 112").attr("role", "img").attr("aria-label", label);
  if (after && after[0]) svg.append("path").attr("class", "after").attr("d", steps(after, x, y));
  if (before && before[0] && !same) svg.append("path").attr("class", "before").attr("d", steps(before, x, y));
  svg.append("line").attr("class", "axis").attr("x1", 0).attr("x2", 320).attr("y1", 92).attr("y2", 92);
  for (const [value, anchor] of [[low, "start"], [high, "end"]]) {
    svg.append("text").attr("x", anchor === "start" ? 2 : 318).attr("y", 106).attr("text-anchor", anchor).text(number(value));
  }
  const keys = same ? [["after", "unchanged"]] : [["before", "before"], ["after", "after"]];
  const legend = el("p", { class: "keys" }, keys.map(([kind, text]) => el("span", { class: "key " + kind }, text)));
  return el("figure", {}, svg.node(), legend);
}

// [left, right, height] of each bin, in pixels and in values per pixel; a constant takes three pixels.
function densities(stats, x) {
  const [count, , , , low, high, , bins] = stats;
  if (low === high) return [[x(low) - 1.5, x(low) + 1.5, 0.18]];
  const width = (x(high) - x(low)) / bins.length;
  return bins.map((n, i) => [x(low) + i * width, x(low) + (i + 1) * width, n / count / width]);
}

function steps(stats, x, y) {
  const found = densities(stats, x);
  const points = found.map(([left, right, height]) => `L${left.toFixed(1)},${y(height).toFixed(1)}L${right.toFixed(1)},${y(height).toFixed(1)}`);
  return `M${found[0][0].toFixed(1)},92${points.join("")}L${found[found.length - 1][1].toFixed(1)},92Z`;
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(4)).toString();
}

function showSummary(panel, data) {
  panel.replaceChildren(
    el("h2", {}, data.title),
    facts(data.facts.filter(([key]) => key !== "note")),
    ...data.facts.filter(([key]) => key === "note").map(([, text]) => el("p", { class: "note" }, text)),
    el("h3", {}, "Keys"),
    el("dl", { class: "keysheet" }, [["↑ ↓", "along the edges"], ["← →", "through the boxes in order"], ["Enter", "open a block, select a box"],
      ["Backspace", "close the block around"], ["/", "search"], ["+ − 0", "zoom, fit"], ["e / c", "open or close all"]]
      .flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])),
    el("p", { class: "hint" }, data.made)
  );
}
