// One colour for each domain, readable on light and on dark pages.

const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const NAMED = 8; // colours that pages.css defines
const known = new Map();
DARK.addEventListener("change", () => {
  known.clear();
  for (const made of document.querySelectorAll("[data-dot]")) made.style.background = colourOf(Number(made.dataset.dot));
});

/** The colour of domain k. */
export function colourOf(k) {
  if (!known.has(k)) known.set(k, found(k));
  return known.get(k);
}

function found(k) {
  if (k < NAMED) return getComputedStyle(document.documentElement).getPropertyValue(`--s${k}`).trim();
  return `hsl(${Math.round((k * 137.5) % 360)} 50% ${DARK.matches ? 68 : 42}%)`;
}

/** Call a function whenever the page becomes dark or light. */
export const onScheme = (changed) => DARK.addEventListener("change", changed);

/** A small dot of the colour of domain k. */
export function dot(k) {
  const made = document.createElement("i");
  made.className = "dot";
  made.setAttribute("aria-hidden", "true");
  made.dataset.dot = k; // for the listener above: one for each dot would keep all dots of a long day
  made.style.background = colourOf(k);
  return made;
}
