// Connects the parts of the page.

import { bytes, byId, grouped } from "./dom.js";
import { startLoops } from "./loops.js";
import "./pool.js";
import { server } from "./server.js";

// A browser opens at most six connections to a server. The figures and the pings need the other three.
const FLOOD = 3;
const SHOWN = 2000;
const FLOOD_PAUSE = 250;

function report(text, isBad) {
  byId("outcome").textContent = text;
  byId("outcome").classList.toggle("is-bad", isBad);
}

/// Requests `path`, and shows the answer.
async function show(path) {
  try {
    const answer = await fetch(path);
    const text = await answer.text();
    const by = `loop ${answer.headers.get("X-Loop")}`;
    if (answer.ok) {
      const { reports } = JSON.parse(text);
      const steps = reports.map(({ loop, run, connections }) => `loop ${loop} (its function ${grouped(run)}, ${connections} connections)`);
      report(`Request to ${by}; a function has run in ${steps.join(", ")}; ${by} has answered.`, false);
    } else {
      report(`${answer.status} from ${by}: ${text.trim()}`, true);
    }
  } catch {
    report("The server does not answer.", true);
  }
}

byId("broadcast").addEventListener("click", () => show("/broadcast"));
byId("move").addEventListener("click", () => show(`/move?to=${byId("move-to").value}`));
byId("deadlock").addEventListener("click", () => show("/deadlock"));

// ---- Flood ----------------------------------------------------------------------------------

let flood = null;

byId("flood").addEventListener("click", () => {
  if (flood) {
    flood.abort();
    flood = null;
  } else {
    flood = new AbortController();
    for (let index = 0; index < FLOOD; index += 1) askAgain(flood.signal);
  }
  byId("flood").setAttribute("aria-pressed", flood !== null);
});

async function askAgain(signal) {
  while (!signal.aborted) {
    try {
      const answer = await fetch(`/slow?ms=${byId("slow-ms").value}`, { signal, cache: "no-store" });
      await answer.text();
    } catch {
      // The request was aborted, or the server does not answer.
      await new Promise((resolve) => setTimeout(resolve, FLOOD_PAUSE));
    }
  }
}

// ---- Query ----------------------------------------------------------------------------------

let query = null;

byId("query").addEventListener("submit", async (event) => {
  event.preventDefault();
  query?.abort();
  const own = (query = new AbortController());
  byId("cancel").disabled = false;
  byId("result").textContent = "";
  await run(byId("sql").value, own.signal);
  if (query === own) byId("cancel").disabled = true;
});

byId("cancel").addEventListener("click", () => query?.abort());

async function run(sql, signal) {
  const begun = performance.now();
  let received = 0;
  const seconds = () => ((performance.now() - begun) / 1000).toFixed(2);
  try {
    const answer = await fetch(`/query?sql=${encodeURIComponent(sql)}`, { signal });
    if (!answer.ok) {
      report(`${answer.status}: ${(await answer.text()).trim()}`, true);
      return;
    }
    const decoder = new TextDecoder();
    for await (const chunk of answer.body) {
      if (received < SHOWN) byId("result").textContent += decoder.decode(chunk.subarray(0, SHOWN - received), { stream: true });
      received += chunk.byteLength;
      report(`${bytes(received)} in ${seconds()} s …`, false);
    }
    report(`${bytes(received)} in ${seconds()} s, the whole result, from loop ${answer.headers.get("X-Loop")}.`, false);
  } catch (error) {
    const why = signal.aborted ? "Cancelled: the server interrupts the query" : `The answer was cut off: ${error.message}`;
    report(`${why}. ${bytes(received)} in ${seconds()} s.`, !signal.aborted);
  }
}

server.isBusy = () => flood !== null || !byId("cancel").disabled;
startLoops();
server.start();
