// What the tests of the page share: a server, a browser, and ways to wait for a fact.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 320, height: 800 };
/// A picture that takes as little time as can be.
export const FAST = "?x=-0.65&y=0&width=3.4&seconds=1";
const WIDTHS = [320, 768, 1280, 2560];
const PATIENCE = 90_000;

/// Starts ws_stream with two threads and waits until it listens.
export const startServer = (binary, ...options) => start(binary, "--port", "0", "--threads", "2", ...options);

/// Starts a server and waits until it listens.
export async function start(binary, ...options) {
  const child = spawn(binary, options, { stdio: ["ignore", "pipe", "inherit"] });
  const failed = new Promise((_, reject) => child.once("error", reject));
  const lines = createInterface({ input: child.stdout });
  const line = new Promise((resolve) => lines.once("line", resolve));
  const url = (await Promise.race([line, failed])).match(/http:\S+/)[0];
  return { child, url };
}

/// Ends a server; its exit code.
export async function stopServer({ child }, signal = "SIGINT") {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  return exit;
}

export function startBrowser(userDataDir) {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    userDataDir,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
      "--disable-background-networking", "--disable-component-update"],
  });
}

// Runs in the page before its scripts: counts what cannot be seen from outside.
function observe() {
  const seen = (window.seen = { texts: new Set(), charts: 0, shift: 0, shifts: [] });
  const { fillText } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    seen.texts.add(text);
    seen.charts += text === "now" ? 1 : 0;
    return fillText.call(this, text, ...rest);
  };
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.hadRecentInput) continue;
      seen.shift += entry.value;
      seen.shifts.push(`${entry.value.toFixed(4)} ${entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName)}`);
    }
  }).observe({ type: "layout-shift", buffered: true });
}

/// A page that remembers every complaint of the browser, and how often it has asked for the dump.
export async function openPage(browser, address, viewport = WIDE, features = []) {
  const page = await browser.newPage();
  const complaints = [];
  const dumps = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`${request.url()} failed`));
  page.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`${response.url()}: ${response.status()}`);
    if (response.url().includes("/dump.json")) dumps.push(performance.now());
  });
  await page.evaluateOnNewDocument(observe);
  await page.setViewport(viewport);
  await page.emulateMediaFeatures(features);
  await page.goto(address);
  return { page, complaints, dumps };
}

export const text = (page, selector) => page.$eval(selector, (element) => element.textContent);

export const tilesIn = (page, state) => page.$$eval(`.tile[data-state="${state}"]`, (tiles) => tiles.length);

export const tileTexts = (page) => page.$$eval(".tile output", (outputs) => outputs.map((output) => output.textContent));

/// Waits until so many tiles are in a state.
export const untilTiles = (page, count, state = "done") =>
  page.waitForFunction(
    (count, state) => document.querySelectorAll(`.tile[data-state="${state}"]`).length === count,
    { timeout: PATIENCE }, count, state);

/// Waits until so many tiles have begun to come, or more.
export const untilDrawing = (page, count) =>
  page.waitForFunction(
    (count) => document.querySelectorAll('.tile:is([data-state="drawing"], [data-state="done"])').length >= count,
    { timeout: PATIENCE }, count);

export const untilText = (page, selector, pattern) =>
  page.waitForFunction(
    (selector, source) => new RegExp(source).test(document.querySelector(selector).textContent),
    { timeout: PATIENCE }, selector, pattern.source);

export const dumpOf = async (url) => (await fetch(`${url}dump.json?limit=2000`)).json();

export async function stoppedTasks(url) {
  const { counters } = await dumpOf(url);
  const sum = (value) =>
    typeof value === "object" ? Object.values(value).reduce((total, part) => total + sum(part), 0) : value;
  return sum(counters.stopped);
}

/// Reads until what is read is right; gives it.
export async function until(what, read, isRight) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await read();
    if (isRight(value)) return value;
    assert(Date.now() < end, `${what}: last seen ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/// The view in the address bar.
export function viewIn(page) {
  const query = new URL(page.url()).searchParams;
  return Object.fromEntries(["x", "y", "width"].map((name) => [name, Number(query.get(name))]));
}

export const untilView = (page, what, isRight) => until(what, () => viewIn(page), isRight);

export const isNear = (one, other, tolerance) => Math.abs(one - other) <= tolerance;

/// Clients that never read: their tasks stay parked, however fast the machine is, until they are destroyed.
function stalledClients(url, count) {
  const { hostname, port, host } = new URL(url);
  return Array.from({ length: count }, () => {
    const socket = connect(Number(port), hostname);
    socket.pause();
    socket.on("error", () => {});
    socket.write(`GET /stream?chunks=0&size=1048576 HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\n` +
      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    return socket;
  });
}

/// Runs `use` while that many tasks are parked for good, which the table of the page shows.
export async function whileStalled(page, url, count, use) {
  const clients = stalledClients(url, count);
  try {
    await page.waitForFunction(
      (count) => [...document.querySelectorAll("#dump tr:not([hidden])")]
        .filter((row) => /stream.*parked/.test(row.textContent)).length === count,
      { timeout: PATIENCE }, count);
    await use();
  } finally {
    for (const client of clients) client.destroy();
  }
}

/// What axe finds, in both colour schemes.
export async function axeFindings(page) {
  const findings = [];
  for (const value of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    findings.push(...violations.map(({ id, nodes }) => [value, id, nodes.map((node) => node.html)]));
  }
  return findings;
}

/// Asserts that nothing is wider than the screen, and that axe finds nothing, at each width.
export async function assertFits(page) {
  for (const width of WIDTHS) {
    await page.setViewport({ width, height: 900 });
    await page.waitForFunction((width) => window.innerWidth === width, {}, width);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    assert.deepEqual(await axeFindings(page), []);
  }
}

/// The server that the command line names, or else the release build of this example.
export const binaryOf = (example) =>
  process.argv[2] ?? fileURLToPath(new URL(`../../target/release/examples/${example}`, import.meta.url));

/// Runs each test with a server and a page of its own. A complaint of the browser fails the test,
/// unless the test has removed it or it `isExpected`. `optionsOf` has the options of the server for
/// a test.
export async function runTests(binary, tests, optionsOf = () => [], isExpected = () => false) {
  const folder = mkdtempSync(join(tmpdir(), "moored-browser-"));
  const browser = await startBrowser(join(folder, "profile"));
  try {
    for (const [name, test] of Object.entries(tests)) {
      const begun = Date.now();
      const server = await start(binary, "--port", "0", ...optionsOf(name, folder));
      try {
        const { page, complaints } = await openPage(browser, server.url);
        await test({ page, server, complaints, folder });
        assert.deepEqual(complaints.filter((complaint) => !isExpected(complaint, server)), []);
        await page.close();
        console.log(`ok    ${name} (${Date.now() - begun} ms)`);
      } catch (error) {
        process.exitCode = 1;
        console.log(`FAIL  ${name}\n${error.stack}`);
      } finally {
        await stopServer(server, "SIGKILL");
      }
    }
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
