// The paint schedule: at the browser's next frame, a few times a second, or by a timer in a hidden tab, which
// gets no frames.

export const FRAME_GAP_MS = 80;
/** The gap is at least this many times what the last frame took: a slow machine paints less often, and stays responsive. */
export const GAP_PER_COST = 2;
export const NO_FRAME_MS = 500;

export class RenderLoop {
  #timers;
  #requestFrame;
  #afterFrame;
  #paint;
  #pending = false;
  #generation = 0;
  #paintedAt = -Infinity;
  #gap = FRAME_GAP_MS;
  #cancelTimer = () => {};

  /** `afterFrame(run)` runs after what a frame painted is on its way to the screen. */
  constructor({ timers, requestFrame, afterFrame, paint }) {
    this.#timers = timers;
    this.#requestFrame = requestFrame;
    this.#afterFrame = afterFrame;
    this.#paint = paint;
  }

  /** Requests a paint; several requests share one. */
  request() {
    if (this.#pending) return;
    this.#pending = true;
    this.#generation += 1;
    const generation = this.#generation;
    const paintOnce = () => {
      if (!this.#pending || generation !== this.#generation) return;
      const began = this.#timers.now();
      this.flush();
      this.#afterFrame(() => this.#took(this.#timers.now() - began));
    };
    const gap = Math.max(0, this.#paintedAt + this.#gap - this.#timers.now());
    this.#cancelTimer = this.#timers.after(gap, () => {
      this.#cancelTimer = this.#timers.after(NO_FRAME_MS, paintOnce);
      this.#requestFrame(paintOnce);
    });
  }

  #took(cost) {
    this.#paintedAt = this.#timers.now();
    this.#gap = Math.max(FRAME_GAP_MS, GAP_PER_COST * cost);
  }

  /** Paints now. */
  flush() {
    this.#cancelTimer();
    this.#pending = false;
    this.#paintedAt = this.#timers.now();
    this.#paint();
  }
}
