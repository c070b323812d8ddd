// A WebSocket that reconnects, and how long anything waits before it tries again.

const RETRY_FIRST = 250;
const RETRY_MAX = 8000;

/// Milliseconds until the next attempt: doubled with each failure, from `first` to `most`. At random,
/// so that thousands of pages do not come back at the same moment.
export const retryDelay = (failures, first, most) =>
  Math.min(most, first * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);

/// The address of a WebSocket on the server of this page.
export const socketAddress = (path) => location.origin.replace(/^http/, "ws") + path;

/// Events: `message` (its data, a text or an `ArrayBuffer`), `state` (`waiting`, `open` or `lost`, and
/// a text for people).
export class LiveSocket extends EventTarget {
  #path;
  #socket;
  #failures = 0;

  constructor(path) {
    super();
    this.#path = path;
    this.#connect();
  }

  /// Sends a message. False if the WebSocket is not open.
  send(message) {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(message);
    return true;
  }

  #connect() {
    this.#socket = new WebSocket(socketAddress(this.#path));
    this.#socket.binaryType = "arraybuffer";
    this.#socket.addEventListener("open", () => {
      this.#failures = 0;
      this.#tell("state", ["open", "live"]);
    });
    this.#socket.addEventListener("message", ({ data }) => this.#tell("message", data));
    this.#socket.addEventListener("close", (event) => this.#closed(event));
  }

  #closed({ code, reason }) {
    this.#failures += 1;
    const delay = retryDelay(this.#failures, RETRY_FIRST, RETRY_MAX);
    const why = reason || (code === 1006 ? "the server does not answer" : `closed with code ${code}`);
    this.#tell("state", ["lost", `${why}; next attempt in ${(delay / 1000).toFixed(1)} s`]);
    setTimeout(() => {
      this.#tell("state", ["waiting", "connecting"]);
      this.#connect();
    }, delay);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
