// cd examples/browser && npm ci && node run.mjs [server binary] [folder for screenshots] [part of a test's name]
//
// The page of ws_stream in a real browser. Each test opens pages of its own; a page about which the
// browser complains fails its test, unless the test takes a server away.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { tests as access } from "./access.mjs";
import { tests as faults } from "./faults.mjs";
import { openPage, startBrowser, startServer, stopServer } from "./lib.mjs";
import { tests as picture } from "./picture.mjs";
import { tests as pool } from "./pool.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const binary = process.argv[2] ?? here("../../target/release/examples/ws_stream");
const screenshots = process.argv[3] ?? here("out");
const wanted = process.argv[4] ?? "";

/// Runs a test, then closes what it has opened.
async function run(test, browser, { url }) {
  const pages = [];
  const servers = [];
  // Whether complaints of the browser count: "complains" says that they do not.
  const open = async (address = "", viewport, features, expected = "") => {
    const opened = await openPage(browser, new URL(address, url).href, viewport, features);
    pages.push({ ...opened, expected });
    return opened;
  };
  // A page of a server of its own, with these options; the test may kill it.
  const openOn = async (options, address) => {
    const server = await startServer(binary, ...options);
    servers.push(server);
    return { server, ...(await open(server.url + address, undefined, undefined, "complains")) };
  };
  try {
    const note = await test({ url, open, openOn, binary, screenshots });
    for (const { complaints, expected } of pages) if (!expected) assert.deepEqual(complaints, []);
    return note;
  } catch (error) {
    // What the pages looked like then.
    for (const [index, { page }] of pages.entries()) {
      mkdirSync(screenshots, { recursive: true });
      await page.screenshot({ path: join(screenshots, `failed-${index}.png`), fullPage: true }).catch(() => {});
    }
    for (const { complaints, expected } of pages) if (!expected) error.stack += complaints.map((text) => `\n    ${text}`).join("");
    throw error;
  } finally {
    for (const { page } of pages) if (!page.isClosed()) await page.close();
    for (const server of servers) await stopServer(server, "SIGKILL");
  }
}

const userDataDir = mkdtempSync(join(tmpdir(), "moored-browser-"));
const server = await startServer(binary);
const browser = await startBrowser(userDataDir);
let failures = 0;
const report = (name, error) => {
  failures += 1;
  console.log(`FAIL  ${name}\n${error.stack}`);
};
try {
  for (const [name, test] of Object.entries({ ...picture, ...pool, ...faults, ...access })) {
    if (!name.includes(wanted)) continue;
    const start = Date.now();
    try {
      const note = await run(test, browser, server);
      console.log(`ok    ${name} (${Date.now() - start} ms)${note ? `: ${note}` : ""}`);
    } catch (error) {
      report(name, error);
    }
  }
} finally {
  await browser.close();
  rmSync(userDataDir, { recursive: true, force: true });
}
const code = await stopServer(server);
if (code !== 0) report("the server stops cleanly", new Error(`exit code ${code}`));
process.exitCode = failures === 0 ? 0 : 1;
