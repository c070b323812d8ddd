// cd examples/browser && npm ci && node crc.mjs [server binary]
//
// The page of http_crc in a real browser. A page about which the browser complains fails its test,
// unless the test takes the server away or makes it refuse uploads.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import {
  NARROW, WIDE, assertFits, binaryOf, dumpOf, runTests, start, stopServer, stoppedTasks, text, until, untilText,
} from "./lib.mjs";

const binary = binaryOf("http_crc");
const MIB = 1 << 20;

const hex = (content) => crc32(content).toString(16).padStart(8, "0");
/// Of the file that `drop` makes.
const digest = (number, size) => hex(Uint8Array.from({ length: size }, (_, index) => number + index * 7 + (index >> 8)));

/// Drops files of these sizes where the page takes them.
const drop = (page, ...sizes) => page.evaluate((sizes) => {
  const dataTransfer = new DataTransfer();
  for (const [number, size] of sizes.entries()) {
    const content = Uint8Array.from({ length: size }, (_, index) => number + index * 7 + (index >> 8));
    dataTransfer.items.add(new File([content], `file ${number}`));
  }
  const target = document.getElementById("drop");
  for (const type of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(type, { dataTransfer, cancelable: true }));
}, sizes);

const states = (page) => page.$$eval("#uploads li", (items) => items.map((item) => item.dataset.state));
const outputs = (page) => page.$$eval("#uploads output", (items) => items.map((item) => item.textContent));
const untilStates = (page, state, count) => until(`${count} uploads ${state}`, () => states(page),
  (states) => states.filter((it) => it === state).length === count);
/// From now on a file takes its time.
const slowDown = (page) => page.emulateNetworkConditions({ upload: MIB, download: MIB, latency: 0 });
/// From now on the texts of the uploads are remembered.
const remember = (page) => page.evaluate(() => {
  window.outputs = new Set();
  new MutationObserver(() => {
    for (const output of document.querySelectorAll("#uploads output")) window.outputs.add(output.textContent);
  }).observe(document.getElementById("uploads"), { subtree: true, childList: true, characterData: true });
});
const remembered = (page) => page.evaluate(() => [...window.outputs]);

const tests = {
  async "dropped files get their digests"({ page }) {
    const sizes = [0, 1, 65_537, 3 * MIB];
    await drop(page, ...sizes);
    await untilStates(page, "done", sizes.length);
    assert.deepEqual(await outputs(page), sizes.map((size, number) => digest(number, size)));
    assert.match(await text(page, "#summary"), /^4 of 4 done, 3\.1 MiB$/);
    assert.equal(await page.$eval("#drop", (element) => element.className), "drop");
    await untilText(page, "#finished", /^4$/);
    await page.click("#clear");
    assert.equal(await text(page, "#summary"), "No uploads yet.");
    assert.deepEqual(await states(page), []);
  },

  async "chosen files get their digests"({ page, folder }) {
    const content = Buffer.from("chosen");
    const paths = [1, 2].map((number) => join(folder, `chosen ${number}`));
    for (const path of paths) writeFileSync(path, content);
    const input = await page.$("#files");
    await input.uploadFile(...paths);
    await untilStates(page, "done", 2);
    assert.deepEqual(await outputs(page), [hex(content), hex(content)]);
  },

  async "an upload shows its progress, and to cancel it stops its task"({ page, server }) {
    await slowDown(page);
    await drop(page, 20 * MIB);
    await page.waitForFunction(() => {
      const { value } = document.querySelector("#uploads progress") ?? { value: 0 };
      return value > 0 && value < 1;
    });
    const percent = Number((await outputs(page))[0].match(/^(\d+) %$/)[1]);
    await page.waitForFunction(
      (percent) => Number.parseInt(document.querySelector("#uploads output").textContent) > percent, {}, percent);
    await untilText(page, "#dump", /parked|waiting|on worker/);
    assert.equal(await stoppedTasks(server.url), 0);
    await page.click("#uploads button");
    assert.deepEqual(await states(page), ["cancelled"]);
    await until("the task is stopped", () => stoppedTasks(server.url), (stopped) => stopped === 1);
    await untilText(page, "#stopped", /^1$/);
    await page.waitForSelector("#no-task:not([hidden])");
  },

  async "fifty at once are done, and the pool shows them"({ page, server }) {
    await page.select("#size", "1024");
    await page.click("#many");
    await untilStates(page, "done", 50);
    const digests = await outputs(page);
    assert(digests.every((it) => /^[0-9a-f]{8}$/.test(it)), `${digests}`);
    assert.equal(new Set(digests).size, 50, "the files differ");
    assert.match(await text(page, "#summary"), /^50 of 50 done, 50 KiB$/);
    await untilText(page, "#finished", /^50$/);
    assert.equal((await dumpOf(server.url)).counters.finished, 50);
  },

  async "cancel all ends those that wait, too"({ page, server }) {
    await slowDown(page);
    await page.select("#size", "16777216");
    await page.click("#many");
    await untilStates(page, "sending", 5);
    await page.click("#cancel-all");
    await untilStates(page, "cancelled", 50);
    assert.equal(await text(page, "#summary"), "0 of 50 done, 0 bytes · 50 cancelled");
    await until("no task is left", () => dumpOf(server.url), ({ tasks }) => tasks.length === 0);
  },

  async "a full server is tried again"({ page, complaints }) {
    await remember(page);
    await drop(page, 10, 20, 30, 40, 50);
    await untilText(page, "#dump", /waiting/);
    await untilStates(page, "done", 5);
    assert.deepEqual(await outputs(page), [10, 20, 30, 40, 50].map((size, number) => digest(number, size)));
    assert((await remembered(page)).some((text) => /^server full, again in \d+ s$/.test(text)), `${await remembered(page)}`);
    assert(complaints.every((it) => /503/.test(it)), `${complaints}`);
    complaints.length = 0;
  },

  async "a server that is killed is told, and used again when it is back"({ page, server, complaints }) {
    await slowDown(page);
    await drop(page, 20 * MIB);
    await untilText(page, "#uploads output", /^[1-9]\d* %$/);
    await stopServer(server, "SIGKILL");
    await untilStates(page, "failed", 1);
    assert.deepEqual(await outputs(page), ["connection lost"]);
    assert.match(await text(page, "#summary"), /1 failed$/);
    await untilText(page, "#pool-note", /^the server does not answer$/);
    const again = await start(binary, "--port", new URL(server.url).port);
    try {
      await untilText(page, "#pool-note", /^\d+ worker threads/);
      await drop(page, 100);
      await untilStates(page, "done", 1);
      assert.equal((await outputs(page))[1], digest(0, 100));
    } finally {
      await stopServer(again, "SIGKILL");
    }
    complaints.length = 0;
  },

  async "nothing is wider than the screen, and axe finds nothing"({ page }) {
    await slowDown(page);
    await drop(page, 1000, 20 * MIB);
    await untilText(page, "#uploads", /%/);
    await untilText(page, "#dump", /parked|waiting|on worker/);
    await assertFits(page);
    await takePictures(page);
  },
};

const OPTIONS = { "a full server is tried again": ["--threads", "1", "--max-queue-depth", "1", "--work-ms", "1500"] };

/// For people: the folder `out` has the page on a wide and on a narrow screen, light and dark.
async function takePictures(page) {
  const folder = fileURLToPath(new URL("out", import.meta.url));
  mkdirSync(folder, { recursive: true });
  for (const [size, viewport] of Object.entries({ wide: WIDE, narrow: NARROW })) {
    for (const value of ["light", "dark"]) {
      await page.setViewport(viewport);
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
      await page.screenshot({ path: join(folder, `http_crc_${size}_${value}.png`) });
    }
  }
}

// An upload that is cancelled is a request that has failed.
await runTests(binary, tests, (name) => OPTIONS[name] ?? [], (complaint, server) => complaint === `${server.url} failed`);
