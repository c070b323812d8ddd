// cd examples/browser && npm ci && node delegate.mjs [server binary]
//
// The page of http_delegate in a real browser. A page about which the browser complains fails its
// test, unless the test takes the server away.

import assert from "node:assert/strict";
import { NARROW, assertFits, binaryOf, runTests, start, stopServer, text, until, untilText } from "./lib.mjs";

const binary = binaryOf("http_delegate");

/// Fills a form, and starts what it says.
async function startRuns(page, form, fields) {
  await page.evaluate((form, fields) => {
    const { elements } = document.getElementById(form);
    for (const [name, value] of Object.entries(fields)) {
      if (elements[name].type === "checkbox") elements[name].checked = value;
      else elements[name].value = value;
    }
  }, form, fields);
  await page.click(`#${form} button`);
}

const untilRuns = (page, list, state, count) =>
  page.waitForFunction(
    (list, state, count) => document.querySelectorAll(`#${list} [data-state="${state}"]`).length === count,
    {}, list, state, count);

const outputs = (page, list) => page.$$eval(`#${list} output`, (all) => all.map((output) => output.textContent));

/// The number of the event that is shown.
const shownEvent = async (page) => Number((await text(page, "#events-runs output")).match(/^event (\d+) at/)?.[1]);

const countsOf = async (url) => (await (await fetch(`${url}requests.json`)).json()).counts;

const tests = {
  async "each style is answered, and the table shows it"({ page, complaints }) {
    await startRuns(page, "whole", { number: 3, ms: 20, size: 5000 });
    await startRuns(page, "parts", { number: 2, parts: 7, size: 10000, ms: 20 });
    await startRuns(page, "events", { number: 1, count: 3, ms: 20 });
    await untilRuns(page, "whole-runs", "done", 3);
    await untilRuns(page, "parts-runs", "done", 2);
    for (const output of await outputs(page, "whole-runs")) assert.match(output, /^primes below \d+: \d+, 4\.9 KiB$/);
    for (const output of await outputs(page, "parts-runs")) assert.equal(output, "68.4 KiB, each byte checked");
    // The server ends the events with 204, when the browser has come back.
    await untilText(page, "#events-runs output", /^3 events, no more$/);
    // Three whole answers, two of seven parts with their ends, and three events with theirs.
    await untilText(page, "#written", /^23$/);
    assert.equal(await text(page, "#lost-writes"), "0");
    await page.waitForFunction(() => document.querySelectorAll('#requests tr[data-state="done"]').length === 6);
    // Chromium reports a body that a script has read to its end as aborted, and 204 as the failure
    // of an event source. The page has checked what they contain.
    for (const complaint of complaints.splice(0)) assert.match(complaint, /\/(stream|events)\?\S+ failed$/);
  },

  async "a slow reader parks its task, and a cancel is a lost write"({ page, server, complaints }) {
    await startRuns(page, "parts", { number: 1, parts: 100000, size: 1048576, ms: 0, slow: true });
    await page.waitForSelector('#requests tr[data-state="writing"]');
    await untilText(page, "#parked", /^1$/);
    const { writes } = await until("it stays parked", () => countsOf(server.url),
      ({ writes }) => writes.asked === writes.written + 1);
    assert.equal(writes.lost, 0);
    await page.click("#cancel-all");
    await untilRuns(page, "parts-runs", "cancelled", 1);
    await untilText(page, "#lost-writes", /^1$/);
    await page.waitForFunction(() =>
      /client gone.*connection closed, after [\d.]+ ms$/.test(document.querySelector("#requests tr").textContent));
    // The browser reports each cancelled request.
    complaints.length = 0;
  },

  async "answers of handlers are shown"({ page, complaints }) {
    await page.click("#now");
    await untilText(page, "#outcome", /^200: .*unix_ms/);
    await page.click("#reject");
    await untilText(page, "#outcome", /^403: the handler has rejected this request$/);
    // The browser reports the status.
    complaints.length = 0;
  },

  async "events go on after a restart of the server"({ page, server, complaints }) {
    await startRuns(page, "events", { number: 1, count: 0, ms: 50 });
    const before = await until("events", () => shownEvent(page), (number) => number >= 5);
    assert.equal(await stopServer(server), 0);
    await page.waitForSelector("#lost:not([hidden])");
    await untilText(page, "#events-runs output", /reconnecting$/);
    const again = await start(binary, "--port", new URL(server.url).port);
    try {
      await until("later events", () => shownEvent(page), (number) => number > before);
      assert.doesNotMatch(await text(page, "#events-runs output"), /missing/);
      await page.waitForSelector("#lost[hidden]");
    } finally {
      await stopServer(again, "SIGKILL");
    }
    complaints.length = 0;
  },

  async "nothing is wider than the screen, nothing moves, and axe finds nothing"({ page, complaints }) {
    await page.setViewport(NARROW);
    await page.reload();
    await startRuns(page, "whole", { number: 6, ms: 300, size: 0 });
    await startRuns(page, "events", { number: 1, count: 0, ms: 100 });
    await untilRuns(page, "whole-runs", "done", 6);
    assert.deepEqual(await page.evaluate(() => window.seen.shifts), []);
    await assertFits(page);
    assert.deepEqual(complaints, []);
  },

  async "the keyboard is enough"({ page, complaints }) {
    await page.focus("#whole input");
    await page.keyboard.press("Enter");
    await untilRuns(page, "whole-runs", "open", 4);
    await page.focus("#whole-runs button");
    await page.keyboard.press("Enter");
    await untilRuns(page, "whole-runs", "cancelled", 1);
    await page.focus("#cancel-all");
    await page.keyboard.press("Space");
    await untilRuns(page, "whole-runs", "cancelled", 4);
    await page.focus("#clear");
    await page.keyboard.press("Enter");
    await untilText(page, "#summary", /^nothing yet$/);
    complaints.length = 0;
  },
};

await runTests(binary, tests, () => ["--threads", "2"]);
