// The dialog that shows one picture: what E has found about it, where it is on the map, and its neighbours.
import { colourOf, dot } from "./colours.js";
import { smallMap } from "./small-map.js";
import { at, element, json, notice } from "./studio.js";

export class OnePicture {
  /** explorer: the page, which knows what was found and which pictures are chosen. */
  constructor(explorer) {
    this.explorer = explorer;
    this.open = -1; // the row of the picture that was opened last
    this.asked = 0; // how many were opened
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

  /** Show the picture so many places further in the gallery. */
  step(by) {
    const { found, order, placeOf } = this.explorer;
    const row = found.rows[order[order.indexOf(placeOf.get(this.open)) + by]];
    if (row !== undefined) this.show(row);
  }

  /** Show the picture of a row. */
  async show(row) {
    const { explorer } = this;
    const { base, page } = explorer;
    const dialog = at("one");
    const [number, wasOpen] = [(this.asked += 1), dialog.open];
    notice(""); // about an earlier picture
    this.open = row; // at once: the next arrow key may come before the answer
    const about = await json(`${base}/explore/picture/${row}`);
    if (number !== this.asked || (wasOpen && !dialog.open)) return; // another one was opened, or this one closed
    const { found, order, placeOf } = explorer; // what is known now, after the answer
    const place = placeOf.get(row);
    explorer.map?.point(place);
    const k = about.domain;
    at("one-picture").src = `${base}/picture/${about.row}?v=${page.version}`;
    at("one-picture").alt = about.name;
    at("one-name").textContent = about.name;
    const facts = [
      ["domain", explorer.nameOf(k)],
      ...(about.confidence === null ? [] : [["confidence", `${(100 * about.confidence).toFixed(1)} %`]]),
      ["off-topic", `${about.off_topic ? "yes" : "no"} (${about.outlier.toFixed(3)})`],
    ];
    if (about.label) facts.splice(1, 0, ["label", about.label]);
    at("one-facts").replaceChildren(
      ...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]),
    );
    at("one-facts").querySelector("dd").prepend(dot(k), " ");
    at("as-source").href = `${page.translate}?source=${about.row}`;
    at("as-reference").href = `${page.translate}?reference=${about.row}`;
    const near = about.neighbours.map((one) => placeOf.get(one.row)).filter((one) => one !== undefined);
    at("neighbours").replaceChildren(...near.map((one) => explorer.button(one)));
    const here = order.indexOf(place);
    at("previous").disabled = here <= 0;
    at("next").disabled = here < 0 || here + 1 >= order.length;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    at("where-part").hidden = !found.x;
    if (found.x) smallMap(at("where"), found, colourOf, place);
  }
}
