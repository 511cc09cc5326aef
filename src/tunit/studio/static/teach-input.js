// What the buttons, the forms and the keys of Teach do.
import { onScheme } from "./colours.js";
import { at, notice, post } from "./studio.js";
import { showTools } from "./teach-panels.js";

/** Let the page's buttons, forms and keys act on a Teacher. */
export function listen(teacher) {
  at("gallery").addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (tile) teacher.select(teacher.order.indexOf(Number(tile.dataset.place)), { extend: event.shiftKey, toggle: !event.shiftKey });
  });
  at("all").onclick = () => teacher.selectAll(true);
  at("none").onclick = () => teacher.selectAll(false);
  at("give").onclick = () => teacher.onSelected({ do: "give", domain: Number(at("to").value) });
  at("leave-out").onclick = () => teacher.onSelected({ do: "leave_out" });
  at("forget").onclick = () => teacher.onSelected({ do: "forget" });
  at("undo").onclick = () => teacher.act({ do: "undo" });
  at("redo").onclick = () => teacher.act({ do: "redo" });
  at("split").onclick = () => teacher.act({ do: "split", domain: teacher.view });
  at("merge").onclick = () => merge(teacher);
  at("more").onclick = () => teacher.more();
  at("rename").onsubmit = (event) => {
    event.preventDefault();
    teacher.act({ do: "name", domain: teacher.view, name: at("name").value });
    if (document.activeElement === at("name")) teacher.toGallery(); // where the key N was pressed
  };
  at("add").onsubmit = async (event) => {
    event.preventDefault();
    const name = at("add-name").value;
    if ((await teacher.act({ do: "add", name })) && at("add-name").value === name) at("add-name").value = "";
  };
  at("go").onsubmit = (event) => {
    event.preventDefault();
    goOn(teacher);
  };
  for (const id of ["into", "to"]) at(id).onblur = () => showTools(teacher);
  // Also when the page is shown again by the browser's button Back, as it was left.
  addEventListener("pageshow", () => (at("go").querySelector("button").disabled = false));
  onScheme(() => teacher.order.slice(0, teacher.limit).forEach((place, i) => teacher.mark(place, i)));
  document.addEventListener("keydown", (event) => key(teacher, event));
}

function merge(teacher) {
  const into = Number(at("into").value);
  const from = teacher.view;
  teacher.act({ do: "merge", domains: [from], into }).then(() => teacher.now.domains.some((one) => one.number === from) || teacher.go(into));
}

async function goOn(teacher) {
  notice("");
  await teacher.busy;
  const button = at("go").querySelector("button");
  button.disabled = true;
  try {
    const { run } = await post(`${teacher.base}/teach/train`, new FormData(at("go")));
    location.href = run ? `/train?run=${encodeURIComponent(run)}` : "/train";
  } catch {
    button.disabled = false; // the notice says why
  }
}

function key(teacher, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("#rename") && event.key === "Escape") return teacher.toGallery();
  // Elsewhere single letters belong to others, such as people who speak instead of typing (WCAG 2.1.4).
  if (!at("gallery").contains(event.target)) return;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -teacher.focus, End: teacher.order.length - 1 - teacher.focus };
  if (event.key in moves) teacher.select(teacher.focus + moves[event.key], { extend: event.shiftKey });
  else if (event.repeat) return; // a key that is held down does one thing once
  else if (event.key === " ") teacher.select(teacher.focus, { toggle: true });
  else if (/^[0-9]$/.test(event.key)) {
    const domain = teacher.byDigit(Number(event.key));
    if (domain) teacher.onSelected({ do: "give", domain: domain.number });
  } else {
    const name = event.key.toLowerCase();
    const keys = {
      a: () => teacher.selectAll(true),
      escape: () => teacher.selectAll(false),
      x: () => teacher.onSelected({ do: "leave_out" }),
      f: () => teacher.onSelected({ do: "forget" }),
      u: () => teacher.act({ do: "undo" }),
      r: () => teacher.act({ do: "redo" }),
      n: () => teacher.view >= 0 && at("name").select(),
      s: () => teacher.view >= 0 && teacher.act({ do: "split", domain: teacher.view }),
      m: () => teacher.view >= 0 && at("into").focus(),
    };
    if (!(name in keys)) return;
    keys[name]();
  }
  event.preventDefault();
}

/** How many pictures are in a row of the gallery. */
function columns() {
  const tiles = at("gallery").children;
  let number = 1;
  while (number < tiles.length && tiles[number].offsetTop === tiles[0].offsetTop) number++;
  return number;
}
