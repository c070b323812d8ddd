// cd examples/browser && npm ci && node run.mjs [server binary] [folder for screenshots]
//
// The page of ws_stream in a real browser: it loads without a complaint, all tiles are drawn,
// cancelling one stops its task, the table lives, and nobody is shut out by size or colour.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const server = process.argv[2] ?? here("../../target/release/examples/ws_stream");
const screenshots = process.argv[3] ?? here("out");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 320, height: 800 };

async function startServer() {
  const child = spawn(server, ["--port", "0", "--threads", "2"], { stdio: ["ignore", "pipe", "inherit"] });
  const failed = new Promise((_, reject) => child.once("error", reject));
  const lines = createInterface({ input: child.stdout });
  const line = new Promise((resolve) => lines.once("line", resolve));
  const url = (await Promise.race([line, failed])).match(/http:\S+/)[0];
  return { child, url };
}

function startBrowser(userDataDir) {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    userDataDir,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
      "--disable-background-networking", "--disable-component-update"],
  });
}

/// A page that remembers every complaint of the browser.
async function openPage(browser, url) {
  const page = await browser.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`${request.url()} failed`));
  page.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`${response.url()}: ${response.status()}`);
  });
  await page.setViewport(WIDE);
  await page.goto(url);
  return { page, complaints };
}

/// Sets both choices before the page acts on either.
const draw = (page, tiles, depth) =>
  page.evaluate((tiles, depth) => {
    document.querySelector("#tiles").value = tiles;
    document.querySelector("#depth").value = depth;
    document.querySelector("#controls").requestSubmit();
  }, String(tiles), String(depth));

const tilesIn = (page, state) => page.$$eval(`.tile[data-state="${state}"]`, (tiles) => tiles.length);

const allTilesDrawn = (page, count) =>
  page.waitForFunction(
    (count) => document.querySelectorAll('.tile[data-state="done"]').length === count,
    { timeout: 60_000 }, count);

const stoppedTasks = async (url) => {
  const { counters } = await (await fetch(`${url}dump.json`)).json();
  return Object.values(counters.stopped).flatMap((part) => (typeof part === "object" ? Object.values(part) : [part]))
    .reduce((total, part) => total + part, 0);
};

async function untilEqual(read, expected, what) {
  const end = Date.now() + 10_000;
  while ((await read()) !== expected) {
    assert(Date.now() < end, `${what}: ${await read()} is not ${expected}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/// Clients that never read: their tasks stay parked, however fast the machine is, until they are destroyed.
const stalledClients = (url, count) => Array.from({ length: count }, () => {
  const { hostname, port, host } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.pause();
  socket.write(`GET /stream?chunks=0&size=1048576 HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\n` +
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
  return socket;
});

/// Runs `use` while the table shows that many stalled tasks.
async function whileStalled({ page, url }, count, use) {
  const clients = stalledClients(url, count);
  try {
    await page.waitForFunction(
      (count) => [...document.querySelectorAll("#dump tr")]
        .filter((row) => /stream.*syncing/.test(row.textContent)).length === count,
      { timeout: 10_000 }, count);
    await use();
  } finally {
    for (const client of clients) client.destroy();
  }
}

const tests = {
  async "all 8 tiles are drawn"({ page }) {
    await allTilesDrawn(page, 8);
    const summary = await page.$eval("#summary", (element) => element.textContent);
    assert.match(summary, /^8 of 8 tiles drawn in/);
  },

  async "every pixel has got a colour, and they are many"({ page }) {
    const [bare, colours] = await page.$eval("#picture", (canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const pixels = new Uint32Array(data.buffer);
      return [pixels.filter((pixel) => pixel >>> 24 !== 255).length, new Set(pixels).size];
    });
    assert.equal(bare, 0);
    assert(colours > 1000, `${colours} colours`);
  },

  async "the counts and the table follow the pool"({ page, url }) {
    await whileStalled({ page, url }, 8, async () => {
      assert.equal(await page.$eval("#syncing", (element) => element.textContent), "8");
      await draw(page, 8, 6);
      await page.waitForFunction(() => /[1-9]/.test(document.querySelector("#sync-rate").textContent));
      await allTilesDrawn(page, 8);
    });
    await page.waitForFunction(() => document.querySelector("#dump td.empty") !== null);
  },

  async "cancelling a tile, by keyboard, stops its task and no other"({ page, url }) {
    const before = await stoppedTasks(url);
    await page.click("#draw");
    await page.waitForSelector('.tile:last-child[data-state="drawing"]');
    await page.focus(".tile:last-child button");
    await page.keyboard.press("Enter");
    assert.equal(await tilesIn(page, "cancelled"), 1);
    await untilEqual(() => stoppedTasks(url), before + 1, "stopped tasks");
    await allTilesDrawn(page, 7);
    assert.equal(await stoppedTasks(url), before + 1);
    assert.match(await page.$eval("#summary", (element) => element.textContent), /7 of 8 .* 1 cancelled/);
  },

  async "a cancelled tile can be drawn again"({ page }) {
    await page.click('.tile[data-state="cancelled"] button');
    await allTilesDrawn(page, 8);
  },

  async "256 sockets draw 256 tiles"({ page }) {
    await draw(page, 256, 3);
    await allTilesDrawn(page, 256);
  },

  async "nothing is wider than the narrowest screen"({ page }) {
    await page.setViewport(NARROW);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), NARROW.width);
  },

  async "axe finds no barrier, in light and in dark"({ page }) {
    for (const value of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => [value, id, nodes.map((node) => node.html)]), []);
    }
  },

  async "pictures of it, wide and narrow, light and dark"({ page, url }) {
    mkdirSync(screenshots, { recursive: true });
    const path = (name) => join(screenshots, `${name}.png`);
    for (const [size, viewport] of Object.entries({ wide: WIDE, narrow: NARROW })) {
      for (const value of ["light", "dark"]) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
        await page.setViewport(viewport);
        await page.evaluate(() => window.scrollTo(0, 0));
        await whileStalled({ page, url }, 8, async () => {
          await draw(page, 16, 6);
          await page.screenshot({ path: path(`${size}-${value}-busy`), fullPage: size === "narrow" });
        });
        await draw(page, 16, 3);
        await allTilesDrawn(page, 16);
        await page.screenshot({ path: path(`${size}-${value}`), fullPage: size === "narrow" });
      }
    }
  },
};

const userDataDir = mkdtempSync(join(tmpdir(), "moored-browser-"));
const { child, url } = await startServer();
const browser = await startBrowser(userDataDir);
let failures = 0;
try {
  const { page, complaints } = await openPage(browser, url);
  tests["the browser has nothing to complain about"] = () => assert.deepEqual(complaints, []);
  for (const [name, test] of Object.entries(tests)) {
    const start = Date.now();
    try {
      await test({ page, url });
      console.log(`ok    ${name} (${Date.now() - start} ms)`);
    } catch (error) {
      failures += 1;
      console.log(`FAIL  ${name}\n${error.stack}`);
    }
  }
} finally {
  await browser.close();
  child.kill("SIGINT");
  rmSync(userDataDir, { recursive: true, force: true });
}
const code = child.exitCode ?? (await new Promise((resolve) => child.once("exit", resolve)));
if (code !== 0) {
  failures += 1;
  console.log(`FAIL  the server stops cleanly: exit code ${code}`);
}
process.exitCode = failures === 0 ? 0 : 1;
