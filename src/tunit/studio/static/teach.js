// Teach: name, merge and split domains, assign pictures to them, and train with these labels.
import { colourOf } from "./colours.js";
import { released } from "./press.js";
import { at, element, inBackground, json, many, notice, pageData, pause, post, untilAnswered } from "./studio.js";
import { listen } from "./teach-input.js";
import { ALL, GIVEN, LEFT_OUT, showHistory, showKinds, showTools } from "./teach-panels.js";

const AT_ONCE = 120; // pictures that are added to the gallery at a time
const EVERY = 4000; // milliseconds between requests for what other people have done

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
    listen(this);
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
    showKinds(this);
    this.gallery();
    showTools(this);
    showHistory(this);
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

  /** Show more pictures. */
  more() {
    this.limit += 2 * AT_ONCE;
    this.gallery();
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
    showTools(this);
  }

  selectAll(yes) {
    this.selected = new Set(yes ? this.order : []);
    this.order.slice(0, this.limit).forEach((place, i) => this.mark(place, i));
    showTools(this);
  }
}

start();
