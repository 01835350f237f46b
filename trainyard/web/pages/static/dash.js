"use strict";
// What every page has: the theme, times that grow older, questions in a dialog, and parts that are loaded again while somebody looks.
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* nothing is kept in this browser */ }
      document.dispatchEvent(new Event("theme"));
    });
  }

  const age = (seconds) => {
    const span = Math.abs(seconds);
    const [count, unit] = span < 60 ? [span, "s"] : span < 3600 ? [span / 60, "min"] : span < 172800 ? [span / 3600, "h"] : [span / 86400, "days"];
    return seconds < 0 ? `in ${Math.floor(count)} ${unit}` : `${Math.floor(count)} ${unit} ago`;
  };
  const grow = () => {
    for (const each of document.querySelectorAll("time[data-ago]")) {
      each.textContent = age((Date.now() - Date.parse(each.dateTime)) / 1000);
    }
  };
  setInterval(grow, 15000);

  const dialog = document.getElementById("dialog");
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog && dialog.firstElementChild) {
      dialog.showModal();
      const first = dialog.querySelector("input:not([type=hidden]), select, button");
      if (first) first.focus();
    }
    grow();
  });
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    // Whoever is not logged in any more gets the login instead of a part of a page.
    if (new URL(event.detail.xhr.responseURL, location.href).pathname === "/login") location.assign("/login");
  });
  if (dialog) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) { event.preventDefault(); dialog.close(); }
    });
  }
  // Whoever presses twice means it once.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button && event.target.method === "post") setTimeout(() => { button.disabled = true; }, 0);
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  const last = new WeakMap();
  setInterval(() => {
    if (document.hidden || (dialog && dialog.open)) return;
    for (const part of document.querySelectorAll("[data-again]")) {
      const now = Date.now();
      if (!last.has(part)) { last.set(part, now); continue; }
      if (now - last.get(part) < part.dataset.again * 1000 || part.contains(document.activeElement)) continue;
      last.set(part, now);
      htmx.trigger(part, "again");
    }
  }, 500);

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    });
  }
})();
