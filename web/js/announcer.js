// Announces events to screen readers, each at most once, at a pace that a listener can follow.

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

  /**
   * Announces `text` if `key` differs from the last key of the same subject. A newer text replaces a pending one of the
   * same subject; an empty text only removes the pending one.
   */
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
