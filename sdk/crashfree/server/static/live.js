// Keeps an open view true: asks every two seconds whether anything was written, and if so fetches
// the view again and changes in place what is different. Without it a view is as of its loading.
"use strict";

(() => {
  const PAUSE = 2000;
  const LONGEST_PAUSE = 30000;
  const root = document.documentElement;
  const state = document.querySelector("[data-live-state]");
  const view = document.querySelector("[data-live]");
  if (!view || !state || !root.dataset.seen) return;
  let seen = root.dataset.seen;
  let pause = PAUSE;
  let timer = 0;

  function say(text, trouble) {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle("trouble", Boolean(trouble));
  }

  // What a reader has opened, typed or pointed at stays: nodes are changed, not replaced, as far
  // as both trees agree.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName ||
        (old.nodeType === Node.ELEMENT_NODE && old.id !== fresh.id)) {
      old.replaceWith(fresh);
      enliven(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.matches("form") && old.contains(document.activeElement)) return;
    if (old.matches("time")) {
      if (old.dateTime !== fresh.dateTime) { old.replaceWith(fresh); enliven(fresh); }
      return;
    }
    if (old.dataset.keep !== undefined || fresh.dataset.keep !== undefined) {
      if (old.dataset.keep !== fresh.dataset.keep) { old.replaceWith(fresh); enliven(fresh); }
      return;
    }
    attributes(old, fresh);
    const from = [...old.childNodes];
    const to = [...fresh.childNodes];
    to.forEach((node, index) => {
      if (index < from.length) morph(from[index], node);
      else { old.append(node); enliven(node); }
    });
    from.slice(to.length).forEach((node) => node.remove());
  }

  function attributes(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) {
      if (!mine(old, name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!mine(old, name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
  }

  // Attributes that belong to whoever looks at the page.
  function mine(node, name) {
    return (name === "open" && node.matches("details")) || name === "disabled";
  }

  function enliven(node) {
    if (node.nodeType === Node.ELEMENT_NODE) {
      document.dispatchEvent(new CustomEvent("live", { detail: node }));
    }
  }

  async function refresh() {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const part = fresh.querySelector("[data-live]");
    if (part) morph(view, part);
  }

  async function look() {
    timer = 0;
    if (document.hidden) return;
    try {
      const answer = await fetch("/live", {
        cache: "no-store", headers: { "If-None-Match": `"${seen}"` },
      });
      if (answer.status === 401) {
        say("Not live: open this server with its token again", true);
        return;
      }
      if (answer.status === 204) {
        await refresh();
        seen = answer.headers.get("ETag").replaceAll('"', "");
      } else if (answer.status !== 304) {
        throw new Error(String(answer.status));
      }
      pause = PAUSE;
      say("Live");
    } catch {
      pause = Math.min(pause * 2, LONGEST_PAUSE);
      say("Connection lost, trying again", true);
    }
    again();
  }

  function again() {
    if (!timer) timer = setTimeout(look, pause);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) { clearTimeout(timer); timer = 0; look(); }
  });
  say("Live");
  again();
})();
