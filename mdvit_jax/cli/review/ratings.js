// Ratings. The table of the batch has some; this browser keeps those given here, under
// a key that belongs to the page. Of the two, the newer one counts. A rating belongs to
// a result: once its pair was registered anew, it is an old one and not shown.

const data = JSON.parse(document.getElementById("data").textContent);
const RATER_KEY = "mdvit rater";
const NO_RATING = { rating: "", comment: "", rater: "", rated: "" };

function readStorage(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // a browser may refuse
  }
}

function writeStorage(key, text) {
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}

function readKeptRatings() {
  try {
    return JSON.parse(readStorage(data.key)) ?? {};
  } catch {
    return {};
  }
}

/** Give each pair the newer of its two ratings. */
function loadRatings(pairs) {
  const kept = readKeptRatings();
  for (const pair of pairs) {
    pair.saved = pair.rating;
    const own = Object.hasOwn(kept, pair.name) ? kept[pair.name] : null;
    if (own?.inputs === pair.inputs && own.rated > pair.rating.rated) {
      pair.rating = own;
    }
  }
}

/** Change a pair's rating, and keep it. False: the browser refuses to. */
function keepRating(pair, change) {
  pair.rating = {
    ...NO_RATING,
    ...pair.rating,
    ...change,
    rater: readStorage(RATER_KEY) ?? "",
    rated: new Date().toISOString().slice(0, 19) + "Z",
    inputs: pair.inputs,
  };
  // Read again: another tab may have rated other pairs.
  const kept = readKeptRatings();
  kept[pair.name] = pair.rating;
  return writeStorage(data.key, JSON.stringify(kept));
}

const isRated = (rating) => rating.rating !== "" || rating.comment !== "";

const isUnsaved = (pair) =>
  pair.rating.rating !== pair.saved.rating || pair.rating.comment !== pair.saved.comment;

/** All ratings as a CSV file. */
function ratingsCsv(pairs) {
  const quote = (cell) => `"${cell.replaceAll('"', '""')}"`;
  const rows = pairs
    .filter((pair) => isRated(pair.rating) || isUnsaved(pair))
    .map(({ name, inputs, rating }) =>
      [name, rating.rating, rating.comment, rating.rater, rating.rated, inputs].map(quote),
    );
  const lines = [["name", "rating", "comment", "rater", "rated", "inputs"], ...rows];
  return "\ufeff" + lines.map((cells) => cells.join(",") + "\r\n").join(""); // for Excel
}

function downloadRatings(pairs) {
  const file = new Blob([ratingsCsv(pairs)], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = "ratings.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
