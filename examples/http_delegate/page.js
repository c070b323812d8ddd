// What is started here: requests of three styles, each with a line that says how far it is.

import { byId, bytes, make, setText } from "./dom.js";
import "./pool.js";
import { requests } from "./requests.js";
import { server } from "./server.js";

// A browser opens six connections to a server. Two are left for the figures.
const AT_ONCE = 4;
// A full server answers 503 and says when to come back: try again this often.
const ATTEMPTS = 20;
// Between two reads of a slow reader.
const SLOW_READ_PAUSE = 500;
const LINE_BYTES = 16;

const runs = new Set();
const waiting = new Set();
let active = 0;
let started = 0;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function startNext() {
  for (const run of waiting) {
    if (active >= AT_ONCE) break;
    waiting.delete(run);
    run.start();
  }
  summarize();
}

/// One request. `serve` is given the run, and returns a text for its end.
class Run {
  constructor(list, path, serve) {
    started += 1;
    this.path = path;
    this.serve = serve;
    this.attempts = 0;
    this.abort = new AbortController();
    const name = `#${started}`;
    // The summary announces the end. An announcement for each part would be noise.
    this.output = make("output", { ariaLive: "off" });
    this.button = make("button", { type: "button", textContent: "✕", ariaLabel: `Cancel request ${name}` });
    this.button.addEventListener("click", () => this.cancel());
    this.item = make("li", {}, make("span", { className: "name", textContent: name }), this.output, this.button);
    byId(list).append(this.item);
    runs.add(this);
    this.wait("waiting");
  }

  get isOpen() {
    return this.state === "waiting" || this.state === "open";
  }

  wait(text) {
    this.show("waiting", text);
    waiting.add(this);
  }

  async start() {
    active += 1;
    this.attempts += 1;
    this.show("open", "asked");
    try {
      const text = await this.serve(this);
      if (this.isOpen) this.show("done", text);
    } catch (error) {
      if (error instanceof Full && this.attempts < ATTEMPTS) this.retryLater(error.seconds);
      else if (this.isOpen) this.show("failed", error instanceof TypeError ? "connection lost" : error.message);
      server.askNow();
    }
    active -= 1;
    startNext();
  }

  retryLater(seconds) {
    this.show("waiting", `server full, again in ${seconds} s`);
    this.retry = setTimeout(() => {
      waiting.add(this);
      startNext();
    }, 1000 * seconds);
  }

  /// Closing the connection is all it takes: the server stops the task.
  cancel() {
    if (!this.isOpen) return;
    clearTimeout(this.retry);
    waiting.delete(this);
    this.show("cancelled", `cancelled${this.text ? `, ${this.text}` : ""}`);
    this.abort.abort();
    summarize();
  }

  /// Shows how far the answer is.
  progress(text) {
    if (this.state !== "open") return;
    this.text = text;
    setText(this.output, text);
  }

  show(state, text) {
    this.state = this.item.dataset.state = state;
    setText(this.output, text);
    this.output.title = text;
    this.button.hidden = !this.isOpen;
    summarize();
  }
}

class Full extends Error {
  constructor(seconds) {
    super("the server was full each time");
    this.seconds = seconds;
  }
}

async function ask(run) {
  // With its cache, a browser asks for the same path once at a time.
  const answer = await fetch(run.path, { cache: "no-store", signal: run.abort.signal });
  if (answer.status === 503) throw new Full(Number(answer.headers.get("Retry-After")) || 1);
  if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).trim()}`);
  return answer;
}

async function serveWhole(run) {
  const text = await (await ask(run)).text();
  return `${text.slice(0, text.indexOf("\n"))}, ${bytes(text.length)}`;
}

/// Checks a byte of the numbered lines.
function isRight(byte, offset) {
  const column = offset % LINE_BYTES;
  if (column === LINE_BYTES - 1) return byte === 10;
  const digit = Math.floor(Math.floor(offset / LINE_BYTES) / 10 ** (LINE_BYTES - 2 - column)) % 10;
  return byte === 48 + digit;
}

const serveParts = (expected, isSlow) => async (run) => {
  const reader = (await ask(run)).body.getReader();
  let received = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const wrong = value.findIndex((byte, index) => !isRight(byte, received + index));
    if (wrong !== -1) throw new Error(`byte ${received + wrong} is wrong`);
    received += value.length;
    run.progress(`${bytes(received)} of ${bytes(expected)}`);
    if (isSlow) await pause(SLOW_READ_PAUSE);
  }
  if (received !== expected) throw new Error(`cut off after ${bytes(received)}`);
  return `${bytes(received)}, each byte checked`;
};

/// An `EventSource` comes back by itself, and says which event it has got last.
const serveEvents = (run) =>
  new Promise((resolve) => {
    const source = new EventSource(run.path);
    let last = 0;
    let missing = 0;
    source.addEventListener("message", ({ data, lastEventId }) => {
      const { number, unix_ms } = JSON.parse(data);
      missing += number - last - 1;
      last = Number(lastEventId);
      const text = `event ${number} at ${new Date(unix_ms).toLocaleTimeString("en-GB")}`;
      run.progress(missing ? `${text}, ${missing} missing` : text);
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) resolve(`${last} events, no more`);
      else run.progress(`event ${last}, reconnecting`);
    });
    run.abort.signal.addEventListener("abort", () => {
      source.close();
      resolve();
    });
  });

function onStart(form, list, requestOf) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = event.target.elements;
    for (let count = Number(fields.number.value); count > 0; count -= 1) new Run(list, ...requestOf(fields));
    startNext();
  });
}

onStart("whole", "whole-runs", ({ ms, size }) => [`/work?ms=${ms.value}&size=${size.value}`, serveWhole]);
onStart("parts", "parts-runs", ({ parts, size, ms, slow }) => [
  `/stream?parts=${parts.value}&size=${size.value}&ms=${ms.value}`,
  serveParts(parts.value * size.value, slow.checked),
]);
onStart("events", "events-runs", ({ count, ms }) => [`/events?count=${count.value}&ms=${ms.value}`, serveEvents]);

async function show(path) {
  try {
    const answer = await fetch(path);
    setText(byId("outcome"), `${answer.status}: ${(await answer.text()).trim()}`);
  } catch {
    setText(byId("outcome"), "The server does not answer.");
    server.askNow();
  }
}

byId("now").addEventListener("click", () => show("/now"));
// A rejection is an answer, so the page asks for one that the browser takes for no failure.
byId("reject").addEventListener("click", () => show("/reject?status=403"));
byId("cancel-all").addEventListener("click", () => runs.forEach((run) => run.cancel()));
byId("clear").addEventListener("click", () => {
  for (const run of runs) {
    if (run.isOpen) continue;
    run.item.remove();
    runs.delete(run);
  }
  summarize();
});

function summarize() {
  const of = (state) => [...runs].filter((run) => run.state === state).length;
  const parts = ["waiting", "open", "done", "cancelled", "failed"].map((state) => [of(state), state]);
  const shown = parts.filter(([count]) => count > 0).map((part) => part.join(" "));
  setText(byId("summary"), shown.length ? shown.join(" · ") : "nothing yet");
  byId("cancel-all").disabled = of("waiting") + of("open") === 0;
  byId("clear").disabled = runs.size === of("waiting") + of("open");
}

server.isBusy = () => active > 0 || waiting.size > 0;
requests.isBusy = server.isBusy;
server.start();
requests.start();
