// The last minute of the pool's counts, as a chart.

import { byId } from "./dom.js";

const SERIES = [["waiting", "waiting"], ["parked", "parked"], ["on_worker", "on-worker"]];
const DASHES = { waiting: [], parked: [6, 3], on_worker: [] };
const SECONDS = 60;
const MARK_EVERY = 15;
const MARK_EVERY_NARROW = 30;
const NARROW = 360;
// One task among hundreds can be seen on this scale, on which each step is about twice the last.
const MARKS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];
const MARKS_SHOWN_MIN = 4;
const FONT = "12px system-ui, sans-serif";

const canvas = byId("chart");
/// `{ at, totals }`, oldest first; without totals the server did not answer.
const samples = [];

export function addSample(totals) {
  const now = performance.now();
  samples.push({ at: now, totals });
  while (samples[0].at < now - 1000 * (SECONDS + 2)) samples.shift();
  drawChart();
}

export function drawChart() {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (width === 0 || height === 0) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const chart = canvas.getContext("2d");
  chart.scale(scale, scale);
  chart.font = FONT;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`);
  const values = samples.flatMap(({ totals }) => (totals ? SERIES.map(([name]) => totals[name]) : []));
  const index = MARKS.findIndex((mark) => mark >= Math.max(0, ...values));
  const marks = MARKS.slice(0, Math.max(MARKS_SHOWN_MIN, index === -1 ? MARKS.length : index + 1));
  const area = {
    left: 10 + chart.measureText(marks.at(-1).toLocaleString("en")).width,
    right: width - 4, top: 24, bottom: height - 22,
  };
  const y = (value) => area.bottom - (area.bottom - area.top) * (Math.log1p(value) / Math.log1p(marks.at(-1)));
  const x = (secondsAgo) => area.right - ((area.right - area.left) * secondsAgo) / SECONDS;
  drawAxes(chart, { marks, area, x, y, color });
  chart.save();
  chart.beginPath();
  chart.rect(area.left, 0, area.right - area.left, height);
  chart.clip();
  for (const [name, className] of SERIES) drawLine(chart, name, color(className), x, y);
  chart.restore();
}

function drawAxes(chart, { marks, area, x, y, color }) {
  chart.fillStyle = color("muted");
  chart.textBaseline = "middle";
  chart.textAlign = "left";
  chart.fillText("tasks (logarithmic scale)", 0, 8);
  let last = Infinity;
  for (const mark of marks) {
    const at = Math.round(y(mark));
    chart.fillStyle = color("line");
    chart.fillRect(area.left, at, area.right - area.left, 1);
    // Not where two would overlap.
    if (last - at < 14) continue;
    last = at;
    chart.fillStyle = color("muted");
    chart.textAlign = "right";
    chart.fillText(mark.toLocaleString("en"), area.left - 6, at);
  }
  const every = area.right - area.left < NARROW ? MARK_EVERY_NARROW : MARK_EVERY;
  for (let ago = SECONDS; ago >= 0; ago -= every) {
    chart.fillStyle = color("muted");
    chart.fillRect(Math.round(x(ago)) - (ago === 0 ? 1 : 0), area.bottom, 1, 5);
    chart.textAlign = ago === SECONDS ? "left" : ago === 0 ? "right" : "center";
    chart.fillText(ago === 0 ? "now" : `${ago} s ago`, x(ago), area.bottom + 14);
  }
}

function drawLine(chart, name, color, x, y) {
  const now = performance.now();
  chart.strokeStyle = color;
  chart.lineWidth = 2;
  chart.lineJoin = "round";
  chart.setLineDash(DASHES[name]);
  chart.beginPath();
  let isGap = true;
  for (const { at, totals } of samples) {
    if (!totals) {
      isGap = true;
      continue;
    }
    const point = [x((now - at) / 1000), y(totals[name])];
    if (isGap) chart.moveTo(...point);
    else chart.lineTo(...point);
    isGap = false;
  }
  chart.stroke();
}

new ResizeObserver(drawChart).observe(canvas);
