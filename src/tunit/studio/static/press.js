// A part of a page that is replaced while a pointer is down in it loses the click: a browser clicks only what was under
// the pointer both when it was pressed and when it was released.

const AFTER = 100; // milliseconds within which a click follows the release
const OFTEN = 50; // milliseconds between looks
let pressed = null; // what is below the pointer that is down

// Only the main button clicks; and after others, a menu may take the release.
addEventListener("pointerdown", (event) => event.button === 0 && (pressed = event.target), true);
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(
    name,
    () => {
      const released = pressed;
      setTimeout(() => (pressed = pressed === released ? null : pressed), AFTER);
    },
    true,
  );
}
addEventListener("click", () => (pressed = null));

/** Whether a pointer is down in a part of the page. */
export const isPressed = (part) => part.contains(pressed);

/** Wait until no pointer is down in a part of the page. */
export async function released(part) {
  while (isPressed(part)) await new Promise((done) => setTimeout(done, OFTEN));
}
