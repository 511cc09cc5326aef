// What the scripts of all pages share: requests to the studio, the notice, finding and creating elements.

const NOTICE = document.getElementById("notice");
const PLACE = NOTICE.parentElement;
const AGAIN = 2000; // milliseconds until the studio is asked again if it did not answer
let unasked = ""; // what the last request in the background said if it failed

/** Show a sentence at the top of the page, or of the dialog that is open, or remove it. */
export function notice(sentence) {
  put(sentence);
  if (sentence) NOTICE.scrollIntoView({ block: "nearest" });
}

function put(sentence) {
  const place = document.querySelector("dialog[open]") ?? PLACE; // an open dialog covers the page
  if (NOTICE.parentElement !== place) place.prepend(NOTICE);
  if (NOTICE.textContent !== (sentence || "")) NOTICE.textContent = sentence || ""; // the same one is not read again
  NOTICE.hidden = !sentence;
}

// A dialog does not keep the notice to itself when it closes.
document.addEventListener("close", () => NOTICE.parentElement === PLACE || PLACE.prepend(NOTICE), true);

/** Call the studio; gives its Response. Raises an Error with one sentence; `unanswered` tells whether no answer came. */
async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch {
    throw silence();
  }
  if (answer.ok) return answer;
  let sentence = `The studio answered ${answer.status}.`;
  try {
    sentence = (await answer.json()).error || sentence;
  } catch {
    // The answer is not JSON: show its status number.
  }
  throw failure(sentence);
}

const silence = () =>
  Object.assign(failure("The studio does not answer: check that `tunit studio` is still running."), { unanswered: true });
const failure = (sentence) => new Error(sentence[0].toUpperCase() + sentence.slice(1));

/**
 * Call the studio; gives its Response. Whatever goes wrong is one sentence in the notice, and an Error with it.
 * @param {string} address
 * @param {RequestInit} [options]
 */
export async function call(address, options) {
  try {
    return await ask(address, options);
  } catch (error) {
    notice(error.message);
    throw error;
  }
}

/**
 * Request JSON that the user did not ask for. If that fails, the page does not scroll to the notice; another sentence
 * stays there. The next success removes the sentence.
 */
export async function inBackground(address) {
  try {
    const answer = await ask(address);
    const found = await answer.json().catch(() => Promise.reject(silence())); // it ended within its answer
    if (unasked && NOTICE.textContent === unasked) put("");
    unasked = "";
    return found;
  } catch (error) {
    if (NOTICE.hidden || NOTICE.textContent === unasked) put(error.message);
    unasked = error.message;
    throw error;
  }
}

/** Request JSON in the background, again and again until the studio answers. */
export async function untilAnswered(address) {
  for (;;) {
    try {
      return await inBackground(address);
    } catch (error) {
      if (!error.unanswered) throw error;
      await pause(AGAIN);
    }
  }
}

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Request JSON from the studio. */
export const json = async (address, options) => (await call(address, options)).json();

/** Post the fields of an object, or a FormData, and return the JSON of the answer. */
export function post(address, fields) {
  let body = fields;
  if (!(fields instanceof FormData)) {
    body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
  }
  return json(address, { method: "POST", body });
}

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** A number as people read it, such as "1,512". */
export const many = (number) => number.toLocaleString("en");

/** An element with its attributes (`on...` are listeners, `class`, `text`, `dataset`) and its children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else if (name === "dataset") Object.assign(made.dataset, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** The values that the page holds for its script (`data_script` on the server). */
export const pageData = (id) => JSON.parse(document.getElementById(id).textContent);
