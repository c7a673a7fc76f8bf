// The announcements for screen readers: each event once, at a pace that a listener can follow. Counters on the page are
// not announced.

export const GAP_MS = 2_000;

export class Announcer {
  #timers;
  #say;
  #said = new Map();
  #waiting = [];
  #isResting = false;

  /** `say(text)` writes into the live region. */
  constructor({ timers, say }) {
    this.#timers = timers;
    this.#say = say;
  }

  /** Announces a subject only when its `key` changes; a newer text replaces an unspoken one of the same subject. */
  tell(subject, key, text) {
    if (this.#said.get(subject) === key) return;
    this.#said.set(subject, key);
    this.#waiting = this.#waiting.filter((other) => other.subject !== subject);
    if (text !== "") this.#waiting.push({ subject, text });
    if (!this.#isResting) this.#next();
  }

  #next() {
    const first = this.#waiting.shift();
    this.#isResting = first !== undefined;
    if (first === undefined) return;
    this.#say(first.text);
    this.#timers.after(GAP_MS, () => this.#next());
  }
}
