// A walk from style to style, as an animation.
import { at, call, element } from "./studio.js";
import { base, chosen, fields, nameOf, page, save, stem, told } from "./translate-shared.js";

/** The styles that a walk can begin and end with. */
export function fillWalk() {
  const { parts } = chosen;
  const choices = [["own", "the source's own style"]];
  if (parts.length > 1) choices.push(["mix", "the mix above"]);
  for (const { id, name } of parts) choices.push([`part-${id}`, name]);
  for (const { number } of page.domains) choices.push([`domain-${number}`, nameOf(number)]);
  for (const [id, usual] of [["walk-from", "own"], ["walk-to", parts.length ? `part-${parts[0].id}` : choices.at(-1)[0]]]) {
    const before = at(id).value;
    at(id).replaceChildren(...choices.map(([value, text]) => element("option", { value, text })));
    at(id).value = choices.some(([value]) => value === before) ? before : usual;
  }
}

/** The style of a choice, in the form that the studio expects. */
function stop(value) {
  const { source, parts } = chosen;
  if (value === "own") return [{ code: source.code }];
  if (value === "mix") return parts.map(told);
  const [kind, number] = value.split("-");
  if (kind === "domain") return [{ domain: Number(number) }];
  return [{ ...told(parts.find((part) => part.id === Number(number))), weight: 1 }];
}

let walked = ""; // the address of the walk that is shown
export async function drawWalk() {
  const { source } = chosen;
  const kind = at("kind").value;
  at("walk-shown").replaceChildren(element("p", { class: "meta", role: "status", text: "Walking ..." }));
  const stops = JSON.stringify([stop(at("walk-from").value), stop(at("walk-to").value)]);
  const body = fields({ stops, frames: at("frames").value, kind });
  let blob;
  try {
    blob = await (await call(`${base}/translate/walk`, { method: "POST", body })).blob();
  } catch (error) {
    if (source === chosen.source) at("walk-shown").replaceChildren();
    throw error;
  }
  if (source !== chosen.source) return;
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
    onclick: () => save(blob, `${stem(source)}-walk.${kind}`),
  });
  at("walk-shown").replaceChildren(shown, element("div", { class: "tools" }, button));
}
