// How pictures are chosen: from the run, or as files.
import { at, element } from "./studio.js";
import { base, page } from "./translate-shared.js";

const AT_ONCE = 60; // pictures that are added to the picker at a time

/** Let the user pick one of the run's pictures; `taken` gets its row. */
export function pick(taken) {
  const every = Math.max(1, Math.ceil(page.pictures / page.most));
  const rows = Array.from({ length: Math.floor(page.pictures / every) }, (_, i) => i * every);
  let shown = 0;
  const more = () => {
    const next = rows.slice(shown, shown + AT_ONCE);
    shown += next.length;
    at("picked").append(
      ...next.map((row) => {
        const picture = element("img", { src: `${base}/thumbnail/${row}?v=${page.version}`, alt: `picture ${row}`, loading: "lazy" });
        const use = () => {
          at("picker").close();
          taken(row);
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

/** `taken` gets each file that is chosen with an input, or dropped on an element. */
export function onFiles(drop, input, taken) {
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
