// Translate: a source, a mix of styles, and the source redrawn in that mix, in every domain, or as a walk.
import { dot } from "./colours.js";
import { at, call, element, post } from "./studio.js";
import { addDomain, addReference, onlyDomain } from "./translate-mix.js";
import { onFiles, pick } from "./translate-picking.js";
import { download, draw, split } from "./translate-result.js";
import { base, chosen, fields, hasStyle, mixed, nameOf, page, prepared, save, stem, tried } from "./translate-shared.js";
import { drawWalk, fillWalk } from "./translate-walk.js";

let asked = 0; // how many sources were chosen; the answer for an earlier one may come after that for the last one
let shown = 0; // which of them is shown
async function setSource(given) {
  const mine = ++asked;
  at("source-drop").classList.add("busy");
  await tried(null, async () => {
    const source = await prepared(given);
    if (mine < shown) return;
    shown = mine;
    chosen.source = source;
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

async function drawGrid() {
  const { source } = chosen;
  const { results } = await post(`${base}/translate/grid`, fields({ strength: at("strength").value }));
  if (source !== chosen.source) return; // another source was chosen meanwhile
  const figures = results.map(({ domain, image }) => {
    const picture = element("img", { src: image, alt: `${source.name} in the style of ${nameOf(domain)}` });
    picture.style.aspectRatio = source.aspect;
    const use = () => onlyDomain(domain);
    const button = element("button", { type: "button", class: "picture", onclick: use }, picture);
    return element("figure", {}, button, element("figcaption", {}, dot(domain), ` ${nameOf(domain)}`));
  });
  at("grid").replaceChildren(...figures);
}

async function downloadAll() {
  const style = hasStyle() ? { style: mixed() } : {};
  const body = fields({ strength: at("strength").value, ...style });
  const name = `${stem()}-all.zip`;
  const answer = await call(`${base}/translate/zip`, { method: "POST", body });
  save(await answer.blob(), name);
}

function begin() {
  onFiles(at("source-drop"), at("source-file"), setSource);
  onFiles(at("reference-drop"), at("reference-file"), addReference);
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    if (chosen.source && at("style-pane").contains(document.activeElement)) addReference(file);
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
