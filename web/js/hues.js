// The colours of the replicas: the next free one in the order of appearance. Colours repeat only when all are in use;
// the page always shows the name as well.

export const HUES = 8;

export class Hues {
  #hues = new Map();

  /** The number of the replica's colour; none without a replica. */
  of(replica) {
    if (replica === null) return "";
    if (!this.#hues.has(replica)) this.#hues.set(replica, this.#hues.size % HUES);
    return this.#hues.get(replica);
  }
}
