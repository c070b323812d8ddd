// The table of the clients, and a client that is slow on purpose.

const INTERVAL = 1000;
const ANSWER_TIME = 3000;
const ROWS = 100;
const FLOOD_BYTES = 60_000;
/// The buffers of a browser and of TCP hold some megabytes.
const FLOOD_MESSAGES = 400;

const byId = (id) => document.getElementById(id);
let before = null;

export async function pollClients() {
  try {
    const answer = await fetch(`/clients.json?limit=${ROWS}`, { signal: AbortSignal.timeout(ANSWER_TIME) });
    if (answer.ok) show(await answer.json());
  } catch {
    // The state of the WebSocket says that the server does not answer.
    byId("clients-note").textContent = "no answer";
    before = null;
  }
  setTimeout(pollClients, INTERVAL);
}

function show(state) {
  const now = performance.now();
  const rate = before ? (1000 * (state.deliveries - before.deliveries)) / (now - before.now) : 0;
  before = { now, deliveries: state.deliveries };
  const count = (value) => value.toLocaleString("en");
  byId("clients-count").textContent = count(state.clients);
  byId("slow-count").textContent = count(state.slow);
  byId("slow-count").parentElement.classList.toggle("is-some", state.slow > 0);
  byId("rate").textContent = count(Math.round(rate));
  byId("dropped").textContent = count(state.dropped);
  byId("copied").textContent = count(state.copied_bytes);
  const limit = `at most ${kibibytes(state.queue_bytes)} wait for each`;
  const hidden = state.clients - state.list.length;
  byId("clients-note").textContent = hidden > 0 ? `${limit}; ${count(hidden)} more are not listed` : limit;
  byId("rows").replaceChildren(...state.list.map(row));
}

function row(client) {
  const row = document.createElement("tr");
  row.dataset.state = client.state;
  const cells = [
    [client.id, "th"], [client.state], [client.room ?? ""], [kibibytes(client.queued_bytes), "td", "number"],
    [client.messages.toLocaleString("en"), "td", "number"], [client.dropped.toLocaleString("en"), "td", "number"],
    [`${client.seconds} s`, "td", "number"],
  ];
  for (const [text, name = "td", className = ""] of cells) {
    const cell = document.createElement(name);
    if (name === "th") cell.scope = "row";
    cell.className = className;
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

const kibibytes = (bytes) => (bytes === 0 ? "0" : `${(bytes / 1024).toLocaleString("en", { maximumFractionDigits: 1 })} KiB`);

/// Browsers read a WebSocket without being asked, except through `WebSocketStream`.
export const canBeSlow = "WebSocketStream" in window;
const slowClients = [];

export async function addSlowClient() {
  const room = `slow-${Math.random().toString(36).slice(2, 8)}`;
  const url = new URL(`/live?figures=0&room=${room}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocketStream(url.href);
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
