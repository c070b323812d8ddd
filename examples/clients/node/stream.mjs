// node stream.mjs URL SIZE: reads a stream with ws. Prints the number of messages and the close
// code.

import assert from "node:assert/strict";
import WebSocket from "ws";

const [url, size] = [process.argv[2], Number(process.argv[3])];
const client = new WebSocket(url);
let count = 0;

client.on("message", (message) => {
  const number = Number(message.readBigUInt64LE(0));
  assert.equal(number, count + 1, `message ${number} after message ${count}`);
  assert.equal(message.length, size, `message ${number} has ${message.length} bytes`);
  count = number;
});
client.on("error", (error) => console.log(`${error}`));
client.on("close", (code) => console.log(`${count} messages of ${size} bytes, close ${code}`));
