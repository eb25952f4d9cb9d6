"use strict";
// The table of all parameters, and the search.

const PAGE = 200; // rows shown before "more"

function createTable(panel, data, handlers) {
  const kinds = ["predicted", "kept", "skipped"].filter((kind) => data.params.some((p) => p.k === kind));
  const state = { text: "", kind: "", order: "", most: PAGE };
  const body = el("tbody", {});
  const count = el("p", { class: "meta", role: "status" });
  const more = el("button", { type: "button", onclick: () => { state.most += 1000; draw(); } }, "Show more");
  const filter = el("input", { type: "search", placeholder: "name, shape or reason", "aria-label": "Filter the parameters",
    oninput: (event) => { state.text = event.target.value.toLowerCase(); state.most = PAGE; draw(); } });
  const choice = el("select", { "aria-label": "Which parameters", onchange: (event) => { state.kind = event.target.value; draw(); } },
    el("option", { value: "" }, "all"), kinds.map((kind) => el("option", { value: kind }, kind)));
  const order = el("select", { "aria-label": "Order", onchange: (event) => { state.order = event.target.value; draw(); } },
    [["", "model order"], ["size", "largest first"], ...(data.measured ? [["change", "norm changed most"]] : [])]
      .map(([value, text]) => el("option", { value }, text)));

  function chosen() {
    const fits = (p) => (!state.kind || p.k === state.kind) &&
      (!state.text || `${p.n} ${sizes(p)} ${p.w || ""}`.toLowerCase().includes(state.text));
    const found = data.params.filter(fits);
    if (state.order === "size") found.sort((a, b) => b.e - a.e);
    if (state.order === "change") found.sort((a, b) => change(b) - change(a));
    return found;
  }
  const change = (p) => (p.a && p.b ? Math.abs(Math.log((p.a[3] + 1e-12) / (p.b[3] + 1e-12))) : -1);

  function draw() {
    const found = chosen();
    body.replaceChildren(...found.slice(0, state.most).map((p) => el("tr", {},
      el("td", { class: "verdict " + (p.k || ""), title: p.k || "" }, p.k ? STATUS[p.k][0] : "", el("span", { class: "sr" }, p.k || "")),
      el("td", {}, p.d === null ? p.n : el("button", { type: "button", class: "link", onclick: () => handlers.revealParameter(p) }, p.n),
        " ", el("span", { class: "shape" }, sizes(p)), p.w ? el("span", { class: "why" }, p.w) : null),
      data.measured ? el("td", { class: "number" }, p.a ? `${p.b ? number(p.b[3]) : "?"} → ${number(p.a[3])}` : "") : null)));
    count.textContent = `${found.length.toLocaleString("en")} of ${plural(data.params.length, "parameter")}`;
    more.hidden = found.length <= state.most;
  }

  const head = el("tr", {}, el("th", { scope: "col" }, el("span", { class: "sr" }, "status")), el("th", { scope: "col" }, "parameter"),
    data.measured ? el("th", { scope: "col", class: "number" }, "norm") : null);
  panel.replaceChildren(el("div", { class: "filters" }, filter, kinds.length ? choice : null, order), count,
    el("table", { class: "parameters" }, el("thead", {}, head), body), more);
  draw();
}

// A combobox: words typed are looked for in names of parameters and modules.
function createSearch(input, list, status, data, handlers) {
  let found = [];
  let active = -1;
  const most = 40;

  function search() {
    const words = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    found = words.length ? data.params.filter((p) => p.d !== null && words.every((w) => p.n.toLowerCase().includes(w))) : [];
    active = found.length ? 0 : -1;
    handlers.matches(new Set(found));
    list.replaceChildren(...found.slice(0, most).map((p, i) => el("li", { role: "option", id: "found" + i,
      onmousedown: (event) => event.preventDefault(), onclick: () => pick(i) }, p.n, el("span", { class: "shape" }, sizes(p)))));
    if (found.length > most) list.append(el("li", { class: "rest" }, `and ${found.length - most} more`));
    status.textContent = words.length ? plural(found.length, "parameter") : "";
    open(words.length > 0 && found.length > 0);
    mark();
  }
  function open(is) {
    list.hidden = !is;
    input.setAttribute("aria-expanded", String(is));
  }
  function mark() {
    [...list.children].forEach((entry, i) => entry.setAttribute("aria-selected", String(i === active)));
    if (active >= 0 && !list.hidden) {
      input.setAttribute("aria-activedescendant", "found" + active);
      list.children[active].scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }
  function pick(i) {
    if (!found[i]) return;
    open(false);
    handlers.revealParameter(found[i]);
  }
  input.addEventListener("input", search);
  input.addEventListener("focus", () => found.length && open(true));
  input.addEventListener("blur", () => open(false));
  input.addEventListener("keydown", (event) => {
    const shown = Math.min(found.length, most);
    if (event.key === "ArrowDown" && shown) active = (active + 1) % shown;
    else if (event.key === "ArrowUp" && shown) active = (active + shown - 1) % shown;
    else if (event.key === "Enter") pick(active);
    else if (event.key === "Escape") {
      input.value = "";
      search();
    } else return;
    event.preventDefault();
    if (event.key.startsWith("Arrow")) { open(true); mark(); }
  });
}
