// The colours of the replicas. A new replica gets the colour that has been unused the longest, so it shares a colour
// only when all colours are in use. Colours are not the only sign of a replica: its card and live users show its id,
// and its lane shows the id, or only the end of a long id.

export const HUES = 8;

export class Hues {
  #hues = new Map();
  /** All colours, the longest unused first. */
  #order = [...Array(HUES).keys()];

  /** The number of the replica's colour; an empty string if there is no replica. */
  of(replica) {
    if (replica === null) return "";
    const hue = this.#hues.get(replica) ?? this.#order[0];
    this.#hues.set(replica, hue);
    this.#order = [...this.#order.filter((other) => other !== hue), hue];
    return hue;
  }
}
