// The crashes as text, for the page and the picture of a run: the steps of one crash, the table of all crashes, and the
// best, median and worst times.

import { stepText } from "./crash-news.js";
import { spread } from "./crashes.js";
import { figuresOf, stepsOf } from "./incident.js";

const SECOND_MS = 1_000;
const TIMES = ["seenAfter", "resumedAfter", "replacedAfter"];

export class CrashWords {
  #translate;
  #format;

  constructor({ translate, format }) {
    this.#translate = translate;
    this.#format = format;
  }

  /**
   * The steps of a crash so far, each as [time, text]. Until all lost sessions are live again, the last step shows
   * how many of them are.
   */
  stepsOf(incident) {
    const steps = stepsOf(incident).map((step) => [`+${this.#format.span(step.after)}`, stepText(this.#translate, step)]);
    const { sessionsLost: n, sessionsResumed: done } = figuresOf(incident);
    if (done < n) steps.push(["…", this.#translate("incident.progress", { done, n })]);
    return steps;
  }

  /** The rows of the newest crashes, newest first; at most `most`. */
  rowsOf(incidents, most = incidents.length) {
    const hidden = Math.max(0, incidents.length - most);
    return incidents.slice(hidden).map((incident, index) => this.#cells(incident, hidden + index + 1)).reverse();
  }

  restOf(n) {
    return this.#translate("crashes.earlier", { n });
  }

  /** The best, median and worst times, as [names, seen after, resumed after, replaced after]. */
  figuresOf(incidents) {
    const figures = incidents.map(figuresOf);
    const spreads = TIMES.map((time) => spread(figures.map((each) => each[time])));
    return [this.#translate("crash.spread"), ...spreads.map((times) => this.#times(times))];
  }

  #cells(incident, number) {
    const { victim, mode, by } = incident;
    const { sessionsLost, sessionsResumed, seenAfter, resumedAfter, replacedAfter } = figuresOf(incident);
    return [
      String(number),
      victim ?? "?",
      mode === null ? "?" : this.#translate(`crash.short.${mode}`),
      this.#translate(`crash.by.${by}`),
      this.#time(seenAfter),
      sessionsResumed === sessionsLost ? String(sessionsLost) : `${sessionsResumed} / ${sessionsLost}`,
      this.#time(resumedAfter),
      this.#time(replacedAfter),
    ];
  }

  // The times share one unit, so that they fit on a line of a narrow column. In seconds, a short time would be 0.0.
  #times(spread) {
    if (spread === null) return this.#time(null);
    const inSeconds = Math.round(spread.best) >= SECOND_MS;
    const number = (time) => (inSeconds ? this.#format.rate(time / SECOND_MS) : this.#format.count(time));
    const times = [spread.best, spread.median, spread.worst].map(number);
    return `${times.join(" · ")}\u00a0${inSeconds ? "s" : "ms"}`;
  }

  #time(milliseconds) {
    return milliseconds === null ? "–" : this.#format.span(milliseconds);
  }
}
