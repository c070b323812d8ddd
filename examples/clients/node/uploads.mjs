// node uploads.mjs URL: uploads with the fetch of node to http_crc. Prints what was answered.

import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

const [url] = process.argv.slice(2);
const counters = async () => (await (await fetch(`${url}/dump.json?limit=0`)).json()).counters;

const bodies = Array.from({ length: 200 }, (_, index) => new Uint8Array(index * 997).fill(index));
const answers = await Promise.all(bodies.map((body) => fetch(url, { method: "POST", body })));
for (const [index, answer] of answers.entries()) {
  const { crc32: digest, length } = await answer.json();
  assert.equal(parseInt(digest, 16), crc32(bodies[index]));
  assert.equal(length, bodies[index].length);
}

// A body that never ends, until it is aborted.
const abort = new AbortController();
const endless = new ReadableStream({
  async pull(stream) {
    // Other requests have to be sent meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 1));
    stream.enqueue(new Uint8Array(65536));
  },
});
const uploading = fetch(url, { method: "POST", body: endless, duplex: "half", signal: abort.signal });
uploading.catch(() => {});
while ((await counters()).accepted === 200);
abort.abort();
await assert.rejects(uploading);
let stopped = 0;
while (stopped === 0) {
  stopped = Object.values((await counters()).stopped).reduce((sum, count) => sum + count, 0);
}
console.log(`${answers.length} digests at once, ${stopped} aborted upload stopped`);
// The endless stream would keep node from ending.
process.exit();
