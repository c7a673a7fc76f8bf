// Owns what a screen reader is told: what is new, once, and not more often than one can listen. Visible texts tick on
// without being read out.

export const GAP_MS = 2_000;

export class Announcer {
  #timers;
  #say;
  #said = new Map();
  #waiting = [];
  #isResting = false;

  /** `say(text)` puts the words where screen readers notice them. */
  constructor({ timers, say }) {
    this.#timers = timers;
    this.#say = say;
  }

  /** Of each subject only a new `key` is told; what a subject wanted to tell before, and is not told yet, is dropped. */
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
