// Polls the list of replicas, and tracks how long no backend has answered.

import { REQUEST_LIMIT_MS } from "./backend.js";

/** The usual pause between two polls. */
export const WATCH_MS = 1_000;
/** The pauses after a successful poll, on an idle page and on a hidden one. */
export const IDLE_WATCH_MS = 4_000;
export const HIDDEN_WATCH_MS = 10_000;
/** The pause after a timeout: the next request may reach a replica other than the hanging one. */
export const TIMED_OUT_WATCH_MS = 100;
/**
 * The maximum of the random pause after a rate-limit refusal; the minimum is half of it. The server's hint overrides a
 * shorter pause. The maximum doubles with each further refusal, up to the cap.
 */
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
  #wasUnreachable = false;

  replicas = [];
  self = null;
  answeredAt = null;
  /** When the first of the consecutive failed requests began; null after a list or a rate-limit refusal. */
  unreachableSince = null;
  /** When the current series of requests without a backend's answer began; null if a backend answered the last one. */
  silentSince = null;
  /** The end of a rate-limit pause, or null. */
  quietUntil = null;

  /**
   * Calls `onAnswer(answer)` for every list of replicas, `onReturn()` for the first list after failures other than
   * rate-limit refusals, and `onChange(error)` after every request; `error` is null after a list.
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

  /**
   * Polls now, and keeps polling; does nothing while a rate limit pauses the polls. At most one request is open, so
   * answers stay in order.
   */
  async ask() {
    if (this.quietUntil === null || this.#timers.now() >= this.quietUntil) await this.#ask();
  }

  // A scheduled poll runs even before `quietUntil`, since its timer may fire a little early.
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
    this.replicas = answer.replicas;
    this.self = answer.self ?? null;
    this.answeredAt = this.#timers.now();
    this.unreachableSince = null;
    this.silentSince = null;
    this.#refusals = 0;
    this.#onAnswer(answer);
    if (this.#wasUnreachable) this.#onReturn();
    this.#wasUnreachable = false;
    return null;
  }

  // A backend that refuses a request because of a rate limit is up, so it does not count as unreachable.
  #failed(error, askedAt) {
    this.#refusals = error.isTooOften ? this.#refusals + 1 : 0;
    this.unreachableSince = error.isTooOften ? null : (this.unreachableSince ?? askedAt);
    this.#wasUnreachable ||= !error.isTooOften;
    this.silentSince = error.isSilence ? (this.silentSince ?? askedAt) : null;
    return error;
  }
}
