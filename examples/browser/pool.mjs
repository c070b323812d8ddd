// The pool's figures, the slow client and the flood.

import assert from "node:assert/strict";
import { FAST, dumpOf, stoppedTasks, text, tilesIn, until, untilDrawing, untilText, untilTiles, whileStalled } from "./lib.mjs";

const number = async (page, selector) => Number((await text(page, selector)).replaceAll(",", ""));

export const tests = {
  async "the counts say how many tasks are on a worker, waiting and parked"({ open, url }) {
    const { page } = await open("?seconds=10&tiles=16");
    assert.deepEqual(await page.$$eval(".counts dt", (terms) => terms.map((term) => term.textContent)),
      ["On a worker", "Waiting", "Parked"]);
    await whileStalled(page, url, 3, async () => {
      const counts = () => page.evaluate(() =>
        ["on-worker", "waiting", "parked"].map((id) => Number(document.getElementById(id).textContent)));
      const seen = await until("counts", counts, ([onWorker, waiting, parked]) =>
        onWorker === 2 && waiting >= 8 && parked >= 3 && onWorker + waiting + parked >= 16);
      assert.match(await text(page, "#threads"), /^of 2 threads$/);
      // Never more on a worker than there are workers, and the text for people says the same words.
      const dump = await (await fetch(`${url}dump`)).text();
      assert.match(dump, /\ntasks {5}queued \d+ {2}waiting \d+ {2}on a worker [012] {2}parked \d+ {2}ended \d+\n/);
      return `on a worker ${seen[0]}, waiting ${seen[1]}, parked ${seen[2]}`;
    });
    await page.click("#cancel-all");
    await page.waitForSelector("#no-task:not([hidden])");
  },

  async "the table names the tasks in the words of the counts"({ open }) {
    const { page } = await open("?seconds=10");
    await until("states", () => page.$$eval("#dump tr:not([hidden]) td:nth-child(2)", (cells) => cells.map((cell) => cell.textContent)),
      (states) => states.length > 4 && states.includes("waiting") && states.some((state) => /^on worker [01]$/.test(state)));
    // A table that is made anew cannot be read.
    await page.evaluate(() => { window.firstRow = document.querySelector("#dump tr"); });
    const before = await page.evaluate(() => window.seen.charts);
    await page.waitForFunction((before) => window.seen.charts > before + 3, {}, before);
    assert(await page.evaluate(() => window.firstRow === document.querySelector("#dump tr")), "the rows stay");
  },

  async "the view of the pool is new five times a second while something is open"({ open }) {
    const { page, dumps } = await open("?seconds=10");
    await untilDrawing(page, 8);
    const [charts, asked, start] = [await page.evaluate(() => window.seen.charts), dumps.length, performance.now()];
    await page.waitForFunction((charts) => window.seen.charts >= charts + 20, { timeout: 20_000 }, charts);
    const seconds = (performance.now() - start) / 1000;
    const rates = [20 / seconds, (dumps.length - asked) / seconds];
    for (const rate of rates) assert(rate > 4 && rate < 6.5, `${rates} a second`);
    await page.click("#cancel-all");
    await page.waitForSelector("#no-task:not([hidden])");
    const [idleSince, idleFrom] = [performance.now(), dumps.length];
    await until("three dumps", async () => dumps.length, (count) => count >= idleFrom + 3);
    const idle = 3000 / (performance.now() - idleSince);
    assert(idle < 3, `${idle} a second while nothing is open`);
    return `${rates[0].toFixed(2)} a second; ${idle.toFixed(2)} while nothing is open`;
  },

  async "the chart has a legend, a time axis and units"({ open }) {
    const { page } = await open("?seconds=3");
    await untilText(page, "#on-worker", /^2$/);
    await untilText(page, "#waiting", /^[1-9]$/);
    assert.deepEqual(await page.$$eval(".legend li", (items) => items.map((item) => item.textContent)),
      ["on a worker", "waiting", "parked"]);
    const texts = await page.evaluate(() => [...window.seen.texts]);
    for (const expected of ["tasks (logarithmic scale)", "60 s ago", "30 s ago", "now", "0", "1", "2", "5"]) {
      assert(texts.includes(expected), `${expected} in ${texts}`);
    }
    // The colours of the legend are those of the lines.
    const colours = await page.evaluate(() => {
      const chart = document.querySelector("#chart");
      const { data } = chart.getContext("2d").getImageData(0, 0, chart.width, chart.height);
      return [...document.querySelectorAll(".legend li")].map((item) => {
        const colour = getComputedStyle(item, "::before").borderTopColor.match(/\d+/g).map(Number);
        const isAt = (index) => data[index + 3] > 127
          && colour.every((part, channel) => channel > 2 || Math.abs(part - data[index + channel]) < 3);
        return Array.from({ length: data.length / 4 }, (_, pixel) => 4 * pixel).some(isAt);
      });
    });
    assert.deepEqual(colours.slice(0, 2), [true, true]);
    const [ofLegend, ofCounts] = await page.evaluate(() => {
      const kinds = ["on-worker", "waiting", "parked"];
      return [kinds.map((kind) => getComputedStyle(document.querySelector(`.legend .${kind}`), "::before").borderTopColor),
        kinds.map((kind) => getComputedStyle(document.querySelector(`.counts .${kind} dt`)).color)];
    });
    assert.deepEqual(ofLegend, ofCounts);
    assert.equal(new Set(ofLegend).size, 3);
  },

  async "a slow client parks its task, and slows no other"({ open, url }) {
    const { page } = await open("?seconds=3");
    const isTile1 = ({ name }) => name === "tile 1/8";
    await page.click("#slow");
    await untilDrawing(page, 8);
    const long = await until("tile 1 is parked for long", async () => (await dumpOf(url)).tasks.find(isTile1),
      (task) => task?.status === "syncing" && task.in_status_us > 300_000);
    await untilTiles(page, 7);
    const dump = await dumpOf(url);
    const tile1 = dump.tasks.find(isTile1);
    assert(tile1.sync_percent > 60, JSON.stringify(tile1));
    const [progress, slowText] = await page.evaluate(() =>
      [document.querySelector("#slow-progress").value, document.querySelector("#slow-text").textContent]);
    assert(progress < 0.5, `the slow tile has ${progress} while the others are done`);
    await untilText(page, "#all-text", /^100 %$/);
    assert.match(await text(page, "#all-help"), /^The other 7 tiles/);
    // Now it is alone: it is parked, and parked it stays.
    await until("one parked, none waiting", () => Promise.all(["#on-worker", "#waiting", "#parked"].map((id) => text(page, id))),
      (counts) => counts.join() === "0,0,1");
    const steps = (await dumpOf(url)).counters.steps;
    const charts = await page.evaluate(() => window.seen.charts);
    await page.waitForFunction((charts) => window.seen.charts >= charts + 15, {}, charts);
    const crawled = (await dumpOf(url)).counters.steps - steps;
    assert(crawled < 20, `${crawled} steps in three seconds`);
    // Off: it reads on as fast as it can.
    await page.click("#slow");
    await untilTiles(page, 8);
    return `parked for ${Math.round(long.in_status_us / 1000)} ms at once, ${Math.round(tile1.sync_percent)} % of its age; `
      + `at ${slowText} when the others were done; then ${crawled} steps in 3 s`;
  },

  async "a flood of 500 tasks on one socket does not stop the others"({ open, url }) {
    const { page } = await open("?seconds=10&tiles=8");
    await untilDrawing(page, 8);
    await page.click("#flood");
    await until("500 tasks", () => dumpOf(url), ({ tasks }) => tasks.filter(({ name }) => name.endsWith("/512")).length > 400);
    const connections = new Set((await dumpOf(url)).tasks.filter(({ name }) => name.endsWith("/512")).map(({ connection }) => connection));
    assert.equal(connections.size, 1, "one socket");
    await until("hundreds that wait", () => number(page, "#waiting"), (waiting) => waiting > 300);
    await untilText(page, "#flood-text", /^[1-9]\d* of 500$/);
    await untilTiles(page, 8);
    const [picture, flood] = await page.evaluate(() =>
      [document.querySelector("#all-progress").value, document.querySelector("#flood-progress").value]);
    assert.equal(picture, 1);
    // It has a ninth of the workers' time while all tiles are open, and more later.
    assert(flood > 0.02 && flood < 0.75, `the flood has ${flood} when the picture is done`);
    const before = await stoppedTasks(url);
    await page.click("#flood");
    await untilText(page, "#flood-text", /^stopped at \d+$/);
    await until("its tasks have stopped", () => dumpOf(url), ({ tasks }) => tasks.length === 0);
    assert((await stoppedTasks(url)) > before + 50);
    return `when the picture was done, the flood was at ${Math.round(100 * flood)} %`;
  },

  async "a flood is drawn to its end"({ open }) {
    const { page } = await open(FAST);
    await untilTiles(page, 8);
    await page.click("#flood");
    await untilText(page, "#flood-text", /^500 in [\d.]+ s$/);
    await untilTiles(page, 8);
    assert.equal(await page.$eval("#flood-progress", (progress) => progress.value), 1);
    return text(page, "#flood-text");
  },

  async "a flood that has no room in the queue is told so"({ openOn }) {
    const { page } = await openOn(["--max-queue-depth", "100"], "?seconds=3");
    await untilDrawing(page, 8);
    await page.click("#flood");
    await untilText(page, "#flood-text", /^refused: server full$/);
    assert.equal(await tilesIn(page, "failed"), 0);
    await untilTiles(page, 8);
    return text(page, "#flood-text");
  },
};
