// The schedule of beats. Beats are counted from a fixed time, not from the previous wake-up, so the pace neither
// drifts nor slows down when the server sheds smiles. The caller passes the time.

/** The default pace: five beats a second for each conversation. */
export const BEAT_MS = 200;

// Multiples of the golden ratio spread any number of conversations over the beat.
const GOLDEN_RATIO = 0.618033988749895;

/** The delay of this conversation within the beat, in milliseconds, at least 0 and below `beat`. */
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

  /** The number of beats skipped because `take` was called too late, for example after the machine slept. */
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

  /** The indexes of the conversations that are due, each at most once: missed beats are skipped. */
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

  next() {
    return this.#due.size === 0 ? null : Math.min(...this.#due.values());
  }

  #firstAfter(due, now) {
    if (due > now) return due;
    return due + (Math.floor((now - due) / this.#beat) + 1) * this.#beat;
  }
}
