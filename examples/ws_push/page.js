// Connects the parts of the page.

import { Chart, fixedMarks, linearMarks } from "./chart.js";
import { addSlowClient, canBeSlow, clients } from "./clients.js";
import { byId, grouped, make, percent } from "./dom.js";
import { LiveSocket } from "./reconnect.js";

const OWN_ROOM = "lobby";
const MESSAGES_SHOWN = 50;
const FRAME_INTERVAL = 100;
const LINES = [{ color: "one" }, { color: "two", dash: [7, 4] }, { color: "three", dash: [2, 3] }];

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });
const chart = (id, lines, unit, marks) =>
  new Chart(id, { lines: LINES.slice(0, lines), unit, marks, format: number });

const usage = chart("usage", 2, "percent", fixedMarks(100));
const load = chart("load", 3, "processes that run or wait", linearMarks(1));
const network = chart("network", 2, "KiB per second", linearMarks(8));
const delays = chart("delays", 1, "milliseconds", linearMarks(1));
const charts = [usage, load, network, delays];

let isPaused = false;
let lastFrame = 0;

const live = new LiveSocket(`/live?room=${encodeURIComponent(OWN_ROOM)}`);
live.addEventListener("message", ({ detail: data }) => {
  if (typeof data !== "string") {
    showMessage(`${data.byteLength} bytes, binary`);
    return;
  }
  const figures = parse(data);
  if (figures?.type === "figures") showFigures(figures);
  else showMessage(data);
});

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function showFigures(figures) {
  const now = performance.now();
  const kib = (bytes) => (bytes === null ? null : bytes / 1024);
  const memory = figures.memory && (100 * figures.memory.used) / figures.memory.total;
  const delay = Math.max(0, Date.now() - figures.time_ms);
  const [one, five, fifteen] = figures.load ?? [null, null, null];
  const { received, sent } = figures.network;
  usage.add(now, [figures.cpu_percent, memory]);
  load.add(now, [one, five, fifteen]);
  network.add(now, [kib(received), kib(sent)]);
  delays.add(now, [delay]);
  if (isPaused) return;
  const show = (id, value, format) => { byId(id).textContent = value === null ? "–" : format(value); };
  show("cpu", figures.cpu_percent, percent);
  show("memory", memory, percent);
  show("load-1", one, number);
  show("load-5", five, number);
  show("load-15", fifteen, number);
  show("received", kib(received), (value) => `${grouped(Math.round(value))} KiB/s`);
  show("sent", kib(sent), (value) => `${grouped(Math.round(value))} KiB/s`);
  show("delay", delay, (value) => `${value} ms`);
}

function showMessage(text) {
  const time = make("time", { textContent: new Date().toLocaleTimeString("en-GB") });
  const shown = text.length > 300 ? `${text.slice(0, 300)}… (${text.length} characters)` : text;
  byId("messages").prepend(make("li", {}, time, shown));
  byId("no-message").hidden = true;
  if (byId("messages").childElementCount > MESSAGES_SHOWN) byId("messages").lastElementChild.remove();
}

live.addEventListener("state", ({ detail: [state, text] }) => {
  byId("connection").dataset.state = state;
  byId("connection").textContent = text;
  if (state === "lost") for (const chart of charts) chart.addGap(performance.now());
});

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", isPaused);
  byId("pause").textContent = isPaused ? "Paused" : "Pause";
});

byId("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const room = byId("room").value;
  const query = room ? `?room=${encodeURIComponent(room)}` : "";
  try {
    const answer = await fetch(`/publish${query}`, { method: "POST", body: byId("text").value });
    if (answer.ok) {
      const { receivers } = await answer.json();
      report(`Sent to ${receivers} ${receivers === 1 ? "client" : "clients"}.`, false);
    } else {
      report(`Not sent: ${(await answer.text()).trim()} (${answer.status}).`, true);
    }
  } catch {
    report("Not sent: the server does not answer.", true);
  }
});

function report(text, isBad) {
  byId("outcome").textContent = text;
  byId("outcome").classList.toggle("is-bad", isBad);
}

byId("add-slow").hidden = !canBeSlow;
byId("slow-note").hidden = !canBeSlow;
byId("add-slow").addEventListener("click", async () => {
  byId("add-slow").disabled = true;
  try {
    await addSlowClient();
  } catch (error) {
    byId("slow-note").textContent = `No slow client: ${error.message.trim()}`;
  }
  byId("add-slow").disabled = false;
});

function frame(now) {
  if (now - lastFrame >= FRAME_INTERVAL && !isPaused) {
    lastFrame = now;
    for (const chart of charts) chart.draw(performance.now());
  }
  requestAnimationFrame(frame);
}

byId("own-room").textContent = OWN_ROOM;
clients.start();
requestAnimationFrame(frame);
