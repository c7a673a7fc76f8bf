// Chaos crashes replicas at a steady pace, with the same requests as the button. It ends when it is switched off, when
// the run is stopped, when no replica is left to crash, when the backend refuses a request, or when a promise has
// been broken.

import { Outcome } from "./crash-requests.js";

/**
 * Where the platform restarts replicas, chaos ends after this many consecutive misses, that is, attempts that find no
 * replica to crash. Where the platform does not restart replicas, chaos ends after the first miss.
 */
export const PATIENCE = 3;

export const Ended = Object.freeze({ BY_HAND: "by_hand", NOBODY: "nobody", REFUSED: "refused", LOST: "lost" });

export class Chaos {
  #timers;
  #crash;
  #canCrash;
  #hasVictim;
  #isBroken;
  #heals;
  #onChange;
  #cancel = () => {};
  #misses = 0;
  #run = 0;
  /** The requests that `#done` does not count yet. */
  #open = new Set();
  #done = 0;

  isOn = false;
  /** The time of the next crash while chaos is on, otherwise null. */
  nextAt = null;
  /** Why chaos last ended; null while chaos is on, before it has ever ended, and after a reset. */
  ended = null;

  /**
   * `crash()` returns `{outcome, request}`. `hasVictim(request)` says whether the victim of a request is known,
   * `canCrash()` whether any listed replica can crash, `isBroken()` whether a promise was broken, and `heals()`
   * whether the platform restarts replicas. `onChange()` requests a repaint.
   */
  constructor({ timers, crash, hasVictim, canCrash, isBroken, heals, onChange }) {
    this.#timers = timers;
    this.#crash = crash;
    this.#hasVictim = hasVictim;
    this.#canCrash = canCrash;
    this.#isBroken = isBroken;
    this.#heals = heals;
    this.#onChange = onChange;
  }

  /**
   * The number of crashes since chaos was last switched on. A request counts as soon as its victim is known: when
   * the answer names it, or when the list of replicas shows a loss that is attributed to the request.
   */
  get done() {
    for (const request of [...this.#open].filter((each) => this.#hasVictim(each))) {
      this.#open.delete(request);
      this.#done += 1;
    }
    return this.#done;
  }

  /** Crashes a replica every `interval` milliseconds, starting after the first interval. */
  start(interval) {
    this.#cancel();
    this.#misses = 0;
    if (!this.isOn) {
      this.#run += 1;
      this.#open.clear();
      this.#done = 0;
    }
    this.isOn = true;
    this.ended = null;
    this.#schedule(interval);
    this.#onChange();
  }

  stop(reason = Ended.BY_HAND) {
    if (!this.isOn) return;
    this.#cancel();
    this.isOn = false;
    this.nextAt = null;
    this.ended = reason;
    this.#onChange();
  }

  #schedule(interval) {
    this.nextAt = this.#timers.now() + interval;
    this.#cancel = this.#timers.after(interval, () => this.#strike(interval));
  }

  async #strike(interval) {
    if (this.#isBroken()) {
      this.stop(Ended.LOST);
      return;
    }
    this.#schedule(interval);
    const run = this.#run;
    const { outcome, request } = await this.#crash();
    if (run !== this.#run) return;
    this.#open.add(request);
    // An unanswered request may have reached a hanging replica, so it is a miss only if no listed replica can crash.
    const isMiss = outcome === Outcome.NOBODY || (outcome === Outcome.UNANSWERED && !this.#canCrash());
    this.#misses = isMiss ? this.#misses + 1 : 0;
    if (outcome === Outcome.REFUSED) this.stop(Ended.REFUSED);
    else if (this.#misses >= (this.#heals() ? PATIENCE : 1)) this.stop(Ended.NOBODY);
    this.#onChange();
  }
}
