"use strict";
// Puts the page together: data, picture, panel, search and keys.

const data = JSON.parse(document.getElementById("data").textContent);
data.primitives = data.primitives.map(([name, colour, text, symbol, shape]) => ({ name, colour, text, symbol, shape }));
const model = readModel(data);
const find = (id) => document.getElementById(id);
const svg = find("graph");
const say = (text) => (find("live").textContent = text);

const handlers = { toggle, select, reveal, revealParameter, focused: (item) => { view.focused = item; view.mark(); },
  matches: (params) => { view.matches = params; view.mark(); } };
const view = createView(model, svg, handlers);

function toggle(block) {
  block.open = !block.open;
  view.focused = block;
  select(block, false);
  view.render(block);
  view.element(block).focus({ preventScroll: true });
  say(`${block.path || block.name} ${block.open ? "opened: " + plural(block.children.length, "box", "boxes") : "closed"}`);
}

function select(item, mark = true) {
  view.selected = item;
  view.focused = item;
  showSelection(find("selection"), model, item, handlers);
  showTab("selection");
  if (mark) view.mark();
}

function reveal(item) {
  const closed = ancestors(item).filter((block) => !block.open);
  closed.forEach((block) => (block.open = true));
  select(item, false);
  if (closed.length) view.render(null);
  view.mark();
  view.centre(item);
  view.element(item).focus({ preventScroll: true });
  say(name(item));
}

function revealParameter(p) {
  reveal(model.nodes[p.d]);
}

function showTab(wanted) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.getAttribute("aria-controls") === wanted;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    find(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
}

function openAll() {
  const done = openLevels(model, MOST_BOXES);
  view.render(null);
  view.fit();
  say(done ? "All blocks are open." : `More than ${MOST_BOXES} boxes do not fit on a picture: some blocks stay closed; open them one by one.`);
  find("note").textContent = done ? "" : "Not all blocks are open: the picture would be too large.";
}

function closeBlocks() {
  closeAll(model);
  find("note").textContent = "";
  view.render(null);
  view.fit();
  say("All blocks are closed.");
}

function step(item, key) {
  const { boxes, frames, edges } = view.current;
  const order = boxes.concat(frames).sort((a, b) => a.first - b.first || a.depth - b.depth);
  const at = order.indexOf(item);
  if (key === "ArrowRight") return order[at + 1];
  if (key === "ArrowLeft") return order[at - 1];
  if (key === "Home") return order[0];
  if (key === "End") return order[order.length - 1];
  if (item.kind === "block" && item.open) return key === "ArrowDown" ? order[at + 1] : order[at - 1];
  const next = edges.filter((e) => (key === "ArrowDown" ? e.source : e.target) === item);
  const ends = next.map((e) => (key === "ArrowDown" ? e.target : e.source));
  return ends.sort((a, b) => Math.abs(a.x - item.x) - Math.abs(b.x - item.x))[0];
}

svg.addEventListener("keydown", (event) => {
  const holder = event.target.closest("[data-id]");
  const item = holder && model.byId.get(holder.dataset.id);
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(Arrow|Home|End)/.test(event.key)) {
    const next = step(item, event.key);
    if (next) view.focus(next);
  } else if (event.key === "Enter" || event.key === " ") {
    if (item.kind === "block") { toggle(item); view.bringIntoView(item); } else select(item);
  } else if (event.key === "Backspace" || (event.key === "Escape" && item.parent !== model.root)) {
    const block = item.kind === "block" && item.open ? item : item.parent;
    if (block && block !== model.root) { toggle(block); view.bringIntoView(block); }
  } else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = { "/": () => find("search").focus(), "+": () => view.zoomBy(1.25), "=": () => view.zoomBy(1.25), "-": () => view.zoomBy(0.8),
    0: () => view.fit(true), e: openAll, c: closeBlocks };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});

function legend() {
  const counts = model.root.types;
  for (const type of data.primitives) {
    const sign = d3.create("svg").attr("viewBox", "-17 -17 34 34").attr("aria-hidden", "true");
    drawSign(sign, type, 23);
    const button = el("button", { type: "button", "aria-pressed": "false", class: counts.has(type) ? "" : "absent",
      onclick: () => {
        view.type = view.type === type ? null : type;
        for (const other of find("types").querySelectorAll("button")) other.setAttribute("aria-pressed", String(view.type !== null && other === button));
        view.mark();
      } }, sign.node(), el("span", {}, type.name), el("span", { class: "count" }, String(counts.get(type) || 0)));
    find("types").append(el("li", {}, button));
  }
  const kinds = Object.keys(STATUS).filter((kind) => kind !== "mixed" && data.params.some((p) => p.k === kind));
  for (const kind of kinds.length ? kinds.concat("mixed") : []) find("statuses").append(el("li", { class: kind }, `${STATUS[kind][0]} ${STATUS[kind][1]}`));
}

function begin() {
  legend();
  createTable(find("parameters"), data, handlers);
  createSearch(find("search"), find("found"), find("hits"), data, handlers);
  showSummary(find("summary"), data);
  showSelection(find("selection"), model, null, handlers);
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => showTab(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const tabs = [...document.querySelectorAll("[role=tab]")];
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!move) return;
      const next = tabs[(tabs.indexOf(tab) + move + tabs.length) % tabs.length];
      showTab(next.getAttribute("aria-controls"));
      next.focus();
    });
  }
  for (const [id, action] of [["open-all", openAll], ["close-all", closeBlocks], ["zoom-in", () => view.zoomBy(1.25)], ["zoom-out", () => view.zoomBy(0.8)], ["fit", () => view.fit(true)]]) {
    find(id).addEventListener("click", action);
  }
  showTab("summary");
  openLevels(model, FIRST_VIEW);
  view.render(null);
  view.fit();
  document.documentElement.dataset.ready = "true";
}

begin();
