// Owns the plain counts of a run that are no part of the proof: overload errors by cause, resends, skipped
// beats, sessions by state. Knows nothing of the wire or the page.

export class Counters {
  #overloads = new Map();
  #refusals = new Map();
  #onSession;

  resent = 0;
  skipped = 0;
  unreadable = 0;
  unvouched = 0;

  /** `onSession(user)` hears every change of a session's state. */
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

  /** [code, count], the most frequent first. */
  get overloadCauses() {
    return [...this.#overloads].sort(([, left], [, right]) => right - left);
  }

  get refusalCauses() {
    return [...this.#refusals];
  }
}
