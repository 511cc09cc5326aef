// A small map that shows where one picture is, and the ring around a point that both maps draw.

/** points: {x, y, domain}, arrays of the same length, x and y from 0 to 10,000. colours: the colour of a domain. */
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

/** A circle around a point. */
export function ring(context, [x, y], radius, ink) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.strokeStyle = ink;
  context.lineWidth = 2.5;
  context.stroke();
}
