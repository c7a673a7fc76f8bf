// The paint schedule: at the browser's next frame, a few times a second, or by a timer in a hidden tab, which
// gets no frames.

export const FRAME_GAP_MS = 80;
export const NO_FRAME_MS = 500;

export class RenderLoop {
  #timers;
  #requestFrame;
  #paint;
  #pending = false;
  #generation = 0;
  #paintedAt = -Infinity;
  #cancelTimer = () => {};

  constructor({ timers, requestFrame, paint }) {
    this.#timers = timers;
    this.#requestFrame = requestFrame;
    this.#paint = paint;
  }

  /** Requests a paint; several requests share one. */
  request() {
    if (this.#pending) return;
    this.#pending = true;
    this.#generation += 1;
    const generation = this.#generation;
    const paintOnce = () => {
      if (this.#pending && generation === this.#generation) this.flush();
    };
    const gap = Math.max(0, this.#paintedAt + FRAME_GAP_MS - this.#timers.now());
    this.#cancelTimer = this.#timers.after(gap, () => {
      this.#cancelTimer = this.#timers.after(NO_FRAME_MS, paintOnce);
      this.#requestFrame(paintOnce);
    });
  }

  /** Paints now. */
  flush() {
    this.#cancelTimer();
    this.#pending = false;
    this.#paintedAt = this.#timers.now();
    this.#paint();
  }
}
