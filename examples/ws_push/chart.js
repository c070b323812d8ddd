// A chart of the last minute: lines with axes and units.

const SECONDS = 60;
const FONT = "12px system-ui, sans-serif";
const COLORS = ["one", "two", "three"];
const DASHES = [[], [7, 4], [2, 3]];

export class Chart {
  #canvas;
  #options;
  /// `[time, values]`, oldest first. A value that is null is a gap.
  #samples = [];

  /// `max`: the top of the scale, or a least top that grows; `unit`: its name; `format`: of a mark.
  constructor(id, options) {
    this.#canvas = document.getElementById(id);
    this.#options = options;
    new ResizeObserver(() => this.draw(performance.now())).observe(this.#canvas);
  }

  add(now, values) {
    this.#samples.push([now, values]);
    while (this.#samples[0][0] < now - 1000 * (SECONDS + 2)) this.#samples.shift();
  }

  /// The connection was lost: the line has a gap.
  addGap(now) {
    const last = this.#samples.at(-1);
    if (last) this.add(now, last[1].map(() => null));
  }

  draw(now) {
    const canvas = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0 || height === 0) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = FONT;
    const { unit, format, max, grows } = this.#options;
    const top = grows ? roundUp(Math.max(max, ...this.#samples.flatMap(([, values]) => values))) : max;
    const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * top);
    const left = 8 + Math.max(...marks.map((mark) => context.measureText(format(mark)).width));
    const area = { left, right: width - 4, top: 24, bottom: height - 22 };
    const x = (time) => area.right - ((area.right - area.left) * (now - time)) / (1000 * SECONDS);
    const y = (value) => area.bottom - ((area.bottom - area.top) * Math.min(value, top)) / top;
    this.#drawAxes(context, { area, marks, unit, format, now, x, y });
    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left, height);
    context.clip();
    for (const index of (this.#samples.at(-1)?.[1] ?? []).keys()) this.#drawLine(context, index, x, y);
    context.restore();
  }

  #drawAxes(context, { area, marks, unit, format, now, x, y }) {
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillStyle = color("muted");
    context.fillText(unit, 0, 8);
    for (const mark of marks) {
      context.fillStyle = color("line");
      context.fillRect(area.left, Math.round(y(mark)), area.right - area.left, 1);
      context.fillStyle = color("muted");
      context.textAlign = "right";
      context.fillText(format(mark), area.left - 6, y(mark));
    }
    const every = area.right - area.left < 330 ? 30 : 15;
    for (let ago = SECONDS; ago >= 0; ago -= every) {
      const at = x(now - 1000 * ago);
      context.fillRect(Math.round(at) - (ago === 0 ? 1 : 0), area.bottom, 1, 5);
      context.textAlign = ago === SECONDS ? "left" : ago === 0 ? "right" : "center";
      context.fillText(ago === 0 ? "now" : `${ago} s ago`, at, area.bottom + 14);
    }
  }

  #drawLine(context, index, x, y) {
    context.strokeStyle = color(COLORS[index]);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.setLineDash(DASHES[index]);
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

/// The next value of 1, 2, 4, 8, 10, 20, ... so that a quarter of it is a short number.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 8, 10].find((factor) => factor * power >= value * 0.999_999);
}
