// A pair as a card among many, and large. Text enters the page as text, never as HTML.

const LETTERS = ["LRAP", "LRSI", "PASI"]; // left, right, top, bottom of each plane

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** The strip of three planes: the scan, of which one third is seen, below the edges. */
function makeStrip(pair, letters) {
  const words = `${pair.name}: axial, coronal and sagittal plane of the warped image`;
  const strip = make(
    "span",
    { class: "strip", onpointerleave: () => delete strip.dataset.shows },
    make("img", { class: "scan", src: pair.picture, alt: words, draggable: "false" }),
    make("img", { class: "edges", src: pair.picture, alt: "", draggable: "false" }),
    make("span", { class: "which fixed", "aria-hidden": "true" }, "fixed"),
    make("span", { class: "which warped", "aria-hidden": "true" }, "warped"),
  );
  if (letters) {
    const cells = LETTERS.map((four) =>
      make("span", { class: "letters" }, ...[...four].map((one) => make("i", {}, one))),
    );
    strip.append(make("span", { class: "planes", "aria-hidden": "true" }, ...cells));
  }
  return strip;
}

const makeStatus = (pair) =>
  make("span", { class: `status ${pair.status}` }, pair.status);

function makeLinks(pair) {
  const links = Object.entries(pair.links).map(([words, address]) =>
    make("a", { href: address }, words),
  );
  return make("span", { class: "links" }, ...links);
}

function makeRating(pair) {
  const button = (rating, key) =>
    make(
      "button",
      {
        type: "button",
        class: rating,
        "aria-pressed": pair.rating.rating === rating,
        title: `${rating} (${key})`,
        onclick: () => rate(pair, pair.rating.rating === rating ? "" : rating),
      },
      rating,
    );
  const comment = make("input", {
    class: "comment",
    placeholder: "comment",
    "aria-label": `Comment on ${pair.name}`,
    title: "comment (c)",
    maxlength: 500,
    oninput: (event) => rememberRating(pair, { comment: event.target.value }),
  });
  comment.value = pair.rating.comment;
  return make("span", { class: "rating" }, button("pass", "p"), button("fail", "f"), comment);
}

function makeCard(pair) {
  const values = data.measures.map((measure) => {
    const text = formatMeasure(measure, pair.values[measure.key]);
    return make("span", {}, `${measure.label} `, make("b", {}, text));
  });
  const look = pair.picture
    ? make(
        "button",
        { type: "button", class: "look", title: "larger (Enter)", onclick: () => showLarge(pair) },
        makeStrip(pair, false),
      )
    : make("p", { class: "sentence" }, pair.reasons);
  return make(
    "article",
    {
      class: "card",
      tabindex: -1,
      "aria-label": `${pair.name}, ${pair.status}`,
      "aria-posinset": pair.place + 1,
      "aria-setsize": shown.length,
      "aria-current": pair === current,
      onfocusin: () => setCurrent(pair),
    },
    make("header", {}, make("h2", { title: pair.name }, pair.name), makeStatus(pair)),
    look,
    make("p", { class: "values" }, ...(pair.picture ? values : [])),
    make("p", { class: "reasons", title: pair.reasons }, pair.picture ? pair.reasons : ""),
    make("footer", {}, makeRating(pair), makeLinks(pair)),
  );
}

/** All that the page knows of a pair, for the large view and for a page of one. */
function makeDetails(pair) {
  const rows = data.measures.map((measure) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, measure.label),
      make("td", {}, measure.key in pair.before ? formatMeasure(measure, pair.before[measure.key]) : ""),
      make("td", {}, formatMeasure(measure, pair.values[measure.key])),
    ),
  );
  const head = ["measure", "before", "after"].map((word) => make("th", { scope: "col" }, word));
  const file = (word, path) => [make("dt", {}, word), make("dd", {}, path)];
  return make(
    "div",
    { class: "details" },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
    make(
      "div",
      {},
      make("p", { class: "reasons" }, pair.reasons),
      make("dl", {}, ...file("fixed", pair.fixed), ...file("moving", pair.moving)),
      makeLinks(pair),
    ),
  );
}

// Only the cards that are in sight are in the page, with room for the others above and
// below them, so that ten thousand cost no more than thirty. All rows are equally high.

const list = document.getElementById("cards");
const cards = new Map(); // of the pairs in sight

function measureGrid() {
  const style = getComputedStyle(list);
  return {
    columns: style.gridTemplateColumns.split(" ").length,
    rowHeight: parseFloat(style.gridAutoRows) + parseFloat(style.rowGap),
    top: list.getBoundingClientRect().top + scrollY,
  };
}

function showCardsInSight() {
  const { columns, rowHeight, top } = measureGrid();
  const rows = Math.ceil(shown.length / columns);
  const firstInSight = Math.floor((scrollY - top) / rowHeight);
  const lastInSight = Math.ceil((scrollY + innerHeight - top) / rowHeight);
  const first = Math.max(0, Math.min(firstInSight - 1, rows));
  const last = Math.max(first, Math.min(lastInSight + 1, rows));
  list.style.paddingTop = `${first * rowHeight}px`;
  list.style.paddingBottom = `${(rows - last) * rowHeight}px`;
  const inSight = new Set(shown.slice(first * columns, last * columns));
  for (const [pair, card] of cards) {
    if (!inSight.has(pair)) {
      card.remove();
      cards.delete(pair);
    }
  }
  let next = list.firstElementChild;
  for (const pair of inSight) {
    if (!cards.has(pair)) cards.set(pair, makeCard(pair));
    const card = cards.get(pair);
    if (card === next) next = next.nextElementSibling;
    else list.insertBefore(card, next);
  }
}

function showAllAnew() {
  cards.clear();
  list.replaceChildren();
  showCardsInSight();
}

/** Show a rating that has changed, wherever the pair is to be seen. */
function updateRating(pair) {
  const places = [cards.get(pair), pair === current ? large : null];
  for (const place of places) {
    for (const button of place?.querySelectorAll(".rating button") ?? []) {
      button.setAttribute("aria-pressed", button.textContent === pair.rating.rating);
    }
    const comment = place?.querySelector(".comment");
    if (comment && comment !== document.activeElement) comment.value = pair.rating.comment;
  }
}

/** Scroll just far enough to see a pair's card whole. */
function scrollToCard(pair) {
  const { columns, rowHeight, top } = measureGrid();
  const upper = top + Math.floor(pair.place / columns) * rowHeight;
  const hidden = document.getElementById("toolbar").offsetHeight + 8; // it stays on top
  if (upper < scrollY + hidden) scrollTo(0, upper - hidden);
  else if (upper + rowHeight > scrollY + innerHeight) scrollTo(0, upper + rowHeight - innerHeight);
  showCardsInSight();
}
