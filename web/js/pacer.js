// Owns when a conversation's beat is due. Beats are reckoned from the conversation's start, never from
// the previous wake-up, so the pace does not drift and does not slow down when the server sheds.
// Knows no timer: it is told the time.

/** Five smiles a second, unless another pace is chosen. */
export const BEAT_MS = 200;

// Successive multiples of the golden ratio fill the beat evenly however many conversations run, so
// that they do not burst together.
const GOLDEN_RATIO = 0.618033988749895;

/** How far into the beat the conversation of this index speaks, from 0 to below `beat`. */
export function phase(index, beat = BEAT_MS) {
  return ((index * GOLDEN_RATIO) % 1) * beat;
}

export class Pacer {
  #beat;
  #origin = null;
  #due = new Map();
  #missed = 0;

  constructor({ beat = BEAT_MS } = {}) {
    this.#beat = beat;
  }

  /** Beats that were never given because the machine or the browser slept through them. */
  get missed() {
    return this.#missed;
  }

  add(index, now) {
    this.#origin ??= now;
    this.#due.set(index, this.#firstAfter(this.#origin + phase(index, this.#beat), now));
  }

  remove(index) {
    this.#due.delete(index);
  }

  /** The indexes that are due, each at most once: beats slept through are skipped, not made up for. */
  take(now) {
    const indexes = [];
    for (const [index, due] of this.#due) {
      if (due > now) continue;
      indexes.push(index);
      const next = this.#firstAfter(due, now);
      this.#missed += Math.round((next - due) / this.#beat) - 1;
      this.#due.set(index, next);
    }
    return indexes;
  }

  /** The time of the next beat, or null when there is none. */
  next() {
    return this.#due.size === 0 ? null : Math.min(...this.#due.values());
  }

  #firstAfter(due, now) {
    if (due > now) return due;
    return due + (Math.floor((now - due) / this.#beat) + 1) * this.#beat;
  }
}
