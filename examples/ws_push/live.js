// The WebSocket of this page. It reconnects with a delay that doubles, up to eight seconds.

const RETRY_FIRST = 250;
const RETRY_MAX = 8000;

/// Events: `figures`, `message` (a text, or the length of a binary message), `state` (`waiting`,
/// `open` or `lost`, and a text for people).
export const live = new EventTarget();

const send = (name, detail) => live.dispatchEvent(new CustomEvent(name, { detail }));
let failures = 0;

export function connect(room) {
  const url = new URL(`/live?room=${encodeURIComponent(room)}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    failures = 0;
    send("state", ["open", "live"]);
  });
  socket.addEventListener("message", ({ data }) => receive(data));
  socket.addEventListener("close", ({ code, reason }) => {
    // At random, so that thousands of pages do not come back at the same moment.
    const delay = Math.min(RETRY_MAX, RETRY_FIRST * 2 ** failures) * (0.75 + Math.random() / 2);
    failures += 1;
    const why = reason || (code === 1006 ? "the server does not answer" : `closed with code ${code}`);
    send("state", ["lost", `${why}; next attempt in ${(delay / 1000).toFixed(1)} s`]);
    setTimeout(() => {
      send("state", ["waiting", "connecting"]);
      connect(room);
    }, delay);
  });
}

function receive(data) {
  if (typeof data !== "string") {
    send("message", `${data.byteLength} bytes, binary`);
    return;
  }
  const figures = parse(data);
  if (figures?.type === "figures") send("figures", figures);
  else send("message", data);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
