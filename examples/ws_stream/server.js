// The server, as the page knows it: its dump, and whether it answers.

// Five times a second while something is open.
const BUSY_INTERVAL = 200;
const IDLE_INTERVAL = 800;
// A server that has not answered for this long counts as lost. Together with the longest interval
// that is less than two seconds.
const ANSWER_TIME = 1000;
const RETRY_FIRST = 250;
const RETRY_MAX = 2000;
const TASKS = 600;

/// Events: `dump` (the dump), `lost` (it does not answer any more), `back` (it does again; whether
/// it has been started anew).
export const server = new EventTarget();
server.answers = true;
server.isBusy = () => false;

let timer;
let isAsking = false;
let failures = 0;
let uptime = 0;
let hasTasks = false;
let due = 0;

export function startPolling() {
  poll();
}

/// Asks now: there is reason to think that the server has gone.
export function askNow() {
  if (isAsking || !server.answers) return;
  clearTimeout(timer);
  due = performance.now();
  poll();
}

async function poll() {
  const start = performance.now();
  due = Math.max(due, start - BUSY_INTERVAL);
  isAsking = true;
  let dump = null;
  try {
    const answer = await fetch(`/dump.json?limit=${TASKS}`, { signal: AbortSignal.timeout(ANSWER_TIME) });
    if (answer.ok) dump = await answer.json();
  } catch {
    // Not reachable, or too late.
  }
  isAsking = false;
  if (dump) answered(dump);
  else failed();
  // Counted from when this one was due, so that late timers do not add up.
  due += interval();
  timer = setTimeout(poll, Math.max(0, due - performance.now()));
}

function interval() {
  if (failures > 0) return Math.min(RETRY_MAX, RETRY_FIRST * 2 ** (failures - 1));
  return server.isBusy() || hasTasks ? BUSY_INTERVAL : IDLE_INTERVAL;
}

function answered(dump) {
  failures = 0;
  const wasLost = !server.answers;
  const isNew = dump.uptime_us < uptime;
  uptime = dump.uptime_us;
  hasTasks = dump.totals.on_worker + dump.totals.waiting + dump.totals.parked > 0;
  server.answers = true;
  server.dispatchEvent(new CustomEvent("dump", { detail: dump }));
  if (wasLost || isNew) server.dispatchEvent(new CustomEvent("back", { detail: { isNew } }));
}

function failed() {
  failures += 1;
  const wasThere = server.answers;
  server.answers = false;
  if (wasThere) server.dispatchEvent(new Event("lost"));
}
