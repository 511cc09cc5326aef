// What the scripts of all pages share: requests to the studio, the notice, and creating elements.

const NOTICE = document.getElementById("notice");

/** Show a sentence at the top of the page, or remove it. */
export function notice(sentence) {
  NOTICE.textContent = sentence || "";
  NOTICE.hidden = !sentence;
  if (sentence) NOTICE.scrollIntoView({ block: "nearest" });
}

/**
 * Call the studio; gives its Response. Whatever goes wrong is one sentence in the notice, and an Error with it.
 * @param {string} address
 * @param {RequestInit} [options]
 */
export async function call(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw said("The studio does not answer: check that `tunit studio` is still running.");
  }
  if (answer.ok) return answer;
  let sentence = `The studio answered ${answer.status}.`;
  try {
    sentence = (await answer.json()).error || sentence;
  } catch {
    // The answer is not JSON: show its status number.
  }
  throw said(sentence);
}

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

function said(sentence) {
  const whole = sentence[0].toUpperCase() + sentence.slice(1);
  notice(whole);
  return new Error(whole);
}

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
