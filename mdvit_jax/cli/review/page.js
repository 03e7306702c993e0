// The page: toolbar, large view, ratings and keys.

const $ = (id) => document.getElementById(id);
const large = $("large");

function say(words) {
  $("said").textContent = words;
}

/** Show the pairs that the toolbar asks for, from the first one on. */
function showChosen() {
  choosePairs();
  if (!shown.includes(current)) setCurrent(shown[0] ?? null); // keys always mean a pair
  const all = shown.length === pairs.length;
  $("count").textContent = `${shown.length} of ${pairs.length}`;
  $("clear").disabled = all;
  list.dataset.none = shown.length ? "" : "No pair is like that.";
  const begin = measureGrid().top - $("toolbar").offsetHeight;
  if (scrollY > begin) scrollTo(0, begin);
  showAllAnew();
  drawPlots();
}

function setCurrent(pair) {
  if (pair === current) return;
  cards.get(current)?.removeAttribute("aria-current");
  cards.get(pair)?.setAttribute("aria-current", "true");
  current = pair;
  plots.forEach(ringDot);
}

/** Go to the pair some places behind the current one, here or in the large view. */
function move(steps) {
  if (!shown.length) return;
  const from = shown.includes(current) ? current.place : -1; // a dot leads to hidden ones
  const pair = shown[Math.min(Math.max(from + steps, 0), shown.length - 1)];
  setCurrent(pair);
  scrollToCard(pair);
  if (large.open) showLarge(pair);
  else cards.get(pair).focus({ preventScroll: true });
}

// One pair, large

function makeLarge(pair) {
  const button = (words, title, action) =>
    make("button", { type: "button", title, onclick: action }, words);
  const place = shown.includes(pair) ? `${pair.place + 1} of ${shown.length}` : "";
  const strip = pair.picture
    ? makeStrip(pair, true)
    : make("p", { class: "sentence" }, pair.reasons);
  strip.addEventListener("click", () => flicker(strip));
  return make(
    "div",
    { class: "one", tabindex: -1, autofocus: "" },
    make(
      "header",
      {},
      ...(data.single ? [] : [make("h2", {}, pair.name)]),
      makeStatus(pair),
      make("span", { class: "place" }, place),
      ...(data.single
        ? []
        : [
            button("‹", "back (k)", () => move(-1)),
            button("›", "next (j)", () => move(1)),
            button("×", "close (Escape)", () => large.close()),
          ]),
    ),
    make("div", { class: "pan" }, strip),
    ...(data.single ? [] : [makeRating(pair)]),
    makeDetails(pair),
  );
}

function showLarge(pair) {
  setCurrent(pair);
  large.replaceChildren(makeLarge(pair));
  if (!large.open) large.showModal();
  large.firstElementChild.focus();
  const next = shown[pair.place + 1]; // its picture will be there in time
  if (next?.picture) new Image().src = next.picture;
}

/** Change what a strip shows, and keep it at that. */
function flicker(strip) {
  if (!strip) return;
  strip.dataset.shows = strip.dataset.shows === "fixed" ? "warped" : "fixed";
}

function currentStrip() {
  if (data.single) return document.querySelector(".strip");
  return (large.open ? large : cards.get(current))?.querySelector(".strip");
}

function showEdges(on) {
  document.body.classList.toggle("no-edges", !on);
  if ($("edges")) $("edges").checked = on;
}

// Ratings

function rememberRating(pair, change) {
  if (!keepRating(pair, change)) {
    $("progress").textContent =
      "This browser keeps no ratings: save them before you leave the page.";
  }
  updateRating(pair);
  countRatings();
}

function rate(pair, rating) {
  rememberRating(pair, { rating });
  say(`${pair.name}: ${rating || "not rated"}`);
}

function saveRatings() {
  downloadRatings(pairs);
  $("progress").textContent =
    "ratings.csv is among your downloads; mdvit batch --ratings reads it into the table.";
}

function countRatings() {
  const counts = { unrated: 0, pass: 0, fail: 0, ...countBy(ratingOf) };
  for (const button of $("ratings").children) {
    button.lastElementChild.textContent = counts[button.dataset.value];
  }
  const unsaved = pairs.filter(isUnsaved).length;
  $("save").textContent = unsaved ? `Save ratings (${unsaved})` : "Save ratings";
}

// The toolbar

function makeFilter(box, chosen, value, count) {
  const button = make(
    "button",
    {
      type: "button",
      class: value,
      "data-value": value,
      "aria-pressed": "false",
      onclick: () => {
        if (!chosen.delete(value)) chosen.add(value);
        button.setAttribute("aria-pressed", chosen.has(value));
        showChosen();
      },
    },
    `${value} `,
    make("b", {}, count),
  );
  $(box).append(button);
}

function clearFilters() {
  view.statuses.clear();
  view.ratings.clear();
  view.ranges.clear();
  view.search = $("search").value = "";
  for (const plot of plots) plot.low.value = plot.high.value = "";
  for (const button of document.querySelectorAll("#toolbar [aria-pressed]")) {
    button.setAttribute("aria-pressed", "false");
  }
  showChosen();
}

function fillToolbar() {
  const counts = countBy((pair) => pair.status);
  for (const status of [...data.statuses].reverse()) {
    if (counts[status]) makeFilter("statuses", view.statuses, status, counts[status]);
  }
  for (const rating of ["unrated", "pass", "fail"]) {
    makeFilter("ratings", view.ratings, rating, 0);
  }
  const sort = (value, words) => $("sort").append(make("option", { value }, words));
  sort("worst", "worst first");
  sort("name", "name");
  for (const { key, label } of measures.values()) sort(key, `worst ${label}`);
  $("sort").addEventListener("change", (event) => {
    view.sort = event.target.value;
    showChosen();
  });
  $("reverse").addEventListener("change", (event) => {
    view.reversed = event.target.checked;
    showChosen();
  });
  $("search").addEventListener("input", (event) => {
    view.search = event.target.value.toLowerCase();
    showChosen();
  });
  $("edges").addEventListener("change", (event) => showEdges(event.target.checked));
  $("clear").addEventListener("click", clearFilters);
  $("rater").value = readStorage(RATER_KEY) ?? "";
  $("rater").addEventListener("input", (e) => writeStorage(RATER_KEY, e.target.value));
  $("saving").addEventListener("submit", (event) => {
    event.preventDefault();
    saveRatings();
  });
  $("help-button").addEventListener("click", () => $("help").showModal());
  if (data.remaining) {
    $("progress").textContent = `Still running, ${data.remaining} to come; reload to see them.`;
  }
}

// Keys

const atAnyTime = {
  " ": () => flicker(currentStrip()),
  e: () => showEdges(document.body.classList.contains("no-edges")),
  "?": () => $("help").showModal(),
};
const amongPairs = {
  j: () => move(1),
  k: () => move(-1),
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
  p: () => rateAndMove("pass"),
  f: () => rateAndMove("fail"),
  u: () => current && rate(current, ""),
  c: () => commentField()?.focus(),
  s: saveRatings,
  "/": () => large.open || $("search").focus(),
  Enter: () => current && !large.open && showLarge(current),
};

const commentField = () =>
  (large.open ? large : cards.get(current))?.querySelector(".comment");

function rateAndMove(rating) {
  if (!current) return;
  rate(current, rating);
  move(1);
}

function useKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const typing = event.target.matches("input:not([type=checkbox]), select");
  if (typing) {
    // Back to the keys. Escape empties the search by itself.
    const left = { Enter: ".comment, #search", Escape: ".comment" }[event.key];
    if (left && event.target.matches(left)) {
      event.preventDefault();
      event.target.blur();
      cards.get(current)?.focus({ preventScroll: true });
      if (large.open) large.firstElementChild.focus();
    }
    return;
  }
  const pressed = event.target.matches("button, a, summary, input");
  if (pressed && (event.key === " " || event.key === "Enter")) return;
  const action = atAnyTime[event.key] ?? (data.single ? null : amongPairs[event.key]);
  if (!action) return;
  event.preventDefault();
  // A key held down goes on moving, and rates no second pair.
  if (!event.repeat || /^(j|k|Arrow.*)$/.test(event.key)) action();
}

document.addEventListener("keydown", useKey);
if (data.single) {
  $("single").append(makeLarge(pairs[0]));
} else {
  loadRatings(pairs);
  fillToolbar();
  countRatings();
  $("measures").open = innerWidth > 760;
  for (const measure of measures.values()) plots.push(makePlot(measure));
  $("plots").append(...plots.map((plot) => plot.figure));
  showChosen();
  addEventListener("scroll", showCardsInSight, { passive: true });
  addEventListener("resize", () => {
    showCardsInSight();
    drawPlots();
  });
  $("measures").addEventListener("toggle", () => {
    showCardsInSight();
    drawPlots();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlots);
}
