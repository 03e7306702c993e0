// Which pairs are shown, and in which order.

const pairs = data.pairs;
const measures = new Map(data.measures.map((measure) => [measure.key, measure]));

/** What the toolbar says. No status or rating chosen: all of them. */
const view = {
  statuses: new Set(),
  ratings: new Set(),
  search: "",
  ranges: new Map(), // of a measure, [lowest, highest], both included
  sort: "worst",
  reversed: false,
};
let shown = []; // the pairs, in their order
let current = null; // the pair that keys mean

const severity = (pair) => data.statuses.indexOf(pair.status);

/** How far a measure is from the best; pairs without one are the last. */
function badness(pair, key) {
  const value = pair.values[key];
  return value === null ? -1 : Math.abs(value - measures.get(key).best);
}

const names = new Intl.Collator(undefined, { numeric: true });
const byName = (a, b) => names.compare(a.name, b.name);

const orders = {
  worst: (a, b) =>
    severity(b) - severity(a) || badness(b, "correlation") - badness(a, "correlation"),
  name: byName,
};
for (const key of measures.keys()) {
  orders[key] = (a, b) => badness(b, key) - badness(a, key);
}

const ratingOf = (pair) => pair.rating.rating || "unrated";

function isShown(pair) {
  if (view.statuses.size && !view.statuses.has(pair.status)) return false;
  if (view.ratings.size && !view.ratings.has(ratingOf(pair))) return false;
  if (!pair.name.toLowerCase().includes(view.search)) return false;
  for (const [key, [low, high]] of view.ranges) {
    const value = pair.values[key];
    if (value === null || value < low || value > high) return false;
  }
  return true;
}

function choosePairs() {
  const order = orders[view.sort];
  shown = pairs.filter(isShown).sort((a, b) => order(a, b) || byName(a, b));
  if (view.reversed) shown.reverse();
  shown.forEach((pair, place) => (pair.place = place));
}

function countBy(key) {
  const counts = {};
  for (const pair of pairs) counts[key(pair)] = (counts[key(pair)] ?? 0) + 1;
  return counts;
}

function formatMeasure(measure, value) {
  return value === null ? "–" : value.toFixed(measure.digits) + measure.unit;
}
