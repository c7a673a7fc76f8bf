// Chaos: crashes replicas at a steady pace until it is switched off, no replica is left, or a smile was lost. Uses the
// same requests as a user.

import { Outcome } from "./crash-control.js";

/** Consecutive attempts without a replica, after which chaos ends even if the platform restarts replicas. */
export const PATIENCE = 3;

export const Ended = Object.freeze({ BY_HAND: "by_hand", NOBODY: "nobody", REFUSED: "refused", LOST: "lost" });

export class Chaos {
  #timers;
  #crash;
  #isBroken;
  #heals;
  #onChange;
  #cancel = () => {};
  #misses = 0;
  #run = 0;

  isOn = false;
  done = 0;
  /** The time of the next crash, while it is on. */
  nextAt = null;
  /** Why it ended; null if it never has. */
  ended = null;

  /**
   * `crash()` returns the outcome, `isBroken()` whether a promise was broken, `heals()` whether the platform restarts
   * replicas. `onChange()` requests a repaint.
   */
  constructor({ timers, crash, isBroken, heals, onChange }) {
    this.#timers = timers;
    this.#crash = crash;
    this.#isBroken = isBroken;
    this.#heals = heals;
    this.#onChange = onChange;
  }

  /** Crashes a replica every `interval` milliseconds, starting after the first interval. */
  start(interval) {
    this.#cancel();
    this.#run += 1;
    this.#misses = 0;
    if (!this.isOn) this.done = 0;
    this.isOn = true;
    this.ended = null;
    this.#schedule(interval);
    this.#onChange();
  }

  stop(reason = Ended.BY_HAND) {
    if (!this.isOn) return;
    this.#cancel();
    this.#run += 1;
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
    const outcome = await this.#crash();
    if (run !== this.#run) return;
    if (outcome === Outcome.CRASHED) this.done += 1;
    this.#misses = outcome === Outcome.CRASHED ? 0 : this.#misses + 1;
    if (outcome === Outcome.REFUSED) this.stop(Ended.REFUSED);
    else if (this.#misses >= (this.#heals() ? PATIENCE : 1)) this.stop(Ended.NOBODY);
    this.#onChange();
  }
}
