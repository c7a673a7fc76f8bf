// The line that says, for a few seconds, that all lost sessions of the last crash are live again. It covers a part of
// the timeline, so that nothing moves. The announcer says the same to screen readers.

import { byId, element, setText } from "./dom.js";
import { figuresOf } from "./incident.js";

/** Within this time, the page may still notice the loss of further sessions. */
const SETTLED_MS = 1_000;
const SHOWN_MS = 5_000;

export class RecoveryView {
  #translate;
  #format;
  #line = element("p", "recovery");

  constructor({ translate, format }) {
    this.#translate = translate;
    this.#format = format;
    this.#line.hidden = true;
    this.#line.setAttribute("aria-hidden", "true");
    byId("timeline").parentElement.append(this.#line);
  }

  /** `incident` is the last crash or null. `isClean` says whether the proof has found nothing wrong. */
  paint({ incident, isClean, now }) {
    const { sessionsLost: n, resumedAfter } = incident === null ? { resumedAfter: null } : figuresOf(incident);
    const age = resumedAfter === null ? -1 : now - incident.askedAt - resumedAfter;
    this.#line.hidden = !isClean || age < SETTLED_MS || age >= SETTLED_MS + SHOWN_MS;
    if (this.#line.hidden) return;
    setText(this.#line, this.#translate("incident.recovered", { n, time: this.#format.span(resumedAfter) }));
  }
}
