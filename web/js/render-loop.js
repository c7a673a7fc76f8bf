// Schedules requested paints for the browser's frames, with a gap of at least `FRAME_GAP_MS` between two paints. A
// hidden tab gets no frames, so a timer triggers its paints.

export const FRAME_GAP_MS = 80;
/** The gap is at least this many times as long as the last paint, so a slow machine stays responsive. */
export const GAP_PER_COST = 2;
/** A paint whose frame does not come within this time starts without a frame. */
export const NO_FRAME_MS = 500;

/** A frame slower than the first limit visibly stutters; a frame faster than the second has room for more items. */
const SLOW_FRAME_MS = 20;
const QUICK_FRAME_MS = 8;

/**
 * How many items to paint in the next frame, at most `most`. The last frame painted `share` items in `cost`
 * milliseconds.
 */
export function shareAfter(share, cost, most) {
  if (cost > SLOW_FRAME_MS) return Math.max(1, share - 1);
  return cost < QUICK_FRAME_MS ? Math.min(most, share + 1) : share;
}

export class RenderLoop {
  #timers;
  #requestFrame;
  #afterFrame;
  #paint;
  #paintMore;
  #pending = false;
  #hasMore = false;
  #paintedAt = -Infinity;
  #cost = 0;
  #frameCost = 0;
  #cancelTimer = () => {};
  #cancelFrame = () => {};

  /**
   * `requestFrame(run)` calls `run` in the next frame, and returns a function that cancels the call. `afterFrame(run)`
   * calls `run` once the frame is on its way to the screen. `paint()` returns whether it left something for the next
   * frames. `paintMore(cost)` paints a part of the remainder, and returns whether anything is left; the previous frame
   * took `cost` milliseconds.
   */
  constructor({ timers, requestFrame, afterFrame, paint, paintMore }) {
    this.#timers = timers;
    this.#requestFrame = requestFrame;
    this.#afterFrame = afterFrame;
    this.#paint = paint;
    this.#paintMore = paintMore;
  }

  /** All requests before the next paint share it. */
  request() {
    if (this.#pending) return;
    this.#pending = true;
    this.#schedule();
  }

  #schedule() {
    const wait = this.#paintedAt + Math.max(FRAME_GAP_MS, GAP_PER_COST * this.#cost) - this.#timers.now();
    if (wait > 0) {
      this.#cancelTimer = this.#timers.after(wait, () => this.#schedule());
      return;
    }
    this.#cancelTimer = this.#timers.after(NO_FRAME_MS, () => this.flush());
    this.#cancelFrame = this.#requestFrame(() => this.flush());
  }

  flush() {
    this.#cancelTimer();
    this.#cancelFrame();
    this.#pending = false;
    this.#cost = 0;
    this.#frame(this.#paint);
  }

  #frame(paint) {
    const began = this.#timers.now();
    this.#paintedAt = began;
    if (paint(this.#frameCost)) this.#continue();
    this.#afterFrame(() => {
      this.#paintedAt = this.#timers.now();
      this.#frameCost = this.#paintedAt - began;
      this.#cost += this.#frameCost;
    });
  }

  #continue() {
    if (this.#hasMore) return;
    this.#hasMore = true;
    this.#requestFrame(() => {
      this.#hasMore = false;
      this.#frame(this.#paintMore);
    });
  }
}
