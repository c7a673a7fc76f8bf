// The badges and the proof on the page: the numbers of the ledger and the counters, and the verdict.

import { Rate, causesText } from "./counters.js";
import { byId, element, setData, setText } from "./dom.js";
import { verdictOf } from "./ledger.js";

const ROWS = [
  ["ledger.sent", "sent", "plain"],
  ["ledger.acked", "acked", "plain"],
  ["ledger.delivered", "delivered", "plain"],
  ["ledger.in_flight", "inFlight", "plain"],
  ["ledger.lost", "lost", "broken"],
  ["ledger.duplicated", "duplicated", "broken"],
  ["ledger.reordered", "reordered", "broken"],
  ["ledger.unverified", "unverified", "doubt"],
];

const COUNTING_MS = 2_000;

export class CountersView {
  #translate;
  #format;
  #successes = byId("successes");
  #successesRate = byId("successes-rate");
  #overloadBadge = byId("overload-badge");
  #overloads = byId("overload-errors");
  #overloadCauses = byId("overload-causes");
  #verdict = byId("ledger-verdict");
  #notes = byId("ledger-notes");
  #cells = new Map();
  #counters = null;
  #rate = new Rate();
  #lastOverloads = 0;
  #overloadAt = -Infinity;

  constructor({ translate, format }) {
    this.#translate = translate;
    this.#format = format;
    for (const [key, field, kind] of ROWS) {
      const value = element("dd", "", "0");
      const row = element("div", `row ${kind}`, element("dt", "", translate(key)), value);
      byId("ledger").append(row);
      this.#cells.set(field, { row, value });
    }
  }

  paint({ simulation, now }) {
    const { counters } = simulation;
    if (counters !== this.#counters) this.#reset(counters);
    const totals = simulation.ledger.totals;
    setText(this.#successes, this.#format.count(totals.acked));
    const rate = this.#rate.update(now, totals.acked);
    setText(this.#successesRate, this.#translate("badge.rate", { rate: this.#format.rate(rate) }));
    this.#paintOverloads(counters, now);
    for (const [field, { row, value }] of this.#cells) {
      setText(value, this.#format.count(totals[field]));
      setData(row, "zero", totals[field] === 0 ? "yes" : "no");
    }
    const [key, values, mood] = verdictOf(totals, simulation);
    setText(this.#verdict, this.#translate(key, values));
    setData(this.#verdict, "mood", mood);
    setText(this.#notes, this.#noteTexts(totals, counters, simulation.missedBeats).join(" · "));
  }

  // A new run has new counters.
  #reset(counters) {
    this.#counters = counters;
    this.#rate = new Rate();
    this.#lastOverloads = 0;
    this.#overloadAt = -Infinity;
  }

  #paintOverloads(counters, now) {
    const count = counters.overloadErrors;
    if (count > this.#lastOverloads) this.#overloadAt = now;
    this.#lastOverloads = count;
    setText(this.#overloads, this.#format.count(count));
    setText(this.#overloadCauses, causesText({ translate: this.#translate, format: this.#format }, counters.overloadCauses));
    setData(this.#overloadBadge, "counting", now - this.#overloadAt < COUNTING_MS ? "yes" : "no");
  }

  #noteTexts(totals, counters, missed) {
    const notes = [
      ["ledger.note.cut_off", totals.cutOff],
      ["ledger.note.resent", counters.resent],
      ["ledger.note.skipped", counters.skipped],
      ["ledger.note.missed", missed],
      ["ledger.note.unvouched", counters.unvouched],
      ["ledger.note.unreadable", counters.unreadable],
    ];
    const refusals = counters.refusalCauses.map(([code, n]) => this.#translate("ledger.note.refused", { code, n }));
    return notes.filter(([, n]) => n > 0).map(([key, n]) => this.#translate(key, { n })).concat(refusals);
  }
}
