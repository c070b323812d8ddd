// The figures of the pool, their last minute, and the table of its tasks.

import { Chart, logarithmicMarks } from "./chart.js";
import { byId, grouped, make, percent, setText, time } from "./dom.js";
import { server } from "./server.js";

const ROWS = 100;
const SERIES = ["waiting", "parked", "on_worker"];
const chart = new Chart("chart", {
  lines: [{ color: "waiting" }, { color: "parked", dash: [6, 3] }, { color: "on-worker" }],
  unit: "tasks (logarithmic scale)",
  format: grouped,
  marks: logarithmicMarks,
  scale: Math.log1p,
});
let previous = null;

const sum = (value) =>
  typeof value === "object" ? Object.values(value).reduce((total, part) => total + sum(part), 0) : value;

server.addEventListener("answer", ({ detail }) => {
  showLost(false);
  showPool(detail);
});
server.addEventListener("lost", () => {
  showLost(true);
  addSample(SERIES.map(() => null));
});

function addSample(values) {
  const now = performance.now();
  chart.add(now, values);
  chart.draw(now);
}

function showPool(dump) {
  const { counters, counts } = dump;
  const { threads } = counts;
  const waiting = counts.queued + counts.waiting;
  const ofThreads = threads === 1 ? "thread" : "threads";
  setText(byId("pool-note"), `${threads} worker ${ofThreads}, up ${Math.floor(dump.uptime_us / 1e6)} s`);
  setText(byId("on-worker"), grouped(counts.on_worker));
  setText(byId("threads"), `of ${threads} ${ofThreads}`);
  setText(byId("waiting"), grouped(waiting));
  setText(byId("parked"), grouped(counts.parked));
  setText(byId("finished"), grouped(counters.finished));
  setText(byId("stopped"), grouped(sum(counters.stopped)));
  if (previous && dump.uptime_us > previous.uptime_us) {
    const steps = counters.steps - previous.counters.steps;
    const rate = (1e6 * steps) / (dump.uptime_us - previous.uptime_us);
    setText(byId("step-rate"), grouped(Math.round(rate)));
  }
  previous = dump;
  addSample(SERIES.map((name) => ({ ...counts, waiting })[name]));
  showTasks(dump.tasks, counts.on_worker + waiting + counts.parked + counts.ended);
}

/// Shows that the server does not answer, or that it does again.
function showLost(isLost) {
  document.body.classList.toggle("is-lost", isLost);
  const notice = byId("lost");
  notice.hidden = !isLost;
  setText(notice, isLost ? "The server does not answer. Trying again." : "");
  if (isLost) setText(byId("pool-note"), "the server does not answer");
}

// ---- Table ----------------------------------------------------------------------------------

// Rows are kept and filled again: a table that is made anew five times a second cannot be read.
const rows = [];

function showTasks(tasks, total) {
  // The pool has no order to keep; a table that is read has.
  tasks.sort((one, other) => (one.connection ?? 0) - (other.connection ?? 0));
  const shown = Math.min(ROWS, tasks.length);
  setText(byId("tasks-note"), total > shown ? `the first ${shown} of ${grouped(total)}` : grouped(total));
  while (rows.length < shown) rows.push(newRow());
  rows.forEach((row, index) => {
    row.element.hidden = index >= shown;
    if (index < shown) fill(row, tasks[index]);
  });
  byId("no-task").hidden = shown > 0;
}

function newRow() {
  const name = make("th", { scope: "row" });
  const dot = make("span", { className: "dot" });
  const text = make("span");
  const numbers = Array.from({ length: 5 }, () => make("td", { className: "number" }));
  const element = make("tr", {}, name, make("td", {}, dot, text), ...numbers);
  byId("dump").append(element);
  return { element, name, dot, text, numbers };
}

function fill(row, task) {
  const [kind, text] = state(task);
  setText(row.name, task.name ?? task.id);
  row.dot.dataset.state = kind;
  setText(row.text, text);
  const numbers = [time(task.in_status_us), String(task.connection ?? "none"), time(task.alive_us),
    percent(task.run_percent), percent(task.sync_percent)];
  numbers.forEach((number, index) => setText(row.numbers[index], number));
}

/// Where a task is: in the same words as the counts.
function state({ status, worker }) {
  if (status === "syncing") return ["parked", "parked"];
  if (["finished", "stopped", "panicked"].includes(status)) return ["ended", status];
  return worker === null ? ["waiting", "waiting"] : ["on-worker", `on worker ${worker}`];
}
