// Owns what one user's sessions have proven about that user's stream: how far it was seen, in which
// epoch, and where a gap may be. Knows nothing of who sent what; the ledger does.

const REMEMBERED_SMILES = 1_024;

/** How a stream frame fits what came before. */
export const Fit = Object.freeze({ NEXT: "next", DUPLICATED: "duplicated", REORDERED: "reordered" });

export class Stream {
  #epoch = null;
  #position = -1;
  #gaps = [];
  #leftEpochs = new Set();
  #remembered = new Set();

  get epoch() {
    return this.#epoch;
  }

  get position() {
    return this.#position;
  }

  /** A session began. True when it vouches for everything since the last one. */
  open({ epoch, offset, recovered }) {
    const first = this.#epoch === null;
    const sameLog = epoch === this.#epoch;
    if (recovered && sameLog && offset <= this.#position) return true;
    if (!first && !sameLog) {
      this.#leftEpochs.add(this.#epoch);
      this.#remembered.clear();
    }
    if (sameLog) {
      this.#gaps.push({ after: Math.min(offset, this.#position), upTo: Math.max(offset, this.#position) });
    } else {
      this.#gaps = [{ after: -1, upTo: offset }];
    }
    this.#epoch = epoch;
    this.#position = offset;
    return first;
  }

  /** A smile, or an ack that stands in for one, at this offset; `key` names the smile for good. */
  take(offset, key) {
    if (this.#remembered.has(key)) return Fit.DUPLICATED;
    this.#remember(key);
    if (offset <= this.#position) return Fit.REORDERED;
    this.#position = offset;
    return Fit.NEXT;
  }

  /** Whether a session of this user has gone past the offset, so that nothing below can still come. */
  hasPassed(epoch, offset) {
    return this.#leftEpochs.has(epoch) || (epoch === this.#epoch && offset <= this.#position);
  }

  /** Whether the offset lies where this user's sessions did not look. */
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
