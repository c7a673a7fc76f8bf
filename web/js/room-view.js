// The last smiles from people to simulated users. With their styles, they take the tagline's place, so nothing moves.

import { byId, element } from "./dom.js";

export class RoomView {
  #list = element("ul");
  #box;
  #drawn = [];

  constructor({ translate }) {
    const title = element("span", "", translate("room.title"));
    title.id = "room-title";
    this.#list.setAttribute("aria-labelledby", title.id);
    this.#box = element("div", "room", title, this.#list);
    this.#box.hidden = true;
    byId("tagline").append(this.#box);
  }

  /** `room` has the smiles, newest first. */
  paint(room) {
    if (room === this.#drawn) return;
    this.#drawn = room;
    this.#box.hidden = room.length === 0;
    this.#list.replaceChildren(...room.map(({ from, smile }) => element("li", "", `${smile} ${from}`)));
  }
}
