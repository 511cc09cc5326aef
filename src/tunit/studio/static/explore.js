import { colourOf, dot, onScheme } from "./colours.js";
import { OnePicture } from "./explore-picture.js";
import { StyleMap } from "./map.js";
import { released } from "./press.js";
import { at, element, many, notice, pageData, pause, untilAnswered } from "./studio.js";

const AT_ONCE = 60; // pictures that are added to the gallery at a time
const RESTS = 60; // milliseconds that the pointer rests on a point before its picture is loaded

/** Show what E has found about the pictures, as soon as some have been looked at, until nothing new follows. */
async function start() {
  const page = pageData("page-data");
  const base = `/runs/${page.run}`;
  let explorer = null;
  for (let stage = 0; stage !== null; ) {
    const found = await untilAnswered(`${base}/explore/pictures?stage=${stage}`);
    if (found.rows) {
      stage = found.stage;
      at("explore").hidden = false;
      explorer ??= new Explorer(page, base);
      await released(at("explore")); // the user is just drawing a lasso, or clicking a picture
      explorer.take(found);
    } else {
      at("progress").value = found.total ? found.done / found.total : 0;
      at("state").textContent = progressOf(found, explorer?.found);
      await pause(400);
    }
  }
  const { found } = explorer;
  at("state").textContent =
    found.rows.length < found.all
      ? `${many(found.rows.length)} of ${many(found.all)} pictures, evenly spread.`
      : `${many(found.all)} pictures in ${found.domains.filter((d) => d.size).length} domains.`;
  at("progress").hidden = true;
}

function progressOf({ done, total }, shown) {
  if (!shown) return `Looking at the pictures: ${many(done)} of ${many(total)}.`;
  const parts = [`Looked at ${done < total ? `${many(done)} of ${many(total)}` : `all ${many(total)}`} pictures`];
  const number = shown.rows.length;
  if (number < total) parts.push(`${many(number)} of them, evenly spread, are shown already`);
  if (!shown.x) parts.push("the map follows");
  return `${parts.join("; ")}.`;
}

class Explorer {
  constructor(page, base) {
    Object.assign(this, { page, base, map: null });
    this.chosen = new Set(); // domains
    this.lassoed = null; // Uint8Array
    this.limit = AT_ONCE;
    this.order = [];
    this.one = new OnePicture(this);
    this.tools();
  }

  /** Show what E has found about these pictures. What was chosen before stays chosen. */
  take(found) {
    const before = this.found;
    const focused = selectorOf(document.activeElement);
    this.found = found;
    this.placeOf = new Map(found.rows.map((row, place) => [row, place]));
    const places = (mask) => before.rows.filter((_, i) => mask[i]).map((row) => this.placeOf.get(row));
    if (!found.told && !before) this.withoutConfidence();
    if (found.undecided && !before) notice(found.undecided);
    at("domains").replaceChildren(...found.domains.map((domain) => this.card(domain)));
    if (found.x) this.showMap(before);
    if (this.lassoed) this.lassoed = this.map.lassoed() ?? maskOf(places(this.lassoed), found.rows.length);
    this.filter(this.limit);
    if (focused) document.querySelector(focused)?.focus({ preventScroll: true });
  }

  /** The domains are labels, of which the model cannot be sure or unsure: no order by its confidence is offered. */
  withoutConfidence() {
    for (const value of ["confidence", "unsure"]) at("order").querySelector(`[value="${value}"]`).remove();
  }

  showMap(before) {
    at("map-parts").hidden = false;
    at("map-later").hidden = true;
    if (this.map) {
      const row = before.rows[this.map.cursor];
      this.map.replace(this.found, colourOf, this.placeOf.get(row) ?? -1);
      return;
    }
    this.map = new StyleMap(at("canvas"), this.found, colourOf, {
      point: (place) => this.tip(place),
      reached: (place) => (at("reached").textContent = this.spoken(place)), // a canvas says nothing by itself
      open: (place) => this.one.show(this.found.rows[place]),
      lasso: (mask) => this.lasso(mask),
    });
    onScheme(() => this.map.recolour(colourOf));
  }

  thumbnail(place) {
    return `${this.base}/thumbnail/${this.found.rows[place]}?v=${this.page.version}`;
  }

  nameOf(k) {
    return this.found.domains[k]?.name || `Domain ${k}`; // a newer model may have more domains than the page
  }

  spoken(place) {
    const said = `picture ${this.found.rows[place]}, ${this.nameOf(this.found.domain[place])}`;
    return this.found.told ? `${said}, confidence ${(this.found.confidence[place] / 10).toFixed(0)} %` : said;
  }

  card(domain) {
    const k = domain.number;
    const pick = element(
      "button",
      { type: "button", class: "pick", onclick: () => this.choose(k, pick), dataset: { domain: k } },
      dot(k),
      element("b", { text: this.nameOf(k) }),
      element("span", { class: "meta", text: many(domain.size) + (this.found.stage === null ? "" : " so far") }),
    );
    pick.setAttribute("aria-pressed", String(this.chosen.has(k)));
    pick.disabled = !domain.size;
    const strip = element("div", { class: "strip" }, ...domain.typical.map((place) => this.button(place)));
    const parts = [pick, strip];
    if (domain.style) {
      const text = `${this.page.examples.length} pictures in the average style of ${this.nameOf(k)}`;
      const source = `${this.base}/average/${k}?v=${this.page.version}`;
      parts.push(
        element(
          "figure",
          { class: "average" },
          // The sizes keep its place free until it is loaded: the map below must not move while a lasso is drawn.
          element("img", { src: source, alt: text, loading: "lazy", width: this.page.examples.length, height: 1 }),
          element("figcaption", { class: "fine", text: "the same pictures in its average style" }),
        ),
      );
    }
    return element("article", { class: "domain-card" }, ...parts);
  }

  button(place) {
    const image = element("img", { src: this.thumbnail(place), alt: this.spoken(place), loading: "lazy" });
    const row = this.found.rows[place];
    const made = element(
      "button",
      { type: "button", class: "picture", onclick: () => this.one.show(row), dataset: { place, row } },
      image,
    );
    made.addEventListener("pointerenter", () => this.map?.point(this.placeOf.get(row)));
    return made;
  }

  choose(k, pick) {
    if (!this.chosen.delete(k)) this.chosen.add(k);
    pick.setAttribute("aria-pressed", String(this.chosen.has(k)));
    this.filter();
  }

  lasso(mask) {
    this.lassoed = mask && mask.some((value) => value) ? mask : null;
    if (!this.lassoed) this.map?.clear();
    this.filter();
  }

  tools() {
    const mode = (name) => {
      this.map.mode = name;
      for (const id of ["lasso", "move"]) at(id).setAttribute("aria-pressed", String(id === name));
      at("canvas").classList.toggle("moving", name === "move");
    };
    at("lasso").onclick = () => mode("lasso");
    at("move").onclick = () => mode("move");
    at("closer").onclick = () => this.map.zoom(1.6);
    at("farther").onclick = () => this.map.zoom(1 / 1.6);
    at("whole").onclick = () => this.map.whole();
    at("order").onchange = () => this.filter();
    at("more").onclick = () => {
      const first = this.limit;
      this.limit += 2 * AT_ONCE;
      this.gallery();
      at("gallery").children[first]?.focus();
    };
    at("all").onclick = () => {
      this.chosen.clear();
      for (const pick of document.querySelectorAll(".pick")) pick.setAttribute("aria-pressed", "false");
      this.lasso(null);
    };
  }

  /** Show the chosen pictures; at most `limit` at once. */
  filter(limit = AT_ONCE) {
    const { found, chosen, lassoed } = this;
    const isAll = !chosen.size && !lassoed;
    const mask = new Uint8Array(found.rows.length).fill(1);
    if (!isAll) {
      for (let i = 0; i < mask.length; i++) {
        mask[i] = (!chosen.size || chosen.has(found.domain[i])) && (!lassoed || lassoed[i]) ? 1 : 0;
      }
    }
    const by = {
      confidence: (a, b) => found.confidence[b] - found.confidence[a],
      unsure: (a, b) => found.confidence[a] - found.confidence[b],
      outlier: (a, b) => found.outlier[b] - found.outlier[a],
      name: (a, b) => a - b,
    }[at("order").value];
    this.order = [...mask.keys()].filter((i) => mask[i]).sort((a, b) => by(a, b) || a - b);
    this.limit = limit;
    this.map?.show(isAll ? null : mask);
    at("all").hidden = isAll;
    at("count").textContent = `${many(this.order.length)} of ${many(mask.length)}`;
    at("gallery").replaceChildren();
    this.gallery();
  }

  /** Fill the gallery up to its limit. */
  gallery() {
    const there = at("gallery").children.length;
    at("gallery").append(...this.order.slice(there, this.limit).map((place) => this.button(place)));
    at("more").hidden = this.order.length <= this.limit;
  }

  tip(place) {
    const tip = at("tip");
    tip.hidden = place < 0;
    clearTimeout(this.resting);
    if (place < 0) return;
    const [x, y] = this.map.at(place);
    this.resting = setTimeout(() => (at("tip-picture").src = this.thumbnail(place)), RESTS);
    at("tip-text").textContent = this.spoken(place);
    const room = at("canvas").clientWidth;
    tip.style.left = `${Math.max(4, Math.min(room - tip.offsetWidth - 4, x + 14))}px`;
    tip.style.top = `${y > at("canvas").clientHeight / 2 ? y - tip.offsetHeight - 10 : y + 14}px`;
  }

}

/** How to find the same picture or domain again after its element was replaced; "" for any other element. */
function selectorOf(element) {
  const part = element.closest("#gallery, #domains");
  const { row, domain } = element.dataset;
  if (!part || (row === undefined && domain === undefined)) return "";
  return row === undefined ? `#domains [data-domain="${domain}"]` : `#${part.id} [data-row="${row}"]`;
}

/** A Uint8Array that is 1 at the given places. */
function maskOf(places, length) {
  const mask = new Uint8Array(length);
  for (const place of places) mask[place] = 1;
  return mask;
}

start();
