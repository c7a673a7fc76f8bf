// The counters of a run that are not part of the proof: overload errors and refusals by cause, resends, skipped beats,
// unreadable frames and resumes with a gap. Also the rate at which a count grows.

/** Each cause is [code, count]. */
export function causesText({ translate, format }, causes) {
  if (causes.length === 0) return translate("cause.none");
  return causes.map(([code, n]) => translate(`cause.${code}`, { n: format.count(n) })).join(" · ");
}

export class Counters {
  #overloads = new Map();
  #refusals = new Map();
  #onSession;

  resent = 0;
  skipped = 0;
  unreadable = 0;
  unvouched = 0;

  constructor({ onSession = () => {} } = {}) {
    this.#onSession = onSession;
  }

  sessionChanged(user) {
    this.#onSession(user);
  }

  overloaded(code) {
    this.#overloads.set(code, (this.#overloads.get(code) ?? 0) + 1);
  }

  refused(code) {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
  }

  get overloadErrors() {
    return [...this.#overloads.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The causes as [code, count], most frequent first. */
  get overloadCauses() {
    return [...this.#overloads].sort(([, left], [, right]) => right - left);
  }

  get refusalCauses() {
    return [...this.#refusals];
  }
}

/**
 * The minimum time over which a rate is averaged; the actual time is at most one sampling interval longer. At first, a
 * rate is averaged over the time since the first sample.
 */
const WINDOW_MS = 4_000;

export class Rate {
  #samples = [];

  /** Records `total` at the time `now`, in milliseconds. Returns its mean growth per second, at least 0. */
  update(now, total) {
    this.#samples.push({ now, total });
    while (this.#samples.length > 2 && now - this.#samples[1].now >= WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0];
    const elapsed = now - first.now;
    return elapsed <= 0 ? 0 : Math.max(0, ((total - first.total) * 1_000) / elapsed);
  }
}
