/**
 * The script of the page that follows a run. It asks for what is new, and keeps what is open, scrolled and focused.
 *
 * @module
 */

/** JavaScript of a page. */
export const WATCH_SCRIPT = `"use strict";
const EVERY = 2000;
const main = document.querySelector("main"), status = document.getElementById("status");
const pause = document.getElementById("pause");
const shown = new Map();
let paused = false;

function say(text) {
  if (status.textContent !== text) status.textContent = text;
}

function replace(place, html) {
  const all = (which) => [...place.querySelectorAll(which)];
  const open = all("details").map((one) => one.open);
  const scrolled = all("[tabindex]").map((one) => [one.scrollLeft, one.scrollTop]);
  const focused = all("summary, [tabindex]").indexOf(document.activeElement);
  place.innerHTML = html;
  all("details").forEach((one, i) => one.open = open[i] ?? false);
  all("[tabindex]").forEach((one, i) => [one.scrollLeft, one.scrollTop] = scrolled[i] ?? [0, 0]);
  if (focused >= 0) all("summary, [tabindex]")[focused]?.focus({ preventScroll: true });
}

async function update() {
  const response = await fetch("run?seen=" + encodeURIComponent(main.dataset.seen), { cache: "no-store" });
  if (response.status === 204) return;
  if (!response.ok) throw new Error("status " + response.status);
  const { seen, title, ended, sections } = await response.json();
  for (const [id, html] of sections) {
    if (shown.get(id) !== html) replace(document.getElementById(id), html);
    shown.set(id, html);
  }
  document.title = title;
  main.dataset.seen = seen;
  main.dataset.ended = ended;
}

async function follow() {
  if (!paused) {
    try {
      await update();
      say(main.dataset.ended === "true" ? "The run has ended." : "Live: follows the run.");
    } catch {
      say(main.dataset.ended === "true"
        ? "The run has ended, and its page is no longer served."
        : "No answer: shows the last that was known, and asks again until the run goes on.");
    }
  }
  setTimeout(follow, EVERY);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  if (paused) say("Paused: nothing changes.");
});
follow();
`;
