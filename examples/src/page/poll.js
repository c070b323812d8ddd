// Asks the server for JSON again and again, and notices when it does not answer.

import { retryDelay } from "./reconnect.js";

// A server that has not answered for this long counts as lost.
const ANSWER_TIME = 1000;
const RETRY_FIRST = 250;
const RETRY_MAX = 2000;

/// Events: `answer` (the JSON), `lost` (the server does not answer any more), `back` (it does again).
export class Poll extends EventTarget {
  #path;
  #interval;
  #timer;
  #isAsking = false;
  #failures = 0;
  #due = 0;

  /// `interval()`: milliseconds from one request to the next while the server answers.
  constructor(path, interval) {
    super();
    this.#path = path;
    this.#interval = interval;
  }

  start() {
    this.#due = performance.now();
    this.#ask();
  }

  /// Whether the server has answered the last request.
  get answers() {
    return this.#failures === 0;
  }

  /// Asks now: there is reason to think that the server has gone.
  askNow() {
    if (this.#isAsking || !this.answers) return;
    clearTimeout(this.#timer);
    this.start();
  }

  async #ask() {
    const start = performance.now();
    this.#isAsking = true;
    let json = null;
    try {
      const answer = await fetch(this.#path, { signal: AbortSignal.timeout(ANSWER_TIME) });
      if (answer.ok) json = await answer.json();
    } catch {
      // Not reachable, or too late.
    }
    this.#isAsking = false;
    this.#note(json);
    const pause = this.answers ? this.#interval() : retryDelay(this.#failures, RETRY_FIRST, RETRY_MAX);
    // Counted from when this one was due, so that late timers do not add up.
    this.#due = Math.max(this.#due, start - pause) + pause;
    this.#timer = setTimeout(() => this.#ask(), Math.max(0, this.#due - performance.now()));
  }

  #note(json) {
    const answered = this.answers;
    this.#failures = json ? 0 : this.#failures + 1;
    if (json) this.dispatchEvent(new CustomEvent("answer", { detail: json }));
    if (answered !== this.answers) this.dispatchEvent(new Event(json ? "back" : "lost"));
  }
}
