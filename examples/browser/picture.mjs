// The picture: how long it takes, its tiles, zoom and move, the address.

import assert from "node:assert/strict";
import { FAST, dumpOf, isNear, stoppedTasks, text, tilesIn, until, untilDrawing, untilText, untilTiles, untilView, viewIn } from "./lib.mjs";

const FIRST = { x: -0.743643887037151, y: 0.13182590420533, width: 5e-5 };
const isFirst = ({ x, y, width }) => x === FIRST.x && y === FIRST.y && width === FIRST.width;

/// A place in the picture, as parts of its width and height, in pixels of the window.
async function place(page, left, top) {
  const box = await (await page.$("#picture")).boundingBox();
  return [box.x + left * box.width, box.y + top * box.height];
}

export const tests = {
  async "the first picture takes about ten seconds"({ open }) {
    const start = performance.now();
    const { page } = await open();
    await untilText(page, "#summary", /about 10 s/);
    await untilTiles(page, 8);
    const seconds = (performance.now() - start) / 1000;
    const summary = await text(page, "#summary");
    assert.match(summary, /^8 of 8 tiles drawn in [\d.]+ s\. Zoom 68,000 ×, \d+ samples? per pixel\.$/);
    // More than twice as long if others use the machine, too.
    assert(seconds > 4 && seconds < 40, `${seconds} s`);
    return `${seconds.toFixed(1)} s: ${summary}`;
  },

  async "every pixel has got a colour, and they are many"({ open }) {
    const { page } = await open("?seconds=1");
    await untilTiles(page, 8);
    const [bare, colours] = await page.$eval("#picture", (canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const pixels = new Uint32Array(data.buffer);
      return [pixels.filter((pixel) => pixel >>> 24 !== 255).length, new Set(pixels).size];
    });
    assert.equal(bare, 0);
    // A slow machine computes fewer samples for each pixel, so the picture has fewer colours.
    assert(colours > 100, `${colours} colours`);
  },

  async "cancelling a tile, by keyboard, stops its task and no other"({ open, url }) {
    const { page } = await open("?seconds=3");
    await page.waitForSelector('.tile:last-child[data-state="drawing"]');
    // The tasks of the draft, of which a slow machine does not finish all.
    await until("the eight tiles", () => dumpOf(url), ({ tasks }) => tasks.length === 8);
    const before = await stoppedTasks(url);
    await page.focus(".tile:last-child button");
    await page.keyboard.press("Enter");
    assert.equal(await tilesIn(page, "cancelled"), 1);
    await until("stopped tasks", () => stoppedTasks(url), (stopped) => stopped === before + 1);
    await untilTiles(page, 7);
    assert.equal(await stoppedTasks(url), before + 1);
    await untilText(page, "#summary", /^7 of 8 .* 1 cancelled/);
    await page.click('.tile[data-state="cancelled"] button');
    await untilTiles(page, 8);
  },

  async "256 tiles are drawn, though browsers open no more than 200 WebSockets at once"({ open }) {
    const { page } = await open(`${FAST}&tiles=256`);
    await untilTiles(page, 256);
  },

  async "a click zooms in where it is, and is in the address"({ open }) {
    const { page } = await open(FAST);
    await page.mouse.click(...(await place(page, 0.25, 0.75)));
    // The point under the pointer stays there.
    const view = await untilView(page, "the view after a click", ({ width }) => isNear(width, 3.4 / 3, 1e-5));
    assert(isNear(view.x, -0.65 - 0.25 * (3.4 - 3.4 / 3), 0.01), `${view.x}`);
    assert(isNear(view.y, 0.25 * (3.4 - 3.4 / 3) * (2 / 3), 0.01), `${view.y}`);
    await untilTiles(page, 8);
  },

  async "dragging a rectangle zooms to it"({ open }) {
    const { page } = await open(FAST);
    await page.mouse.move(...(await place(page, 0.5, 0.25)));
    await page.mouse.down();
    await page.mouse.move(...(await place(page, 0.6, 0.4)));
    await page.mouse.move(...(await place(page, 0.75, 0.5)), { steps: 5 });
    await page.waitForSelector("#selection:not([hidden])");
    await page.mouse.up();
    const view = await untilView(page, "the view after dragging", ({ width }) => isNear(width, 3.4 / 4, 0.02));
    assert(isNear(view.x, -0.65 + 0.125 * 3.4, 0.02), `${view.x}`);
    assert(isNear(view.y, -0.125 * 3.4 * (2 / 3), 0.02), `${view.y}`);
    await page.waitForSelector("#selection", { hidden: true });
    await untilTiles(page, 8);
  },

  async "the keyboard zooms, moves, goes back and resets"({ open }) {
    const { page } = await open(FAST);
    await page.focus("#viewer");
    const press = async (key, what, isRight) => {
      await page.keyboard.press(key);
      await untilView(page, `the view after ${key}: ${what}`, isRight);
    };
    await press("+", "half as wide", ({ width }) => width === 1.7);
    await press("-", "as wide as before", ({ width }) => width === 3.4);
    await press("ArrowRight", "a fifth to the right", ({ x }) => isNear(x, -0.65 + 0.68, 1e-9));
    await press("ArrowLeft", "back in the middle", ({ x }) => isNear(x, -0.65, 1e-9));
    await press("ArrowDown", "a fifth down", ({ y }) => isNear(y, 0.2 * 3.4 * (2 / 3), 1e-9));
    await press("Backspace", "before the last move", ({ y }) => y === 0);
    await press("ArrowUp", "a fifth up", ({ y }) => isNear(y, -0.2 * 3.4 * (2 / 3), 1e-9));
    await press("0", "the first view", isFirst);
    await press("Backspace", "before the reset", ({ width }) => width === 3.4);
    await press("Home", "the first view", isFirst);
    await untilTiles(page, 8);
  },

  async "the buttons zoom, go back and reset, and so does the browser's back"({ open }) {
    const { page } = await open(FAST);
    const isDisabled = (id) => page.$eval(id, (button) => button.getAttribute("aria-disabled"));
    // The script of the page sets it.
    await page.waitForFunction(() => document.querySelector("#back").ariaDisabled === "true");
    await page.click("#zoom-in");
    await untilView(page, "zoomed in", ({ width }) => width === 1.7);
    assert.equal(await isDisabled("#back"), "false");
    await page.click("#zoom-out");
    await untilView(page, "zoomed out", ({ width }) => width === 3.4);
    await page.click("#back");
    await untilView(page, "zoomed in again", ({ width }) => width === 1.7);
    await page.click("#reset");
    await untilView(page, "reset", isFirst);
    await page.goBack();
    await untilView(page, "before the reset", ({ width }) => width === 1.7);
    await page.goBack();
    await untilView(page, "as it was opened", ({ width }) => width === 3.4);
    assert.equal(await isDisabled("#back"), "true");
    await page.click("#zoom-in");
    await page.click("#whole");
    await untilView(page, "the whole set", ({ x, y, width }) => x === -0.65 && y === 0 && width === 3.4);
    await untilTiles(page, 8);
  },

  async "the address restores the view, the tiles and the time"({ open }) {
    const { page } = await open(`${FAST}&tiles=8`);
    await page.select("#tiles", "32");
    await page.mouse.click(...(await place(page, 0.4, 0.4)));
    await untilView(page, "zoomed", ({ width }) => width < 2);
    await untilTiles(page, 32);
    const { page: other } = await open(new URL(page.url()).search);
    await untilTiles(other, 32);
    assert.deepEqual(viewIn(other), viewIn(page));
    for (const id of ["#tiles", "#seconds"]) {
      assert.equal(await other.$eval(id, (select) => select.value), await page.$eval(id, (select) => select.value));
    }
    const pixels = (page) => page.$eval("#picture", (canvas) => canvas.toDataURL().length);
    // The samples may differ, the view must not: both show the same part of the set.
    assert(isNear(await pixels(other) / await pixels(page), 1, 0.2));
  },

  async "an address that makes no sense shows the first view"({ open }) {
    const { page } = await open("?x=nan&y=1e99&width=-1&tiles=7&seconds=1");
    await untilDrawing(page, 8);
    await page.click("#zoom-in");
    const view = await untilView(page, "zoomed", ({ width }) => width === FIRST.width / 2);
    assert.deepEqual([view.x, view.y], [FIRST.x, FIRST.y]);
  },

  async "the zoom ends where numbers end, and says so"({ open }) {
    const { page } = await open("?x=-1.7687788&y=0.0017389&width=3e-12&seconds=1");
    await untilDrawing(page, 8);
    await page.click("#zoom-in");
    await page.click("#zoom-in");
    await untilView(page, "the deepest view", ({ width }) => width === 1e-12);
    await untilText(page, "#summary", /as deep as 64-bit numbers go/);
    assert.equal(await page.$eval("#zoom-in", (button) => button.getAttribute("aria-disabled")), "true");
    await untilTiles(page, 8);
  },
};
