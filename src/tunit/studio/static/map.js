// The map of styles on a canvas: points to look at, to draw a lasso around, and to walk between by keys.
// Drawing 10,000 points takes a few milliseconds, and is done only if something has changed.
import { Discs, packed } from "./discs.js";
import { Grid } from "./grid.js";
import { ring } from "./small-map.js";
import { View } from "./view.js";

const NEAR = 14; // pixels within which the pointer selects a point
const AROUND = 48; // how many of the nearest points the key L selects
const FINEST = 2; // pixels of the canvas in a CSS pixel, at most: with 3 drawing takes twice as long

export class StyleMap {
  /**
   * canvas: where to draw. points: {x, y, domain}, arrays of the same length, x and y from 0 to 10,000.
   * on: functions to call: point(place or -1) when another point or none is pointed at, reached(place) when a key has
   * led to it, open(place) when a point is opened, lasso(Uint8Array or null) when the lasso changes.
   */
  constructor(canvas, points, colours, on) {
    Object.assign(this, { canvas, on });
    this.view = new View();
    this.mode = "lasso";
    this.drawn = []; // the points of the lasso, from 0 to 1 of the map
    this.pointer = null; // where the pointer is, if the point below it is not yet known
    this.context = canvas.getContext("2d", { alpha: false });
    this.replace(points, colours);
    new ResizeObserver(() => this.#resized()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => this.#cancel());
    canvas.addEventListener("pointerleave", () => this.#left());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show other points, and point at one of them (-1: at none). The visible part of the map and the lasso stay. */
  replace(points, colours, cursor = -1) {
    this.number = points.x.length;
    this.x = Float32Array.from(points.x, (value) => value / 10000);
    this.y = Float32Array.from(points.y, (value) => value / 10000);
    this.domain = points.domain;
    this.grid = new Grid(this.x, this.y);
    this.discs = new Discs(this.x, this.y);
    this.shown = null; // Uint8Array: which points are bright; null for all
    this.cursor = cursor;
    this.recolour(colours);
  }

  /** Which points are bright (a Uint8Array), or null for all. */
  show(mask) {
    this.shown = mask;
    this.#redraw();
  }

  /** colours: the colour of a domain. */
  recolour(colours) {
    const style = getComputedStyle(this.canvas);
    [this.ink, this.paper] = [style.color, packed(style.backgroundColor)];
    const known = new Map([...new Set(this.domain)].map((domain) => [domain, packed(colours(domain))]));
    this.colours = Uint32Array.from(this.domain, (domain) => known.get(domain));
    this.#redraw();
  }

  /** Draw the points again with the next frame of the screen. */
  #redraw() {
    this.isOld = true;
    this.draw();
  }

  /** Draw with the next frame of the screen. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      if (this.pointer) this.point(this.#nearest(...this.pointer));
      this.pointer = null;
      this.waiting = false;
      if (this.view.width) this.#paint();
    });
  }

  /** Point at a place, or at none (-1). */
  point(place) {
    if (place === this.cursor) return;
    this.cursor = place;
    this.on.point(place);
    this.draw();
  }

  /** Where a place is on the canvas, in CSS pixels. */
  at(place) {
    return this.view.screen(this.x[place], this.y[place]);
  }

  /** Zoom by a factor; the point (x, y), in CSS pixels, stays where it is. */
  zoom(factor, x = this.view.width / 2, y = this.view.height / 2) {
    this.view.zoom(factor, x, y);
    this.#redraw();
  }

  whole() {
    this.view.whole();
    this.#redraw();
  }

  #resized() {
    this.view.width = this.canvas.clientWidth;
    this.view.height = this.canvas.clientHeight;
    this.#redraw();
  }

  #paint() {
    const { canvas, context, view } = this;
    const ratio = Math.min(FINEST, window.devicePixelRatio || 1);
    const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      this.isOld = true;
    }
    const radius = Math.max(2, Math.min(6, 90 / Math.sqrt(this.number))) * Math.sqrt(Math.min(4, view.scale));
    if (this.isOld) {
      const [left, top] = view.screen(0, 0);
      const where = { left: left * ratio, top: top * ratio, across: view.across * ratio, down: view.down * ratio };
      this.discs.draw(context, where, radius * ratio, this.colours, this.paper, this.shown);
      this.isOld = false;
    } else this.discs.again(context);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.drawn.length > 1) this.#paintLasso();
    if (this.cursor >= 0) ring(context, this.at(this.cursor), radius + 4, this.ink);
  }

  #paintLasso() {
    const { context } = this;
    context.beginPath();
    this.drawn.forEach(([u, v], i) => {
      const [x, y] = this.view.screen(u, v);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.closePath();
    context.strokeStyle = this.ink;
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.07;
    context.fillStyle = this.ink;
    context.fill();
    context.globalAlpha = 1;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #nearest(x, y, within = NEAR) {
    const { view } = this;
    return this.grid.nearest(...view.share(x, y), view.across, view.down, within, this.shown);
  }

  #down(event) {
    if (event.button > 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.#place(event);
    this.start = { at, left: this.view.left, top: this.view.top, far: false };
    if (this.mode === "lasso") this.drawn = [this.view.share(...at)];
  }

  #moved(event) {
    const at = this.#place(event);
    if (!this.start) {
      this.pointer = at; // the mouse may move more often than the screen is drawn
      this.draw();
      return;
    }
    const [dx, dy] = [at[0] - this.start.at[0], at[1] - this.start.at[1]];
    if (Math.hypot(dx, dy) > 5) this.start.far = true;
    if (!this.start.far) return;
    if (this.mode === "lasso") {
      this.drawn.push(this.view.share(...at));
      this.draw();
    } else {
      this.view.moveTo(this.start.left - dx / this.view.across, this.start.top - dy / this.view.down);
      this.#redraw();
    }
  }

  #up(event) {
    const start = this.start;
    this.start = null;
    if (!start) return;
    if (!start.far) {
      this.drawn = [];
      const place = this.#nearest(...this.#place(event));
      this.draw();
      if (place >= 0) this.on.open(place);
    } else if (this.mode === "lasso") {
      this.on.lasso(this.lassoed());
    }
  }

  #left() {
    this.pointer = null;
    if (!this.start) this.point(-1);
  }

  #cancel() {
    this.start = null;
    this.clear();
  }

  /** Which points lie inside the lasso (a Uint8Array); null if there is no lasso. */
  lassoed() {
    return this.drawn.length > 1 ? inside(this.drawn, this.x, this.y) : null;
  }

  /** Remove the lasso. */
  clear() {
    this.drawn = [];
    this.draw();
  }

  #wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), ...this.#place(event));
  }

  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) this.#step(step);
    else if (event.key === "Enter" && this.cursor >= 0) this.on.open(this.cursor);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key.toLowerCase() === "l" && this.cursor >= 0) this.#keepNear();
    else if (event.key === "Escape") this.on.lasso(null);
    else return;
    event.preventDefault();
  }

  /** Move to the nearest point in a direction. */
  #step([dx, dy]) {
    const { width, height } = this.view;
    if (this.cursor < 0) {
      this.#reach(this.#nearest(width / 2, height / 2, Infinity));
      return;
    }
    const from = this.at(this.cursor);
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < this.number; i++) {
      if (this.shown !== null && !this.shown[i]) continue;
      const to = this.at(i);
      const apart = Math.hypot(to[0] - from[0], to[1] - from[1]);
      const along = ((to[0] - from[0]) * dx + (to[1] - from[1]) * dy) / apart;
      if (!(along > 0.4)) continue;
      const cost = apart * (2 - along);
      if (cost < least) [best, least] = [i, cost];
    }
    if (best >= 0) this.#reach(best);
  }

  #reach(place) {
    this.point(place);
    if (place >= 0) this.on.reached(place);
  }

  #keepNear() {
    this.clear(); // an earlier lasso no longer says what is chosen
    this.on.lasso(this.#surroundings());
  }

  #surroundings() {
    const [x, y] = this.at(this.cursor);
    const apart = Array.from({ length: this.number }, (_, i) => {
      const at = this.at(i);
      return [Math.hypot(at[0] - x, at[1] - y), i];
    });
    const mask = new Uint8Array(this.number);
    for (const [, i] of apart.sort((a, b) => a[0] - b[0]).slice(0, AROUND)) mask[i] = 1;
    return mask;
  }
}

/** Which points lie inside a polygon: where a line from the point crosses its sides an odd number of times. */
function inside(polygon, x, y) {
  const mask = new Uint8Array(x.length);
  for (let k = 0; k < x.length; k++) {
    const [u, v] = [x[k], y[k]];
    let odd = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [a, b] = polygon[i];
      const [c, d] = polygon[j];
      if (b > v !== d > v && u < ((c - a) * (v - b)) / (d - b) + a) odd = !odd;
    }
    mask[k] = odd ? 1 : 0;
  }
  return mask;
}
