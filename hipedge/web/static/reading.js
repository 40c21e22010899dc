// A hip of a reader study: how long its film is on the screen, pauses, and the answer by keyboard.
// The clock begins with the first picture. It stands still while the film is covered or the page is
// in the background; that time is counted apart.

const BEAT_MS = 5_000;
const IDLE_MS = 5 * 60_000;
const MINUTES_TEXT = "There was no movement for five minutes: the clock stands still.";
const PAUSE_TEXT = "Pause: the clock stands still.";

const form = document.getElementById("reading");
const cover = document.getElementById("cover");
const coverText = document.getElementById("cover-text");
const resume = document.getElementById("resume");
const pause = document.getElementById("pause");
const skip = document.getElementById("skip");
const canvas = document.getElementById("film");

const times = { shown: 0, paused: 0 };
let counted = null; // up to when the time is counted; null before the first picture
let isCovered = false;
let isVisible = !document.hidden;
let isOver = false; // answered, or no longer this window's turn
let touched = performance.now();

function count() {
  if (counted === null) return;
  const now = performance.now();
  times[isVisible && !isCovered ? "shown" : "paused"] += now - counted;
  counted = now;
}

async function report(kind) {
  if (isOver || counted === null) return;
  count();
  const body = new URLSearchParams({
    form_token: form.elements.form_token.value,
    opening: form.elements.opening.value,
    kind,
    shown_ms: times.shown.toFixed(1),
    paused_ms: times.paused.toFixed(1),
  });
  try {
    // `keepalive`: also when the page is closed meanwhile.
    const answer = await fetch(form.dataset.event, { method: "POST", body, keepalive: true, redirect: "manual" });
    if (answer.type === "opaqueredirect") end("Your session is over: load the page again to log in.");
    if (answer.status === 409) end("The study goes on in another window. Close this one.");
  } catch {
    // The server cannot be reached: the next report says how much time it was.
  }
}

function end(text) {
  setCovered(true);
  isOver = true;
  coverText.textContent = text;
  resume.hidden = true;
}

// The film must not be read while the clock stands still.
function setCovered(covered) {
  count();
  isCovered = covered;
  cover.hidden = !covered;
  for (const part of form.querySelectorAll("fieldset, button")) part.disabled = covered;
  pause.disabled = covered;
}

function stopClock(text) {
  if (isCovered || isOver) return;
  setCovered(true);
  coverText.textContent = text;
  resume.focus();
  report("paused");
}

function goOn() {
  if (!isCovered || isOver) return;
  setCovered(false);
  touched = performance.now();
  canvas.focus();
  report("resumed");
}

function begin(mark) {
  if (counted !== null) return;
  counted = mark.startTime;
  report("drawn");
}

new PerformanceObserver((list) => {
  const mark = list.getEntriesByName("first-picture")[0];
  if (mark) begin(mark);
}).observe({ type: "mark", buffered: true });

setInterval(() => {
  if (counted === null || isCovered || !isVisible) return;
  if (performance.now() - touched > IDLE_MS) stopClock(MINUTES_TEXT);
  else report("beat");
}, BEAT_MS);

document.addEventListener("visibilitychange", () => {
  count();
  isVisible = !document.hidden;
  if (!isCovered) report(isVisible ? "resumed" : "paused");
});
window.addEventListener("pagehide", () => report("left"));
for (const name of ["pointermove", "pointerdown", "keydown", "wheel"]) {
  document.addEventListener(name, () => { touched = performance.now(); }, { passive: true });
}
pause.addEventListener("click", () => stopClock(PAUSE_TEXT));
resume.addEventListener("click", goOn);

new MutationObserver(() => {
  const message = document.getElementById("message").textContent;
  skip.hidden = canvas.dataset.state !== "failed" || message !== skip.dataset.when;
}).observe(canvas, { attributeFilter: ["data-state"] });

form.addEventListener("submit", (event) => {
  if (isOver) {
    event.preventDefault(); // a second click: the first answer is on its way
    return;
  }
  count();
  if (counted !== null) {
    form.elements.shown_ms.value = times.shown.toFixed(1);
    form.elements.paused_ms.value = times.paused.toFixed(1);
  }
  isOver = true;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const group = event.target.closest("[data-digits]");
  if (group && /^[1-9]$/.test(key)) choose(group, key);
  else if (key === "escape") canvas.focus();
  else if (event.target.closest("select, input:not([type=radio])")) return;
  else if (key === "a" && !isCovered) focusOn(form.querySelector("[data-digits]"));
  else if (key === "k") isCovered ? goOn() : stopClock(PAUSE_TEXT);
  else return;
  event.preventDefault();
});

// A number chooses in the group that has the focus, and goes on to what is asked next.
function choose(group, digit) {
  const input = group.querySelector(`[data-digit="${digit}"]`);
  if (!input) return;
  input.checked = true;
  const next = group.nextElementSibling;
  if (next.matches("[data-digits]")) focusOn(next);
  else next.focus();
}

function focusOn(group) {
  (group.querySelector(":checked") ?? group.querySelector("input")).focus();
}
