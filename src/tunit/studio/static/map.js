// The map of styles on a canvas: points to look at, to draw a lasso around, and to walk between by keys.
// Drawing 10,000 points takes a few milliseconds, and is done only if something has changed.

const NEAR = 14; // pixels within which the pointer selects a point
const AROUND = 48; // points that the key L keeps

export class StyleMap {
  /**
   * canvas: where to draw. points: {x, y, domain}, arrays of the same length, x and y from 0 to 10,000.
   * on: {point(place or -1), open(place), lasso(Uint8Array or null)}, which are told what happens.
   */
  constructor(canvas, points, colours, on) {
    Object.assign(this, { canvas, points, colours, on });
    this.number = points.x.length;
    this.shown = null; // Uint8Array: which points are bright; null for all
    this.cursor = -1;
    this.scale = 1;
    this.left = 0; // where the visible part begins, from 0 to 1 of the whole map
    this.top = 0;
    this.mode = "lasso";
    this.drawn = []; // the points of the lasso, from 0 to 1 of the map
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => this.#cancel());
    canvas.addEventListener("pointerleave", () => !this.start && this.point(-1));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Which points are bright (a Uint8Array), or null for all. */
  show(mask) {
    this.shown = mask;
    this.draw();
  }

  recolour(colours) {
    this.colours = colours;
    this.sprites = null;
    this.draw();
  }

  /** Draw with the next frame of the screen. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#paint();
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
    return this.#screen(this.points.x[place] / 10000, this.points.y[place] / 10000);
  }

  /** Zoom by a factor; the point (x, y), in CSS pixels, stays where it is. */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(40, Math.max(1, this.scale * factor));
    const [u, v] = this.#share(x, y);
    this.scale = scale;
    const [u2, v2] = this.#share(x, y);
    this.#moveTo(this.left + u - u2, this.top + v - v2);
  }

  whole() {
    this.scale = 1;
    this.#moveTo(0, 0);
  }

  #moveTo(left, top) {
    const most = 1 - 1 / this.scale;
    this.left = Math.min(most, Math.max(0, left));
    this.top = Math.min(most, Math.max(0, top));
    this.draw();
  }

  #margin() {
    return 16;
  }

  #screen(u, v) {
    const m = this.#margin();
    const w = this.canvas.clientWidth - 2 * m;
    const h = this.canvas.clientHeight - 2 * m;
    return [m + (u - this.left) * this.scale * w, m + (v - this.top) * this.scale * h];
  }

  #share(x, y) {
    const m = this.#margin();
    const w = this.canvas.clientWidth - 2 * m;
    const h = this.canvas.clientHeight - 2 * m;
    return [this.left + (x - m) / w / this.scale, this.top + (y - m) / h / this.scale];
  }

  #paint() {
    const { canvas, context, points, shown } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      this.sprites = null;
    }
    const radius = Math.max(2, Math.min(6, 90 / Math.sqrt(this.number))) * Math.sqrt(Math.min(4, this.scale));
    if (!this.sprites || this.radius !== radius) this.#makeSprites(radius, ratio);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const side = this.sprites.values().next().value?.width ?? 0;
    for (const bright of [0, 1]) {
      context.globalAlpha = bright ? 0.9 : 0.13;
      for (let i = 0; i < this.number; i++) {
        if ((shown === null || shown[i] === 1) !== (bright === 1)) continue;
        const [x, y] = this.#screen(points.x[i] / 10000, points.y[i] / 10000);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        context.drawImage(this.sprites.get(points.domain[i]), x * ratio - side / 2, y * ratio - side / 2);
      }
    }
    context.globalAlpha = 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const ink = getComputedStyle(canvas).color;
    if (this.drawn.length > 1) this.#paintLasso(ink);
    if (this.cursor >= 0) ring(context, this.at(this.cursor), radius + 4, ink);
  }

  #paintLasso(ink) {
    const { context } = this;
    context.beginPath();
    this.drawn.forEach(([u, v], i) => {
      const [x, y] = this.#screen(u, v);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.closePath();
    context.strokeStyle = ink;
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.07;
    context.fillStyle = ink;
    context.fill();
    context.globalAlpha = 1;
  }

  #makeSprites(radius, ratio) {
    this.radius = radius;
    this.sprites = new Map();
    const side = Math.ceil(2 * (radius + 1) * ratio);
    for (const domain of new Set(this.points.domain)) {
      const sprite = document.createElement("canvas");
      sprite.width = sprite.height = side;
      const context = sprite.getContext("2d");
      context.fillStyle = this.colours(domain);
      context.beginPath();
      context.arc(side / 2, side / 2, radius * ratio, 0, 2 * Math.PI);
      context.fill();
      this.sprites.set(domain, sprite);
    }
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #nearest(x, y, within) {
    let [best, least] = [-1, within * within];
    for (let i = 0; i < this.number; i++) {
      if (this.shown !== null && !this.shown[i]) continue;
      const [a, b] = this.at(i);
      const apart = (a - x) ** 2 + (b - y) ** 2;
      if (apart < least) [best, least] = [i, apart];
    }
    return best;
  }

  #down(event) {
    if (event.button > 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.#place(event);
    this.start = { at, left: this.left, top: this.top, far: false };
    if (this.mode === "lasso") this.drawn = [this.#share(...at)];
  }

  #moved(event) {
    const at = this.#place(event);
    if (!this.start) {
      this.point(this.#nearest(...at, NEAR));
      return;
    }
    const [dx, dy] = [at[0] - this.start.at[0], at[1] - this.start.at[1]];
    if (Math.hypot(dx, dy) > 5) this.start.far = true;
    if (!this.start.far) return;
    if (this.mode === "lasso") {
      this.drawn.push(this.#share(...at));
      this.draw();
    } else {
      const m = 2 * this.#margin();
      const w = (this.canvas.clientWidth - m) * this.scale;
      const h = (this.canvas.clientHeight - m) * this.scale;
      this.#moveTo(this.start.left - dx / w, this.start.top - dy / h);
    }
  }

  #up(event) {
    const start = this.start;
    this.start = null;
    if (!start) return;
    if (!start.far) {
      this.drawn = [];
      const place = this.#nearest(...this.#place(event), NEAR);
      this.draw();
      if (place >= 0) this.on.open(place);
    } else if (this.mode === "lasso") {
      this.on.lasso(inside(this.drawn, this.points));
    }
  }

  #cancel() {
    this.start = null;
    this.clear();
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
    else if (event.key.toLowerCase() === "l" && this.cursor >= 0) this.on.lasso(this.#surroundings());
    else if (event.key === "Escape") this.on.lasso(null);
    else return;
    event.preventDefault();
  }

  /** Move to the nearest point in a direction. */
  #step([dx, dy]) {
    if (this.cursor < 0) {
      const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
      this.point(this.#nearest(...middle, Infinity));
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
    if (best >= 0) this.point(best);
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

function ring(context, [x, y], radius, ink) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.strokeStyle = ink;
  context.lineWidth = 2.5;
  context.stroke();
}

/** Which points lie inside a polygon: where a line from the point crosses its sides an odd number of times. */
function inside(polygon, { x, y }) {
  const mask = new Uint8Array(x.length);
  for (let k = 0; k < x.length; k++) {
    const [u, v] = [x[k] / 10000, y[k] / 10000];
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

/** A small map that shows where one point is. */
export function smallMap(canvas, points, colours, place) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const at = (i) => [8 + (points.x[i] / 10000) * (width - 16), 8 + (points.y[i] / 10000) * (height - 16)];
  const every = Math.ceil(points.x.length / 3000);
  context.globalAlpha = 0.45;
  for (let i = 0; i < points.x.length; i += every) {
    const [x, y] = at(i);
    context.fillStyle = colours(points.domain[i]);
    context.fillRect(x - 1, y - 1, 2, 2);
  }
  context.globalAlpha = 1;
  const ink = getComputedStyle(canvas).color;
  const [x, y] = at(place);
  context.fillStyle = colours(points.domain[place]);
  context.beginPath();
  context.arc(x, y, 4, 0, 2 * Math.PI);
  context.fill();
  ring(context, [x, y], 8, ink);
}
