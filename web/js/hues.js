// Owns which replica has which colour: the next free one, in the order in which replicas are first seen. A colour is
// taken again only when all are; names are beside it everywhere.

export const HUES = 8;

export class Hues {
  #hues = new Map();

  /** The number of the replica's colour; none for no replica. */
  of(replica) {
    if (replica === null) return "";
    if (!this.#hues.has(replica)) this.#hues.set(replica, this.#hues.size % HUES);
    return this.#hues.get(replica);
  }
}
