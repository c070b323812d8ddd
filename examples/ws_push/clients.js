// The table of the clients, and a client that is slow on purpose.

import { bytes, byId, grouped, make } from "./dom.js";
import { Poll } from "./poll.js";
import { socketAddress } from "./reconnect.js";

const INTERVAL = 1000;
const ROWS = 100;
const FLOOD_BYTES = 60_000;
/// The buffers of a browser and of TCP hold some megabytes.
const FLOOD_MESSAGES = 400;

/// Asks for the clients from when it is started.
export const clients = new Poll(`/clients.json?limit=${ROWS}`, () => INTERVAL);
let before = null;

clients.addEventListener("answer", ({ detail }) => show(detail));
clients.addEventListener("lost", () => {
  // The state of the WebSocket says that the server does not answer.
  byId("clients-note").textContent = "no answer";
  before = null;
});

function show(state) {
  const now = performance.now();
  const rate = before ? (1000 * (state.deliveries - before.deliveries)) / (now - before.now) : 0;
  before = { now, deliveries: state.deliveries };
  byId("clients-count").textContent = grouped(state.clients);
  byId("slow-count").textContent = grouped(state.slow);
  byId("slow-count").parentElement.classList.toggle("is-some", state.slow > 0);
  byId("rate").textContent = grouped(Math.round(rate));
  byId("dropped").textContent = grouped(state.dropped);
  byId("copied").textContent = grouped(state.copied_bytes);
  const limit = `at most ${bytes(state.queue_bytes)} wait for each`;
  const hidden = state.clients - state.list.length;
  byId("clients-note").textContent = hidden > 0 ? `${limit}; ${grouped(hidden)} more are not listed` : limit;
  byId("rows").replaceChildren(...state.list.map(row));
}

function row(client) {
  const cell = (textContent) => make("td", { textContent });
  const figure = (textContent) => make("td", { textContent, className: "number" });
  const row = make("tr", {},
    make("th", { scope: "row", textContent: client.id }),
    cell(client.state), cell(client.room ?? ""),
    figure(bytes(client.queued_bytes)), figure(grouped(client.messages)), figure(grouped(client.dropped)),
    figure(`${client.seconds} s`));
  row.dataset.state = client.state;
  return row;
}

/// Browsers read a WebSocket without being asked, except through `WebSocketStream`.
export const canBeSlow = "WebSocketStream" in window;
const slowClients = [];

export async function addSlowClient() {
  const room = `slow-${Math.random().toString(36).slice(2, 8)}`;
  const socket = new WebSocketStream(socketAddress(`/live?figures=0&room=${room}`));
  // It is kept, and nothing reads from it.
  slowClients.push(await socket.opened);
  const body = ".".repeat(FLOOD_BYTES);
  for (let sent = 0; sent < FLOOD_MESSAGES; sent += 1) {
    const answer = await fetch(`/publish?room=${room}`, { method: "POST", body });
    if (!answer.ok) throw new Error(await answer.text());
    const { list } = sent % 20 === 19 ? await (await fetch("/clients.json?limit=20")).json() : { list: [] };
    if (list.some((client) => client.room === room && client.state === "slow")) return;
  }
}
