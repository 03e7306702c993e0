// The distribution of each measure: a dot for each pair, in heaps where many are alike.
// A dot leads to its pair; dragging over a plot, or two numbers, choose a range.

const HEIGHT = 74; // CSS pixels of the heaps, above the axis
const AXIS = 18;
const SIDE = 10; // free at both ends
const DOT = 5; // from one dot to the next, at most

const plots = []; // of each measure

function makePlot(measure) {
  const canvas = make("canvas", { role: "img" });
  const bound = (word) =>
    make("input", {
      type: "number",
      step: "any",
      "aria-label": `${measure.label}, ${word}`,
      placeholder: word,
      onchange: () => readBounds(plot),
    });
  const plot = { measure, canvas, low: bound("from"), high: bound("to"), dots: [] };
  plot.note = make("output", {});
  const unit = measure.unit ? ` (${measure.unit.trim()})` : "";
  const label = make("span", {}, measure.label + unit);
  const caption = make("figcaption", {}, label, plot.note);
  const bounds = make("span", { class: "bounds" }, plot.low, "–", plot.high);
  canvas.addEventListener("pointerdown", (event) => startDrag(plot, event));
  canvas.addEventListener("pointermove", (event) => pointAt(plot, event));
  canvas.addEventListener("pointerleave", () => (plot.note.textContent = ""));
  plot.ring = make("i", { class: "ring", hidden: "" });
  plot.figure = make("figure", {}, caption, canvas, plot.ring, bounds);
  return plot;
}

/** Two to five round numbers within an interval. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, n) => (first + n) * step);
}

/** Where each dot lies: heaps of one dot's width, symmetric about the middle. */
function placeDots(plot, width) {
  const { key } = plot.measure;
  const measured = pairs.filter((pair) => pair.values[key] !== null);
  const values = measured.map((pair) => pair.values[key]);
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!values.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  plot.toX = (value) => SIDE + ((value - low) / (high - low)) * (width - 2 * SIDE);
  plot.toValue = (x) => low + ((x - SIDE) / (width - 2 * SIDE)) * (high - low);
  plot.ends = [low, high];
  const heaps = new Map();
  for (const pair of measured.sort((a, b) => severity(b) - severity(a))) {
    const place = Math.round(plot.toX(pair.values[key]) / DOT);
    if (!heaps.has(place)) heaps.set(place, []);
    heaps.get(place).push(pair);
  }
  const highest = Math.max(1, ...[...heaps.values()].map((heap) => heap.length));
  const rise = Math.min(DOT, (HEIGHT - DOT) / highest);
  plot.dots = [];
  for (const [place, heap] of heaps) {
    heap.forEach((pair, n) => {
      plot.dots.push({ pair, x: place * DOT, y: HEIGHT - DOT / 2 - n * rise });
    });
  }
}

function drawPlot(plot) {
  const { canvas, measure } = plot;
  const width = canvas.clientWidth;
  if (!width) return; // they are folded away
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const scale = devicePixelRatio;
  canvas.width = width * scale;
  canvas.height = (HEIGHT + AXIS) * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  placeDots(plot, width);
  const range = plot.drag ?? view.ranges.get(measure.key);
  if (range) {
    const [left, right] = range.map((end) => Math.min(Math.max(plot.toX(end), 0), width));
    pen.fillStyle = colour("soft");
    pen.fillRect(left, 0, Math.max(right - left, 1), HEIGHT);
  }
  pen.fillStyle = colour("rule");
  pen.fillRect(0, HEIGHT, width, 1);
  pen.fillStyle = colour("faint");
  pen.font = `11px ${style.fontFamily}`;
  pen.textAlign = "center";
  for (const tick of ticks(...plot.ends)) {
    pen.fillRect(plot.toX(tick), HEIGHT, 1, 4);
    pen.fillText(String(+tick.toPrecision(6)), plot.toX(tick), HEIGHT + 15);
  }
  const inView = new Set(shown);
  const dot = ({ x, y }, radius) => {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
  };
  for (const one of plot.dots) {
    pen.globalAlpha = inView.has(one.pair) ? 0.9 : 0.2;
    pen.fillStyle = colour(one.pair.status);
    dot(one, 2.2);
    pen.fill();
  }
  pen.globalAlpha = 1;
  ringDot(plot);
  const ends = plot.ends.map((end) => formatMeasure(measure, end));
  const words = `${measure.label} of ${plot.dots.length} pairs, ${ends.join(" to ")}`;
  canvas.setAttribute("aria-label", words);
}

/** Mark the current pair's dot. */
function ringDot(plot) {
  const dot = plot.dots.find(({ pair }) => pair === current);
  plot.ring.hidden = !dot;
  if (dot) plot.ring.style.translate = `${dot.x}px ${dot.y}px`;
}

const drawPlots = () => plots.forEach(drawPlot);

function nearestDot(plot, event, reach = 9) {
  let [best, least] = [null, reach ** 2];
  for (const one of plot.dots) {
    const distance = (one.x - event.offsetX) ** 2 + (one.y - event.offsetY) ** 2;
    if (distance < least) [best, least] = [one, distance];
  }
  return best;
}

function pointAt(plot, event) {
  if (plot.drag) return;
  const dot = nearestDot(plot, event);
  plot.canvas.style.cursor = dot ? "pointer" : "crosshair";
  plot.note.textContent = dot
    ? `${dot.pair.name} ${formatMeasure(plot.measure, dot.pair.values[plot.measure.key])}`
    : "";
}

/** A click on a dot shows its pair; what moves farther chooses a range. */
function startDrag(plot, event) {
  const { canvas, measure } = plot;
  const begin = event.offsetX;
  const dot = nearestDot(plot, event);
  canvas.setPointerCapture(event.pointerId);
  const move = (moved) => {
    if (Math.abs(moved.offsetX - begin) < 4 && !plot.drag) return;
    plot.drag = [begin, moved.offsetX].sort((a, b) => a - b).map(plot.toValue);
    drawPlot(plot);
  };
  const stop = () => {
    canvas.removeEventListener("pointermove", move);
    if (plot.drag) {
      const digits = measure.digits + 1;
      const [low, high] = plot.drag.map((end) => end.toFixed(digits));
      [plot.low.value, plot.high.value] = [low, high];
      plot.drag = null;
      readBounds(plot);
    } else if (dot) showLarge(dot.pair);
    else if (view.ranges.has(measure.key)) {
      [plot.low.value, plot.high.value] = ["", ""];
      readBounds(plot);
    }
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("lostpointercapture", stop, { once: true });
}

function readBounds(plot) {
  const { low, high, measure } = plot;
  if (low.value === "" && high.value === "") view.ranges.delete(measure.key);
  else {
    const number = (input, none) => (input.value === "" ? none : Number(input.value));
    view.ranges.set(measure.key, [number(low, -Infinity), number(high, Infinity)]);
  }
  showChosen();
}
