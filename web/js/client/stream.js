// The part of a user's stream that the user's sessions have seen: the epoch, the offset reached, and the gaps in that
// epoch.

/** How many smiles are remembered. A duplicate of an older smile counts as reordered. */
const REMEMBERED_SMILES = 1_024;

/** How a frame relates to the frames before it. */
export const Fit = Object.freeze({ NEXT: "next", DUPLICATED: "duplicated", REORDERED: "reordered" });

export class Stream {
  #epoch = null;
  #offset = -1;
  #gaps = [];
  #leftEpochs = new Set();
  #remembered = new Set();

  get epoch() {
    return this.#epoch;
  }

  get offset() {
    return this.#offset;
  }

  /** Records a new session. Returns false if smiles may be missing between the previous session and this one. */
  open({ epoch, offset, recovered }) {
    const first = this.#epoch === null;
    const sameLog = epoch === this.#epoch;
    if (recovered && sameLog && offset <= this.#offset) return true;
    if (!first && !sameLog) {
      this.#leftEpochs.add(this.#epoch);
      this.#remembered.clear();
    }
    if (sameLog) {
      this.#gaps.push({ after: Math.min(offset, this.#offset), upTo: Math.max(offset, this.#offset) });
    } else {
      this.#gaps = [{ after: -1, upTo: offset }];
    }
    this.#epoch = epoch;
    this.#offset = offset;
    return first;
  }

  /** Records a smile, or its ack, at this offset; `key` identifies the smile. Returns a `Fit`. */
  take(offset, key) {
    if (this.#remembered.has(key)) return Fit.DUPLICATED;
    this.#remember(key);
    if (offset <= this.#offset) return Fit.REORDERED;
    this.#offset = offset;
    return Fit.NEXT;
  }

  /** Whether the stream has passed the offset, so that a smile at this offset can no longer arrive in order. */
  hasPassed(epoch, offset) {
    return this.#leftEpochs.has(epoch) || (epoch === this.#epoch && offset <= this.#offset);
  }

  /** Whether a delivery at the offset cannot be proven: the offset is in a gap or belongs to another epoch. */
  isUnproven(epoch, offset) {
    if (epoch !== this.#epoch) return true;
    return this.#gaps.some((gap) => offset > gap.after && offset <= gap.upTo);
  }

  #remember(key) {
    this.#remembered.add(key);
    if (this.#remembered.size <= REMEMBERED_SMILES) return;
    const [oldest] = this.#remembered;
    this.#remembered.delete(oldest);
  }
}
