// Train: start, watch, stop and resume trainings; several side by side.
import { isPressed } from "./press.js";
import { at, element, inBackground, json, notice, pageData, post } from "./studio.js";

const EVERY = 2000; // milliseconds between requests for the state of trainings
const WORDS = {
  starting: "starting",
  training: "in training",
  stopping: "stopping and saving everything",
  finished: "finished",
  stopped: "stopped, can be resumed",
  failed: "failed",
  unread: "not read",
};
const { most } = pageData("page-data");
const chosen = new Set(new URLSearchParams(location.search).getAll("run"));
const shownSample = new Map(); // run -> step that was chosen; the newest otherwise
let drawn = ""; // the charts that are shown; they are replaced only if they change
const closedLogs = new Set(); // runs whose log was closed
const typed = new Map(); // run -> the steps that somebody has typed into its card
const underWay = new Set(); // addresses of requests that have not been answered yet

function remember() {
  const query = new URLSearchParams([...chosen].map((key) => ["run", key])).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
}

/**
 * Post to an address, which no second click does while the request is under way, and show what has changed.
 * Gives whether the studio did it.
 */
async function act(address, fields = {}) {
  if (underWay.has(address)) return false;
  notice("");
  underWay.add(address);
  disable(address, true);
  try {
    await post(address, fields);
    await refresh();
    return true;
  } catch {
    return false; // the notice shows the error
  } finally {
    underWay.delete(address);
    disable(address, false);
  }
}

/** Disable the button of an address, or enable it again. */
function disable(address, yes) {
  const button = document.querySelector(`button[data-posts="${CSS.escape(address)}"]`);
  if (button) button.disabled = yes || button.closest("[data-run]").dataset.state === "stopping";
}

/** The form that resumes a run; it keeps what was typed when the card is made anew. */
function resumption(run) {
  const posts = `/runs/${run.key}/train/resume`;
  const steps = element("input", {
    inputmode: "numeric",
    size: 8,
    "aria-label": `steps of ${run.name} in all`,
    placeholder: run.state === "finished" ? "steps in all" : String(run.steps),
    oninput: () => typed.set(run.key, steps.value),
  });
  steps.value = typed.get(run.key) ?? "";
  const button = element("button", { text: "Resume", disabled: underWay.has(posts), dataset: { posts } });
  const onsubmit = async (event) => {
    event.preventDefault();
    button.focus(); // a card is not made anew while somebody types into it
    if (await act(posts, { steps: steps.value })) typed.delete(run.key);
  };
  const form = element("form", { onsubmit }, steps, button);
  form.style.display = "contents"; // the field and the button lie in one line with the other tools
  return form;
}

function card(run) {
  const running = ["starting", "training", "stopping"].includes(run.state);
  const pick = element("input", { type: "checkbox", "aria-label": `watch ${run.name}` });
  pick.checked = chosen.has(run.key);
  pick.disabled = !pick.checked && chosen.size >= most;
  pick.onchange = () => {
    if (pick.checked) chosen.add(run.key);
    else chosen.delete(run.key);
    remember();
    refresh();
  };
  const tools = element("div", { class: "tools" });
  if (running) {
    const posts = `/runs/${run.key}/train/stop`;
    const disabled = run.state === "stopping" || underWay.has(posts);
    const onclick = () => act(posts);
    tools.append(element("button", { type: "button", text: "Stop and save", onclick, disabled, dataset: { posts } }));
  } else if (run.steps) {
    tools.append(resumption(run));
  }
  if (run.model) {
    tools.append(
      element("a", { class: "button", href: `/runs/${run.key}/explore`, text: "Explore" }),
      element("a", { class: "button", href: `/runs/${run.key}/translate`, text: "Translate" }),
      element("a", { class: "button", href: `/runs/${run.key}/teach`, text: "Teach" }),
    );
  }
  const steps = run.steps ? `, step ${run.step.toLocaleString("en")} of ${run.steps.toLocaleString("en")}` : "";
  const parts = [
    element("label", {}, pick, " ", element("b", { class: "inline", text: run.name })),
    element("p", { class: "meta", text: (run.free && run.state === "stopped" ? "stopped" : WORDS[run.state]) + steps }),
  ];
  if (run.steps) {
    const bar = element("progress", { max: run.steps, "aria-label": `steps of ${run.name}` });
    bar.value = Math.min(run.step, run.steps);
    parts.push(bar);
  }
  if (run.reason) parts.push(element("p", { class: "notice", text: run.reason }));
  if (run.free) parts.push(element("p", { class: "fine", text: "Nothing was trained: a new run may take this name." }));
  for (const sentence of run.alarms) parts.push(element("p", { class: "notice", text: `Alarm: ${sentence}` }));
  return element("article", { class: "card run", dataset: { run: run.key, state: run.state } }, ...parts, tools);
}

function alarm(run, one) {
  const when = one.over === null ? `since step ${one.step}` : `from step ${one.step} to ${one.over}`;
  const text = `${run.name}, ${when}: ${one.sentence}. `;
  const kind = one.over === null ? "notice" : "fine";
  return element("p", { class: kind }, text, element("span", { text: one.over === null ? `What to do: ${one.remedy}.` : "" }));
}

function samples(run) {
  if (!run.samples.length) return element("p", { class: "fine", text: `${run.name} has no samples yet.` });
  const image = element("img", { loading: "lazy" });
  const said = element("figcaption", {});
  const slide = element("input", {
    type: "range",
    min: 0,
    max: run.samples.length - 1,
    "aria-label": `step of the samples of ${run.name}`,
  });
  const show = () => {
    const step = run.samples[slide.value];
    image.src = `/runs/${run.key}/samples/step_${String(step).padStart(8, "0")}.png`;
    image.alt = `${run.name}, step ${step}: sources on the left redrawn in the styles of the pictures on top`;
    said.textContent = `${run.name}, step ${step.toLocaleString("en")}`;
  };
  const before = run.samples.indexOf(shownSample.get(run.key));
  slide.value = before >= 0 ? before : run.samples.length - 1;
  slide.oninput = () => {
    shownSample.set(run.key, run.samples[slide.value]);
    show();
  };
  show();
  return element("figure", { class: "card" }, image, said, slide);
}

function log(run) {
  const part = element("details", { open: !closedLogs.has(run.key), dataset: { log: run.key } }, element("summary", { text: run.name }), element("pre"));
  part.ontoggle = () => (part.open ? closedLogs.delete(run.key) : closedLogs.add(run.key));
  return part;
}

/** Show new lines of a log in its place, so that the focus and what is marked in other logs stay. */
function tell(run) {
  const text = run.log.join("\n") || "The studio has not started a training of this run.";
  const shown = at("logs").querySelector(`[data-log="${CSS.escape(run.key)}"] pre`);
  if (shown && shown.textContent !== text) shown.textContent = text;
}

/** Whether somebody types into a part, or holds a button of it down. */
function inUse(part) {
  const typed = document.activeElement;
  return isPressed(part) || (part.contains(typed) && typed.matches("input:not([type=checkbox])"));
}

/** Replace the content of a part, unless it is in use or nothing has changed. */
function fill(part, key, make) {
  if (part.dataset.key === key || inUse(part)) return;
  const held = document.activeElement?.closest?.("[data-run]");
  const label = held && part.contains(held) ? document.activeElement.getAttribute("aria-label") || document.activeElement.textContent : "";
  const run = held?.dataset.run;
  part.replaceChildren(...make());
  part.dataset.key = key;
  if (!label) return;
  for (const one of part.querySelectorAll("[data-run] button, [data-run] input, [data-run] a")) {
    const same = (one.getAttribute("aria-label") || one.textContent) === label;
    if (same && one.closest("[data-run]").dataset.run === run) one.focus();
  }
}

/** Runs that were chosen and then deleted, or are unknown, no longer count towards the most that are compared. */
function forgetUnknown(asked, runs) {
  const known = new Set(runs.map((run) => run.key));
  const unknown = asked.filter((key) => !known.has(key));
  for (const key of unknown) chosen.delete(key);
  if (unknown.length) remember();
}

/** Show the state of now. request: how to ask for it. */
async function refresh(request = json) {
  const asked = [...chosen];
  const query = new URLSearchParams(asked.map((key) => ["run", key]));
  const found = await request(`/train/runs?${query}`);
  forgetUnknown(asked, found.runs);
  at("none").hidden = found.runs.length > 0;
  fill(at("runs"), JSON.stringify([found.runs, [...chosen]]), () => found.runs.map(card));
  at("watch").hidden = !found.chosen.length && !found.left_out.length;
  if (drawn !== found.charts) {
    at("charts").innerHTML = found.charts; // made by the studio, which escapes every name in it
    drawn = found.charts;
  }
  const going = found.runs.some((run) => ["starting", "training", "stopping"].includes(run.state));
  const said = going ? "Live: updated every two seconds." : "Nothing is in training now.";
  if (at("live").textContent !== said) at("live").textContent = said; // a screen reader reads whatever is written there
  fill(at("alarms"), JSON.stringify([found.left_out, found.chosen.map((run) => run.alarms)]), () => [
    ...found.left_out.map((text) => element("p", { class: "notice", text })),
    ...found.chosen.flatMap((run) => run.alarms.map((one) => alarm(run, one))),
  ]);
  fill(at("samples"), JSON.stringify(found.chosen.map((run) => [run.key, run.samples])), () => found.chosen.map(samples));
  fill(at("logs"), JSON.stringify(found.chosen.map((run) => run.key)), () => found.chosen.map(log));
  found.chosen.forEach(tell);
}

at("look").onclick = async () => {
  const form = new FormData(at("order"));
  at("look").disabled = true;
  at("findings").replaceChildren(element("p", { class: "fine", text: "Looking at every picture ..." }));
  notice("");
  try {
    const { good, lines } = await post("/train/look", { folder: form.get("folder"), preset: form.get("preset") });
    at("findings").replaceChildren(...lines.map((text) => element("p", { class: good ? "fine" : "notice", text })));
  } catch {
    at("findings").replaceChildren();
  } finally {
    at("look").disabled = false;
  }
};

at("order").onsubmit = async (event) => {
  event.preventDefault();
  notice("");
  at("start").disabled = true;
  try {
    const { run, note } = await post("/train/start", new FormData(at("order")));
    if (note) notice(note);
    if (run) chosen.add(run);
    else notice("The training has begun, but this folder holds more runs than are listed here.");
    remember();
    at("new").open = false;
    await refresh();
  } catch {
    // The notice shows the error.
  } finally {
    at("start").disabled = false;
  }
};

async function live() {
  if (!document.hidden) await refresh(inBackground).catch(() => undefined);
  setTimeout(live, EVERY);
}
live();
