// Owns asking for the replicas again and again, how often, and since when nobody answers. Knows nothing of how they
// are shown.

import { REQUEST_LIMIT_MS } from "./backend.js";

/** From one answer to the next question while something is going on. */
export const WATCH_MS = 1_000;
/** The same while nothing is, and while nobody looks. */
export const IDLE_WATCH_MS = 4_000;
export const HIDDEN_WATCH_MS = 10_000;
/** After a question that timed out: a hung replica has it, and the next one may reach another. */
export const TIMED_OUT_WATCH_MS = 100;
/** After a refusal for asking too often, doubled with each further one. */
export const TOO_OFTEN_WATCH_MS = 2_000;
export const TOO_OFTEN_CAP_MS = 30_000;

export class ReplicaWatch {
  #backend;
  #timers;
  #random;
  #isHidden;
  #isIdle;
  #onAnswer;
  #onChange;
  #onReturn;
  #cancel = () => {};
  #isAsking = false;
  #refusals = 0;

  replicas = [];
  self = null;
  answeredAt = null;
  /** The time the first of the failures in a row began, or null while the backend answers. */
  unreachableSince = null;
  /** The same for failures in which no backend spoke at all. */
  silentSince = null;
  /** Until when this address was asked to be quiet; null when it was not. */
  quietUntil = null;

  /**
   * `onAnswer(answer)` comes with every answer, `onChange(error)` follows every answer, with null, and every failure,
   * and `onReturn()` the first answer after failures.
   */
  constructor({ backend, timers, random, isHidden, isIdle, onAnswer, onChange, onReturn }) {
    this.#backend = backend;
    this.#timers = timers;
    this.#random = random;
    this.#isHidden = isHidden;
    this.#isIdle = isIdle;
    this.#onAnswer = onAnswer;
    this.#onChange = onChange;
    this.#onReturn = onReturn;
  }

  get hasAnswered() {
    return this.answeredAt !== null;
  }

  /** Asks now, unless the backend wants quiet, and from then on by itself. One at a time: answers cannot overtake. */
  async ask() {
    if (this.quietUntil === null || this.#timers.now() >= this.quietUntil) await this.#ask();
  }

  // What the watch itself has due is asked whatever the clock says: a timer may fire a little early.
  async #ask() {
    if (this.#isAsking) return;
    const askedAt = this.#timers.now();
    this.#isAsking = true;
    this.#cancel();
    const error = await this.#backend.replicas().then(
      (answer) => this.#answered(answer),
      (failure) => this.#failed(failure, askedAt),
    );
    this.#isAsking = false;
    const wait = this.#waitAfter(error, this.#timers.now() - askedAt);
    this.quietUntil = error?.isTooOften ? this.#timers.now() + wait : null;
    this.#cancel = this.#timers.after(wait, () => this.#ask());
    this.#onChange(error);
  }

  #waitAfter(error, took) {
    if (error?.isTooOften) {
      const backoff = Math.min(TOO_OFTEN_CAP_MS, TOO_OFTEN_WATCH_MS * 2 ** (this.#refusals - 1));
      return Math.max(error.retryAfter, backoff * (1 + this.#random()) / 2);
    }
    if (error !== null) return took >= REQUEST_LIMIT_MS ? TIMED_OUT_WATCH_MS : WATCH_MS;
    if (this.#isHidden()) return HIDDEN_WATCH_MS;
    return this.#isIdle() ? IDLE_WATCH_MS : WATCH_MS;
  }

  #answered(answer) {
    const returned = this.unreachableSince !== null;
    this.replicas = answer.replicas;
    this.self = answer.self ?? null;
    this.answeredAt = this.#timers.now();
    this.unreachableSince = null;
    this.silentSince = null;
    this.#refusals = 0;
    this.#onAnswer(answer);
    if (returned) this.#onReturn();
    return null;
  }

  // Who refuses because of too many questions is there: nothing is said about the service.
  #failed(error, askedAt) {
    this.#refusals = error.isTooOften ? this.#refusals + 1 : 0;
    this.unreachableSince = error.isTooOften ? null : (this.unreachableSince ?? askedAt);
    this.silentSince = error.isSilence ? (this.silentSince ?? askedAt) : null;
    return error;
  }
}
