// Owns asking for the replicas again and again, and since when nobody answers. Knows nothing of how they
// are shown.

export const WATCH_MS = 1_000;
export const HIDDEN_WATCH_MS = 5_000;

export class ReplicaWatch {
  #backend;
  #timers;
  #isHidden;
  #onAnswer;
  #onChange;
  #onReturn;
  #cancel = () => {};
  #isAsking = false;

  replicas = [];
  self = null;
  /** The time the first of the failures in a row began, or null while the backend answers. */
  unreachableSince = null;
  /** The same for failures in which no backend spoke at all. */
  silentSince = null;
  hasAnswered = false;

  /**
   * `onAnswer(answer)` comes with every answer, `onChange()` follows every answer or failure, and `onReturn()` the
   * first answer after failures.
   */
  constructor({ backend, timers, isHidden, onAnswer, onChange, onReturn }) {
    this.#backend = backend;
    this.#timers = timers;
    this.#isHidden = isHidden;
    this.#onAnswer = onAnswer;
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
      this.#answered(await this.#backend.replicas());
    } catch (error) {
      this.unreachableSince ??= askedAt;
      this.silentSince = error.isSilence ? (this.silentSince ?? askedAt) : null;
    }
    this.#isAsking = false;
    this.#onChange();
    const wait = this.#isHidden() ? HIDDEN_WATCH_MS : WATCH_MS;
    this.#cancel = this.#timers.after(wait, () => this.ask());
  }

  #answered(answer) {
    const returned = this.unreachableSince !== null;
    this.replicas = answer.replicas;
    this.self = answer.self ?? null;
    this.unreachableSince = null;
    this.silentSince = null;
    this.hasAnswered = true;
    this.#onAnswer(answer);
    if (returned) this.#onReturn();
  }
}
