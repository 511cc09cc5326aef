// Which point is nearest? The points are sorted into the cells of a grid once, so that only a few of them are compared.

const CELLS = 64; // in each direction

const cellOf = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));

export class Grid {
  /** x, y: Float32Arrays, from 0 to 1. */
  constructor(x, y) {
    Object.assign(this, { x, y });
    const cells = Uint32Array.from(x, (value, i) => cellOf(y[i]) * CELLS + cellOf(value));
    this.first = new Uint32Array(CELLS * CELLS + 1); // where each cell begins in `sorted`
    for (const cell of cells) this.first[cell + 1] += 1;
    for (let cell = 0; cell < CELLS * CELLS; cell++) this.first[cell + 1] += this.first[cell];
    const next = this.first.slice();
    this.sorted = new Uint32Array(x.length);
    cells.forEach((cell, i) => (this.sorted[next[cell]++] = i));
  }

  /**
   * The point nearest to (u, v), both from 0 to 1, or -1 if none is nearer than `within`, in pixels. across, down: the
   * width and height of the unit square in pixels. shown: Uint8Array, 1 for the points that count; null for all.
   */
  nearest(u, v, across, down, within, shown) {
    let [best, least] = [-1, within * within];
    const right = cellOf(u + within / across);
    const bottom = cellOf(v + within / down);
    for (let row = cellOf(v - within / down); row <= bottom; row++) {
      const begin = this.first[row * CELLS + cellOf(u - within / across)];
      const end = this.first[row * CELLS + right + 1];
      for (let k = begin; k < end; k++) {
        const i = this.sorted[k];
        if (shown !== null && !shown[i]) continue;
        const apart = ((this.x[i] - u) * across) ** 2 + ((this.y[i] - v) * down) ** 2;
        if (apart < least) [best, least] = [i, apart];
      }
    }
    return best;
  }
}
