// Connects the parts of the page.

import { Chart } from "./chart.js";
import { addSlowClient, canBeSlow, pollClients } from "./clients.js";
import { connect, live } from "./live.js";

const OWN_ROOM = "lobby";
const MESSAGES_SHOWN = 50;
const FRAME_INTERVAL = 100;

const byId = (id) => document.getElementById(id);
const percent = (value) => `${Math.round(value)} %`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });

const usage = new Chart("usage", { max: 100, unit: "percent", format: number });
const load = new Chart("load", { max: 1, grows: true, unit: "processes that run or wait", format: number });
const network = new Chart("network", { max: 8, grows: true, unit: "KiB per second", format: number });
const delays = new Chart("delays", { max: 1, grows: true, unit: "milliseconds", format: number });
const charts = [usage, load, network, delays];

let isPaused = false;
let lastFrame = 0;

live.addEventListener("figures", ({ detail: figures }) => {
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
  show("received", kib(received), (value) => `${Math.round(value).toLocaleString("en")} KiB/s`);
  show("sent", kib(sent), (value) => `${Math.round(value).toLocaleString("en")} KiB/s`);
  show("delay", delay, (value) => `${value} ms`);
});

live.addEventListener("message", ({ detail }) => {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString("en-GB");
  item.append(time, detail.length > 300 ? `${detail.slice(0, 300)}… (${detail.length} characters)` : detail);
  byId("messages").prepend(item);
  byId("no-message").hidden = true;
  if (byId("messages").childElementCount > MESSAGES_SHOWN) byId("messages").lastElementChild.remove();
});

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
connect(OWN_ROOM);
pollClients();
requestAnimationFrame(frame);
