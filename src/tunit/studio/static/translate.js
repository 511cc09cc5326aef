import { dot } from "./colours.js";
import { call, element, notice, pageData, post } from "./studio.js";

const at = (id) => document.getElementById(id);
const page = pageData("page-data");
const base = `/runs/${page.run}`;
const AT_ONCE = 60; // pictures that are added to the picker at a time

// Everything that was chosen is kept in this page, so two people, or two tabs, do not disturb each other.
let source = null; // {name, url, blob, file or row, code, aspect}
let parts = []; // parts of the mixed style: {name, url, weight, and one of domain, row, code}
let result = null; // {blob, name}

const nameOf = (k) => page.domains.find((domain) => domain.number === k)?.name || `Domain ${k}`;
const thumbnail = (row) => `${base}/thumbnail/${row}?v=${page.version}`;

/** A part of a mix in the form that the studio expects. */
function told({ domain, row, code, weight }) {
  if (domain !== undefined) return { domain, weight };
  return row !== undefined ? { row, weight } : { code, weight };
}

function fields(more = {}) {
  const form = new FormData();
  if (source.row !== undefined) form.append("row", source.row);
  else form.append("source", source.blob, "source.png");
  for (const [name, value] of Object.entries(more)) form.append(name, value);
  return form;
}

async function prepared(given) {
  const form = new FormData();
  if (typeof given === "number") form.append("row", given);
  else form.append("source", given, given.name || "pasted.png");
  const about = await post(`${base}/translate/prepare`, form);
  const bytes = Uint8Array.from(atob(about.picture.split(",")[1]), (char) => char.charCodeAt(0));
  const blob = new Blob([bytes], { type: "image/png" });
  const own = typeof given === "number" ? { row: given } : { file: given };
  return { ...about, ...own, blob, url: about.picture };
}

/** Do what the user asked for; if it fails, the notice already says why. */
async function tried(button, work) {
  notice("");
  if (button) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    console.info(error.message);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

let asked = 0; // how many sources were chosen; the answer for an earlier one may come after that for the last one
let shown = 0; // which of them is shown
async function setSource(given) {
  const mine = ++asked;
  at("source-drop").classList.add("busy");
  await tried(null, async () => {
    const found = await prepared(given);
    if (mine < shown) return;
    shown = mine;
    source = found;
    at("source-picture").src = source.url;
    at("source-picture").alt = `the source, ${source.name}`;
    at("source-picture").hidden = false;
    at("source-picture").style.aspectRatio = source.aspect;
    at("source-picture").style.setProperty("--aspect", source.aspect);
    at("source-drop").classList.add("filled");
    const facts = source.size ? [`${source.size[0]} x ${source.size[1]}`] : [];
    // Not every model tells the domain of a picture.
    if (source.domain !== null) facts.push(`${nameOf(source.domain)} (${Math.round(100 * source.confidence)} %)`);
    at("source-about").textContent = [source.name, facts.join(", ")].filter((part) => part).join(": ");
    at("own-size-label").hidden = !source.file;
    for (const id of ["grid-draw", "walk"]) at(id).disabled = false;
    for (const id of ["grid", "walk-shown"]) at(id).replaceChildren();
    at("zip").disabled = false;
    at("download").disabled = true; // until this source has been redrawn
    draw();
  });
  if (mine === asked) at("source-drop").classList.remove("busy");
}

async function addReference(given) {
  await tried(null, async () => {
    const { name, url, code, row } = await prepared(given);
    parts.push({ name, url, weight: 1, ...(row === undefined ? { code } : { row }) });
    showParts();
  });
}

function addDomain(k) {
  if (parts.some((part) => part.domain === k)) return;
  parts.push({ name: nameOf(k), domain: k, weight: 1 });
  showParts();
}

function partRow(part) {
  const slider = element("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value: part.weight,
    "aria-label": `weight of ${part.name}`,
    oninput: () => {
      part.weight = Number(slider.value);
      draw();
    },
  });
  const away = element("button", {
    type: "button",
    class: "away",
    text: "×",
    "aria-label": `take ${part.name} away`,
    onclick: () => {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      parts = parts.filter((other) => other !== part);
      showParts();
      (next?.querySelector(".away") ?? at("domain-add")).focus(); // the button that had it is gone
    },
  });
  const sign = part.url ? element("img", { src: part.url, alt: "" }) : dot(part.domain);
  const label = element("span", { text: part.name, class: "part-name" });
  const row = element("div", { class: "part" }, sign, label, slider, away);
  return row;
}

const rows = new Map(); // part -> its row; those that stay are not touched, as somebody may be moving their slider

function showParts() {
  for (const [part, row] of rows) {
    if (parts.includes(part)) continue;
    row.remove();
    rows.delete(part);
  }
  for (const part of parts) {
    if (rows.has(part)) continue;
    rows.set(part, partRow(part));
    at("parts").append(rows.get(part));
  }
  fillWalk();
  draw();
}

let timer = 0;
let isDrawing = false;
let again = false; // whether something has changed since the unfinished request
let failed = ""; // what the last request said if it failed

/** Redraw after a short wait without further changes. */
function draw() {
  clearTimeout(timer);
  timer = setTimeout(drawNext, 60);
}

const hasStyle = () => parts.some((part) => part.weight > 0);

/** Redraw, one request after the other: the studio would also compute those for which nobody waits any more. */
async function drawNext() {
  at("strength-shown").textContent = Number(at("strength").value).toFixed(2);
  again = isDrawing;
  if (!source || !hasStyle()) {
    showResult(false);
    at("result-hint").textContent = source ? "Add a style." : "It appears here.";
    at("result-about").textContent = "";
    return;
  }
  if (isDrawing) return;
  isDrawing = true;
  at("compare").classList.add("busy");
  try {
    await drawNow();
    if (failed && at("notice").textContent === failed) notice(""); // any other notice stays
    failed = "";
  } catch (error) {
    failed = error.message; // the notice shows it
  }
  at("compare").classList.remove("busy");
  isDrawing = false;
  if (again) drawNext();
}

/** Show the result, or the hint in its place. */
function showResult(there) {
  for (const id of ["before", "after", "edge", "compare-label"]) at(id).hidden = !there;
  at("compare").classList.toggle("filled", there);
  at("result-hint").hidden = there;
  at("download").disabled = !there;
}

async function drawNow() {
  const began = performance.now();
  const drawn = source;
  const alt = `${source.name} in the style of ${parts.map((part) => part.name).join(", ")}`;
  const body = fields({ style: JSON.stringify(parts.map(told)), strength: at("strength").value });
  const blob = await (await call(`${base}/translate/draw`, { method: "POST", body })).blob();
  if (drawn !== source || !hasStyle()) return;
  result = { blob, name: `${stem()}-translated.png` };
  URL.revokeObjectURL(at("after").src);
  at("before").src = source.url;
  at("compare").style.aspectRatio = source.aspect;
  at("after").src = URL.createObjectURL(blob);
  at("after").alt = alt;
  showResult(true);
  at("result-about").textContent = `Drawn in ${((performance.now() - began) / 1000).toFixed(2)} s.`;
}

function split() {
  const share = Number(at("split").value);
  at("after").style.clipPath = `inset(0 0 0 ${share}%)`;
  at("edge").style.left = `${share}%`;
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const stem = (of = source) => (of.name.split("/").pop() || "picture").replace(/\.[^.]*$/, "") || "picture";

async function download() {
  const { blob, name } = result;
  const { file } = source; // another source may be chosen while this one is read
  if (!at("own-size").checked || !file) {
    save(blob, name);
    return;
  }
  const form = new FormData();
  form.append("style", JSON.stringify(parts.map(told)));
  form.append("strength", at("strength").value);
  form.append("own_size", "1");
  form.append("source", await content(file), file.name || "pasted.png");
  const answer = await call(`${base}/translate/draw`, { method: "POST", body: form });
  save(await answer.blob(), name);
}

/** The content of a file that was chosen before; browsers do not read it if it was changed since. */
async function content(file) {
  try {
    return new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    const sentence = `${file.name} was changed, moved or removed since it was chosen: choose it again.`;
    notice(sentence);
    throw new Error(sentence);
  }
}

async function drawGrid() {
  const drawn = source;
  const { results } = await post(`${base}/translate/grid`, fields({ strength: at("strength").value }));
  if (drawn !== source) return; // another source was chosen meanwhile
  const figures = results.map(({ domain, image }) => {
    const picture = element("img", { src: image, alt: `${source.name} in the style of ${nameOf(domain)}` });
    picture.style.aspectRatio = source.aspect;
    const use = () => {
      parts = [];
      addDomain(domain);
    };
    const button = element("button", { type: "button", class: "picture", onclick: use }, picture);
    return element("figure", {}, button, element("figcaption", {}, dot(domain), ` ${nameOf(domain)}`));
  });
  at("grid").replaceChildren(...figures);
}

async function downloadAll() {
  const style = hasStyle() ? { style: JSON.stringify(parts.map(told)) } : {};
  const body = fields({ strength: at("strength").value, ...style });
  const name = `${stem()}-all.zip`;
  const answer = await call(`${base}/translate/zip`, { method: "POST", body });
  save(await answer.blob(), name);
}

/** The styles that a walk can begin and end with. */
function fillWalk() {
  const choices = [["own", "the source's own style"]];
  if (parts.length > 1) choices.push(["mix", "the mix above"]);
  parts.forEach((part, i) => choices.push([`part-${i}`, part.name]));
  for (const { number } of page.domains) choices.push([`domain-${number}`, nameOf(number)]);
  for (const [id, usual] of [["walk-from", "own"], ["walk-to", parts.length ? "part-0" : choices.at(-1)[0]]]) {
    const before = at(id).value;
    at(id).replaceChildren(...choices.map(([value, text]) => element("option", { value, text })));
    at(id).value = choices.some(([value]) => value === before) ? before : usual;
  }
}

function stop(value) {
  if (value === "own") return [{ code: source.code }];
  if (value === "mix") return parts.map(told);
  const [kind, number] = value.split("-");
  return kind === "part" ? [{ ...told(parts[number]), weight: 1 }] : [{ domain: Number(number) }];
}

let walked = ""; // the address of the walk that is shown
async function drawWalk() {
  const drawn = source;
  const kind = at("kind").value;
  at("walk-shown").replaceChildren(element("p", { class: "meta", role: "status", text: "Walking ..." }));
  const stops = JSON.stringify([stop(at("walk-from").value), stop(at("walk-to").value)]);
  const body = fields({ stops, frames: at("frames").value, kind });
  let blob;
  try {
    blob = await (await call(`${base}/translate/walk`, { method: "POST", body })).blob();
  } catch (error) {
    if (drawn === source) at("walk-shown").replaceChildren();
    throw error;
  }
  if (drawn !== source) return;
  URL.revokeObjectURL(walked);
  const src = (walked = URL.createObjectURL(blob));
  const text = `${source.name} moving from style to style`;
  const shown =
    kind === "mp4"
      ? element("video", { src, controls: true, loop: true, autoplay: true, "aria-label": text })
      : element("img", { src, alt: text });
  shown.muted = true;
  shown.style.aspectRatio = source.aspect;
  const button = element("button", {
    type: "button",
    text: "Download",
    onclick: () => save(blob, `${stem(drawn)}-walk.${kind}`),
  });
  at("walk-shown").replaceChildren(shown, element("div", { class: "tools" }, button));
}

/** Let the user pick one of the run's pictures. */
function pick(chosen) {
  const every = Math.max(1, Math.ceil(page.pictures / page.most));
  const rows = Array.from({ length: Math.floor(page.pictures / every) }, (_, i) => i * every);
  let shown = 0;
  const more = () => {
    const next = rows.slice(shown, shown + AT_ONCE);
    shown += next.length;
    at("picked").append(
      ...next.map((row) => {
        const picture = element("img", { src: thumbnail(row), alt: `picture ${row}`, loading: "lazy" });
        const use = () => {
          at("picker").close();
          chosen(row);
        };
        return element("button", { type: "button", class: "picture", onclick: use }, picture);
      }),
    );
    at("picker-more").hidden = shown >= rows.length;
  };
  at("picked").replaceChildren();
  more();
  at("picker-more").onclick = more;
  at("picker").showModal();
}

function onFiles(drop, input, taken) {
  input.addEventListener("change", () => {
    for (const file of input.files) taken(file);
    input.value = "";
  });
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    for (const file of event.dataTransfer.files) taken(file);
  });
}

function begin() {
  onFiles(at("source-drop"), at("source-file"), setSource);
  onFiles(at("reference-drop"), at("reference-file"), addReference);
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    if (source && at("style-pane").contains(document.activeElement)) addReference(file);
    else setSource(file);
  });
  for (const { number } of page.domains) {
    at("domain-add").append(element("option", { value: number, text: nameOf(number) }));
  }
  // By a button, because arrow keys change the choice at every step.
  at("domain-form").onsubmit = (event) => {
    event.preventDefault();
    if (at("domain-add").value === "") return at("domain-add").focus();
    addDomain(Number(at("domain-add").value));
    at("domain-add").value = "";
  };
  for (const id of ["source-pick", "reference-pick"]) at(id).hidden = !page.pictures;
  at("source-pick").onclick = () => pick(setSource);
  at("reference-pick").onclick = () => pick(addReference);
  at("picker-close").onclick = () => at("picker").close();
  at("strength").oninput = draw;
  at("split").oninput = split;
  at("download").onclick = () => tried(at("download"), download);
  at("grid-draw").onclick = () => tried(at("grid-draw"), drawGrid);
  at("zip").onclick = () => tried(at("zip"), downloadAll);
  at("walk").onclick = () => tried(at("walk"), drawWalk);
  if (page.video) at("kind").append(element("option", { value: "mp4", text: "MP4" }));
  fillWalk();
  split();
  const asked = new URLSearchParams(location.search);
  for (const [name, taken] of [["source", setSource], ["reference", addReference]]) {
    if (/^\d+$/.test(asked.get(name) || "")) taken(Number(asked.get(name)));
  }
}

begin();
