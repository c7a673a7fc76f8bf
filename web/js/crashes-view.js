// The crashes on the page: the steps of the last crash, and a table of the newest crashes with the best, median and
// worst times of all crashes.

import { CrashWords } from "./crash-words.js";
import { lastOf } from "./crashes.js";
import { byId, element } from "./dom.js";

// After hours of chaos, a table of all crashes would take too long to draw.
const MOST_ROWS = 50;
const COLUMNS = 8;

export class CrashesView {
  #words;
  #panel = byId("incident-panel");
  #steps = byId("incident");
  #body = byId("crashes-body");
  #foot = byId("crashes-foot");
  #drawn = null;

  constructor(words) {
    this.#words = new CrashWords(words);
  }

  paint(crashes) {
    if (crashes.incidents === this.#drawn) return;
    this.#drawn = crashes.incidents;
    const last = lastOf(crashes);
    this.#panel.hidden = last === null;
    if (last === null) return;
    this.#steps.replaceChildren(...this.#words.stepsOf(last).map(step));
    const rows = this.#words.rowsOf(crashes.incidents, MOST_ROWS).map((cells) => element("tr", "", ...cells.map(cell)));
    const left = crashes.incidents.length - rows.length;
    if (left > 0) rows.push(element("tr", "", spanning("td", this.#words.restOf(left), COLUMNS)));
    this.#body.replaceChildren(...rows);
    this.#foot.replaceChildren(figures(this.#words.figuresOf(crashes.incidents)));
  }
}

function step([time, text]) {
  return element("li", "", element("span", "time", time), element("span", "", text));
}

function figures([name, seen, resumed, replaced]) {
  const head = spanning("th", name, COLUMNS / 2);
  head.scope = "row";
  return element("tr", "", head, ...[seen, "", resumed, replaced].map(cell));
}

function spanning(tag, text, columns) {
  const node = element(tag, "", text);
  node.colSpan = columns;
  return node;
}

function cell(text) {
  return element("td", "", text);
}
