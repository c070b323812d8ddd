// node fetch.mjs URL: requests with the fetch of node. Prints the statuses.

import assert from "node:assert/strict";

const [url] = process.argv.slice(2);

const get = await fetch(url);
assert.equal(get.status, 200);
assert.match(await get.text(), /<title>/);

const head = await fetch(url, { method: "HEAD" });
assert.equal(head.status, 200);
assert.equal(head.headers.get("content-length"), get.headers.get("content-length"));

const post = await fetch(url, { method: "POST", body: "x".repeat(10_000) });
assert.equal(post.status, 405, `POST: ${post.status} ${await post.text()}`);
assert.match(post.headers.get("allow") ?? "", /GET/);

const dump = await fetch(`${url}/dump.json`);
assert.equal((await dump.json()).pool, "ws_stream");

const headers = { "If-None-Match": get.headers.get("etag") };
const unchanged = await fetch(url, { headers });
assert.equal(unchanged.status, 304);

const many = await Promise.all(Array.from({ length: 100 }, () => fetch(`${url}/page.js`)));
for (const answer of many) {
  assert.equal(answer.status, 200);
  await answer.arrayBuffer();
}

console.log(`GET ${get.status}, HEAD ${head.status}, POST ${post.status}, ` +
  `If-None-Match ${unchanged.status}, 100 at once`);
