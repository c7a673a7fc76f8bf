// Owns asking for the replicas again and again, and since when nobody answers. Knows nothing of how they
// are shown.

export const WATCH_MS = 1_000;
export const HIDDEN_WATCH_MS = 5_000;

export class ReplicaWatch {
  #backend;
  #timers;
  #isHidden;
  #onChange;
  #onReturn;
  #cancel = () => {};
  #isAsking = false;

  replicas = [];
  self = null;
  /** The time the first of the failures in a row began, or null while the backend answers. */
  unreachableSince = null;
  hasAnswered = false;

  /** `onChange()` follows every answer or failure; `onReturn()` the first answer after failures. */
  constructor({ backend, timers, isHidden, onChange, onReturn }) {
    this.#backend = backend;
    this.#timers = timers;
    this.#isHidden = isHidden;
    this.#onChange = onChange;
    this.#onReturn = onReturn;
  }

  /** Asks now, and from then on by itself. Answers come one at a time, so they cannot overtake. */
  async ask() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#cancel();
    const askedAt = this.#timers.now();
    try {
      const { replicas, self } = await this.#backend.replicas();
      this.#answered(replicas, self ?? null);
    } catch {
      this.unreachableSince ??= askedAt;
    }
    this.#isAsking = false;
    this.#onChange();
    const wait = this.#isHidden() ? HIDDEN_WATCH_MS : WATCH_MS;
    this.#cancel = this.#timers.after(wait, () => this.ask());
  }

  #answered(replicas, self) {
    const returned = this.unreachableSince !== null;
    this.replicas = replicas;
    this.self = self;
    this.unreachableSince = null;
    this.hasAnswered = true;
    if (returned) this.#onReturn();
  }
}
