// The uploads: one request for each file.

import { byId, bytes, make } from "./dom.js";
import "./pool.js";
import { server } from "./server.js";

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
    // The summary announces the end. An announcement for each step would be noise.
    this.output = make("output", { ariaLive: "off" });
    this.button = make("button", { type: "button", textContent: "✕", ariaLabel: `Cancel ${name}` });
    this.button.addEventListener("click", () => this.cancel());
    this.progress = make("progress", { ariaLabel: name });
    const title = make("span", { className: "name", title: name }, name, make("small", {}, bytes(this.size)));
    this.item = make("li", {}, title, this.output, this.button, this.progress);
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
    this.show("done", 1, make("code", {}, JSON.parse(request.responseText).crc32));
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

server.isBusy = () => active > 0 || waiting.size > 0;
server.start();
