// What the modules of Translate share: the page's data, what was chosen, and requests and files about it.
import { element, notice, pageData, post } from "./studio.js";

export const page = pageData("page-data");
export const base = `/runs/${page.run}`;

// Everything that was chosen is kept in this page, so two people, or two tabs, do not disturb each other.
export const chosen = {
  source: null, // {name, url, blob, file or row, code, aspect}
  parts: [], // parts of the mixed style: {id, name, url, weight, and one of domain, row, code}
};
let parts = 0; // how many were ever chosen

/** Add a part to the mixed style. */
export function addPart(part) {
  chosen.parts.push({ id: ++parts, weight: 1, ...part });
}

export const nameOf = (k) => page.domains.find((domain) => domain.number === k)?.name || `Domain ${k}`;
export const hasStyle = () => chosen.parts.some((part) => part.weight > 0);

/** A part of a mix in the form that the studio expects. */
export function told({ domain, row, code, weight }) {
  if (domain !== undefined) return { domain, weight };
  return row !== undefined ? { row, weight } : { code, weight };
}

/** The mixed style in that form, as JSON. */
export const mixed = () => JSON.stringify(chosen.parts.map(told));

/** A form with the source, and these fields. */
export function fields(more = {}) {
  const { source } = chosen;
  const form = new FormData();
  if (source.row !== undefined) form.append("row", source.row);
  else form.append("source", source.blob, "source.png");
  for (const [name, value] of Object.entries(more)) form.append(name, value);
  return form;
}

/** What a model has found about a picture: a file, or the row of one of the run's pictures. */
export async function prepared(given) {
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
export async function tried(button, work) {
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

/** Let the browser save a file. */
export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The name of a source without its folder and suffix. */
export const stem = (of = chosen.source) =>
  (of.name.split("/").pop() || "picture").replace(/\.[^.]*$/, "") || "picture";
