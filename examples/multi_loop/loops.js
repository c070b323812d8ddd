// Shows the loops side by side, and sends the pings of this page.

import { Chart, linearMarks } from "./chart.js";
import { byId, grouped, make, setText } from "./dom.js";
import { Poll } from "./poll.js";

const INTERVAL = 500;
const PING_INTERVAL = 250;
const PING_TIME = 5000;
// A loop is marked as late if its 99th percentile of delays is more than this.
const LATE_MS = 20;

const poll = new Poll("/loops.json", () => INTERVAL);
const chart = new Chart("pings", {
  lines: [{ color: "two" }],
  unit: "milliseconds",
  format: (value) => value.toLocaleString("en", { maximumFractionDigits: 2 }),
  marks: linearMarks(4),
});
const cards = [];
let before = null;

const NAMES = ["Connections", "Tasks", "Wake-ups/s", "Delay p99"];

function newCard(number) {
  const figures = NAMES.map(() => make("dd", { textContent: "–" }));
  figures[3].className = "delay";
  const list = make("dl", {}, ...NAMES.map((name, index) => make("div", {}, make("dt", { textContent: name }), figures[index])));
  const element = make("li", {}, make("h3", { textContent: `Loop ${number}` }), list);
  byId("loops").append(element);
  byId("move-to").append(make("option", { value: number, textContent: number }));
  return { element, figures };
}

poll.addEventListener("answer", ({ detail }) => {
  const now = performance.now();
  const { loops } = detail;
  if (cards.length > loops.length) {
    // The server was restarted with fewer loops.
    byId("loops").replaceChildren();
    byId("move-to").replaceChildren();
    cards.length = 0;
  }
  while (cards.length < loops.length) cards.push(newCard(cards.length));
  for (const [number, loop] of loops.entries()) show(cards[number], loop, before?.loops[number], now - (before?.now ?? now));
  before = { now, loops };
  setText(byId("loops-note"), `${loops.length}, each on a thread`);
  setText(byId("interrupted"), grouped(detail.interrupted));
  setText(byId("parts"), grouped(detail.parts));
  setText(byId("refused-waits"), grouped(detail.refused_waits));
  setText(byId("mode"), detail.fast
    ? "With --fast the loops run the queries themselves: each query delays the clients of its loop."
    : "A query delays no loop.");
});

poll.addEventListener("lost", () => {
  setText(byId("loops-note"), "the server does not answer");
  before = null;
});

function show({ element, figures }, loop, earlier, elapsed) {
  const woken = loop.notifications - (earlier?.notifications ?? loop.notifications);
  const rate = woken >= 0 && elapsed > 0 ? grouped(Math.round((1000 * woken) / elapsed)) : "–";
  const delay = loop.delay_ms.p99;
  const texts = [grouped(loop.connections), grouped(loop.tasks), rate, `${delay.toFixed(delay < 10 ? 2 : 0)} ms`];
  texts.forEach((text, index) => setText(figures[index], text));
  element.classList.toggle("is-late", delay > LATE_MS);
}

async function ping() {
  const start = performance.now();
  let took = null;
  try {
    const answer = await fetch("/ping", { cache: "no-store", signal: AbortSignal.timeout(PING_TIME) });
    await answer.text();
    took = performance.now() - start;
  } catch {
    // No answer in time: the line has a gap.
  }
  const now = performance.now();
  chart.add(now, [took]);
  chart.draw(now);
  setText(byId("ping"), took === null ? "none" : `${took.toFixed(1)} ms`);
  setTimeout(ping, PING_INTERVAL);
}

export function startLoops() {
  poll.start();
  ping();
}
