// The growth rate of a count: its slope over the last few seconds. The caller passes the time.

export const WINDOW_MS = 4_000;

export class Rate {
  #samples = [];

  /** The per-second growth of `total`, as of now. */
  update(now, total) {
    this.#samples.push({ now, total });
    while (this.#samples.length > 2 && now - this.#samples[1].now >= WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0];
    const elapsed = now - first.now;
    return elapsed <= 0 ? 0 : Math.max(0, ((total - first.total) * 1_000) / elapsed);
  }

  reset() {
    this.#samples = [];
  }
}
