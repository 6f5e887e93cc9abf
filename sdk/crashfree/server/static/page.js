// The page's own script: everything works without it.
"use strict";

// Times: written in UTC by the server, shown in the zone of whoever looks.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const full = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

function since(at) {
  const seconds = (at.getTime() - Date.now()) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) return ago.format(Math.trunc(seconds / length), unit);
  }
  return ago.format(0, "minute");
}

function localise(root) {
  const own = root.matches && root.matches("time[datetime]");
  for (const time of own ? [root] : root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const style = time.dataset.style;
    time.textContent = style === "ago" ? since(at) : ({ day, clock }[style] || full).format(at);
  }
}

// Addresses stay short: what is empty is not asked for.
function tidy(event) {
  const form = event.target;
  if (form.method !== "get") return;
  for (const field of form.querySelectorAll("input, select")) {
    if (field.value === "" && !field.required && !("empty" in field.dataset)) field.disabled = true;
  }
}

// A choice is a question at once; without script there is the button.
function choose(event) {
  if (event.target.matches(".chooser select")) event.target.form.requestSubmit();
}

async function copy(event) {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
  }
}

document.addEventListener("click", copy);
document.addEventListener("submit", tidy);
document.addEventListener("change", choose);
// The next view is on its way: style.css says so when that takes long.
window.addEventListener("beforeunload", () => { document.documentElement.dataset.busy = ""; });
window.addEventListener("pageshow", () => {
  delete document.documentElement.dataset.busy;
  for (const field of document.querySelectorAll(".chooser :disabled")) field.disabled = false;
});
document.addEventListener("live", (event) => localise(event.detail));
localise(document);
setInterval(() => localise(document), 30000);
for (const said of document.querySelectorAll("[data-zone]")) said.textContent = `Times in ${zone}`;
