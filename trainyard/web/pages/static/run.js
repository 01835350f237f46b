"use strict";
// One run as it goes on: figures, curves and log come by one stream of events, each from where this page is.
(() => {
  const page = document.getElementById("run");
  const figures = new Map();            // name -> Map(step -> value)
  const charts = [];
  const MOST = 4000;
  const LABELS = { tokens_per_second: "tokens a second", gpu_percent: "busy", gpu_memory_gb: "memory used", lr: "rate" };
  const steps = (names) => [...new Set(names.flatMap((name) => [...(figures.get(name) || new Map()).keys()]))].sort((a, b) => a - b);
  const table = (names) => {
    const all = steps(names);
    return [all, ...names.map((name) => all.map((step) => figures.get(name)?.get(step) ?? null))];
  };
  const take = (rows) => {
    for (const row of rows) {
      for (const [name, value] of Object.entries(row)) {
        if (name === "step" || value === null) continue;
        if (!figures.has(name)) figures.set(name, new Map());
        figures.get(name).set(row.step, value);
      }
    }
    // A page that stays open for days draws no more points than one that is loaded now.
    for (const [name, points] of figures) {
      if (points.size > MOST) figures.set(name, new Map([...points].sort((a, b) => a[0] - b[0]).filter((_, index, all) => index % 2 || index === all.length - 1)));
    }
  };
  const begin = JSON.parse(document.getElementById("curves").textContent);
  for (const [name, [xs, ys]] of Object.entries(begin.curves)) figures.set(name, new Map(xs.map((x, i) => [x, ys[i]])));
  for (const box of document.querySelectorAll(".plot[data-names]")) {
    const names = box.dataset.names.split(" ");
    const units = box.dataset.unit || "";
    const known = () => names.filter((name) => figures.has(name));
    let shown = [], drawn = null;
    charts.push(() => {
      const now = known();
      box.closest(".chart").hidden = now.length === 0;
      if (!now.length) return;
      if (drawn && now.join() === shown.join()) { drawn.set(table(now)); return; }
      box.replaceChildren();
      shown = now;
      drawn = Charts.chart(box, now.map((name) => ({ label: LABELS[name] || name, unit: units })), table(now));
    });
  }
  const drawAll = () => {
    if (figures.size) document.getElementById("no-curves")?.remove();
    charts.forEach((each) => each());
  };
  drawAll();

  const log = document.getElementById("log");
  const follow = document.getElementById("follow");
  const LONGEST = 2 << 20;
  if (follow) {
    follow.closest("label").hidden = false;
    follow.addEventListener("change", () => { if (follow.checked) log.scrollTop = log.scrollHeight; });
    log.addEventListener("scroll", () => { if (log.scrollHeight - log.scrollTop - log.clientHeight > 40) follow.checked = false; });
    if (follow.checked) log.scrollTop = log.scrollHeight;
  }
  const print = (text) => {
    const at = log.scrollTop;
    log.append(text);
    while (log.textContent.length > LONGEST && log.childNodes.length > 1) log.firstChild.remove();
    log.scrollTop = follow && follow.checked ? log.scrollHeight : at;
  };

  const say = document.getElementById("stream");
  const stateOf = (word) => { if (say) say.textContent = word; };
  if (page.dataset.over === "true" || !window.EventSource) return;
  let drawing = 0;
  const later = () => { if (!drawing) drawing = setTimeout(() => { drawing = 0; drawAll(); }, 250); };
  const source = new EventSource(`${page.dataset.live}?log=${log.dataset.next}&metrics=${begin.next}`);
  source.onopen = () => stateOf("live");
  source.onerror = () => stateOf(source.readyState === EventSource.CLOSED ? "not live: load the page again" : "not connected, tries again");
  source.addEventListener("figures", (event) => {
    const told = JSON.parse(event.data);
    for (const [name, text] of Object.entries(told)) {
      for (const each of document.querySelectorAll(`[data-figure="${name}"]`)) {
        if (each.tagName === "PROGRESS") { each.value = Number(text) || 0; } else if (each.textContent !== String(text)) each.textContent = text;
      }
    }
  });
  source.addEventListener("points", (event) => { take(JSON.parse(event.data)); later(); });
  source.addEventListener("log", (event) => { const piece = JSON.parse(event.data); if (log.dataset.whole === "true") print(piece.text); });
  const again = () => { htmx.trigger("#overview", "again"); htmx.trigger("#more", "again"); };
  source.addEventListener("changed", again);
  source.addEventListener("over", () => { source.close(); stateOf("over"); again(); });
  addEventListener("pagehide", () => source.close());
})();
