// The server, as a page knows it: the dump of its pool, and whether it answers.

import { Poll } from "./poll.js";

// Five times a second while something is open. Together with the time for an answer, the longest
// interval is less than two seconds.
const BUSY_INTERVAL = 200;
const IDLE_INTERVAL = 800;
const TASKS = 600;

/// Events: those of a `Poll`, and `restart` (the server was started anew).
export const server = new Poll(`/dump.json?limit=${TASKS}`, () =>
  server.isBusy() || hasTasks ? BUSY_INTERVAL : IDLE_INTERVAL);
server.isBusy = () => false;

let uptime = 0;
let hasTasks = false;

server.addEventListener("answer", ({ detail: { counts, uptime_us } }) => {
  const isNew = uptime_us < uptime;
  uptime = uptime_us;
  hasTasks = counts.queued + counts.waiting + counts.on_worker + counts.parked > 0;
  if (isNew) server.dispatchEvent(new Event("restart"));
});
