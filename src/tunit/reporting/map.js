(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Steps of the golden angle give neighbouring numbers different hues, for any number of domains.
  const colour = (k) => `hsl(${(k * 137.508 + 200) % 360} ${60 + (k % 3) * 10}% ${dark.matches ? 66 : 46}%)`;
  const paintDots = () => {
    for (const dot of document.querySelectorAll(".dot")) dot.style.background = colour(+dot.dataset.domain);
  };
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const map = document.getElementById("map");
  const tip = document.getElementById("tip");
  const legend = document.getElementById("map-legend");
  const thumb = tip.querySelector(".thumb");
  const text = tip.querySelector("span");
  const [width, height, margin] = [1000, 700, 22];
  let by = "domains";

  const circles = data.points.map(([x, y], i) => {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    circle.setAttribute("cx", (margin + x * (width - 2 * margin)).toFixed(1));
    circle.setAttribute("cy", (margin + y * (height - 2 * margin)).toFixed(1));
    circle.setAttribute("r", "7");
    circle.dataset.i = i;
    map.append(circle);
    return circle;
  });

  const label = (values, k) => (by === "classes" ? data.classNames[k] || "no class" : `domain ${k}`);
  const paint = () => {
    const values = data[by];
    circles.forEach((circle, i) => circle.setAttribute("fill", colour(values[i])));
    legend.replaceChildren(
      ...[...new Set(values)].sort((a, b) => a - b).slice(0, 40).map((k) => {
        const key = document.createElement("span");
        const dot = document.createElement("i");
        key.className = "key";
        dot.className = "dot";
        dot.style.background = colour(k);
        key.append(dot, label(values, k));
        return key;
      }),
    );
    paintDots();
  };

  const scale = 120 / data.thumbnail;
  thumb.style.backgroundImage = `url(${data.sheet})`;
  thumb.style.backgroundSize = `${data.columns * 120}px auto`;
  let on = null;
  const show = (circle) => {
    if (on) on.classList.remove("on");
    on = circle;
    if (!circle) { tip.hidden = true; return; }
    circle.classList.add("on");
    const i = +circle.dataset.i;
    const column = i % data.columns, row = Math.floor(i / data.columns);
    thumb.style.backgroundPosition = `${-column * data.thumbnail * scale}px ${-row * data.thumbnail * scale}px`;
    const name = data.classes.length ? `, ${data.classNames[data.classes[i]] || "no class"}` : "";
    text.textContent = `${data.names[i]} (domain ${data.domains[i]}${name})`;
    tip.hidden = false;
    const box = map.getBoundingClientRect();
    const x = (circle.getAttribute("cx") / width) * box.width, y = (circle.getAttribute("cy") / height) * box.height;
    tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y + 14 + tip.offsetHeight > box.height ? Math.max(0, y - tip.offsetHeight - 10) : y + 14}px`;
  };
  const pointed = (event) => show(event.target.tagName === "circle" ? event.target : null);
  map.addEventListener("pointerover", pointed);
  map.addEventListener("click", pointed);
  map.addEventListener("pointerleave", () => show(null));

  for (const button of document.querySelectorAll("[data-by]")) {
    button.addEventListener("click", () => {
      by = button.dataset.by;
      for (const other of document.querySelectorAll("[data-by]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      paint();
    });
  }
  dark.addEventListener("change", paint);
  paint();
})();
