// Which part of the map is visible, and where on the canvas: all lengths in CSS pixels.

const MARGIN = 16; // around the map
const MOST = 40; // the largest scale

export class View {
  constructor() {
    this.width = 0; // of the canvas; asking the canvas itself for every point would take far longer than drawing it
    this.height = 0;
    this.whole();
  }

  whole() {
    this.scale = 1;
    this.left = 0; // where the visible part begins, from 0 to 1 of the whole map
    this.top = 0;
  }

  /** How many pixels wide and high the whole map is at this scale. */
  get across() {
    return (this.width - 2 * MARGIN) * this.scale;
  }

  get down() {
    return (this.height - 2 * MARGIN) * this.scale;
  }

  /** Where a place of the map, from 0 to 1, is on the canvas. */
  screen(u, v) {
    return [MARGIN + (u - this.left) * this.across, MARGIN + (v - this.top) * this.down];
  }

  /** Which place of the map is at a pixel of the canvas. */
  share(x, y) {
    return [this.left + (x - MARGIN) / this.across, this.top + (y - MARGIN) / this.down];
  }

  /** Zoom by a factor; the pixel (x, y) stays where it is. */
  zoom(factor, x, y) {
    const [u, v] = this.share(x, y);
    this.scale = Math.min(MOST, Math.max(1, this.scale * factor));
    const [u2, v2] = this.share(x, y);
    this.moveTo(this.left + u - u2, this.top + v - v2);
  }

  moveTo(left, top) {
    const most = 1 - 1 / this.scale;
    this.left = Math.min(most, Math.max(0, left));
    this.top = Math.min(most, Math.max(0, top));
  }
}
