// The uploads: one request for each file. The pool: its dump, twice a second.

const byId = (id) => document.getElementById(id);

// ---- Uploads --------------------------------------------------------------------------------

// A browser opens six connections to a server. One is left for the dump.
const AT_ONCE = 5;
// A full server answers 503 and says when to come back: try again this often.
const ATTEMPTS = 20;
const uploads = new Set();
const waiting = new Set();
let active = 0;

// Starts as many waiting uploads as there is room for.
function startNext() {
  for (const upload of waiting) {
    if (active >= AT_ONCE) return;
    waiting.delete(upload);
    upload.send();
  }
}

class Upload {
  constructor(name, body) {
    this.body = body;
    this.size = body.size;
    this.attempts = 0;
    this.item = document.createElement("li");
    const title = document.createElement("span");
    title.className = "name";
    title.title = name;
    const size = document.createElement("small");
    size.textContent = bytes(this.size);
    title.append(name, size);
    this.output = document.createElement("output");
    // The summary announces the end. An announcement for each step would be noise.
    this.output.setAttribute("aria-live", "off");
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.textContent = "✕";
    this.button.setAttribute("aria-label", `Cancel ${name}`);
    this.button.addEventListener("click", () => this.cancel());
    this.progress = document.createElement("progress");
    this.progress.setAttribute("aria-label", name);
    this.item.append(title, this.output, this.button, this.progress);
    byId("uploads").append(this.item);
    uploads.add(this);
    this.wait("waiting");
  }

  isOpen() {
    return this.state === "waiting" || this.state === "sending";
  }

  wait(text) {
    this.show("waiting", 0, text);
    waiting.add(this);
  }

  send() {
    active += 1;
    this.attempts += 1;
    const request = new XMLHttpRequest();
    this.request = request;
    request.open("POST", "/");
    request.upload.onprogress = (event) => {
      if (this.state !== "sending") return;
      const done = event.total ? event.loaded / event.total : 1;
      this.show("sending", done, done < 1 ? `${Math.round(100 * done)} %` : "computing");
    };
    request.onload = () => this.answered(request);
    request.onerror = () => this.show("failed", this.progress.value, "connection lost");
    request.onloadend = () => {
      active -= 1;
      startNext();
      summarize();
    };
    this.show("sending", 0, "0 %");
    request.send(this.body);
  }

  answered(request) {
    if (request.status === 503 && this.attempts < ATTEMPTS) {
      const seconds = Number(request.getResponseHeader("Retry-After")) || 1;
      this.show("waiting", 0, `server full, again in ${seconds} s`);
      this.retry = setTimeout(() => {
        waiting.add(this);
        startNext();
      }, 1000 * seconds);
      return;
    }
    if (request.status !== 200) {
      this.show("failed", this.progress.value, `${request.status} ${request.responseText.trim()}`);
      return;
    }
    const digest = document.createElement("code");
    digest.textContent = JSON.parse(request.responseText).crc32;
    this.show("done", 1, digest);
  }

  // Closing the connection is all it takes: the server stops the task.
  cancel() {
    if (!this.isOpen()) return;
    clearTimeout(this.retry);
    waiting.delete(this);
    this.show("cancelled", this.progress.value, "cancelled");
    this.request?.abort();
    summarize();
  }

  show(state, done, content) {
    this.state = this.item.dataset.state = state;
    this.progress.value = done;
    this.output.replaceChildren(content);
    this.button.hidden = !this.isOpen();
  }
}

function add(files) {
  for (const file of files) new Upload(file.name, file);
  startNext();
  summarize();
}

// So many files of random data. `getRandomValues` fills at most 64 KiB at a time.
function startMany() {
  const size = Number(byId("size").value);
  const block = crypto.getRandomValues(new Uint8Array(Math.min(size, 65536)));
  for (let index = 1; index <= 50; index += 1) {
    const mark = new Uint8Array([index]);
    const parts = [mark, block.subarray(1), ...Array(size / block.length - 1).fill(block)];
    new Upload(`Random data ${index}`, new Blob(parts));
  }
  startNext();
  summarize();
}

function summarize() {
  const of = (state) => [...uploads].filter((upload) => upload.state === state);
  const [done, failed, cancelled] = ["done", "failed", "cancelled"].map(of);
  const open = uploads.size - done.length - failed.length - cancelled.length;
  const size = done.reduce((sum, upload) => sum + upload.size, 0);
  const parts = [`${done.length} of ${uploads.size} done, ${bytes(size)}`];
  if (open) parts.push(`${open} open`);
  if (cancelled.length) parts.push(`${cancelled.length} cancelled`);
  if (failed.length) parts.push(`${failed.length} failed`);
  byId("summary").textContent = uploads.size ? parts.join(" · ") : "No uploads yet.";
  byId("cancel-all").disabled = !open;
  byId("clear").disabled = uploads.size === open;
}

function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), units.length - 1);
  const value = count / 1024 ** unit;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

const drop = byId("drop");
for (const event of ["dragover", "dragenter"]) {
  drop.addEventListener(event, (dragged) => {
    dragged.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (dropped) => {
  dropped.preventDefault();
  drop.classList.remove("over");
  add(dropped.dataTransfer.files);
});
byId("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
byId("many").addEventListener("click", startMany);
byId("cancel-all").addEventListener("click", () => {
  for (const upload of uploads) upload.cancel();
});
byId("clear").addEventListener("click", () => {
  for (const upload of uploads) {
    if (upload.isOpen()) continue;
    upload.item.remove();
    uploads.delete(upload);
  }
  summarize();
});

// ---- The pool -------------------------------------------------------------------------------

const ROWS = 50;
let last = null;

function span(us) {
  if (us < 10_000) return `${us} µs`;
  if (us < 10_000_000) return `${Math.round(us / 1000)} ms`;
  return `${Math.round(us / 1_000_000)} s`;
}

function cell(content, className = "") {
  const cell = document.createElement("td");
  cell.className = className;
  cell.append(content);
  return cell;
}

// Where a task is: in the same words as the counts.
function state({ status, worker }) {
  if (status === "syncing") return ["parked", "parked"];
  if (["finished", "stopped", "panicked"].includes(status)) return ["ended", status];
  return worker === null ? ["waiting", "waiting"] : ["on-worker", `on worker ${worker}`];
}

function row(task) {
  const row = document.createElement("tr");
  const dot = document.createElement("span");
  const [kind, text] = state(task);
  dot.className = `dot ${kind}`;
  const status = document.createElement("span");
  status.append(dot, text);
  row.append(
    cell(task.id),
    cell(task.name ?? "–"),
    cell(status),
    cell(String(task.connection ?? "–"), "number"),
    cell(span(task.alive_us), "number"),
    cell(`${Math.round(task.run_percent)} %`, "number"),
    cell(`${Math.round(task.sync_percent)} %`, "number"),
  );
  return row;
}

function show(dump) {
  const { totals, counters } = dump;
  const stopped = Object.values(counters.stopped).reduce((sum, count) => sum + count, 0);
  const figures = {
    "on-worker": totals.on_worker,
    waiting: totals.waiting,
    parked: totals.parked,
    finished: counters.finished,
    stopped,
  };
  for (const [id, figure] of Object.entries(figures)) byId(id).textContent = figure.toLocaleString("en");
  if (last && dump.uptime_us > last.uptime_us) {
    const seconds = (dump.uptime_us - last.uptime_us) / 1e6;
    const rate = (counters.steps - last.counters.steps) / seconds;
    byId("step-rate").textContent = Math.round(rate).toLocaleString("en");
  }
  last = dump;
  byId("pool-note").textContent = `${dump.threads} threads`;
  const rows = dump.tasks.map(row);
  if (rows.length === 0) {
    const empty = cell("No tasks", "empty");
    empty.colSpan = 7;
    rows.push(document.createElement("tr"));
    rows[0].append(empty);
  }
  byId("dump").replaceChildren(...rows);
}

async function watch() {
  try {
    const answer = await fetch(`/dump.json?limit=${ROWS}`);
    show(await answer.json());
  } catch {
    byId("pool-note").textContent = "the server does not answer";
    last = null;
  }
  setTimeout(watch, 500);
}

watch();
