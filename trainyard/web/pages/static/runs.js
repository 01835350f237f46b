"use strict";
// The list as it goes on: one stream tells each run that changes. Figures change in their cells; a new run, or a state, loads the list again.
(() => {
  if (!window.EventSource) return;
  const money = (value) => value > 0 && value < 0.005 ? "<$0.01" : `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const digits = (value) => value === null ? "–" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  let waits = 0;
  const again = () => {
    if (!waits) waits = setTimeout(() => { waits = 0; const list = document.getElementById("runs"); if (!list.contains(document.activeElement)) htmx.trigger(list, "again"); }, 1000);
  };
  const put = (row, name, text) => {
    const cell = row.querySelector(`[data-cell="${name}"]`);
    if (cell && cell.textContent.trim() !== text) cell.textContent = text;
  };
  const source = new EventSource("/api/v1/events");
  source.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    const row = document.querySelector(`tr[data-run="${CSS.escape(`${run.run}/${run.attempt}`)}"]`);
    if (!row) { if (!location.search) again(); return; }
    if (row.dataset.state !== run.state) { again(); return; }
    if (run.steps_done || run.steps_planned) put(row, "progress", run.steps_planned ? `${run.steps_done}/${run.steps_planned}` : String(run.steps_done));
    put(row, "loss", digits(run.loss));
    put(row, "cost", money(run.cost));
  });
  source.addEventListener("removed", again);
  addEventListener("pagehide", () => source.close());
})();
