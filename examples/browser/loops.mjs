// cd examples/browser && npm ci && node loops.mjs [server binary]
//
// The page of multi_loop in a real browser. A page about which the browser complains fails its test,
// unless the test takes the server away.

import assert from "node:assert/strict";
import { join } from "node:path";
import { NARROW, assertFits, binaryOf, runTests, start, stopServer, text, until, untilText } from "./lib.mjs";

const binary = binaryOf("multi_loop");
const ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c";

const options = (loops, folder) => ["--loops", loops, "--threads", "2", "--rows", "20000", "--query-timeout", "60",
  "--database", join(folder, "database.sqlite3")];

async function run(page, sql) {
  await page.$eval("#sql", (area, sql) => { area.value = sql; }, sql);
  await page.click("#query button");
}

const loopsOf = async (url) => (await fetch(`${url}loops.json`)).json();

const tests = {
  async "the loops are side by side, with their figures"({ page, server, complaints }) {
    await page.waitForFunction(() => document.querySelectorAll("#loops li").length === 3);
    await untilText(page, "#loops li:nth-child(2) .delay", /^[\d.]+ ms$/);
    await untilText(page, "#ping", /^[\d.]+ ms$/);
    // The connections of the browser are in the figures.
    await page.waitForFunction(() => [...document.querySelectorAll("#loops dd:first-of-type")]
      .reduce((sum, cell) => sum + (Number(cell.textContent) || 0), 0) > 0);
    const { loops } = await loopsOf(server.url);
    assert.equal(loops.length, 3);
    assert.deepEqual(complaints, []);
  },

  async "functions run in other loops, and a deadlock is refused"({ page, complaints }) {
    await page.waitForFunction(() => document.querySelectorAll("#move-to option").length === 3);
    await page.click("#broadcast");
    await untilText(page, "#outcome", /has run in loop 0 .*, loop 1 .*, loop 2 .*has answered/);
    await page.select("#move-to", "2");
    await page.click("#move");
    await untilText(page, "#outcome", /has run in loop 2 \([^)]*\); loop \d has answered/);
    assert.deepEqual(complaints, []);
    await page.click("#deadlock");
    await untilText(page, "#outcome", /^409 from loop \d: .*would deadlock/);
    await untilText(page, "#refused-waits", /^1$/);
    // The browser reports the status.
    complaints.length = 0;
  },

  async "a query is shown while it arrives, and errors are SQLite's"({ page, complaints }) {
    await run(page, "SELECT * FROM item WHERE id > :after ORDER BY id");
    await untilText(page, "#outcome", /the whole result, from loop \d/);
    assert.match(await text(page, "#result"), /^id,name,value,share,note\r?\n1,item 0000001,7919,/);
    await run(page, "DELETE FROM item");
    await untilText(page, "#outcome", /^400: .*only queries are allowed/);
    // Chromium reports a body that a script has read to its end as aborted, and the status.
    for (const complaint of complaints.splice(0)) assert.match(complaint, /\/query\?\S+ failed$|400/);
  },

  async "a cancel interrupts the query"({ page, server, complaints }) {
    await run(page, ENDLESS);
    await untilText(page, "#on-worker", /^1$/);
    await page.click("#cancel");
    await untilText(page, "#outcome", /^Cancelled/);
    await until("it is interrupted", () => loopsOf(server.url), ({ interrupted }) => interrupted === 1);
    await untilText(page, "#interrupted", /^1$/);
    // The browser reports the cancelled request.
    complaints.length = 0;
  },

  async "a flood of slow queries keeps the workers, not the loops"({ page, complaints }) {
    await page.select("#slow-ms", "1000");
    await page.click("#flood");
    await untilText(page, "#on-worker", /^2$/);
    await page.click("#broadcast");
    await untilText(page, "#outcome", /has answered/);
    await page.click("#flood");
    await untilText(page, "#on-worker", /^0$/);
    assert.equal(await page.$eval("#flood", (button) => button.getAttribute("aria-pressed")), "false");
    complaints.length = 0;
  },

  async "the page says that the server has gone, and goes on when it is back"({ page, server, complaints, folder }) {
    await untilText(page, "#loops-note", /^3,/);
    assert.equal(await stopServer(server), 0);
    await page.waitForSelector("#lost:not([hidden])");
    await untilText(page, "#loops-note", /does not answer/);
    const again = await start(binary, "--port", new URL(server.url).port, ...options("2", folder));
    try {
      await page.waitForSelector("#lost[hidden]");
      await page.waitForFunction(() => document.querySelectorAll("#loops li").length === 2);
    } finally {
      await stopServer(again, "SIGKILL");
    }
    complaints.length = 0;
  },

  async "nothing is wider than the screen, nothing moves, and axe finds nothing"({ page, complaints }) {
    await page.setViewport(NARROW);
    await page.reload();
    await untilText(page, "#loops li:nth-child(3) .delay", /^[\d.]+ ms$/);
    await run(page, "SELECT 1");
    await untilText(page, "#outcome", /the whole result/);
    assert.deepEqual(await page.evaluate(() => window.seen.shifts), []);
    await assertFits(page);
    for (const complaint of complaints.splice(0)) assert.match(complaint, /\/query\?\S+ failed$/);
  },

  async "the keyboard is enough"({ page, complaints }) {
    await page.waitForFunction(() => document.querySelectorAll("#move-to option").length === 3);
    await page.focus("#flood");
    const reached = [];
    for (let index = 0; index < 8; index += 1) {
      reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.type));
      await page.keyboard.press("Tab");
    }
    assert.deepEqual(reached, ["flood", "slow-ms", "broadcast", "move", "move-to", "deadlock", "sql", "submit"]);
    await page.focus("#broadcast");
    await page.keyboard.press("Enter");
    await untilText(page, "#outcome", /has answered/);
    assert.deepEqual(complaints, []);
  },
};

await runTests(binary, tests, (_, folder) => options("3", folder));
