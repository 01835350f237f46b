"use strict";
// Curves, drawn by uPlot in the page's own colours; used by run.js and compare.js.
const Charts = (() => {
  const colour = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };
  const WHEEL = ["accent", "good", "wait", "bad", "quiet"];
  const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
  const digits = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(2);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  };
  const HEIGHT = 190;
  const made = new Set();

  // series: [{label, unit}], data: [steps, values...]
  function chart(box, series, data) {
    let plot = null;
    const draw = () => {
      if (plot) plot.destroy();
      const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
      plot = new uPlot({
        width: Math.max(box.clientWidth, 120), height: HEIGHT,
        scales: { x: { time: false } },
        axes: [
          { ...axis, values: (_, splits) => splits.map(digits), space: 60 },
          { ...axis, size: 62, values: (_, splits) => splits.map(digits) },
        ],
        series: [
          { label: "step", value: (_, v) => digits(v) },
          ...series.map((one, number) => ({
            label: one.label, stroke: colour(WHEEL[number % WHEEL.length]), width: 2, spanGaps: true,
            dash: DASHES[Math.floor(number / WHEEL.length) % DASHES.length], points: { show: data[0].length < 3 },
            value: (_, at, index, row) => {
              // Beside the newest step a figure that is told less often shows what it told last.
              const known = at ?? (row === data[0].length - 1 ? data[index]?.findLast((each) => each !== null) : null);
              return known === null || known === undefined ? "–" : `${digits(known)}${one.unit ? ` ${one.unit}` : ""}`;
            },
          })),
        ],
        cursor: { points: { size: 7 } },
        legend: { live: true },
        hooks: { ready: [(drawn) => drawn.setLegend({ idx: data[0].length - 1 })] },
      }, data, box);
    };
    // Without a pointer in it, a chart tells its newest values.
    const newest = () => {
      if (plot.cursor.idx === null || plot.cursor.idx === undefined) plot.setLegend({ idx: data[0].length - 1 });
    };
    box.addEventListener("mouseleave", () => setTimeout(newest, 0));
    const it = {
      set(newer) { data = newer; if (plot) { plot.setData(data); newest(); } },
      draw,
      fit() { if (plot && box.clientWidth) plot.setSize({ width: box.clientWidth, height: HEIGHT }); },
    };
    made.add(it);
    draw();
    new ResizeObserver(() => it.fit()).observe(box);
    return it;
  }
  const redraw = () => made.forEach((each) => each.draw());
  document.addEventListener("theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  return { chart, digits };
})();
