// Nobody is shut out: by size, colour, keyboard, or things that move.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FAST, NARROW, WIDE, axeFindings, startServer, stopServer, text, until, untilDrawing, untilText, untilTiles, whileStalled } from "./lib.mjs";

const HEIGHT = 900;
const WIDTHS = [320, 768, 1280, 2560];

/// What is wider than its place and cannot be scrolled, at each width.
async function cutTexts(page) {
  const all = [];
  for (const width of WIDTHS) {
    await page.setViewport({ width, height: HEIGHT });
    await page.waitForFunction((width) => window.innerWidth === width, {}, width);
    const cut = await page.$$eval("main *", (elements) => elements
      .filter((element) => element.checkVisibility() && !element.matches(".table, .tile-list, select, progress, canvas, .viewer")
        && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
      .map((element) => element.outerHTML.slice(0, 90)));
    all.push(...cut.map((html) => `${width}: ${html}`));
  }
  return all;
}

export const tests = {
  async "nothing is wider than the screen, from 320 to 2560 pixels"({ open, url }) {
    const { page } = await open(`${FAST}&tiles=64`);
    await whileStalled(page, url, 8, async () => {
      for (const width of WIDTHS) {
        await page.setViewport({ width, height: HEIGHT });
        await page.waitForFunction((width) => window.innerWidth === width, {}, width);
        const wide = await page.evaluate(() => {
          const isScrolled = (element) => element.closest(".table, .tile-list, [hidden]");
          return [document.documentElement.scrollWidth, [...document.querySelectorAll("body *")]
            .filter((element) => !isScrolled(element) && element.getBoundingClientRect().right > window.innerWidth + 0.5)
            .map((element) => element.outerHTML.slice(0, 80))];
        });
        assert.deepEqual(wide, [width, []]);
      }
    });
  },

  async "no text of the page is cut off"({ openOn }) {
    const { page, server } = await openOn([], "?seconds=100");
    await untilDrawing(page, 8);
    await page.click("#slow");
    await page.click("#flood");
    await untilText(page, "#flood-text", /of 500/);
    assert.deepEqual(await cutTexts(page), []);
    await stopServer(server, "SIGKILL");
    await untilTiles(page, 8, "disconnected");
    await untilText(page, ".tile:last-child output", /^disconnected$/);
    assert.deepEqual(await cutTexts(page), []);
  },

  async "a table that is wider than its place says that it scrolls"({ open }) {
    for (const [viewport, isShown] of [[NARROW, true], [{ width: 1280, height: HEIGHT }, false], [{ width: 2560, height: HEIGHT }, false]]) {
      const { page } = await open(FAST, viewport);
      const [scrolls, hint] = await page.evaluate(() => {
        const table = document.querySelector(".table");
        return [table.scrollWidth > table.clientWidth, document.querySelector(".scroll-hint").checkVisibility()];
      });
      assert.deepEqual([viewport.width, scrolls, hint], [viewport.width, isShown, isShown]);
    }
  },

  async "nothing moves by itself"({ open, url }) {
    const measured = [];
    for (const width of WIDTHS) {
      const { page } = await open("?seconds=3&tiles=32", { width, height: HEIGHT });
      await untilTiles(page, 32);
      await whileStalled(page, url, 8, async () => {
        // Long after the last input, tasks come and go.
        const charts = await page.evaluate(() => window.seen.charts);
        await page.waitForFunction((charts) => window.seen.charts > charts + 5, {}, charts);
      });
      await page.waitForSelector("#no-task:not([hidden])");
      const { shift, shifts } = await page.evaluate(() => ({ ...window.seen, texts: null }));
      assert(shift < 0.02, `${width}: ${shift}: ${shifts.join("; ")}`);
      measured.push(`${width}: ${shift.toFixed(4)}`);
    }
    return measured.join(", ");
  },

  async "axe finds no barrier, in light and in dark, at rest and busy, wide and narrow"({ open }) {
    for (const viewport of [WIDE, NARROW]) {
      const { page } = await open(FAST, viewport);
      await untilTiles(page, 8);
      assert.deepEqual(await axeFindings(page), []);
      await page.select("#seconds", "10");
      await page.click("#slow");
      await page.click("#flood");
      await untilText(page, "#flood-text", /of 500/);
      assert.deepEqual(await axeFindings(page), []);
    }
  },

  async "axe finds no barrier while the server is gone"({ openOn }) {
    const { page, server } = await openOn([], "?seconds=10");
    await untilDrawing(page, 8);
    await stopServer(server, "SIGKILL");
    await page.waitForSelector("#lost:not([hidden])");
    assert.deepEqual(await axeFindings(page), []);
  },

  async "the keyboard reaches every control, and the focus is seen"({ open }) {
    const { page } = await open(FAST);
    await untilTiles(page, 8);
    const reached = new Map();
    for (let presses = 0; presses < 60; presses += 1) {
      await page.keyboard.press("Tab");
      const [name, outline] = await page.evaluate(() => {
        const { activeElement: element } = document;
        return [element.id || element.className || element.getAttribute("aria-label") || element.textContent,
          getComputedStyle(element).outlineStyle];
      });
      reached.set(name, outline);
    }
    for (const name of ["tiles", "seconds", "draw", "cancel-all", "viewer", "back", "zoom-in", "zoom-out", "reset", "whole",
      "slow", "flood", "table", "tile-list", "Draw again tile 8", "/dump.json"]) {
      assert.equal(reached.get(name), "solid", `${name} in ${[...reached.keys()]}`);
    }
    // Without the mouse: the switch and the flood.
    await page.focus("#slow");
    await page.keyboard.press("Space");
    await untilText(page, "#slow-text", /%/);
    await page.keyboard.press("Space");
    await page.focus("#flood");
    await page.keyboard.press("Enter");
    await untilText(page, "#flood-text", /of 500/);
    await untilTiles(page, 8);
  },

  // pngquant --nofs --speed 1 --strip 80 out/readme.png --output small.png && zopflipng small.png ../../docs/ws_stream.png
  async "the picture for the README"({ open, screenshots }) {
    mkdirSync(screenshots, { recursive: true });
    const { page } = await open("?seconds=10&tiles=16", { width: 1280, height: 1200 });
    await untilTiles(page, 16);
    await page.click("#draw");
    await page.click("#slow");
    await page.evaluate(() => document.activeElement.blur());
    await untilText(page, "#all-text", /^[5-9]\d %$/);
    const counts = () => page.evaluate(() =>
      ["on-worker", "waiting", "parked"].map((id) => Number(document.getElementById(id).textContent)));
    // Until the counts are typical, and still the same after the screenshot.
    await until("typical counts", async () => {
      const before = await counts();
      // At most the tiles of the slow viewer are left, which can take long.
      if (before[0] + before[1] === 0) await page.click("#draw");
      await page.screenshot({ path: join(screenshots, "readme.png") });
      return [before, await counts()];
    }, ([before, after]) => before.join() === after.join() && before[0] === 2 && before[1] > 9 && before[2] > 0);
  },

  async "pictures of it, wide and narrow, light and dark"({ open, binary, screenshots }) {
    mkdirSync(screenshots, { recursive: true });
    for (const [size, viewport] of Object.entries({ wide: WIDE, narrow: NARROW })) {
      for (const value of ["light", "dark"]) {
        const features = [{ name: "prefers-color-scheme", value }];
        const path = (state) => join(screenshots, `${size}-${value}-${state}.png`);
        const { page } = await open("?seconds=10&tiles=16", viewport, features);
        await page.click("#slow");
        await page.click("#flood");
        await untilText(page, "#flood-text", /^[1-9]\d+ of 500$/);
        await page.screenshot({ path: path("busy"), fullPage: size === "narrow" });
        await page.click("#flood");
        await page.click("#cancel-all");
        await page.waitForSelector("#no-task:not([hidden])");
        await page.screenshot({ path: path("rest"), fullPage: size === "narrow" });
        await page.close();
      }
    }
    const server = await startServer(binary);
    const { page } = await open(server.url, NARROW, [], "complains");
    await untilDrawing(page, 8);
    await stopServer(server, "SIGKILL");
    await page.waitForSelector("#lost:not([hidden])");
    await page.screenshot({ path: join(screenshots, "narrow-lost.png") });
    assert.match(await text(page, "#lost"), /does not answer/);
  },
};
