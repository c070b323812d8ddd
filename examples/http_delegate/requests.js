// The table of the requests, and what became of their writes.

import { byId, grouped, make, setText, time } from "./dom.js";
import { Poll } from "./poll.js";

const ROWS = 60;
const BUSY_INTERVAL = 250;
const IDLE_INTERVAL = 1000;

export const requests = new Poll(`/requests.json?limit=${ROWS}`, () =>
  requests.isBusy() ? BUSY_INTERVAL : IDLE_INTERVAL);
requests.isBusy = () => false;

const rows = [];

requests.addEventListener("answer", ({ detail: { counts, live, ended } }) => {
  setText(byId("asked"), grouped(counts.writes.asked));
  setText(byId("written"), grouped(counts.writes.written));
  setText(byId("lost-writes"), grouped(counts.writes.lost));
  const { accepted, refused } = counts.handled;
  const note = `${live.length} live, ${grouped(accepted)} accepted${refused ? `, ${grouped(refused)} refused` : ""}`;
  setText(byId("requests-note"), note);
  const list = [...live, ...ended].slice(0, ROWS);
  byId("no-request").hidden = list.length > 0;
  while (rows.length < list.length) rows.push(newRow());
  rows.forEach((row, index) => {
    row.element.hidden = index >= list.length;
    if (index < list.length) fill(row, list[index]);
  });
});

function newRow() {
  const target = make("th", { scope: "row" });
  const dot = make("span", { className: "dot" });
  const state = make("span");
  const numbers = Array.from({ length: 4 }, () => make("td", { className: "number" }));
  const saw = make("td");
  const element = make("tr", {}, target, make("td", {}, dot, state), ...numbers, saw);
  byId("requests").append(element);
  return { element, target, dot, state, numbers, saw };
}

const KINDS = { computing: "on-worker", writing: "parked", pausing: "parked", finishing: "parked" };

function fill(row, request) {
  setText(row.target, request.target);
  row.target.title = request.target;
  row.element.dataset.state = request.state;
  row.dot.dataset.state = KINDS[request.state] ?? "ended";
  setText(row.state, request.state.replace("_", " "));
  const numbers = [request.asked, request.written, request.lost ?? 0].map(grouped);
  [...numbers, time(request.age_us)].forEach((number, index) => setText(row.numbers[index], number));
  const after = request.task_ended_after_us;
  const saw = request.task_saw ? `${request.task_saw}${after === null ? "" : `, after ${(after / 1000).toFixed(1)} ms`}` : "";
  setText(row.saw, saw);
}
