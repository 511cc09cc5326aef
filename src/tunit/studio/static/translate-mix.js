// The mix of styles: references and domains, each with a slider for its weight.
import { dot } from "./colours.js";
import { at, element } from "./studio.js";
import { draw } from "./translate-result.js";
import { addPart, chosen, nameOf, prepared, tried } from "./translate-shared.js";
import { fillWalk } from "./translate-walk.js";

export async function addReference(given) {
  await tried(null, async () => {
    const { name, url, code, row } = await prepared(given);
    addPart({ name, url, ...(row === undefined ? { code } : { row }) });
    showParts();
  });
}

/** Take only the average style of domain k. */
export function onlyDomain(k) {
  chosen.parts = [];
  addDomain(k);
}

export function addDomain(k) {
  if (chosen.parts.some((part) => part.domain === k)) return;
  addPart({ name: nameOf(k), domain: k });
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
      chosen.parts = chosen.parts.filter((other) => other !== part);
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
    if (chosen.parts.includes(part)) continue;
    row.remove();
    rows.delete(part);
  }
  for (const part of chosen.parts) {
    if (rows.has(part)) continue;
    rows.set(part, partRow(part));
    at("parts").append(rows.get(part));
  }
  fillWalk();
  draw();
}
