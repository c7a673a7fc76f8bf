// The crashes on the page: the steps of the last crash, and a table of all crashes with the best, median and worst
// times.

import { lastOf } from "./crashes.js";
import { byId, element } from "./dom.js";

export class CrashesView {
  #words;
  #panel = byId("incident-panel");
  #steps = byId("incident");
  #body = byId("crashes-body");
  #foot = byId("crashes-foot");
  #drawn = null;

  constructor({ words }) {
    this.#words = words;
  }

  paint(crashes) {
    if (crashes.incidents === this.#drawn) return;
    this.#drawn = crashes.incidents;
    const last = lastOf(crashes);
    this.#panel.hidden = last === null;
    if (last === null) return;
    this.#steps.replaceChildren(...this.#words.stepsOf(last).map(step));
    this.#body.replaceChildren(...this.#words.rowsOf(crashes.incidents).map((cells) => element("tr", "", ...cells.map(cell))));
    this.#foot.replaceChildren(...this.#words.figuresOf(crashes.incidents).map(figures));
  }
}

function step([time, text]) {
  return element("li", "", element("span", "time", time), element("span", "", text));
}

function figures([name, seen, resumed, replaced]) {
  const head = element("th", "", name);
  head.colSpan = 4;
  head.scope = "row";
  return element("tr", "", head, ...[seen, "", resumed, replaced].map(cell));
}

function cell(text) {
  return element("td", "", text);
}
