// The result: the source redrawn in the mixed style whenever something has changed, and its download.
import { at, call, notice } from "./studio.js";
import { base, chosen, fields, hasStyle, mixed, save, stem } from "./translate-shared.js";

let result = null; // {blob, name}
let timer = 0;
let isDrawing = false;
let again = false; // whether something has changed since the unfinished request
let failed = ""; // what the last request said if it failed

/** Redraw after a short wait without further changes. */
export function draw() {
  clearTimeout(timer);
  timer = setTimeout(drawNext, 60);
}

/** Redraw, one request after the other: the studio would also compute those for which nobody waits any more. */
async function drawNext() {
  at("strength-shown").textContent = Number(at("strength").value).toFixed(2);
  again = isDrawing;
  if (!chosen.source || !hasStyle()) {
    showResult(false);
    at("result-hint").textContent = chosen.source ? "Add a style." : "It appears here.";
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
  const { source } = chosen;
  const alt = `${source.name} in the style of ${chosen.parts.map((part) => part.name).join(", ")}`;
  const body = fields({ style: mixed(), strength: at("strength").value });
  const blob = await (await call(`${base}/translate/draw`, { method: "POST", body })).blob();
  if (source !== chosen.source || !hasStyle()) return;
  result = { blob, name: `${stem()}-translated.png` };
  URL.revokeObjectURL(at("after").src);
  at("before").src = source.url;
  at("compare").style.aspectRatio = source.aspect;
  at("after").src = URL.createObjectURL(blob);
  at("after").alt = alt;
  showResult(true);
  at("result-about").textContent = `Drawn in ${((performance.now() - began) / 1000).toFixed(2)} s.`;
}

/** Show the source on the left of the slider, and the result on its right. */
export function split() {
  const share = Number(at("split").value);
  at("after").style.clipPath = `inset(0 0 0 ${share}%)`;
  at("edge").style.left = `${share}%`;
}

/** Save the result; if asked for, drawn anew at the size of the source's own file. */
export async function download() {
  const { blob, name } = result;
  const { file } = chosen.source; // another source may be chosen while this one is read
  if (!at("own-size").checked || !file) {
    save(blob, name);
    return;
  }
  const form = new FormData();
  form.append("style", mixed());
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
