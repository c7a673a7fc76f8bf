// The crashes on the page: the course of the last one, and all in a table with best, median and worst.

import { spread } from "./crashes.js";
import { byId, element } from "./dom.js";
import { Step } from "./incident.js";

const TIMES = ["seenAfter", "resumedAfter", "replacedAfter"];
const FIGURES = ["best", "median", "worst"];

export class CrashesView {
  #translate;
  #format;
  #panel = byId("incident-panel");
  #steps = byId("incident");
  #body = byId("crashes-body");
  #foot = byId("crashes-foot");
  #shownSteps = "";
  #shownRows = "";

  constructor({ translate, format }) {
    this.#translate = translate;
    this.#format = format;
  }

  paint(crashes) {
    this.#panel.hidden = crashes.last === null;
    if (crashes.last === null) return;
    this.#paintSteps(this.stepsOf(crashes.last));
    const rows = this.#rows(crashes.all);
    const shown = JSON.stringify(rows);
    if (shown === this.#shownRows) return;
    this.#shownRows = shown;
    this.#body.replaceChildren(...rows.map((cells) => element("tr", "", ...cells.map(cell))));
    this.#foot.replaceChildren(...this.#figures(crashes.all));
  }

  /** The table as text: the head, then the newest crash first. */
  tableOf(incidents) {
    if (incidents.length === 0) return [];
    const head = [...document.querySelectorAll("#crashes thead th")].map((node) => node.textContent);
    return [head, ...this.#rows(incidents)];
  }

  /** The course so far as text: [time, text]. */
  stepsOf(incident) {
    const steps = incident.steps.map((step) => [`+${this.#format.span(step.after)}`, this.#stepText(step)]);
    const { sessionsLost: n, sessionsResumed: done } = incident;
    if (done < n) steps.push(["…", this.#translate("incident.progress", { done, n })]);
    return steps;
  }

  // Rebuilt only when the text changes.
  #paintSteps(steps) {
    const shown = JSON.stringify(steps);
    if (shown === this.#shownSteps) return;
    this.#shownSteps = shown;
    this.#steps.replaceChildren(
      ...steps.map(([time, text]) => element("li", "", element("span", "time", time), element("span", "", text))),
    );
  }

  #rows(incidents) {
    return incidents.map((incident, index) => this.#cells(incident, index + 1)).reverse();
  }

  #cells(incident, number) {
    const { victim, mode, by, sessionsLost, sessionsResumed } = incident;
    return [
      String(number),
      victim ?? "?",
      mode === null ? "?" : this.#translate(`crash.short.${mode}`),
      this.#translate(`crash.by.${by}`),
      this.#time(incident.seenAfter),
      sessionsResumed === sessionsLost ? String(sessionsLost) : `${sessionsResumed} / ${sessionsLost}`,
      this.#time(incident.resumedAfter),
      this.#time(incident.replacedAfter),
    ];
  }

  #figures(incidents) {
    const spreads = TIMES.map((time) => spread(incidents.map((incident) => incident[time])));
    return FIGURES.map((figure) => {
      const [seen, resumed, replaced] = spreads.map((times) => this.#time(times?.[figure] ?? null));
      const name = element("th", "", this.#translate(`crash.${figure}`));
      name.colSpan = 4;
      name.scope = "row";
      return element("tr", "", name, ...[seen, "", resumed, replaced].map(cell));
    });
  }

  #time(milliseconds) {
    return milliseconds === null ? "–" : this.#format.span(milliseconds);
  }

  #stepText({ kind, mode, replica, count }) {
    if (kind === Step.ASKED && mode === null) return this.#translate("incident.noticed");
    return this.#translate(`incident.${kind}`, { replica, n: count, mode: kind === Step.ASKED ? mode : "" });
  }
}

function cell(text) {
  return element("td", "", text);
}
