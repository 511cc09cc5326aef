// The page of an exported model. Pictures are read, resized and redrawn here; nothing is sent anywhere.
import * as ort from "./runtime/ort.wasm.min.mjs";
import { paint, square } from "./picture.js";

const element = (id) => document.getElementById(id);
const chosen = { source: null, style: null }; // source: {x, inner, own}; style: a style code
const newest = { source: 0, style: 0 }; // numbers of the last choices: when an older choice has been read, it is ignored
let about, encoder, translator;
const REDRAWING = "Redrawing ...";
let turn = Promise.resolve(), busy = false, again = false;

function say(text, wrong = false) {
  element("message").textContent = text;
  element("message").classList.toggle("wrong", wrong);
}

// Run networks one after the other.
function run(network, inputs) {
  return (turn = turn.catch(() => null).then(() => network.run(inputs)));
}

const tensor = (x) => new ort.Tensor("float32", x, [1, 3, about.image_size, about.image_size]);

export const squareOf = (file) => square(file, about);
export const styleOf = async (x) => (await run(encoder, { picture: tensor(x) })).style.data;
export const drawn = async (x, style) =>
  (await run(translator, { picture: tensor(x), style: new ort.Tensor("float32", style, [1, style.length]) })).translation.data;

async function redraw() {
  if (!chosen.source || !chosen.style) return say(chosen.source ? "Now choose a style." : "Now choose your picture.");
  if (busy) return void (again = true); // the newest choice is drawn next
  busy = true;
  try {
    do {
      again = false;
      say(REDRAWING);
      const { source, style } = chosen, strength = Number(element("strength").value);
      let code = Float32Array.from(style);
      if (strength !== 1) {
        source.own ??= await styleOf(source.x);
        code = code.map((value, i) => source.own[i] + strength * (value - source.own[i]));
      }
      const x = await drawn(source.x, code);
      if (again) continue;
      paint(element("result"), x, about.image_size, source.inner);
      element("save").href = element("result").toDataURL("image/png");
      element("save").hidden = false;
    } while (again);
    if (element("message").textContent === REDRAWING) say("Done."); // not in place of what went wrong meanwhile
  } finally {
    busy = again = false;
  }
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    console.debug(error);
    say(error.message, true);
  }
}

function choose(name, file) {
  const kind = name === "source" ? "source" : "style", wish = ++newest[kind];
  return attempt(async () => {
    if (!file) throw new Error("What you gave holds no picture: give a PNG, JPEG or WebP file.");
    const { x, inner } = await squareOf(file);
    const value = kind === "source" ? { x, inner } : await styleOf(x);
    if (wish !== newest[kind]) return;
    paint(element(`${name}-view`), x, about.image_size, inner);
    if (kind === "style") press(null);
    chosen[kind] = value;
    await redraw();
  });
}

function press(number) {
  for (const button of element("domains").children)
    button.setAttribute("aria-pressed", String(button.dataset.number === String(number)));
}

function addDomains() {
  for (const { number, name, pictures, average_style, thumbnail } of about.domains) {
    if (!average_style) continue;
    const button = document.createElement("button");
    button.type = "button", button.dataset.number = number;
    button.setAttribute("aria-pressed", "false");
    if (thumbnail) {
      const image = document.createElement("img");
      image.src = thumbnail, image.alt = `pictures of ${name}`;
      button.append(image);
    }
    button.append(`${name} (${pictures})`);
    button.addEventListener("click", () => {
      newest.style++;
      press(number);
      element("reference-view").hidden = true;
      chosen.style = average_style;
      attempt(redraw);
    });
    element("domains").append(button);
  }
}

function listen() {
  for (const name of ["source", "reference"]) {
    const input = element(name), drop = element(`${name}-drop`);
    input.addEventListener("change", () => input.files[0] && choose(name, input.files[0]));
    input.addEventListener("click", () => (input.value = "")); // so that the same file can be chosen again
    drop.addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("over")));
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      choose(name, event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", ({ clipboardData }) => {
    const file = [...clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) choose("source", file);
  });
  element("strength").addEventListener("input", ({ target }) => {
    element("strength-value").textContent = target.value;
    attempt(redraw);
  });
}

async function load() {
  ort.env.wasm.numThreads = 1; // more threads need a server that isolates the page
  ort.env.wasm.wasmPaths = new URL("runtime/", document.baseURI).href;
  const answer = await fetch("export.json");
  if (!answer.ok) throw new Error(`export.json: ${answer.status}`);
  about = await answer.json();
  for (const file of ["style_encoder.onnx", "translator.onnx"]) {
    const network = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    if (encoder) translator = network;
    else encoder = network;
  }
}

try {
  await load();
  addDomains();
  listen();
  document.body.dataset.ready = "yes";
  say("Ready: choose a picture and a style.");
  for (const name of ["source", "reference"]) {
    const [file] = element(name).files; // chosen while the model was being loaded
    if (file) choose(name, file);
  }
} catch (error) {
  console.debug(error);
  say(`The model cannot be loaded (${error.message}): put the whole folder on the server, and reload.`, true);
}
