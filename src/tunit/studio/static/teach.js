// Teach: name, merge and split domains, assign pictures to them, and train with these labels.
import { colourOf, dot, onScheme } from "./colours.js";
import { released } from "./press.js";
import { element, inBackground, json, notice, pageData, pause, post, untilAnswered } from "./studio.js";

const AT_ONCE = 120; // pictures that are added to the gallery at a time
const EVERY = 4000; // milliseconds between requests for what other people have done
const ALL = -2;
const LEFT_OUT = -1;
const GIVEN = -3;
const at = (id) => document.getElementById(id);
const many = (number) => number.toLocaleString("en");

async function start() {
  const page = pageData("page-data");
  const base = `/runs/${page.run}`;
  for (;;) {
    const found = await untilAnswered(`${base}/teach/pictures`);
    if (found.rows) {
      at("progress").hidden = true;
      at("teach").hidden = false;
      new Teacher(page, base, found);
      return;
    }
    at("progress").value = found.total ? found.done / found.total : 0;
    at("state").textContent = `Looking at the pictures: ${many(found.done)} of ${many(found.total)}.`;
    await pause(400);
  }
}

class Teacher {
  constructor(page, base, found) {
    Object.assign(this, { page, base, found, now: found.now });
    this.view = ALL;
    this.order = []; // indices of pictures, in the order shown
    this.limit = AT_ONCE;
    this.selected = new Set(); // indices of pictures
    this.focus = 0; // the position in `order` that has the keyboard focus
    this.anchor = 0; // where a selection with Shift began
    this.tiles = new Map(); // index of a picture -> element
    this.busy = Promise.resolve(); // actions are sent one after the other
    const domains = this.now.domains.filter((one) => one.size);
    this.view = domains.length ? domains[0].number : ALL;
    this.origin();
    this.listen();
    this.show();
    setInterval(() => this.look(), EVERY);
  }

  /** Say which model found the domains. */
  origin() {
    const { older } = this.found;
    at("state").textContent = older === null
      ? "Define the domains. Every action is saved at once."
      : `The run has another model since: these are the domains of the one at step ${many(older)}.`;
  }

  // ---- what the studio knows ----

  /** Carry out an action after all earlier ones, so that keys may be pressed quickly. Gives whether it was done. */
  act(action) {
    this.busy = this.busy.then(() => this.send(action)).then(
      () => true,
      () => false, // the notice shows the error
    );
    return this.busy;
  }

  async send(action) {
    notice("");
    try {
      const { number, model } = this.now;
      await this.take(await post(`${this.base}/teach/act`, { action: JSON.stringify(action), seen: number, model }));
    } catch (error) {
      for (const place of action.pictures ?? []) this.selected.add(place); // so that it can be tried again
      await this.take(await json(`${this.base}/teach/state`).catch(() => this.now)); // somebody else may have changed something
      notice(error.message);
      throw error;
    }
  }

  async look() {
    if (document.hidden) return;
    await this.busy;
    const before = this.now;
    const now = await inBackground(`${this.base}/teach/state`).catch(() => null);
    const isNew = now && (now.number !== before.number || now.model !== before.model);
    if (isNew && this.now === before) this.take(now);
  }

  async take(now) {
    if (now.model !== this.now.model) {
      // Another model is surer of other pictures. If this fails, the next look tries again.
      const before = this.now;
      const found = await inBackground(`${this.base}/teach/pictures`).catch(() => null);
      if (!found?.rows || this.now !== before) return;
      this.found = found;
      this.tiles.clear();
      this.origin();
      now = found.now;
    }
    this.now = now;
    await released(at("teach"));
    const there = this.view < 0 || this.now.domains.some((one) => one.number === this.view);
    if (!there) this.view = ALL;
    this.show();
  }

  // ---- what is shown ----

  label(number) {
    return this.now.domains.find((one) => one.number === number)?.name || `Domain ${number}`;
  }

  /** The domain for a digit key: 1 to 9 and 0 stand for the first ten domains. */
  byDigit(digit) {
    return this.now.domains[(digit + 9) % 10];
  }

  show() {
    const given = new Set(this.now.given);
    this.given = given;
    const fits = {
      [ALL]: () => true,
      [GIVEN]: (place) => given.has(place),
    }[this.view] ?? ((place) => this.now.domain[place] === this.view);
    const { sure } = this.found;
    this.order = [...this.now.domain.keys()].filter(fits).sort((a, b) => sure[b] - sure[a] || a - b);
    const inView = new Set(this.order);
    for (const place of this.selected) if (!inView.has(place)) this.selected.delete(place);
    const last = Math.max(this.order.length - 1, 0);
    [this.focus, this.anchor] = [Math.min(this.focus, last), Math.min(this.anchor, last)];
    this.kinds();
    this.gallery();
    this.tools();
    this.past();
  }

  kinds() {
    const held = document.activeElement?.dataset?.view;
    const rows = this.now.domains.map((one, i) => this.kind(one.number, this.label(one.number), one.size, i));
    const size = this.now.domain.length;
    rows.push(
      this.kind(ALL, "All pictures", size),
      this.kind(GIVEN, "Labelled", this.now.given.length),
      this.kind(LEFT_OUT, "Left out", this.now.leftOut),
    );
    at("kinds").replaceChildren(...rows);
    if (held) at("kinds").querySelector(`[data-view="${held}"]`)?.focus();
  }

  kind(number, text, size, i = 10) {
    const button = element(
      "button",
      {
        type: "button",
        class: "pick",
        "aria-pressed": String(number === this.view),
        dataset: { view: number },
        onclick: () => this.go(number),
      },
      element("b", { text }),
      element("span", { class: "meta", text: many(size) }),
    );
    if (number >= 0) button.prepend(dot(number));
    if (i < 10) button.append(element("kbd", { text: String((i + 1) % 10), title: "gives this domain" }));
    return element("li", {}, button);
  }

  go(number) {
    this.view = number;
    this.limit = AT_ONCE;
    this.selected.clear();
    this.focus = this.anchor = 0;
    this.tiles.clear();
    at("gallery").replaceChildren();
    this.show();
  }

  gallery() {
    const shown = this.order.slice(0, this.limit);
    const had = at("gallery").contains(document.activeElement);
    const tiles = shown.map((place) => this.tile(place));
    const kept = [...at("gallery").children];
    if (kept.length !== tiles.length || kept.some((one, i) => one !== tiles[i])) at("gallery").replaceChildren(...tiles);
    shown.forEach((place, i) => this.mark(place, i));
    at("more").hidden = this.order.length <= this.limit;
    if (had) this.toGallery();
  }

  /** Focus the current picture; the empty gallery if there is none, so that its keys go on. */
  toGallery() {
    const tile = this.tiles.get(this.order[this.focus]);
    (tile?.isConnected ? tile : at("gallery")).focus();
  }

  tile(place) {
    let tile = this.tiles.get(place);
    if (tile) return tile;
    const source = `${this.base}/thumbnail/${this.found.rows[place]}?v=${this.page.version}`;
    tile = element(
      "div",
      { class: "picture tile", role: "option", dataset: { place } },
      element("img", { src: source, alt: "", loading: "lazy", draggable: "false" }),
    );
    this.tiles.set(place, tile);
    return tile;
  }

  mark(place, i) {
    const tile = this.tiles.get(place);
    const domain = this.now.domain[place];
    const said = domain === LEFT_OUT ? "left out" : this.given.has(place) ? "labelled" : "";
    tile.setAttribute("aria-selected", String(this.selected.has(place)));
    tile.tabIndex = i === this.focus ? 0 : -1;
    tile.classList.toggle("given", this.given.has(place));
    tile.classList.toggle("out", domain === LEFT_OUT);
    tile.style.setProperty("--kind", domain >= 0 ? colourOf(domain) : "transparent");
    const where = domain >= 0 ? this.label(domain) : "";
    tile.setAttribute("aria-label", [this.found.names[place], where, said].filter(Boolean).join(", "));
    tile.title = tile.getAttribute("aria-label");
  }

  tools() {
    const { view, selected } = this;
    at("shown-title").textContent =
      view >= 0 ? this.label(view) : { [ALL]: "All pictures", [GIVEN]: "Labelled", [LEFT_OUT]: "Left out" }[view];
    at("rename").hidden = view < 0;
    const name = this.now.domains.find((one) => one.number === view)?.name ?? "";
    const filled = JSON.stringify([view, name]);
    if (document.activeElement !== at("name") && at("name").dataset.filled !== filled) {
      at("name").value = name; // what somebody has typed since is kept
      at("name").dataset.filled = filled;
    }
    at("name").placeholder = `Domain ${view}`;
    const options = (part, numbers) => {
      const offered = JSON.stringify(numbers.map((number) => [number, this.label(number)]));
      if (part.dataset.offered === offered || part === document.activeElement) return; // it may be open
      part.dataset.offered = offered;
      const before = part.value;
      part.replaceChildren(...numbers.map((number) => element("option", { value: number, text: this.label(number) })));
      if ([...part.options].some((one) => one.value === before)) part.value = before;
    };
    const numbers = this.now.domains.map((one) => one.number);
    options(at("into"), numbers.filter((number) => number !== view));
    options(at("to"), numbers);
    at("merge").disabled = numbers.length < 2;
    at("count").textContent = `${many(selected.size)} of ${many(this.order.length)} selected`;
    for (const id of ["give", "leave-out", "forget"]) at(id).disabled = !selected.size;
  }

  past() {
    const { now } = this;
    at("undo").disabled = !now.history.length;
    at("redo").disabled = !now.undone.length;
    at("saved").textContent = now.number ? `${many(now.number)} ${now.number === 1 ? "action" : "actions"}, all saved.` : "Nothing yet.";
    at("history").replaceChildren(...now.history.map((text) => element("li", { text })));
  }

  // ---- what people do ----

  places() {
    return [...this.selected].sort((a, b) => a - b);
  }

  /** Apply an action to the selected pictures; afterwards nothing is selected, and the focus is where it was. */
  onSelected(action) {
    if (!this.selected.size) return notice("Select pictures first: click them, or press Space.");
    const pictures = this.places();
    this.selected.clear();
    return this.act({ ...action, pictures });
  }

  select(i, { extend = false, toggle = false } = {}) {
    if (i < 0 || i >= this.order.length) return;
    if (i >= this.limit) {
      this.limit = i + AT_ONCE;
      this.gallery();
    }
    const shown = (k) => k < this.limit && this.mark(this.order[k], k);
    const before = this.focus;
    this.focus = i;
    if (extend) {
      for (let k = Math.min(this.anchor, i); k <= Math.max(this.anchor, i); k++) {
        this.selected.add(this.order[k]);
        shown(k);
      }
    } else {
      this.anchor = i;
      if (toggle && !this.selected.delete(this.order[i])) this.selected.add(this.order[i]);
    }
    shown(before);
    shown(i);
    this.tiles.get(this.order[i]).focus();
    this.tools();
  }

  selectAll(yes) {
    this.selected = new Set(yes ? this.order : []);
    this.order.slice(0, this.limit).forEach((place, i) => this.mark(place, i));
    this.tools();
  }

  /** How many pictures are in a row of the gallery. */
  columns() {
    const tiles = at("gallery").children;
    let number = 1;
    while (number < tiles.length && tiles[number].offsetTop === tiles[0].offsetTop) number++;
    return number;
  }

  listen() {
    at("gallery").addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.select(this.order.indexOf(Number(tile.dataset.place)), { extend: event.shiftKey, toggle: !event.shiftKey });
    });
    at("all").onclick = () => this.selectAll(true);
    at("none").onclick = () => this.selectAll(false);
    at("give").onclick = () => this.onSelected({ do: "give", domain: Number(at("to").value) });
    at("leave-out").onclick = () => this.onSelected({ do: "leave_out" });
    at("forget").onclick = () => this.onSelected({ do: "forget" });
    at("undo").onclick = () => this.act({ do: "undo" });
    at("redo").onclick = () => this.act({ do: "redo" });
    at("split").onclick = () => this.act({ do: "split", domain: this.view });
    at("merge").onclick = () => this.merge();
    at("more").onclick = () => {
      this.limit += 2 * AT_ONCE;
      this.gallery();
    };
    at("rename").onsubmit = (event) => {
      event.preventDefault();
      this.act({ do: "name", domain: this.view, name: at("name").value });
      if (document.activeElement === at("name")) this.toGallery(); // where the key N was pressed
    };
    at("add").onsubmit = async (event) => {
      event.preventDefault();
      const name = at("add-name").value;
      if ((await this.act({ do: "add", name })) && at("add-name").value === name) at("add-name").value = "";
    };
    at("go").onsubmit = (event) => {
      event.preventDefault();
      this.goOn();
    };
    for (const id of ["into", "to"]) at(id).onblur = () => this.tools();
    // Also when the page is shown again by the browser's button Back, as it was left.
    addEventListener("pageshow", () => (at("go").querySelector("button").disabled = false));
    onScheme(() => this.order.slice(0, this.limit).forEach((place, i) => this.mark(place, i)));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  merge() {
    const into = Number(at("into").value);
    const from = this.view;
    this.act({ do: "merge", domains: [from], into }).then(() => this.now.domains.some((one) => one.number === from) || this.go(into));
  }

  async goOn() {
    notice("");
    await this.busy;
    const button = at("go").querySelector("button");
    button.disabled = true;
    try {
      const { run } = await post(`${this.base}/teach/train`, new FormData(at("go")));
      location.href = run ? `/train?run=${encodeURIComponent(run)}` : "/train";
    } catch {
      button.disabled = false; // the notice says why
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("#rename") && event.key === "Escape") return this.toGallery();
    // Elsewhere single letters belong to others, such as people who speak instead of typing (WCAG 2.1.4).
    if (!at("gallery").contains(event.target)) return;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns(), Home: -this.focus, End: this.order.length - 1 - this.focus };
    if (event.key in moves) this.select(this.focus + moves[event.key], { extend: event.shiftKey });
    else if (event.repeat) return; // a key that is held down does one thing once
    else if (event.key === " ") this.select(this.focus, { toggle: true });
    else if (/^[0-9]$/.test(event.key)) {
      const domain = this.byDigit(Number(event.key));
      if (domain) this.onSelected({ do: "give", domain: domain.number });
    } else {
      const name = event.key.toLowerCase();
      const keys = {
        a: () => this.selectAll(true),
        escape: () => this.selectAll(false),
        x: () => this.onSelected({ do: "leave_out" }),
        f: () => this.onSelected({ do: "forget" }),
        u: () => this.act({ do: "undo" }),
        r: () => this.act({ do: "redo" }),
        n: () => this.view >= 0 && at("name").select(),
        s: () => this.view >= 0 && this.act({ do: "split", domain: this.view }),
        m: () => this.view >= 0 && at("into").focus(),
      };
      if (!(name in keys)) return;
      keys[name]();
    }
    event.preventDefault();
  }
}

start();
