// A phone's smiles without an ack, kept in the storage of the tab. After a reload, the page sends them again with their
// ids, so each of them is stored once.

import { parseJson } from "../client/protocol.js";

const KEPT = "smilingchat.unsent";
const FIELDS = ["id", "to", "smile"];

export class Unsent {
  #storage;
  #user;
  #smiles = [];

  /** Takes over the smiles that the storage holds for this user, and drops those of another user. */
  constructor({ storage, user }) {
    this.#storage = storage;
    this.#user = user;
    const kept = parseJson(storage.getItem(KEPT));
    const isWhole = (smile) => FIELDS.every((field) => typeof smile?.[field] === "string");
    this.#store(kept?.user === user && Array.isArray(kept.smiles) ? kept.smiles.filter(isWhole) : []);
  }

  /** Each smile is `{id, to, smile}`. */
  get all() {
    return this.#smiles;
  }

  keep(smile) {
    this.#store([...this.#smiles, smile]);
  }

  settle(id) {
    this.#store(this.#smiles.filter((smile) => smile.id !== id));
  }

  #store(smiles) {
    this.#smiles = smiles;
    this.#storage.setItem(KEPT, JSON.stringify({ user: this.#user, smiles }));
  }
}
