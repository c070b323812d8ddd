// A chart of the last minute: lines with axes and units.

const SECONDS = 60;
const MARK_EVERY = 15;
const MARK_EVERY_NARROW = 30;
const NARROW = 330;
const MARK_DISTANCE_MIN = 14;
const FONT = "12px system-ui, sans-serif";

export class Chart {
  #canvas;
  #options;
  /// `[time, values]`, oldest first. A value that is null is a gap.
  #samples = [];

  /// `lines`: the colour of each, by the name of its CSS variable, and perhaps its `dash`; `unit`: of
  /// the values; `format`: of a mark; `marks`: see `linearMarks`; `scale`: of a value, if it is not
  /// linear.
  constructor(id, options) {
    this.#canvas = document.getElementById(id);
    this.#options = { scale: (value) => value, ...options };
    const draw = () => this.draw(performance.now());
    new ResizeObserver(draw).observe(this.#canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  /// Adds a value for each line.
  add(now, values) {
    this.#samples.push([now, values]);
    while (this.#samples[0][0] < now - 1000 * (SECONDS + 2)) this.#samples.shift();
  }

  /// The connection was lost: the lines have a gap.
  addGap(now) {
    this.add(now, this.#options.lines.map(() => null));
  }

  draw(now) {
    const canvas = this.#canvas;
    const pixels = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0 || height === 0) return;
    canvas.width = Math.round(width * pixels);
    canvas.height = Math.round(height * pixels);
    const context = canvas.getContext("2d");
    context.scale(pixels, pixels);
    context.font = FONT;
    const { format, scale, lines } = this.#options;
    const marks = this.#options.marks(Math.max(0, ...this.#samples.flatMap(([, values]) => values)));
    const top = marks.at(-1);
    const left = 8 + Math.max(...marks.map((mark) => context.measureText(format(mark)).width));
    const area = { left, right: width - 4, top: 24, bottom: height - 22 };
    const x = (time) => area.right - ((area.right - area.left) * (now - time)) / (1000 * SECONDS);
    const y = (value) => area.bottom - ((area.bottom - area.top) * scale(Math.min(value, top))) / scale(top);
    this.#drawAxes(context, { area, marks, now, x, y });
    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left, height);
    context.clip();
    for (const index of lines.keys()) this.#drawLine(context, index, x, y);
    context.restore();
  }

  #drawAxes(context, { area, marks, now, x, y }) {
    const { unit, format } = this.#options;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillStyle = color("muted");
    context.fillText(unit, 0, 8);
    context.textAlign = "right";
    let last = Infinity;
    for (const mark of marks) {
      const at = Math.round(y(mark));
      context.fillStyle = color("line");
      context.fillRect(area.left, at, area.right - area.left, 1);
      // Not where two would overlap.
      if (last - at < MARK_DISTANCE_MIN) continue;
      last = at;
      context.fillStyle = color("muted");
      context.fillText(format(mark), area.left - 6, at);
    }
    context.fillStyle = color("muted");
    const every = area.right - area.left < NARROW ? MARK_EVERY_NARROW : MARK_EVERY;
    for (let ago = SECONDS; ago >= 0; ago -= every) {
      const at = x(now - 1000 * ago);
      context.fillRect(Math.round(at) - (ago === 0 ? 1 : 0), area.bottom, 1, 5);
      context.textAlign = ago === SECONDS ? "left" : ago === 0 ? "right" : "center";
      context.fillText(ago === 0 ? "now" : `${ago} s ago`, at, area.bottom + 14);
    }
  }

  #drawLine(context, index, x, y) {
    const line = this.#options.lines[index];
    context.strokeStyle = color(line.color);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.setLineDash(line.dash ?? []);
    context.beginPath();
    let isGap = true;
    for (const [time, values] of this.#samples) {
      const value = values[index];
      if (value === null) isGap = true;
      else if (isGap) context.moveTo(x(time), y(value));
      else context.lineTo(x(time), y(value));
      isGap = value === null;
    }
    context.stroke();
  }
}

const style = getComputedStyle(document.documentElement);
const color = (name) => style.getPropertyValue(`--${name}`);

/// Marks from 0 to `top`, or to more if a value is larger.
export const linearMarks = (top) => (largest) =>
  [0, 0.25, 0.5, 0.75, 1].map((part) => part * (largest > top ? roundUp(largest) : top));

/// Marks from 0 to a fixed `top`.
export const fixedMarks = (top) => () => linearMarks(top)(0);

// One task among hundreds can be seen on this scale, on which each step is about twice the last.
const LOGARITHMIC = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];
const LOGARITHMIC_SHOWN_MIN = 4;

/// Marks for `scale: Math.log1p`.
export function logarithmicMarks(largest) {
  const index = LOGARITHMIC.findIndex((mark) => mark >= largest);
  return LOGARITHMIC.slice(0, Math.max(LOGARITHMIC_SHOWN_MIN, index === -1 ? LOGARITHMIC.length : index + 1));
}

/// The next value of 1, 2, 4, 8, 10, 20, ... so that a quarter of it is a short number.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 8, 10].find((factor) => factor * power >= value * 0.999_999);
}
