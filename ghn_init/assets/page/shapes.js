"use strict";
// The outline of each type's sign: with the letter in it, what a type is known by where colours are not.

const SHAPES = {
  square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
  octagon: [[-0.45, -1], [0.45, -1], [1, -0.45], [1, 0.45], [0.45, 1], [-0.45, 1], [-1, 0.45], [-1, -0.45]],
  diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
  hexagon: [[-0.6, -1], [0.6, -1], [1.2, 0], [0.6, 1], [-0.6, 1], [-1.2, 0]],
  house: [[0, -1.15], [1.05, -0.35], [1.05, 1], [-1.05, 1], [-1.05, -0.35]],
  funnel: [[-1.2, -1], [1.2, -1], [0.65, 1], [-0.65, 1]],
  cone: [[-1.25, -0.95], [1.25, -0.95], [0, 1.3]],
  slant: [[-0.7, -1], [1.25, -1], [0.7, 1], [-1.25, 1]],
  arrow: [[-1.1, -1], [0.45, -1], [1.25, 0], [0.45, 1], [-1.1, 1]],
};

function drawSign(parent, primitive, size) {
  const sign = parent.append("g").attr("class", "sign");
  const points = SHAPES[primitive.shape];
  const r = size / 2;
  if (points) {
    sign.append("polygon").attr("points", points.map(([x, y]) => (x * r).toFixed(1) + "," + (y * r).toFixed(1)).join(" "));
  } else if (primitive.shape === "circle") {
    sign.append("circle").attr("r", r * 1.1);
  } else {
    sign.append("rect").attr("x", -r * 1.3).attr("y", -r * 0.95).attr("width", r * 2.6).attr("height", r * 1.9).attr("rx", r * 0.95);
  }
  sign.attr("fill", primitive.colour);
  sign.append("text").attr("class", "letter").attr("dy", "0.35em").attr("font-size", size * 0.62)
    .style("fill", primitive.text).text(primitive.symbol);
  return sign;
}

const STATUS = {
  predicted: ["●", "predicted"],
  kept: ["○", "kept"],
  skipped: ["✕", "skipped"],
  mixed: ["◐", "some predicted, some not"],
};
