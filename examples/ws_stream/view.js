// Which part of the plane the picture shows: in the address bar, by pointer, by keyboard.

import { byId } from "./dom.js";

export const FIRST_VIEW = { x: -0.743643887037151, y: 0.13182590420533, width: 5e-5 };
export const WHOLE_SET = { x: -0.65, y: 0, width: 3.4 };
// The limits of the server, too. Below this width a 64-bit number cannot tell the samples of a
// pixel apart.
const WIDTH_MIN = 1e-12;
const WIDTH_MAX = 8;
const CENTER_MAX = 4;
const ITERATIONS_MAX = 20_000;
const SAMPLES_MAX = 4096;
const PIXEL_COST_MAX = 4_000_000;

const CLICK_ZOOM = 3;
// Pixels of the screen that a pointer moves before a click becomes a drag.
const DRAG_MIN = 6;
// Keys that follow each other faster make one picture and one step of the history.
const SETTLE_TIME = 120;

/// What is asked for: the view, the number of tiles, and how long the picture takes.
export const settings = { ...FIRST_VIEW, tiles: 8, seconds: 10 };

const canvas = byId("picture");
const viewer = byId("viewer");
const selection = byId("selection");
let draw = () => {};
let pending;

/// Draws the view of the address with `drawPicture`, and each view that follows.
export function startViewer(drawPicture) {
  draw = drawPicture;
  history.replaceState({ steps: history.state?.steps ?? 0 }, "");
  showView();
  draw();
}

// ---- Address and history --------------------------------------------------------------------

/// Takes the settings from the address. What is missing or out of range is as at first.
export function readAddress() {
  const query = new URLSearchParams(location.search);
  const number = (name, first, isValid) => {
    const value = Number.parseFloat(query.get(name));
    return isValid(value) ? value : first;
  };
  const isOption = (id) => (value) => [...byId(id).options].some((option) => Number(option.value) === value);
  const isCenter = (value) => Math.abs(value) <= CENTER_MAX;
  settings.x = number("x", FIRST_VIEW.x, isCenter);
  settings.y = number("y", FIRST_VIEW.y, isCenter);
  settings.width = number("width", FIRST_VIEW.width, (value) => value >= WIDTH_MIN && value <= WIDTH_MAX);
  for (const [name, first] of [["tiles", 8], ["seconds", 10]]) {
    settings[name] = number(name, first, isOption(name));
    byId(name).value = settings[name];
  }
}

function writeAddress(how) {
  const { x, y, width, tiles, seconds } = settings;
  const steps = history.state?.steps ?? 0;
  const address = `?${new URLSearchParams({ x, y, width, tiles, seconds })}`;
  if (how === "push") history.pushState({ steps: steps + 1 }, "", address);
  else history.replaceState({ steps }, "", address);
}

window.addEventListener("popstate", () => {
  clearTimeout(pending);
  const before = { ...settings };
  readAddress();
  showPreview(before);
  showView();
  draw();
});

/// Shows another view, or the same one with other settings. `how` it enters the history: as a step
/// to go back from (push), or in place of the present one (replace).
export function goTo({ x, y, width }, how = "push") {
  const clamp = (value, most) => Math.min(most, Math.max(-most, value));
  const before = { ...settings };
  settings.x = clamp(x, CENTER_MAX);
  settings.y = clamp(y, CENTER_MAX);
  settings.width = Number(Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, width)).toPrecision(6));
  const isSame = ["x", "y", "width"].every((name) => settings[name] === before[name]);
  if (isSame && how === "push") return;
  showPreview(before);
  showView();
  clearTimeout(pending);
  pending = setTimeout(() => {
    writeAddress(how);
    showView();
    draw();
  }, SETTLE_TIME);
}

/// Zooms in by a factor, at a point of the picture that stays where it is (0 to 1 from the left and
/// the top).
export function zoomBy(factor, left = 0.5, top = 0.5) {
  const width = Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, settings.width / factor));
  const moved = settings.width - width;
  goTo({
    x: settings.x + moved * (left - 0.5),
    y: settings.y + moved * (top - 0.5) * aspect(),
    width,
  });
}

/// Moves by parts of the picture's width and height.
export function moveBy(right, down) {
  const { x, y, width } = settings;
  goTo({ x: x + right * width, y: y + down * width * aspect(), width });
}

const aspect = () => canvas.height / canvas.width;

function showView() {
  const { x, y, width } = settings;
  const isDeepest = width <= WIDTH_MIN;
  setDisabled("zoom-in", isDeepest);
  setDisabled("zoom-out", width >= WIDTH_MAX);
  setDisabled("back", !(history.state?.steps > 0));
  viewer.dataset.depth = isDeepest ? "deepest" : "";
  canvas.setAttribute("aria-label",
    `Part of the Mandelbrot set around ${x}, ${y}, ${width.toPrecision(2)} wide`);
}

// The focus stays on a button that can do nothing for the moment.
function setDisabled(id, isDisabled) {
  byId(id).setAttribute("aria-disabled", String(isDisabled));
}

/// The old picture, dimmed, where it belongs in the new view: until the tiles come.
export function showPreview(before = settings) {
  const context = canvas.getContext("2d");
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  const scale = before.width / settings.width;
  const pixel = settings.width / canvas.width;
  const left = canvas.width / 2 + (before.x - settings.x) / pixel - (scale * canvas.width) / 2;
  const top = canvas.height / 2 + (before.y - settings.y) / pixel - (scale * canvas.height) / 2;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (scale > 100) return;
  context.globalAlpha = 0.4;
  context.drawImage(copy, left, top, scale * canvas.width, scale * canvas.height);
  context.globalAlpha = 1;
}

// ---- How exact the picture is ---------------------------------------------------------------

/// Iterations after which a point counts as one of the set: more of them in small views.
export function iterationsOf({ width }) {
  return Math.min(ITERATIONS_MAX, Math.round(400 + 400 * Math.log(WIDTH_MAX / width)));
}

/// As many samples per pixel as make the picture take the time asked for, if one takes so long.
export function samplesFor(secondsPerSample) {
  const most = Math.min(SAMPLES_MAX, Math.floor(PIXEL_COST_MAX / iterationsOf(settings)));
  return Math.max(1, Math.min(most, Math.round(settings.seconds / secondsPerSample)));
}

/// A sentence on the view, and how exact its picture is.
export function describe(samples) {
  const { width } = settings;
  const limit = width <= WIDTH_MIN ? " This is as deep as 64-bit numbers go." : "";
  const zoom = WHOLE_SET.width / width;
  const shown = zoom < 1e6 ? Number(zoom.toPrecision(2)).toLocaleString("en") : zoom.toExponential(1);
  return `Zoom ${shown} ×, ${samples} ${samples === 1 ? "sample" : "samples"} per pixel.${limit}`;
}

// ---- Pointer --------------------------------------------------------------------------------

let from = null;

/// Where a pointer is in the picture: 0 to 1 from the left and the top.
function place(event) {
  const box = canvas.getBoundingClientRect();
  const within = (value) => Math.min(1, Math.max(0, value));
  return {
    left: within((event.clientX - box.left) / box.width),
    top: within((event.clientY - box.top) / box.height),
  };
}

/// The rectangle from `from` to `to`, in the proportions of the picture.
function rectangle(to) {
  const [right, down] = [to.left - from.left, to.top - from.top];
  const size = Math.max(Math.abs(right), Math.abs(down));
  return {
    left: right < 0 ? from.left - size : from.left,
    top: down < 0 ? from.top - size : from.top,
    size,
  };
}

function isDrag(event) {
  return Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY) >= DRAG_MIN;
}

function endDrag() {
  from = null;
  selection.hidden = true;
}

viewer.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  from = { ...place(event), clientX: event.clientX, clientY: event.clientY };
  viewer.setPointerCapture(event.pointerId);
});
viewer.addEventListener("pointermove", (event) => {
  if (!from) return;
  selection.hidden = !isDrag(event);
  const { left, top, size } = rectangle(place(event));
  const percent = (value) => `${100 * value}%`;
  Object.assign(selection.style,
    { left: percent(left), top: percent(top), width: percent(size), height: percent(size) });
});
viewer.addEventListener("pointerup", (event) => {
  if (!from) return;
  const { left, top, size } = rectangle(place(event));
  const [wasDrag, { x, y, width }] = [isDrag(event), settings];
  const point = from;
  endDrag();
  if (!wasDrag) {
    zoomBy(CLICK_ZOOM, point.left, point.top);
    return;
  }
  if (size <= 0) return;
  goTo({
    x: x + width * (left + size / 2 - 0.5),
    y: y + width * aspect() * (top + size / 2 - 0.5),
    width: width * size,
  });
});
viewer.addEventListener("pointercancel", endDrag);
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape") endDrag();
});
for (const id of ["zoom-in", "zoom-out", "back"]) {
  byId(id).addEventListener("click", (event) => {
    if (event.currentTarget.getAttribute("aria-disabled") === "true") event.stopImmediatePropagation();
  });
}
