// The figures of the pool, and the table of its tasks.

import { addSample, drawChart } from "./chart.js";
import { byId, setText } from "./dom.js";

const ROWS = 100;
let previous = null;

const sum = (value) =>
  typeof value === "object" ? Object.values(value).reduce((total, part) => total + sum(part), 0) : value;
const grouped = (number) => number.toLocaleString("en");

function time(us) {
  if (us < 1e6) return `${Math.round(us / 1e3)} ms`;
  return us < 1e8 ? `${(us / 1e6).toFixed(1)} s` : `${Math.round(us / 1e6)} s`;
}

export function showPool(dump) {
  const { counters, totals, threads } = dump;
  const ofThreads = threads === 1 ? "thread" : "threads";
  setText(byId("pool-note"), `${threads} worker ${ofThreads}, up ${Math.floor(dump.uptime_us / 1e6)} s`);
  setText(byId("on-worker"), grouped(totals.on_worker));
  setText(byId("threads"), `of ${threads} ${ofThreads}`);
  setText(byId("waiting"), grouped(totals.waiting));
  setText(byId("parked"), grouped(totals.parked));
  setText(byId("finished"), grouped(counters.finished));
  setText(byId("stopped"), grouped(sum(counters.stopped)));
  if (previous && dump.uptime_us > previous.uptime_us) {
    const steps = counters.steps - previous.counters.steps;
    const rate = (1e6 * steps) / (dump.uptime_us - previous.uptime_us);
    setText(byId("step-rate"), grouped(Math.round(rate)));
  }
  previous = dump;
  addSample(totals);
  showTasks(dump.tasks, totals.on_worker + totals.waiting + totals.parked + totals.ended);
}

/// Shows that the server does not answer, or that it does again.
export function showLost(isLost) {
  document.body.classList.toggle("is-lost", isLost);
  const notice = byId("lost");
  notice.hidden = !isLost;
  setText(notice, isLost ? "The server does not answer. Trying again." : "");
  if (!isLost) return;
  setText(byId("pool-note"), "the server does not answer");
  addSample(null);
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
  const element = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  const state = document.createElement("td");
  const dot = document.createElement("span");
  dot.className = "dot";
  const text = document.createElement("span");
  state.append(dot, text);
  const numbers = Array.from({ length: 5 }, () => {
    const cell = document.createElement("td");
    cell.className = "number";
    return cell;
  });
  element.append(name, state, ...numbers);
  byId("dump").append(element);
  return { element, name, dot, text, numbers };
}

function fill(row, task) {
  const [kind, text] = state(task);
  const percent = (value) => `${Math.round(value)} %`;
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

drawChart();
