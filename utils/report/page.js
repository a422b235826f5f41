"use strict";
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent), cards = data.cards;
const GAP = 14, WIDTH = 250, EXTRA = 92, BINS = data.bins.length;
const placed = new Map();  // place -> its element
let shown = cards, columns = 1, drawn = "", current = -1;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function picture(source, caption, note) {
  if (!source) return element("div", note || caption, "none");
  const made = element("figure"), image = element("img");
  image.src = source; image.alt = caption; image.decoding = "async";
  made.append(image, element("figcaption", caption));
  return made;
}
const score = value => value.toFixed(2);

// Verdicts: "name/number" -> true, false, or null where one was taken back

const GOOD = { 1: true, 0: false, "": null };  // by what buttons and keys say
const verdicts = {}, stored = () => { try { return JSON.parse(localStorage.getItem(data.key)) || {}; } catch { return {}; } };
const nameOf = card => card.name + "/" + card.number, shipped = card => card.status === "painted" && card.note !== "not shipped";
const verdictOf = card => verdicts[nameOf(card)] ?? null;
function restore() {
  for (const card of cards) if (card.good !== null) verdicts[nameOf(card)] = card.good;
  Object.assign(verdicts, stored());
  tell();
}
function judge(card, good) {
  if (!card || !shipped(card)) return;
  verdicts[nameOf(card)] = good;
  // Another page of this run may be open: only this verdict is changed
  try { localStorage.setItem(data.key, JSON.stringify({ ...stored(), [nameOf(card)]: good })); } catch { /* not kept */ }
  for (const [place, made] of placed) if (shown[place] === card) mark(made, card);
  if ($("viewer").open) mark($("judging"), shown[current]);
  tell();
}
function mark(made, card) {
  const good = Object.keys(GOOD).find(key => GOOD[key] === verdictOf(card));
  if (made.matches(".card")) made.dataset.good = good;
  for (const button of made.querySelectorAll("[data-good]")) button.setAttribute("aria-pressed", button.dataset.good === good);
}
function tell() {
  const judged = cards.filter(shipped).map(verdictOf), count = value => judged.filter(v => v === value).length;
  $("tally").textContent = `${count(true)} accepted, ${count(false)} rejected by eye, ${count(null)} not judged`;
}
function verdictsFile() {
  const quoted = text => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const judged = cards.filter(card => shipped(card) && verdictOf(card) !== null);
  return "name,number,good\n" + judged.map(c => `${quoted(c.name)},${c.number},${+verdictOf(c)}\n`).join("");
}
function save() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([verdictsFile()], { type: "text/csv" }));
  link.download = "verdicts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function home() {
  const path = decodeURIComponent(location.pathname), end = "/report/index.html";
  const folder = location.protocol === "file:" && path.endsWith(end) ? path.slice(0, -end.length) : data.run;
  return folder + "/verdicts.csv" + (folder === data.run ? ", beside manifest.jsonl" : "");
}
$("where").textContent = home();
$("save").onclick = save;

// Head: counts, classes, histogram

$("summary").textContent = data.summary;
$("settings").textContent = data.settings;
for (const [name, painted, rejected] of data.classes) {
  const chip = element("button", name + " ");
  chip.append(element("small", painted + (rejected ? " + " + rejected + " rejected" : "")));
  chip.dataset.name = name;
  chip.setAttribute("aria-pressed", "false");
  chip.onclick = () => { chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true"); filter(); };
  $("classes").append(chip);
}
const tallest = Math.max(1, ...data.bins);
data.bins.forEach((number, n) => {
  const bar = element("button"), fill = element("span");
  bar.title = bar.ariaLabel = `${number} with score ${score(n / BINS)} to ${score((n + 1) / BINS)}`;
  fill.style.height = 100 * number / tallest + "%";
  bar.append(fill);
  bar.onclick = () => { $("low").value = n / BINS; $("high").value = (n + 1) / BINS; filter(); };
  $("histogram").append(bar);
});

// Filters

function filter() {
  const low = +$("low").value, high = +$("high").value, status = $("status").value, text = $("search").value.toLowerCase();
  const verdict = $("verdict").value;
  const wanted = new Set([...$("classes").children].filter(c => c.getAttribute("aria-pressed") === "true").map(c => c.dataset.name));
  $("lowOut").textContent = score(low); $("highOut").textContent = score(high);
  shown = cards.filter(c => c.score >= low && c.score <= high && (!status || c.status === status)
    && (verdict === "any" || (shipped(c) && verdictOf(c) === GOOD[verdict]))
    && (!wanted.size || wanted.has(c.class)) && (!text || c.name.toLowerCase().includes(text)));
  const orders = { low: (a, b) => a.score - b.score, high: (a, b) => b.score - a.score,
    class: (a, b) => a.class.localeCompare(b.class), area: (a, b) => b.area - a.area };
  if ($("sort").value) shown = [...shown].sort(orders[$("sort").value]);
  $("count").textContent = `${shown.length} of ${cards.length} defects`;
  drawn = "";
  draw();
}
function reset() {
  $("low").value = 0; $("high").value = 1; $("verdict").value = "any"; $("status").value = $("sort").value = $("search").value = "";
  for (const chip of $("classes").children) chip.setAttribute("aria-pressed", "false");
  filter();
}
for (const id of ["low", "high", "search"]) $(id).addEventListener("input", filter);
for (const id of ["status", "verdict", "sort"]) $(id).addEventListener("change", filter);
$("reset").onclick = reset;

// Sheet: only the cards near the screen exist

function draw() {
  const sheet = $("sheet"), total = sheet.clientWidth;
  columns = Math.max(1, Math.floor((total + GAP) / (WIDTH + GAP)));
  const width = (total - GAP * (columns - 1)) / columns, height = width / 2 + EXTRA;
  sheet.style.height = Math.ceil(shown.length / columns) * (height + GAP) + "px";
  const top = -sheet.getBoundingClientRect().top, rows = Math.ceil(innerHeight / (height + GAP));
  const first = Math.max(0, Math.floor(top / (height + GAP)) - 2) * columns;
  const last = Math.min(shown.length, first + (rows + 5) * columns);
  const layout = [columns, width].join();
  if (layout !== drawn) { sheet.replaceChildren(); placed.clear(); drawn = layout; }
  for (const [place, made] of placed) if (place < first || place >= last) { made.remove(); placed.delete(place); }
  // What is there stays: new elements would decode their images again
  for (let place = last - 1; place >= first; place--) if (!placed.has(place)) {
    const card = shown[place], made = element("div", undefined, "card"), look = element("button", undefined, "look");
    made.style.cssText = `width:${width}px;height:${height}px;left:${place % columns * (width + GAP)}px;`
      + `top:${Math.floor(place / columns) * (height + GAP)}px`;
    made.dataset.place = place;
    look.onclick = () => open(place);
    const pair = element("div", undefined, "pair"), what = element("div", undefined, "what");
    pair.append(picture(card.before, "clean"), picture(card.after, "painted", card.note));
    what.append(element("span", card.class), element("span", card.status === "rejected" ? "rejected " + score(card.score)
      : score(card.score), card.status === "rejected" ? "rejected" : ""));
    look.append(pair, what, element("div", card.name, "name"));
    made.append(look);
    if (shipped(card)) {
      const judging = element("div", undefined, "judging");
      judging.append(...[["Accept", true], ["Reject", false]].map(([text, good]) => {
        const button = element("button", text);
        button.dataset.good = +good;
        button.onclick = () => judge(card, verdictOf(card) === good ? null : good);
        return button;
      }));
      made.append(judging);
    }
    mark(made, card);
    placed.set(place, made);
    const after = placed.get(place + 1);  // the order in which Tab goes
    if (after) after.before(made); else sheet.append(made);
  }
}
addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", draw);

// Viewer

function open(place) {
  if (place < 0 || place >= shown.length) return;
  current = place;
  const card = shown[place];
  $("title").textContent = `${card.class} (${place + 1} of ${shown.length})`;
  for (const [id, source] of [["before", card.before], ["after", card.after], ["mask", card.mask], ["strip", card.strip]]) {
    if (source) $(id).src = source; else $(id).removeAttribute("src");
  }
  $("before").hidden = !card.before; $("after").hidden = !card.after;
  $("evolution").hidden = !card.strip;
  if (card.box) {
    const [left, top, right, bottom] = card.box.map(v => v * 100);
    $("box").style.cssText = `left:${left}%;top:${top}%;width:${right - left}%;height:${bottom - top}%`;
  }
  $("facts").replaceChildren(...card.facts.map(([key, value, meaning]) => {
    const row = element("tr"), cell = element("td", value);
    if (meaning) cell.append(element("small", meaning));
    row.append(element("td", key), cell);
    return row;
  }));
  scene(card); overlay(); wipe();
  $("judging").hidden = !shipped(card);
  mark($("judging"), card);
  $("previous").disabled = place === 0; $("next").disabled = place === shown.length - 1;
  if (!$("viewer").open) $("viewer").showModal();
}
function scene(card) {
  const whole = data.wholes[card.whole], [width, height] = card.size;
  $("whole").hidden = !whole;
  if (!whole) return;
  $("scene").style.cssText = `aspect-ratio:${width} / ${height};max-width:calc(40vh * ${width / height})`;
  const lay = (made, [left, top, right, bottom]) => {
    made.style.cssText = `left:${left * 100}%;top:${top * 100}%;width:${(right - left) * 100}%;height:${(bottom - top) * 100}%`;
    return made;
  };
  const image = (source, place) => { const made = element("img"); made.src = source; made.alt = ""; return lay(made, place); };
  // The clean image, and on it what was painted: the windows of all defects of the sample
  const painted = cards.filter(c => c.name === card.name && c.after).map(c => image(c.after, c.place));
  $("scene").replaceChildren(image(whole, [0, 0, 1, 1]), ...painted, lay(element("div"), card.place));
}
function overlay() {
  const card = shown[current], on = $("showMask").checked;
  $("mask").hidden = !on || !card.mask; $("box").hidden = !on || !card.box;
}
function wipe() {
  const card = shown[current], share = card.after ? $("wipe").value : 100;
  $("before").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("edge").style.left = share + "%";
  $("edge").hidden = !card.after || !card.before;
}
$("wipe").oninput = wipe;
$("showMask").onchange = overlay;
$("previous").onclick = () => open(current - 1);
$("next").onclick = () => open(current + 1);
$("close").onclick = leave;
$("viewer").oncancel = event => { event.preventDefault(); leave(); };
// At once: the dialog's own "close" event comes later, and would take the focus from a card that a key has since gone to.
function leave() {
  $("viewer").close();
  $("sheet").querySelector(`[data-place="${current}"]`)?.firstChild.focus();
}
for (const button of $("judging").children) button.onclick = () => decide(button.dataset.good);
function decide(value) {
  judge(shown[current], GOOD[value]);
  if (value && current < shown.length - 1) open(current + 1);
}

// Keys

const KEYS = { a: "1", r: "0", u: "" };
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("viewer").open) viewerKey(event); else sheetKey(event);
});
function viewerKey(event) {
  const sliding = document.activeElement === $("wipe"), key = event.key;
  if (key === "j" || (key === "ArrowRight" && !sliding)) open(current + 1);
  else if (key === "k" || (key === "ArrowLeft" && !sliding)) open(current - 1);
  else if (key === "m") { $("showMask").checked = !$("showMask").checked; overlay(); }
  else if (key === "Escape") { event.preventDefault(); leave(); }
  else if (key in KEYS) decide(KEYS[key]);
}
function sheetKey(event) {
  const made = document.activeElement.closest(".card");
  if (!made) return;
  const place = +made.dataset.place, step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (event.key in KEYS) judge(shown[place], GOOD[KEYS[event.key]]);
  else if (step && placed.has(place + step)) {
    event.preventDefault();
    placed.get(place + step).firstChild.focus({ preventScroll: true });
    placed.get(place + step).scrollIntoView({ block: "nearest" });
  }
}
restore();
filter();
