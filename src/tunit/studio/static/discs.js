// Many discs on a canvas. They are drawn into an array of pixels here, because a canvas needs several microseconds for
// every image or shape that it draws: too long for 10,000 of them in a frame.

const FAINT = 0.13; // opacity of the points that are not shown
const BRIGHT = 1; // what is opaque need not be mixed, which makes drawing twice as fast
const WHOLE = 256; // the opacity of a pixel of a disc is counted from 0 to this
const PIXEL = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

export class Discs {
  /** x, y: Float32Arrays, the places of the discs in any unit. */
  constructor(x, y) {
    Object.assign(this, { x, y, image: null, radius: -1, faint: null, bright: null });
  }

  /**
   * Draw all discs on a canvas. colours: Uint32Array, the colour of each disc, as `packed` gives it; paper: the colour
   * between them. The centre of disc i is at (left + across * x[i], top + down * y[i]). left, top, across, down and
   * radius are in pixels of the canvas. shown: Uint8Array, 1 for the discs that are bright; null for all.
   */
  draw(context, { left, top, across, down }, radius, colours, paper, shown) {
    const { width, height } = context.canvas;
    if (this.image?.width !== width || this.image.height !== height) {
      this.image = context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    if (this.radius !== radius) {
      this.radius = radius;
      this.faint = maskOf(radius, FAINT);
      this.bright = maskOf(radius, BRIGHT);
    }
    this.pixels.fill(paper);
    for (const bright of shown === null ? [1] : [0, 1]) {
      const mask = bright ? this.bright : this.faint;
      for (let i = 0; i < this.x.length; i++) {
        if (shown !== null && shown[i] !== bright) continue;
        const x = Math.round(left + across * this.x[i]) - mask.reach;
        const y = Math.round(top + down * this.y[i]) - mask.reach;
        if (x > -mask.side && y > -mask.side && x < width && y < height) this.#stamp(mask, x, y, colours[i]);
      }
    }
    this.again(context);
  }

  /** Draw the same picture as before. */
  again(context) {
    context.putImageData(this.image, 0, 0);
  }

  /** Mix a colour into the square whose upper left corner is (x, y), as strongly as the mask says. */
  #stamp({ side, share }, x, y, colour) {
    const { pixels } = this;
    const { width, height } = this.image;
    const redBlue = colour & 0xff00ff;
    const green = colour & 0x00ff00;
    const first = Math.max(0, -x);
    const last = Math.min(side, width - x);
    const bottom = Math.min(side, height - y);
    for (let row = Math.max(0, -y); row < bottom; row++) {
      let from = row * side + first;
      let to = (y + row) * width + x + first;
      for (let column = first; column < last; column++, from++, to++) {
        const part = share[from];
        if (part === 0) continue;
        if (part === WHOLE) {
          pixels[to] = colour;
          continue;
        }
        const rb = pixels[to] & 0xff00ff;
        const g = pixels[to] & 0x00ff00;
        // Red and blue are mixed in one multiplication: they have 8 free bits between them.
        pixels[to] =
          0xff000000 |
          ((rb + (Math.imul(redBlue - rb, part) >>> 8)) & 0xff00ff) |
          ((g + (Math.imul(green - g, part) >>> 8)) & 0x00ff00);
      }
    }
  }
}

/** How much each pixel of a square is covered by the disc in it, times an opacity: from 0 to WHOLE. */
function maskOf(radius, opacity) {
  const reach = Math.ceil(radius);
  const side = 2 * reach + 1;
  const share = Uint16Array.from({ length: side * side }, (_, i) => {
    const apart = Math.hypot((i % side) - reach, Math.floor(i / side) - reach);
    return Math.round(WHOLE * opacity * Math.min(1, Math.max(0, radius + 0.5 - apart)));
  });
  return { reach, side, share };
}

/** An opaque CSS colour as one number: a pixel in an array of pixels. */
export function packed(colour) {
  PIXEL.fillStyle = colour;
  PIXEL.fillRect(0, 0, 1, 1);
  return new Uint32Array(PIXEL.getImageData(0, 0, 1, 1).data.buffer)[0];
}
