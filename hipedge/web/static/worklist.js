// Keeps an open worklist up to date: asks for its rows again, and replaces them where they differ.

const EVERY_MS = 10_000;
const rows = document.getElementById("rows");
const news = document.getElementById("news");
const title = document.title;
let tag = "";

async function refresh() {
  // Not under a reader who is choosing a line with the keyboard, nor in a hidden window.
  if (document.hidden || rows.contains(document.activeElement)) return;
  const headers = tag ? { "If-None-Match": tag } : {};
  const answer = await fetch(rows.dataset.address, { headers, redirect: "manual" });
  if (answer.type === "opaqueredirect") {
    location.reload(); // the session is over
    return;
  }
  if (answer.status !== 200) {
    news.textContent = answer.status === 304 ? news.textContent : "The list cannot be updated now.";
    return;
  }
  const isFirst = tag === "";
  tag = answer.headers.get("ETag") ?? "";
  const before = urgentCases();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  rows.replaceChildren(...fresh.body.childNodes);
  const added = [...urgentCases()].filter((address) => !before.has(address));
  if (!isFirst && added.length > 0) {
    news.textContent = `${added.length} new urgent films`;
    document.title = `(${added.length}) ${title}`;
  }
}

function urgentCases() {
  const lines = [...rows.querySelectorAll("tr")].filter((row) => row.querySelector(".urgent"));
  return new Set(lines.map((row) => new URL(row.querySelector("a.open").href).pathname));
}

setInterval(() => refresh().catch(() => {
  news.textContent = "The server cannot be reached.";
}), EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) document.title = title;
});

// Up and down move between the cases of the list.
document.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  if (event.target.matches("input, select, textarea")) return;
  const links = [...rows.querySelectorAll("a.open")];
  if (links.length === 0) return;
  const now = links.indexOf(document.activeElement);
  const step = event.key === "ArrowDown" ? 1 : -1;
  links[Math.min(links.length - 1, Math.max(0, now + step))].focus();
  event.preventDefault();
});
