// The badges and the proof on the page: the numbers of the ledger and the counters, and the verdict.

import { byId, element, setData, setText } from "./dom.js";
import { Rate } from "./rate.js";

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

/** The verdict on the totals: [dictionary key, values, mood]. */
export function verdict(totals) {
  const { sent, lost, duplicated, reordered, unverified, inFlight, cutOffAcked } = totals;
  if (lost + duplicated + reordered > 0) return ["ledger.verdict.bad", { lost, duplicated, reordered }, "bad"];
  if (unverified > 0) return ["ledger.verdict.unverified", { n: unverified }, "doubt"];
  if (sent === 0) return ["ledger.verdict.idle", {}, "calm"];
  if (inFlight > 0) return ["ledger.verdict.open", { n: inFlight }, "good"];
  if (cutOffAcked > 0) return ["ledger.verdict.cut_off", { n: cutOffAcked }, "good"];
  return ["ledger.verdict.good", {}, "good"];
}

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

  /** Resets the rates for a new run. */
  reset() {
    this.#rate.reset();
    this.#lastOverloads = 0;
    this.#overloadAt = -Infinity;
  }

  paint({ simulation, now }) {
    const totals = simulation.ledger.totals;
    const { counters } = simulation;
    setText(this.#successes, totals.acked);
    const rate = this.#rate.update(now, totals.acked);
    setText(this.#successesRate, this.#translate("badge.rate", { rate: this.#format.rate(rate) }));
    this.#paintOverloads(counters, now);
    for (const [field, { row, value }] of this.#cells) {
      setText(value, this.#format.count(totals[field]));
      setData(row, "zero", totals[field] === 0 ? "yes" : "no");
    }
    const [key, values, mood] = verdict(totals);
    setText(this.#verdict, this.#translate(key, values));
    setData(this.#verdict, "mood", mood);
    setText(this.#notes, this.#noteTexts(totals, counters, simulation.missedBeats).join(" · "));
  }

  #paintOverloads(counters, now) {
    const count = counters.overloadErrors;
    if (count > this.#lastOverloads) this.#overloadAt = now;
    this.#lastOverloads = count;
    setText(this.#overloads, count);
    const causes = counters.overloadCauses.map(([code, n]) => this.#translate(`cause.${code}`, { n }));
    setText(this.#overloadCauses, causes.length === 0 ? this.#translate("cause.none") : causes.join(" · "));
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
