// Chaos on the page: whether it is on, its number of crashes, and why it ended.

import { byId, setText } from "./dom.js";

export class ChaosView {
  #translate;
  #format;
  #switch = byId("chaos");
  #said = byId("chaos-said");

  constructor({ translate, format }) {
    this.#translate = translate;
    this.#format = format;
  }

  paint({ chaos, now }) {
    if (this.#switch.checked !== chaos.isOn) this.#switch.checked = chaos.isOn;
    this.#said.hidden = !chaos.isOn && chaos.ended === null;
    if (chaos.isOn) {
      const age = this.#format.duration(Math.max(0, chaos.nextAt - now) + 999);
      setText(this.#said, this.#translate("chaos.on", { n: chaos.done, age }));
    } else if (chaos.ended !== null) {
      setText(this.#said, this.#translate(`chaos.ended.${chaos.ended}`, { n: chaos.done }));
    }
  }
}
