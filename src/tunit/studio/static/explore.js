import { colourOf, dot, onScheme } from "./colours.js";
import { StyleMap, smallMap } from "./map.js";
import { call, element, json, pageData } from "./studio.js";

const AT_ONCE = 60; // pictures that are added to the gallery at a time
const at = (id) => document.getElementById(id);

async function start() {
  const page = pageData("page-data");
  const base = `/runs/${page.run}`;
  const found = await looked(`${base}/explore/pictures`);
  at("state").textContent =
    found.rows.length < found.all
      ? `${found.rows.length.toLocaleString("en")} of ${found.all.toLocaleString("en")} pictures, evenly spread.`
      : `${found.all.toLocaleString("en")} pictures in ${found.domains.filter((d) => d.size).length} domains.`;
  at("progress").hidden = true;
  at("explore").hidden = false;
  new Explorer(page, base, found);
}

/** E's output for all pictures, as soon as the studio has computed it. */
async function looked(address) {
  for (;;) {
    const answer = await call(address);
    const found = await answer.json();
    if (answer.status === 200) return found;
    at("progress").value = found.total ? found.done / found.total : 0;
    const all = found.total.toLocaleString("en");
    at("state").textContent =
      found.done < found.total
        ? `Looking at the pictures: ${found.done.toLocaleString("en")} of ${all}.`
        : `Looked at all ${all} pictures; drawing the map.`;
    await new Promise((done) => setTimeout(done, 400));
  }
}

class Explorer {
  constructor(page, base, found) {
    Object.assign(this, { page, base, found });
    this.chosen = new Set(); // domains
    this.lassoed = null; // Uint8Array
    this.limit = AT_ONCE;
    this.order = [];
    this.open = -1;
    this.map = new StyleMap(at("canvas"), found, colourOf, {
      point: (place) => this.tip(place),
      open: (place) => this.show(place),
      lasso: (mask) => this.lasso(mask),
    });
    onScheme(() => this.map.recolour(colourOf));
    at("domains").append(...found.domains.map((domain) => this.card(domain)));
    this.tools();
    this.filter();
  }

  thumbnail(place) {
    return `${this.base}/thumbnail/${this.found.rows[place]}?v=${this.page.version}`;
  }

  nameOf(k) {
    return this.found.domains[k].name || `Domain ${k}`;
  }

  spoken(place) {
    const sure = (this.found.confidence[place] / 10).toFixed(0);
    return `picture ${this.found.rows[place]}, ${this.nameOf(this.found.domain[place])}, confidence ${sure} %`;
  }

  card(domain) {
    const k = domain.number;
    const pick = element(
      "button",
      { type: "button", class: "pick", "aria-pressed": "false", onclick: () => this.choose(k, pick) },
      dot(k),
      element("b", { text: this.nameOf(k) }),
      element("span", { class: "meta", text: domain.size.toLocaleString("en") }),
    );
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
          element("img", { src: source, alt: text, loading: "lazy" }),
          element("figcaption", { class: "fine", text: "the same pictures in its average style" }),
        ),
      );
    }
    return element("article", { class: "domain-card" }, ...parts);
  }

  button(place) {
    const image = element("img", { src: this.thumbnail(place), alt: this.spoken(place), loading: "lazy" });
    const made = element(
      "button",
      { type: "button", class: "picture", onclick: () => this.show(place), dataset: { place } },
      image,
    );
    made.addEventListener("pointerenter", () => this.map.point(place));
    return made;
  }

  choose(k, pick) {
    if (!this.chosen.delete(k)) this.chosen.add(k);
    pick.setAttribute("aria-pressed", String(this.chosen.has(k)));
    this.filter();
  }

  lasso(mask) {
    this.lassoed = mask && mask.some((value) => value) ? mask : null;
    if (!this.lassoed) this.map.clear();
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
    at("close").onclick = () => at("one").close();
    at("previous").onclick = () => this.step(-1);
    at("next").onclick = () => this.step(1);
    at("one").addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.step(-1);
      else if (event.key === "ArrowRight") this.step(1);
      else return;
      event.preventDefault();
    });
    at("one").addEventListener("click", (event) => event.target === at("one") && at("one").close());
  }

  filter() {
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
    this.limit = AT_ONCE;
    this.map.show(isAll ? null : mask);
    at("all").hidden = isAll;
    at("count").textContent = `${this.order.length.toLocaleString("en")} of ${mask.length.toLocaleString("en")}`;
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
    if (place < 0) return;
    const [x, y] = this.map.at(place);
    at("tip-picture").src = this.thumbnail(place);
    at("tip-text").textContent = this.spoken(place);
    const room = at("canvas").clientWidth;
    tip.style.left = `${Math.max(4, Math.min(room - tip.offsetWidth - 4, x + 14))}px`;
    tip.style.top = `${y > at("canvas").clientHeight / 2 ? y - tip.offsetHeight - 10 : y + 14}px`;
  }

  step(by) {
    const place = this.order[this.order.indexOf(this.open) + by];
    if (place !== undefined) this.show(place);
  }

  async show(place) {
    const about = await json(`${this.base}/explore/picture/${place}`);
    const { found } = this;
    this.open = place;
    this.map.point(place);
    const dialog = at("one");
    const k = about.domain;
    at("one-picture").src = `${this.base}/picture/${about.row}?v=${this.page.version}`;
    at("one-picture").alt = about.name;
    at("one-name").textContent = about.name;
    const facts = [
      ["domain", this.nameOf(k)],
      ["confidence", `${(100 * about.confidence).toFixed(1)} %`],
      ["off-topic", about.outlier < 0.5 ? `no (${about.outlier.toFixed(2)})` : `yes (${about.outlier.toFixed(2)})`],
    ];
    if (about.label) facts.splice(1, 0, ["label", about.label]);
    at("one-facts").replaceChildren(
      ...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]),
    );
    at("one-facts").querySelector("dd").prepend(dot(k), " ");
    at("as-source").href = `${this.page.translate}?source=${about.row}`;
    at("as-reference").href = `${this.page.translate}?reference=${about.row}`;
    at("neighbours").replaceChildren(...about.neighbours.map((one) => this.button(one.place)));
    const here = this.order.indexOf(place);
    at("previous").disabled = here <= 0;
    at("next").disabled = here < 0 || here + 1 >= this.order.length;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    smallMap(at("where"), found, colourOf, place);
  }
}

start();
