"use strict";
// Curves of several runs over each other.
(() => {
  const told = JSON.parse(document.getElementById("curves").textContent);
  for (const box of document.querySelectorAll(".plot[data-figure]")) {
    const name = box.dataset.figure;
    const runs = told.filter((run) => run.curves[name]);
    const steps = [...new Set(runs.flatMap((run) => run.curves[name][0]))].sort((a, b) => a - b);
    const data = [steps];
    for (const run of runs) {
      const values = new Map(run.curves[name][0].map((x, i) => [x, run.curves[name][1][i]]));
      data.push(steps.map((step) => values.get(step) ?? null));
    }
    Charts.chart(box, runs.map((run) => ({ label: run.run, unit: "" })), data);
  }
})();
