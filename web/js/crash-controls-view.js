// Shows the state of the crash controls on the page: chaos with its number of crashes, the form for the token, and why
// the last crash request failed.

import { By } from "./crashes.js";
import { byId, setText } from "./dom.js";

export class CrashControlsView {
  #translate;
  #format;
  #switch = byId("chaos");
  #said = byId("chaos-said");
  #tokenRow = byId("crash-token-row");
  #token = byId("crash-token");
  #error = byId("crash-error");

  constructor({ translate, format, onToken }) {
    this.#translate = translate;
    this.#format = format;
    this.#tokenRow.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.#token.value.trim();
      this.#token.value = "";
      if (token !== "") onToken(token);
    });
  }

  paint({ chaos, crashRequests, now }) {
    this.#paintChaos(chaos, now);
    const { waiting, failure } = crashRequests;
    const isNew = waiting !== null && this.#tokenRow.hidden;
    this.#tokenRow.hidden = waiting === null;
    // A crash request by chaos does not move the focus.
    if (isNew && waiting.by === By.PERSON) this.#token.focus();
    this.#error.hidden = failure === null;
    setText(this.#error, failure === null ? "" : this.#translate(failure.key, failure.values));
  }

  #paintChaos(chaos, now) {
    if (this.#switch.checked !== chaos.isOn) this.#switch.checked = chaos.isOn;
    this.#said.hidden = !chaos.isOn && chaos.ended === null;
    if (chaos.isOn) {
      const age = this.#format.duration(Math.max(0, chaos.nextAt - now) + 999);
      setText(this.#said, this.#translate("chaos.on", { n: chaos.done, age }));
    } else {
      const text = chaos.ended === null ? "" : this.#translate(`chaos.ended.${chaos.ended}`, { n: chaos.done });
      setText(this.#said, text);
    }
  }
}
