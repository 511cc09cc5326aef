// From a file to the square that is the input of the networks. The arithmetic is that of Pillow, as in training.

const MOST_PIXELS = 50_000_000; // larger pictures are refused
const GAP = 3; // a picture is first averaged over blocks, but only down to this many times the side of the square

// Python's round() of a number that is not negative: halves go to the even side.
function rounded(value) {
  const near = Math.round(value);
  return value % 1 === 0.5 && near % 2 ? near - 1 : near;
}

// Averages of blocks of (across, down) pixels of `box` (left, top, right, bottom); blocks at the edges may be smaller.
function reduced({ pixels, width, channels }, [left, top, right, bottom], across, down) {
  const columns = Math.ceil((right - left) / across), rows = Math.ceil((bottom - top) / down);
  const drawn = new Uint8ClampedArray(columns * rows * 3);
  for (let y = 0; y < rows; y++) {
    const from = top + y * down, to = Math.min(bottom, from + down);
    for (let x = 0; x < columns; x++) {
      const begin = left + x * across, end = Math.min(right, begin + across);
      const sum = [0, 0, 0];
      for (let i = from; i < to; i++)
        for (let j = begin; j < end; j++)
          for (let c = 0; c < 3; c++) sum[c] += pixels[channels * (i * width + j) + c];
      for (let c = 0; c < 3; c++) drawn[3 * (y * columns + x) + c] = sum[c] / ((to - from) * (end - begin));
    }
  }
  return { pixels: drawn, width: columns, height: rows, channels: 3 };
}

// Resampling weights for `size` results that cover `start` to `end` of `length` values: for each result, the first value
// that counts, and the weights from there on. They form a triangle around the result's centre, whose half width is the
// distance between results, but at least one value.
function triangles(length, start, end, size) {
  const scale = (end - start) / size, reach = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const weights = [];
    for (let j = first; j < last; j++) weights.push(Math.max(0, 1 - Math.abs((j + 0.5 - centre) / reach)));
    const total = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

// `box` of a picture, resampled to columns x rows of RGB; values are rounded after each direction.
function filtered({ pixels, width, height, channels }, [left, top, right, bottom], columns, rows) {
  const across = new Uint8ClampedArray(height * columns * 3), drawn = new Uint8ClampedArray(rows * columns * 3);
  triangles(width, left, right, columns).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++)
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * pixels[channels * (y * width + first + k) + c];
        across[3 * (y * columns + x) + c] = sum;
      }
  });
  triangles(height, top, bottom, rows).forEach(({ first, weights }, y) => {
    for (let x = 0; x < columns; x++)
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * across[3 * ((first + k) * columns + x) + c];
        drawn[3 * (y * columns + x) + c] = sum;
      }
  });
  return drawn;
}

// Image.resize(size, BILINEAR, box=box, reducing_gap=3): RGB, row by row.
export function resized(picture, box, columns, rows) {
  const [left, top, right, bottom] = box, wide = (right - left) / columns, high = (bottom - top) / rows;
  const across = Math.trunc(wide / GAP) || 1, down = Math.trunc(high / GAP) || 1;
  if (across === 1 && down === 1) return filtered(picture, box, columns, rows);
  const safe = [
    Math.max(0, Math.trunc(left - wide / 2)), Math.max(0, Math.trunc(top - high / 2)),
    Math.min(picture.width, Math.ceil(right + wide / 2)), Math.min(picture.height, Math.ceil(bottom + high / 2)),
  ];
  const rest = [(left - safe[0]) / across, (top - safe[1]) / down, (right - safe[0]) / across, (bottom - safe[1]) / down];
  return filtered(reduced(picture, safe, across, down), rest, columns, rows);
}

// The pixels of a file: upright, with the background behind transparent parts.
async function decoded(file, [red, green, blue]) {
  const name = file.name || "this";
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${name} is not a picture that this browser can read: give a PNG, JPEG or WebP file.`);
  }
  const { width, height } = bitmap;
  try {
    if (width * height > MOST_PIXELS) throw new Error(`${name} has ${width} x ${height} pixels: give a smaller picture.`);
    const paint = new OffscreenCanvas(width, height).getContext("2d");
    paint.fillStyle = `rgb(${red} ${green} ${blue})`;
    paint.fillRect(0, 0, width, height);
    paint.drawImage(bitmap, 0, 0);
    return { pixels: paint.getImageData(0, 0, width, height).data, width, height, channels: 4 };
  } finally {
    bitmap.close();
  }
}

// The square of a file: {x: Float32Array (3, S, S) in [-1, 1], inner: left, top, width, height of the part that is not padding}.
export async function square(file, { image_size: side, fit, background }) {
  const picture = await decoded(file, background);
  const { width, height } = picture, shorter = Math.min(width, height), scale = side / Math.max(width, height);
  const left = fit === "crop" ? (width - shorter) / 2 : 0, top = fit === "crop" ? (height - shorter) / 2 : 0;
  let inner = [0, 0, side, side];
  if (fit === "pad") {
    const columns = Math.max(1, rounded(width * scale)), rows = Math.max(1, rounded(height * scale));
    inner = [Math.floor((side - columns) / 2), Math.floor((side - rows) / 2), columns, rows];
  }
  const [from, above, columns, rows] = inner;
  const drawn = resized(picture, [left, top, width - left, height - top], columns, rows);
  const x = new Float32Array(3 * side * side);
  for (let c = 0; c < 3; c++) {
    x.fill(background[c] / 127.5 - 1, c * side * side, (c + 1) * side * side);
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++)
        x[(c * side + above + i) * side + from + j] = drawn[3 * (i * columns + j) + c] / 127.5 - 1;
  }
  return { x, inner };
}

// Draw x (3, S, S), without its padding, on a canvas.
export function paint(canvas, x, side, [left, top, width, height]) {
  const pixels = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = (x[c * side * side + i] + 1) * 127.5;
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = width, canvas.height = height;
  canvas.getContext("2d").putImageData(pixels, -left, -top);
  canvas.hidden = false;
}
