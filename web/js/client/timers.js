// The page's clock and one-shot timers. They run in a worker, because browsers limit the timers of a hidden page
// to one a second. Without workers, the page's own timers are used.

/** The clock for all parts: `now()` in milliseconds and `after(ms, run)`. */
export class PageTimers {
  #worker = null;
  #pending = new Map();
  #lastId = 0;

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

  /** Runs `run` once after `ms`; returns a function that cancels it. */
  after(ms, run) {
    this.#lastId += 1;
    const id = this.#lastId;
    const due = this.now() + ms;
    this.#pending.set(id, { run, due });
    this.#arm(id, ms);
    return () => this.#cancel(id);
  }

  #arm(id, ms) {
    if (this.#worker === null) setTimeout(() => this.#fire(id), ms);
    else this.#worker.postMessage({ id, ms });
  }

  #fire(id) {
    const timer = this.#pending.get(id);
    if (timer === undefined) return;
    this.#pending.delete(id);
    timer.run();
  }

  #cancel(id) {
    if (this.#pending.delete(id)) this.#worker?.postMessage({ id, ms: null });
  }

  #fallBack() {
    this.#worker = null;
    for (const [id, timer] of this.#pending) this.#arm(id, Math.max(0, timer.due - this.now()));
  }
}
