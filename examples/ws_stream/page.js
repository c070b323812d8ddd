// The picture: one WebSocket per tile. The pool: its dump, once a second.

const byId = (id) => document.getElementById(id);
const picture = byId("picture").getContext("2d");

// ---- The picture ----------------------------------------------------------------------------

// Browsers open some 200 WebSockets at once and fail the others; those wait here instead.
const SOCKETS = 200;
// A full server answers 503: try again this often.
const ATTEMPTS = 20;
let tiles = [];
let startedAt = 0;
const open = new Set();
const waiting = new Set();

// Opens as many waiting tiles as there is room for.
function openNext() {
  for (const tile of waiting) {
    if (open.size >= SOCKETS) return;
    waiting.delete(tile);
    tile.connect();
  }
}

class Tile {
  constructor(index, count, depth) {
    this.index = index;
    const server = location.origin.replace(/^http/, "ws");
    this.url = `${server}/tiles?tile=${index}&of=${count}&depth=${depth}`;
    this.item = document.createElement("li");
    this.item.className = "tile";
    this.label = document.createElement("span");
    this.label.textContent = `Tile ${index + 1}`;
    this.output = document.createElement("output");
    // Hundreds of announcements a second would help nobody; the summary tells the end.
    this.output.setAttribute("aria-live", "off");
    this.label.append(this.output);
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.addEventListener("click", () => (this.isOpen() ? this.cancel() : redraw(this)));
    this.progress = document.createElement("progress");
    this.progress.setAttribute("aria-label", `Tile ${index + 1}`);
    this.item.append(this.label, this.button, this.progress);
  }

  isOpen() {
    return this.state === "waiting" || this.state === "drawing";
  }

  open() {
    this.attempts = 0;
    this.show("waiting", 0, "waiting");
    waiting.add(this);
    openNext();
  }

  connect() {
    this.attempts += 1;
    const socket = new WebSocket(this.url);
    this.socket = socket;
    open.add(socket);
    let accepted = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      accepted = true;
      // Cancelled meanwhile. Closing it before it was open would fail it, with a warning.
      if (this.socket !== socket) socket.close();
    };
    socket.onmessage = (event) => this.socket === socket && this.receive(event.data);
    socket.onclose = (event) => {
      open.delete(socket);
      if (this.socket === socket) this.closed(event, accepted);
      openNext();
    };
  }

  closed(event, accepted) {
    this.socket = null;
    if (!accepted && this.attempts < ATTEMPTS) {
      this.show("waiting", 0, "server full, waiting");
      this.retry = setTimeout(() => {
        waiting.add(this);
        openNext();
      }, 500);
      return;
    }
    if (event.code === 1000) this.show("done", 1, "drawn");
    else this.show("failed", this.done, event.reason || "connection lost");
    summarize();
  }

  receive(data) {
    const [x, y, width, rows, done, height] = new Uint16Array(data, 0, 6);
    // A strip is empty if its step's time was up before its first row.
    if (rows > 0) picture.putImageData(new ImageData(new Uint8ClampedArray(data, 12), width, rows), x, y);
    this.show("drawing", done / height, `${Math.round((100 * done) / height)} %`);
  }

  // Closing the socket is all it takes: the server stops the task.
  close() {
    clearTimeout(this.retry);
    waiting.delete(this);
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.close();
    this.socket = null;
  }

  cancel() {
    this.close();
    this.show("cancelled", this.done, "cancelled");
    summarize();
  }

  show(state, done, text) {
    this.done = done;
    this.progress.value = done;
    this.output.textContent = text;
    if (state === this.state) return;
    this.state = this.item.dataset.state = state;
    this.button.textContent = this.isOpen() ? "✕" : "↻";
    const verb = this.isOpen() ? "Cancel tile" : "Draw again tile";
    this.button.setAttribute("aria-label", `${verb} ${this.index + 1}`);
    this.button.title = this.isOpen() ? "Cancel" : "Draw again";
  }
}

function drawAll() {
  for (const tile of tiles) tile.close();
  const count = Number(byId("tiles").value);
  const depth = Number(byId("depth").value);
  picture.clearRect(0, 0, picture.canvas.width, picture.canvas.height);
  tiles = Array.from({ length: count }, (_, index) => new Tile(index, count, depth));
  byId("tile-list").replaceChildren(...tiles.map((tile) => tile.item));
  startedAt = performance.now();
  for (const tile of tiles) tile.open();
  byId("summary").textContent = `Drawing ${count} tiles, each on a socket of its own.`;
}

function redraw(tile) {
  startedAt = performance.now();
  tile.open();
  byId("summary").textContent = `Drawing tile ${tile.index + 1} again.`;
}

function summarize() {
  if (tiles.some((tile) => tile.isOpen())) return;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const number = (state) => tiles.filter((tile) => tile.state === state).length;
  const parts = [`${number("done")} of ${tiles.length} tiles drawn in ${seconds} s`];
  if (number("cancelled")) parts.push(`${number("cancelled")} cancelled`);
  if (number("failed")) parts.push(`${number("failed")} failed`);
  byId("summary").textContent = `${parts.join(", ")}.`;
}

byId("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  drawAll();
});
byId("tiles").addEventListener("change", drawAll);
byId("depth").addEventListener("change", drawAll);
byId("cancel-all").addEventListener("click", () => {
  for (const tile of tiles) if (tile.isOpen()) tile.cancel();
});

// ---- The pool -------------------------------------------------------------------------------

const SERIES = ["queued", "running", "syncing"];
const SAMPLES = 60;
const ROWS = 100;
const history = [];
let previous = null;

const sum = (value) =>
  typeof value === "object" ? Object.values(value).reduce((total, part) => total + sum(part), 0) : value;
const seconds = (us) => (us < 1e6 ? `${Math.round(us / 1e3)} ms` : `${(us / 1e6).toFixed(1)} s`);
const grouped = (number) => number.toLocaleString("en");

async function pollPool() {
  try {
    const response = await fetch(`/dump.json?limit=${ROWS}`);
    if (!response.ok) throw new Error(response.statusText);
    showPool(await response.json());
  } catch {
    byId("pool-note").textContent = "not reachable, trying again";
  }
  setTimeout(pollPool, 1000);
}

function showPool(dump) {
  const { counters, totals } = dump;
  byId("pool-note").textContent = `${dump.threads} threads, up ${seconds(dump.uptime_us)}`;
  for (const name of SERIES) byId(name).textContent = grouped(totals[name]);
  byId("finished").textContent = grouped(counters.finished);
  byId("stopped").textContent = grouped(sum(counters.stopped));
  if (previous && dump.uptime_us > previous.uptime_us) {
    const rate = (1e6 * (counters.syncs - previous.counters.syncs)) / (dump.uptime_us - previous.uptime_us);
    byId("sync-rate").textContent = grouped(Math.round(rate));
  }
  previous = dump;
  history.push(totals);
  if (history.length > SAMPLES) history.shift();
  drawChart();
  showTasks(dump.tasks, sum(totals));
}

function showTasks(tasks, total) {
  const shown = tasks.length < total ? `, the first ${tasks.length} of them` : "";
  byId("dump-caption").textContent = `${grouped(total)} ${total === 1 ? "task" : "tasks"}${shown}`;
  // The pool has no order to keep; a table that is read has.
  tasks.sort((one, other) => one.connection - other.connection);
  const rows = tasks.map((task) => {
    const row = document.createElement("tr");
    const status = document.createElement("td");
    const dot = document.createElement("span");
    dot.className = `dot ${task.status}`;
    status.append(dot, `${task.status}, ${seconds(task.in_status_us)}`);
    const percent = (value) => `${Math.round(value)} %`;
    row.append(cell(task.id), cell(task.name), status, cell(task.connection ?? "none", "number"),
      cell(seconds(task.alive_us), "number"), cell(percent(task.run_percent), "number"),
      cell(percent(task.sync_percent), "number"));
    return row;
  });
  if (rows.length === 0) {
    const empty = cell("No task at the moment.", "empty");
    empty.colSpan = 7;
    const row = document.createElement("tr");
    row.append(empty);
    rows.push(row);
  }
  byId("dump").replaceChildren(...rows);
}

function cell(text, className = "") {
  const cell = document.createElement("td");
  cell.textContent = text;
  cell.className = className;
  return cell;
}

function drawChart() {
  const canvas = byId("chart");
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const chart = canvas.getContext("2d");
  chart.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`);
  const most = niceAbove(Math.max(4, ...history.flatMap((totals) => SERIES.map((name) => totals[name]))));
  const left = 8 + 8 * String(most).length;
  const x = (index) => left + ((width - left - 4) * (index + SAMPLES - history.length)) / (SAMPLES - 1);
  const y = (value) => height - 8 - ((height - 18) * value) / most;
  chart.font = "12px system-ui, sans-serif";
  chart.textAlign = "right";
  chart.textBaseline = "middle";
  for (const value of [0, most / 2, most]) {
    chart.fillStyle = color("muted");
    chart.fillText(String(value), left - 6, y(value));
    chart.fillStyle = color("line");
    chart.fillRect(left, Math.round(y(value)), width - left, 1);
  }
  chart.lineWidth = 2;
  chart.lineJoin = "round";
  for (const name of SERIES) {
    chart.strokeStyle = color(name);
    chart.beginPath();
    history.forEach((totals, index) => chart.lineTo(x(index), y(totals[name])));
    chart.stroke();
  }
}

// 4, 10, 20, 40, 100, ...: even, so that the middle line has a whole number.
function niceAbove(value) {
  for (let power = 1; ; power *= 10) {
    for (const step of [2, 4, 10]) if (step * power >= value) return step * power;
  }
}

window.addEventListener("resize", drawChart);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);

drawAll();
pollPool();
