// cd examples/browser && npm ci && node push.mjs [server binary]
//
// The page of ws_push in a real browser. A page about which the browser complains fails its test,
// unless the test takes the server away.

import assert from "node:assert/strict";
import { assertFits, binaryOf, runTests, start, stopServer, text, untilText } from "./lib.mjs";

const binary = binaryOf("ws_push");

const untilOpen = (page) => page.waitForSelector('#connection[data-state="open"]');

const tests = {
  async "the charts are drawn live, with axes and units"({ page }) {
    await untilText(page, "#memory", /^\d+ %$/);
    await untilText(page, "#load-15", /^[\d.]+$/);
    await untilText(page, "#received", /KiB\/s$/);
    const drawn = await page.evaluate(() => window.seen.charts);
    await page.waitForFunction((drawn) => window.seen.charts > drawn + 8, {}, drawn);
    const texts = await page.evaluate(() => [...window.seen.texts]);
    for (const expected of ["percent", "100", "milliseconds", "KiB per second", "now", "60 s ago"]) assert(texts.includes(expected), expected);
  },

  async "pause stops the charts, and they go on"({ page }) {
    await untilText(page, "#memory", /%/);
    await page.click("#pause");
    assert.equal(await page.$eval("#pause", (button) => button.ariaPressed), "true");
    const drawn = await page.evaluate(() => window.seen.charts);
    // A second in which nothing is drawn has no event.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert.equal(await page.evaluate(() => window.seen.charts), drawn);
    await page.click("#pause");
    await page.waitForFunction((drawn) => window.seen.charts > drawn, {}, drawn);
  },

  async "a published text arrives, and one for another room does not"({ page }) {
    await untilOpen(page);
    await page.type("#room", "elsewhere");
    await page.click("#publish button");
    await untilText(page, "#outcome", /^Sent to 0 clients\.$/);
    await page.$eval("#room", (input) => { input.value = "lobby"; });
    await page.$eval("#text", (input) => { input.value = "<b>für alle</b>"; });
    await page.click("#publish button");
    await untilText(page, "#outcome", /^Sent to 1 client\.$/);
    await untilText(page, "#messages", /<b>für alle<\/b>$/);
    assert.equal((await page.$$("#messages li")).length, 1);
  },

  async "a slow client is marked"({ page }) {
    await untilOpen(page);
    await page.click("#add-slow");
    await page.waitForSelector('tr[data-state="slow"]', { timeout: 60_000 });
    assert.match(await text(page, 'tr[data-state="slow"]'), /slow/);
    await untilText(page, "#slow-count", /^1$/);
    assert.equal(await text(page, "#copied"), "0");
  },

  async "nothing is wider than the screen, and axe finds nothing"({ page }) {
    await untilText(page, "#rows", /lobby/);
    await assertFits(page);
  },

  async "the page reconnects when the server is back"({ page, server, complaints }) {
    await untilOpen(page);
    assert.equal(await stopServer(server), 0);
    await page.waitForSelector('#connection[data-state="lost"]');
    await untilText(page, "#connection", /next attempt in [\d.]+ s$/);
    const again = await start(binary, "--port", new URL(server.url).port);
    try {
      await untilOpen(page);
    } finally {
      await stopServer(again);
    }
    complaints.length = 0;
  },
};

await runTests(binary, tests);
