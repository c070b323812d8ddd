// node delegate.mjs URL: streams and events of http_delegate with the fetch of node. Prints what
// was answered.

import assert from "node:assert/strict";

const [url] = process.argv.slice(2);
const counts = async () => (await (await fetch(`${url}/requests.json`)).json()).counts;

const numbered = (size) =>
  Array.from({ length: Math.ceil(size / 16) }, (_, line) => `${String(line).padStart(15, "0")}\n`).join("").slice(0, size);

// Many at once, each read part by part.
const answers = await Promise.all(Array.from({ length: 100 }, async (_, index) => {
  const size = 100 * index + 1;
  let text = "";
  const { body } = await fetch(`${url}/stream?parts=5&size=${size}&ms=1`);
  for await (const part of body.pipeThrough(new TextDecoderStream())) text += part;
  assert.equal(text, numbered(5 * size));
  return text.length;
}));

// The client cancels in the middle.
const { body } = await fetch(`${url}/stream?parts=100000&size=1000&ms=1`);
const reader = body.getReader();
await reader.read();
await reader.cancel();
while ((await counts()).ended.client_gone === 0);

/// An event source by hand: the ids that arrive, until the server says that there are no more.
async function follow(path) {
  const ids = [];
  for (;;) {
    const headers = ids.length ? { "Last-Event-ID": String(ids.at(-1)) } : {};
    const answer = await fetch(url + path, { headers });
    if (answer.status === 204) return ids;
    let text = "";
    for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
      text += part;
      // Leaves after two events, as if the connection were bad.
      if (text.match(/^id: /gm)?.length === 2 && text.endsWith("\n\n")) break;
    }
    ids.push(...[...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)));
  }
}
const ids = await follow("/events?count=7&ms=10");
assert.deepEqual(ids, [1, 2, 3, 4, 5, 6, 7]);
console.log(`${answers.length} streams at once, a cancelled one, events ${ids.join(" ")} over several connections`);
