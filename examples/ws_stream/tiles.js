// The picture: a WebSocket per tile. The flood: one WebSocket for 500 tiles.

import { byId, make, setText } from "./dom.js";
import { retryDelay } from "./reconnect.js";
import { server } from "./server.js";
import { CAN_READ_SLOWLY, openSlowSocket, openSocket, whyRefused } from "./sockets.js";
import { describe, iterationsOf, samplesFor, settings, showPreview } from "./view.js";

// Browsers open some 200 WebSockets at once and fail the others; those wait here instead.
const SOCKETS = 200;
const RETRY_FIRST = 250;
const RETRY_MAX = 5000;
// Numbers in front of the pixels of a message.
const HEADER_FIELDS = 7;
// Without it the buffers of TCP would hold a whole tile, and the server would not notice a slow client.
const SLOW_PADDING = 1 << 20;
const DRAFT_TILES = 8;
const DRAFT_SAMPLES = 2;
const DRAFT_TIME = 1000;
// 40 %.
const DRAFT_OPACITY = 102;
const FLOOD_TILES = 500;
const FLOOD_OF = 512;

const picture = byId("picture").getContext("2d");
let tiles = [];
// Samples per pixel.
let samples = 1;
let startedAt = 0;
const open = new Set();
const waiting = new Set();

/// The path of tiles of the present view.
function tilesPath(parameters) {
  const { x, y, width } = settings;
  return `/tiles?${new URLSearchParams({ x, y, width, iterations: iterationsOf(settings), samples, ...parameters })}`;
}

/// The fields of a message, and its pixels.
function parse(data) {
  const [tile, x, y, width, height, first, count] = new Uint32Array(data, 0, HEADER_FIELDS);
  return { tile, x, y, width, height, first, pixels: new Uint8ClampedArray(data, 4 * HEADER_FIELDS, 4 * count) };
}

// Opens as many waiting tiles as there is room for.
function openNext() {
  for (const tile of waiting) {
    if (open.size >= SOCKETS || !server.answers) return;
    waiting.delete(tile);
    tile.connect();
  }
}

// ---- Tiles ----------------------------------------------------------------------------------

// Hundreds of messages a second, shown once a frame.
const changed = new Set();

function showLater(tile) {
  if (changed.size === 0) requestAnimationFrame(showChanged);
  changed.add(tile);
}

function showChanged() {
  for (const tile of changed) tile.paint();
  changed.clear();
  showGauges();
}

class Tile {
  constructor(index, of) {
    this.index = index;
    this.of = of;
    this.image = null;
    this.done = 0;
    this.attempts = 0;
    this.socket = null;
    // Hundreds of announcements a second would help nobody; the summary tells the end.
    this.output = make("output", { ariaLive: "off" });
    this.label = make("span", {}, `Tile ${index + 1}`, this.output);
    this.button = make("button", { type: "button" });
    this.button.addEventListener("click", () => (this.isOpen() ? this.cancel() : redraw(this)));
    this.progress = make("progress", { ariaLabel: `Tile ${index + 1}` });
    this.item = make("li", { className: "tile" }, this.label, this.button, this.progress);
    this.show("waiting", "waiting");
  }

  /// Whether it is still to be drawn.
  isOpen() {
    return !["done", "cancelled", "failed"].includes(this.state);
  }

  isSlow() {
    return this.index === 0 && byId("slow").checked;
  }

  /// Resets it. It is opened later.
  prepare() {
    this.close();
    this.attempts = 0;
    this.done = 0;
    this.image = null;
    this.show("waiting", "waiting");
  }

  open() {
    this.prepare();
    if (!server.answers) this.lose();
    waiting.add(this);
    openNext();
  }

  connect() {
    const padding = this.isSlow() ? { padding: SLOW_PADDING } : {};
    const path = tilesPath({ tile: this.index, of: this.of, ...padding });
    const isCurrent = () => this.socket === socket;
    const on = {
      open: () => {},
      message: (data) => isCurrent() && this.receive(parse(data)),
      close: (how) => {
        open.delete(socket);
        if (isCurrent()) this.closed(how, path);
        openNext();
      },
    };
    const socket = this.isSlow() ? openSlowSocket(path, on, () => this.isSlow()) : openSocket(path, on);
    this.attempts += 1;
    this.done = 0;
    this.socket = socket;
    open.add(socket);
  }

  receive({ x, y, width, height, first, pixels }) {
    this.image ??= { x, y, data: new ImageData(width, height), shown: 0 };
    this.image.data.data.set(pixels, 4 * first);
    this.image.done = first + pixels.length / 4;
    this.done = this.image.done / (width * height);
    this.show("drawing", `${Math.floor(100 * this.done)} %`);
  }

  async closed({ code, reason, wasOpen }, path) {
    this.socket = null;
    if (code === 1000) {
      this.show("done", "drawn");
      summarize();
      return;
    }
    if (!wasOpen) {
      const status = await whyRefused(path);
      if (this.socket || !this.isOpen()) return;
      if (status === 503) this.show("full", "server full");
      else if (status === 400) this.fail("refused");
      else if (status === null) this.lose();
      // There is room again by now.
      else this.show("waiting", "waiting");
    } else if (code === 1006 || code === 1001) {
      this.lose();
    } else {
      this.fail(reason || `closed, ${code}`);
    }
    if (this.isOpen()) this.retryLater();
  }

  /// The server does not answer, or has closed the socket: the tile is asked for again.
  lose() {
    this.show("disconnected", "disconnected");
    server.askNow();
  }

  fail(why) {
    this.show("failed", why);
    summarize();
  }

  retryLater() {
    this.retry = setTimeout(() => {
      waiting.add(this);
      openNext();
    }, retryDelay(this.attempts, RETRY_FIRST, RETRY_MAX));
  }

  // Closing the socket is all it takes: the server stops the task.
  close() {
    clearTimeout(this.retry);
    waiting.delete(this);
    this.socket?.close();
    this.socket = null;
  }

  cancel() {
    this.close();
    this.show("cancelled", "cancelled");
    summarize();
  }

  show(state, text) {
    this.text = text;
    showLater(this);
    if (state === this.state) return;
    this.state = this.item.dataset.state = state;
    const isOpen = this.isOpen();
    this.button.textContent = isOpen ? "✕" : "↻";
    this.button.setAttribute("aria-label", `${isOpen ? "Cancel" : "Draw again"} tile ${this.index + 1}`);
    this.button.title = isOpen ? "Cancel" : "Draw again";
  }

  /// What has come since the last frame.
  paint() {
    setText(this.output, this.text);
    this.progress.value = this.state === "done" ? 1 : this.done;
    const { image } = this;
    if (!image || image.done === image.shown || !tiles.includes(this)) return;
    const { width } = image.data;
    const [top, bottom] = [Math.floor(image.shown / width), Math.ceil(image.done / width)];
    // The last row may be there in part: what is missing would be shown as transparent.
    const rows = image.done % width === 0 ? bottom - top : bottom - 1 - top;
    if (rows <= 0) return;
    picture.putImageData(image.data, image.x, image.y, 0, top, width, rows);
    image.shown = (top + rows) * width;
  }
}

export async function drawPicture() {
  for (const tile of tiles) tile.close();
  const count = settings.tiles;
  if (tiles.length !== count) {
    tiles = Array.from({ length: count }, (_, index) => new Tile(index, count));
    byId("tile-list").replaceChildren(...tiles.map((tile) => tile.item));
  }
  startedAt = performance.now();
  for (const tile of tiles) tile.prepare();
  setText(byId("summary"), "Drawing a draft, to see how long a sample per pixel takes.");
  draft?.stop();
  const own = (draft = new Draft());
  const secondsPerSample = await own.ended;
  // Another picture was asked for meanwhile.
  if (draft !== own) return;
  draft = null;
  if (secondsPerSample) samples = samplesFor(secondsPerSample);
  for (const tile of tiles) if (tile.isOpen()) tile.open();
  if (isAnyTileOpen()) setText(byId("summary"), `Drawing, about ${settings.seconds} s. ${describe(samples)}`);
}

export function redrawPicture() {
  showPreview();
  drawPicture();
}

function redraw(tile) {
  startedAt = performance.now();
  tile.open();
  setText(byId("summary"), `Drawing tile ${tile.index + 1} again.`);
}

function summarize() {
  showGauges();
  if (tiles.some((tile) => tile.isOpen())) return;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const number = (state) => tiles.filter((tile) => tile.state === state).length;
  const parts = [`${number("done")} of ${tiles.length} tiles drawn in ${seconds} s`];
  for (const state of ["cancelled", "failed"]) if (number(state)) parts.push(`${number(state)} ${state}`);
  setText(byId("summary"), `${parts.join(", ")}. ${describe(samples)}`);
}

export function cancelAll() {
  for (const tile of tiles) if (tile.isOpen()) tile.cancel();
  if (flood?.isOpen) flood.stop();
}

/// Whether anything is being drawn.
export const isAnyTileOpen = () => tiles.some((tile) => tile.isOpen()) || Boolean(flood?.isOpen);

server.addEventListener("lost", () => {
  for (const tile of tiles) if (tile.isOpen()) tile.lose();
});
server.addEventListener("back", () => reopen((tile) => !tile.socket));
// The sockets that a tile still has are those of the server before.
server.addEventListener("restart", () => reopen(() => true));

/// Opens the tiles that are still to be drawn, and of which `isWanted` is true.
function reopen(isWanted) {
  for (const tile of tiles) {
    if (!tile.isOpen() || !isWanted(tile)) continue;
    tile.close();
    tile.attempts = 0;
    waiting.add(tile);
    tile.show("waiting", "waiting");
  }
  openNext();
  if (flood?.isLost) flood = new Flood();
}

// ---- The draft ------------------------------------------------------------------------------

let draft = null;

/// The picture with few samples per pixel, dimmed, on one WebSocket. It shows where the picture leads
/// to, and how long it takes: on this server, with all that it has to do at present.
class Draft {
  constructor() {
    const { width, height } = picture.canvas;
    this.image = new ImageData(width, height);
    this.pixels = 0;
    /// Seconds per sample for the whole picture; null if that is not known.
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.timer = setTimeout(() => this.stop(), DRAFT_TIME);
    const count = { tile: 0, count: DRAFT_TILES, of: DRAFT_TILES };
    this.socket = openSocket(tilesPath({ ...count, samples: DRAFT_SAMPLES }), {
      open: () => (this.openedAt = performance.now()),
      message: (data) => draft === this && this.receive(parse(data)),
      close: () => this.stop(),
    });
  }

  receive({ x, y, width, first, pixels }) {
    const { data } = this.image;
    const last = first + pixels.length / 4 - 1;
    for (let index = 3; index < pixels.length; index += 4) pixels[index] = DRAFT_OPACITY;
    // A message begins and ends anywhere in a row.
    for (let pixel = first; pixel <= last; pixel += width - (pixel % width)) {
      const end = Math.min(last + 1, pixel + width - (pixel % width));
      const row = y + Math.floor(pixel / width);
      const at = row * this.image.width + x + (pixel % width);
      data.set(pixels.subarray(4 * (pixel - first), 4 * (end - first)), 4 * at);
    }
    const [top, bottom] = [Math.floor(first / width), Math.floor(last / width)];
    picture.putImageData(this.image, 0, 0, x, y + top, width, bottom - top + 1);
    this.count(last + 1 - first);
  }

  /// Takes the time from the first quarter on: until then browser and server are still at the start.
  /// But not less than half of the whole time: messages may come together.
  count(pixels) {
    this.pixels += pixels;
    const all = this.image.width * this.image.height;
    const now = performance.now();
    if (this.pixels < all / 4) return;
    this.quarter ??= { at: now, pixels: this.pixels };
    const since = (at, pixels) => ((now - at) / 1000 / DRAFT_SAMPLES) * (all / (this.pixels - pixels || Infinity));
    this.secondsPerSample = Math.max(since(this.quarter.at, this.quarter.pixels), since(this.openedAt, 0) / 2);
  }

  stop() {
    clearTimeout(this.timer);
    this.socket.close();
    this.end(this.secondsPerSample ?? null);
  }
}

// ---- The slow client ------------------------------------------------------------------------

export function setSlow(isSlow) {
  // Off: it goes on with its socket, as fast as it can.
  if (!isSlow) showGauges();
  else if (draft) return;
  else if (tiles.some((tile) => tile.isOpen())) tiles[0].open();
  else redrawPicture();
}

if (!CAN_READ_SLOWLY) {
  byId("slow").disabled = true;
  byId("slow-help").textContent = "This browser cannot read a WebSocket slowly: it has no WebSocketStream. "
    + "Chromium 124 and later have it.";
}

// ---- The flood ------------------------------------------------------------------------------

let flood = null;

class Flood {
  constructor() {
    this.isOpen = true;
    this.isLost = false;
    this.done = new Map();
    this.ended = 0;
    this.text = "waiting";
    this.connect();
  }

  async connect() {
    // Its tiles are as exact as those of the picture.
    await draft?.ended;
    if (!this.isOpen) return;
    this.startedAt = performance.now();
    const path = tilesPath({ tile: 0, count: FLOOD_TILES, of: FLOOD_OF });
    this.socket = openSocket(path, {
      open: () => this.showTiles(),
      message: (data) => this.receive(parse(data)),
      close: (how) => this.closed(how, path),
    });
  }

  get progress() {
    let sum = 0;
    for (const part of this.done.values()) sum += part;
    return sum / FLOOD_TILES;
  }

  receive({ tile, width, height, first, pixels }) {
    const done = (first + pixels.length / 4) / (width * height);
    this.done.set(tile, done);
    if (done === 1) this.ended += 1;
    this.showTiles();
  }

  showTiles() {
    this.text = `${this.ended} of ${FLOOD_TILES}`;
    showGauges();
  }

  async closed({ code, wasOpen }, path) {
    if (!this.isOpen) return;
    const seconds = ((performance.now() - this.startedAt) / 1000).toFixed(1);
    if (code === 1000) this.end(`${FLOOD_TILES} in ${seconds} s`);
    else if (wasOpen) this.lose();
    else this.end((await whyRefused(path)) === 503 ? "refused: server full" : "refused");
    server.askNow();
  }

  lose() {
    this.isLost = true;
    this.end("disconnected");
  }

  stop() {
    this.socket?.close();
    this.end(`stopped at ${this.ended}`);
  }

  end(text) {
    this.isOpen = false;
    this.text = text;
    showGauges();
  }
}

export function toggleFlood() {
  if (flood?.isOpen) {
    flood.stop();
    return;
  }
  // Beside it the picture is drawn, or there would be nothing to compare with.
  if (!tiles.some((tile) => tile.isOpen())) redrawPicture();
  flood = new Flood();
  showGauges();
}

// ---- Progress of both -----------------------------------------------------------------------

function showGauges() {
  const isSlow = byId("slow").checked;
  const others = isSlow ? tiles.slice(1) : tiles;
  const parts = others.map((tile) => (tile.state === "done" ? 1 : tile.done));
  const progress = parts.reduce((sum, part) => sum + part, 0) / Math.max(1, parts.length);
  byId("all-progress").value = progress;
  setText(byId("all-text"), `${Math.floor(100 * progress)} %`);
  setText(byId("all-help"), `${isSlow ? `The other ${others.length}` : others.length} tiles, each on a `
    + "WebSocket of its own.");
  const slow = tiles[0];
  byId("slow-progress").value = isSlow ? slow.progress.value : 0;
  setText(byId("slow-text"), isSlow ? slow.text : "off");
  byId("flood-progress").value = flood?.progress ?? 0;
  setText(byId("flood-text"), flood?.text ?? "off");
  setText(byId("flood"), flood?.isOpen ? "Stop flood" : "Flood");
}
