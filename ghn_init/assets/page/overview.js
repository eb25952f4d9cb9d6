"use strict";
// The whole picture in small at the right edge, with the part on view: press or drag to go there.

function createOverview(svg, zoom) {
  const most = { width: 110, height: 420 };
  const map = d3.select("#overview");
  const shapes = map.append("g");
  const window_ = map.append("rect").attr("class", "window");
  let size = null;

  const go = (event) => {
    const [x, y] = d3.pointer(event, map.node());
    svg.interrupt("view").call(zoom.translateTo, x, y);
  };
  map.call(d3.drag().on("start drag", (event) => go(event.sourceEvent)));

  function draw(current) {
    size = current.size;
    const pad = 20;
    const [w, h] = [size.width + 2 * pad, size.height + 2 * pad];
    const k = Math.min(most.width / w, most.height / h);
    map.attr("width", Math.max(24, w * k)).attr("height", Math.max(24, h * k))
      .attr("viewBox", [size.left - pad, size.top - pad, w, h].join(" "));
    const place = (selection) => selection.attr("x", (d) => d.x - d.width / 2).attr("y", (d) => d.y - d.height / 2)
      .attr("width", (d) => d.width).attr("height", (d) => d.height);
    const items = current.frames.concat(current.boxes);
    shapes.selectAll("rect").data(items, (d) => d.id + d.open).join("rect")
      .attr("class", (d) => (d.kind === "block" && d.open ? "map-frame" : "map-box"))
      .style("fill", (d) => (d.kind === "node" ? d.primitive.colour : null)).order().call(place);
    follow(d3.zoomTransform(svg.node()));
  }

  function follow(transform) {
    if (!size) return;
    const [x, y] = transform.invert([0, 0]);
    const { clientWidth: w, clientHeight: h } = svg.node();
    window_.attr("x", x).attr("y", y).attr("width", w / transform.k).attr("height", h / transform.k);
  }
  return { draw, follow };
}
