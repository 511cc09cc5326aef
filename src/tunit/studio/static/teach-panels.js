// What stands around the gallery of Teach: the list of domains, the tools, and what was done so far.
import { dot } from "./colours.js";
import { at, element, many } from "./studio.js";

// Views that are not domains.
export const ALL = -2;
export const LEFT_OUT = -1;
export const GIVEN = -3;

/** The list of domains and other views. */
export function showKinds(teacher) {
  const held = document.activeElement?.dataset?.view;
  const rows = teacher.now.domains.map((one, i) => kind(teacher, one.number, teacher.label(one.number), one.size, i));
  const size = teacher.now.domain.length;
  rows.push(
    kind(teacher, ALL, "All pictures", size),
    kind(teacher, GIVEN, "Labelled", teacher.now.given.length),
    kind(teacher, LEFT_OUT, "Left out", teacher.now.leftOut),
  );
  at("kinds").replaceChildren(...rows);
  if (held) at("kinds").querySelector(`[data-view="${held}"]`)?.focus();
}

/** A button for a view; of the first ten domains (i < 10), with its key. */
function kind(teacher, number, text, size, i = 10) {
  const button = element(
    "button",
    {
      type: "button",
      class: "pick",
      "aria-pressed": String(number === teacher.view),
      dataset: { view: number },
      onclick: () => teacher.go(number),
    },
    element("b", { text }),
    element("span", { class: "meta", text: many(size) }),
  );
  if (number >= 0) button.prepend(dot(number));
  if (i < 10) button.append(element("kbd", { text: String((i + 1) % 10), title: "gives this domain" }));
  return element("li", {}, button);
}

/** The tools above the gallery, for the view and the pictures that are selected. */
export function showTools(teacher) {
  const { view, selected } = teacher;
  at("shown-title").textContent =
    view >= 0 ? teacher.label(view) : { [ALL]: "All pictures", [GIVEN]: "Labelled", [LEFT_OUT]: "Left out" }[view];
  at("rename").hidden = view < 0;
  const name = teacher.now.domains.find((one) => one.number === view)?.name ?? "";
  const filled = JSON.stringify([view, name]);
  if (document.activeElement !== at("name") && at("name").dataset.filled !== filled) {
    at("name").value = name; // what somebody has typed since is kept
    at("name").dataset.filled = filled;
  }
  at("name").placeholder = `Domain ${view}`;
  const options = (part, numbers) => {
    const offered = JSON.stringify(numbers.map((number) => [number, teacher.label(number)]));
    if (part.dataset.offered === offered || part === document.activeElement) return; // it may be open
    part.dataset.offered = offered;
    const before = part.value;
    part.replaceChildren(...numbers.map((number) => element("option", { value: number, text: teacher.label(number) })));
    if ([...part.options].some((one) => one.value === before)) part.value = before;
  };
  const numbers = teacher.now.domains.map((one) => one.number);
  options(at("into"), numbers.filter((number) => number !== view));
  options(at("to"), numbers);
  at("merge").disabled = numbers.length < 2;
  at("count").textContent = `${many(selected.size)} of ${many(teacher.order.length)} selected`;
  for (const id of ["give", "leave-out", "forget"]) at(id).disabled = !selected.size;
}

/** What was done so far. */
export function showHistory({ now }) {
  at("undo").disabled = !now.history.length;
  at("redo").disabled = !now.undone.length;
  at("saved").textContent = now.number ? `${many(now.number)} ${now.number === 1 ? "action" : "actions"}, all saved.` : "Nothing yet.";
  at("history").replaceChildren(...now.history.map((text) => element("li", { text })));
}
