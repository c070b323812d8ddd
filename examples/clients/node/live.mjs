// node live.mjs URL COUNT: reads messages of ws_push with ws, and closes. Prints them as a JSON
// list: texts as strings, and bytes as objects.

import WebSocket from "ws";

const [url, count] = [process.argv[2], Number(process.argv[3])];
const client = new WebSocket(url);
const messages = [];

client.on("message", (message, isBinary) => {
  messages.push(isBinary ? { bytes: message.toString() } : message.toString());
  if (messages.length === count) client.close();
});
client.on("error", (error) => console.error(`${error}`));
client.on("close", () => console.log(JSON.stringify(messages)));
