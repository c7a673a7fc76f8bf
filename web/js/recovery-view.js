// The line that says, for a few seconds, that all lost sessions of the last crash are live again. With its styles, it
// covers a part of the timeline, so that nothing moves. The announcer says the same to screen readers.

import { lastOf } from "./crashes.js";
import { byId, element, setText } from "./dom.js";
import { figuresOf } from "./incident.js";
import { verdictOf } from "./ledger.js";

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

  /** Hides the line while the proof has found anything wrong, or while any lost session is not live again. */
  paint({ crashes, simulation, now }) {
    const incident = lastOf(crashes);
    const { sessionsLost: n, resumedAfter } = incident === null ? { resumedAfter: null } : figuresOf(incident);
    const age = resumedAfter === null ? -1 : now - incident.askedAt - resumedAfter;
    const [, , mood] = verdictOf(simulation.ledger.totals, simulation);
    // The page notices another crash seconds after the losses of that crash.
    const isClean = mood === "good" && crashes.losses.every(({ resumedAt }) => resumedAt !== null);
    this.#line.hidden = !isClean || age < SETTLED_MS || age >= SETTLED_MS + SHOWN_MS;
    if (this.#line.hidden) return;
    setText(this.#line, this.#translate("incident.recovered", { n, time: this.#format.span(resumedAfter) }));
  }
}
