// WebSockets of the page: opened plainly, or read slowly.

import { socketAddress } from "./reconnect.js";

/// The time between two messages of a slow reader.
const SLOW_INTERVAL = 500;

/// Whether this browser can stop reading a WebSocket. With the plain interface a page cannot:
/// messages come as fast as they arrive.
export const CAN_READ_SLOWLY = "WebSocketStream" in window;

/// Opens a WebSocket. `on` has `open()`, `message(ArrayBuffer)` and `close({ code, reason, wasOpen })`.
export function openSocket(path, on) {
  const socket = new WebSocket(socketAddress(path));
  let wasOpen = false;
  let isGivenUp = false;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    wasOpen = true;
    // Closing it before it was open would fail it, with a warning.
    if (isGivenUp) socket.close();
    else on.open();
  };
  socket.onmessage = (event) => isGivenUp || on.message(event.data);
  socket.onclose = ({ code, reason }) => on.close({ code, reason, wasOpen });
  return {
    close() {
      isGivenUp = true;
      if (wasOpen) socket.close();
    },
  };
}

/// As `openSocket`, but reads a message only every half second while `isSlow()`. What it does not
/// read stays in TCP's buffers, on both sides; when they are full, the server cannot send.
export function openSlowSocket(path, on, isSlow) {
  const socket = new WebSocketStream(socketAddress(path));
  let wasOpen = false;
  const read = async () => {
    const { readable } = await socket.opened;
    wasOpen = true;
    on.open();
    const reader = readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      on.message(value.buffer ?? value);
      if (isSlow()) await new Promise((resolve) => setTimeout(resolve, SLOW_INTERVAL));
    }
  };
  const end = async () => {
    // What went wrong is known by how it has closed.
    await read().catch(() => {});
    const { closeCode = 1006, reason = "" } = await socket.closed.catch(() => ({}));
    on.close({ code: closeCode, reason, wasOpen });
  };
  end();
  return {
    close() {
      socket.opened.then(() => socket.close(), () => {});
    },
  };
}

/// The status of a plain request for the path of a WebSocket that was refused: a browser does not
/// say why. 503 if the server is full, null if it does not answer.
export async function whyRefused(path) {
  try {
    return (await fetch(path, { method: "HEAD", signal: AbortSignal.timeout(1000) })).status;
  } catch {
    return null;
  }
}
