// The page's clock and one-shot timers. The timers run in a worker, because browsers let a hidden page's own timers
// fire at most once a second. Without workers, or if the worker fails, the page's own timers are used.

/** Timers due within the same slot share a wake-up: the messages of a wake-up can cost more than the timers' work. */
export const SLOT_MS = 10;

/** The clock for all parts of the page: `now()` in milliseconds and `after(ms, run)`. */
export class PageTimers {
  #worker = null;
  #slots = new Map();

  constructor() {
    try {
      this.#worker = new Worker(new URL("timer-worker.js", import.meta.url), { type: "module" });
    } catch {
      return;
    }
    this.#worker.addEventListener("message", (event) => this.#fire(event.data));
    this.#worker.addEventListener("error", () => this.#fallBack());
  }

  now() {
    return performance.now();
  }

  /** Runs `run` once, after `ms` milliseconds or up to one slot later. Returns a function that cancels the timer. */
  after(ms, run) {
    const slot = Math.ceil((this.now() + ms) / SLOT_MS);
    if (!this.#slots.has(slot)) {
      this.#slots.set(slot, { timers: new Set(), timeout: null });
      this.#arm(slot);
    }
    const armed = this.#slots.get(slot);
    const timer = { run };
    armed.timers.add(timer);
    return () => {
      armed.timers.delete(timer);
      if (armed.timers.size === 0 && this.#slots.get(slot) === armed) this.#disarm(slot);
    };
  }

  #arm(slot) {
    const ms = Math.max(0, Math.ceil(slot * SLOT_MS - this.now()));
    if (this.#worker === null) this.#slots.get(slot).timeout = setTimeout(() => this.#fire(slot), ms);
    else this.#worker.postMessage({ slot, ms });
  }

  // A timeout would keep Node.js running. The worker still posts the slot, to no effect.
  #disarm(slot) {
    clearTimeout(this.#slots.get(slot).timeout);
    this.#slots.delete(slot);
  }

  // Each timer runs in its own microtask, so one that throws does not stop the other timers of its slot.
  #fire(slot) {
    const timers = this.#slots.get(slot)?.timers ?? [];
    this.#slots.delete(slot);
    for (const timer of timers) {
      queueMicrotask(() => {
        if (timers.delete(timer)) timer.run();
      });
    }
  }

  #fallBack() {
    this.#worker = null;
    for (const slot of this.#slots.keys()) this.#arm(slot);
  }
}
