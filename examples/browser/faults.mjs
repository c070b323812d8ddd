// A server that is killed, stopped, started again, or full.

import assert from "node:assert/strict";
import { FAST, startServer, stopServer, text, tilesIn, tileTexts, until, untilDrawing, untilText, untilTiles } from "./lib.mjs";

/// Notes every text that the tiles show from now on.
const noteTexts = (page) => page.evaluate(() => {
  window.tileTexts = new Set();
  const note = () => {
    for (const output of document.querySelectorAll(".tile output")) window.tileTexts.add(output.textContent);
  };
  new MutationObserver(note).observe(document.querySelector("#tile-list"), { childList: true, subtree: true, characterData: true });
  note();
});

const notedTexts = (page) => page.evaluate(() => [...window.tileTexts].filter((text) => !/^\d+ %$/.test(text)).sort());

const isShownAsLost = (page) => page.waitForSelector("#lost:not([hidden])", { timeout: 10_000 });

export const tests = {
  async "a killed server is shown within two seconds, and the page recovers when it is back"({ binary, openOn }) {
    const { page, server, complaints } = await openOn([], "?seconds=10&tiles=16");
    const { port } = new URL(server.url);
    const times = [];
    // While tiles are open, and while none is.
    for (const isBusy of [true, false]) {
      if (isBusy) {
        await untilDrawing(page, 16);
        await page.click("#flood");
        await untilText(page, "#flood-text", /^\d+ of 500$/);
      }
      else await untilTiles(page, 16);
      await noteTexts(page);
      const doneBefore = await tilesIn(page, "done");
      const start = performance.now();
      await stopServer(server, "SIGKILL");
      await isShownAsLost(page);
      times.push(Math.round(performance.now() - start));
      assert(times.at(-1) < 2000, `${times} ms`);
      assert.equal(await text(page, "#pool-note"), "the server does not answer");
      await until("tiles that are disconnected", () => tileTexts(page),
        (texts) => texts.filter((text) => text === "disconnected").length === 16 - doneBefore);
      if (isBusy) await untilText(page, "#flood-text", /^disconnected$/);
      // Until the page has tried for a while without success.
      const refused = () => complaints.filter((text) => /dump\.json.*failed$/.test(text)).length;
      const before = refused();
      await until("attempts", refused, (count) => count >= before + 3);
      Object.assign(server, await startServer(binary, "--port", port));
      await page.waitForSelector("#lost", { hidden: true });
      await untilTiles(page, 16);
      assert.deepEqual((await notedTexts(page)).filter((text) => !["disconnected", "drawn", "waiting"].includes(text)), []);
      if (isBusy) await untilText(page, "#flood-text", /^500 in/);
    }
    return `shown after ${times[0]} ms while it draws, after ${times[1]} ms while nothing is open`;
  },

  async "a server that is stopped and goes on is shown, too, and its tiles go on"({ openOn }) {
    const { page, server } = await openOn([], "?seconds=10&tiles=16");
    await untilDrawing(page, 16);
    await noteTexts(page);
    const start = performance.now();
    server.child.kill("SIGSTOP");
    try {
      await isShownAsLost(page);
    } finally {
      server.child.kill("SIGCONT");
    }
    const time = Math.round(performance.now() - start);
    assert(time < 2000, `${time} ms`);
    await page.waitForSelector("#lost", { hidden: true });
    await untilTiles(page, 16);
    assert((await notedTexts(page)).includes("disconnected"));
    return `shown after ${time} ms`;
  },

  async "a server that says goodbye is not called full, either"({ binary, openOn }) {
    const { page, server } = await openOn([], "?seconds=10");
    await untilDrawing(page, 8);
    await noteTexts(page);
    assert.equal(await stopServer(server), 0);
    await isShownAsLost(page);
    Object.assign(server, await startServer(binary, "--port", new URL(server.url).port));
    await untilTiles(page, 8);
    assert.deepEqual((await notedTexts(page)).filter((text) => !["disconnected", "drawn", "waiting"].includes(text)), []);
  },

  async "a tile says that the server is full if it is, and is drawn later"({ openOn }) {
    const { page } = await openOn(["--max-connections", "4"], "?seconds=3");
    await noteTexts(page);
    await until("a tile that says so", () => tileTexts(page), (texts) => texts.includes("server full"));
    await untilTiles(page, 8);
    assert.deepEqual((await notedTexts(page)).filter((text) => text === "disconnected"), []);
    assert.equal(await page.$eval("#lost", (notice) => notice.hidden), true);
  },

  async "an open picture of a fast view does not ask for more than it needs"({ open }) {
    const { page, dumps } = await open(FAST);
    await untilTiles(page, 8);
    assert(dumps.length < 40, `${dumps.length} dumps`);
  },
};
