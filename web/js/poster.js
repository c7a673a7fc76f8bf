// The words and numbers in the picture of a run.

import { causesText } from "./counters.js";
import { CrashWords } from "./crash-words.js";
import { verdictOf } from "./ledger.js";

const FACTS = [["sent", "acked", "delivered"], ["lost", "duplicated", "reordered", "unverified"]];

/**
 * The columns of the table of crashes, except the first, which numbers the crashes. `CrashWords` fills these columns in
 * this order.
 */
const COLUMNS = ["replica", "mode", "by", "seen", "sessions", "resumed", "replaced"];

/** The contents of the picture, from `Model.record`; `recordedAt` is a `Date`. */
export function posterOf(run, { translate, format, language }) {
  const { settings, timeline, crashes, ledger, overloads, isRunning, recordedAt } = run;
  const turnedAway = overloads.reduce((sum, [, n]) => sum + n, 0);
  const [key, values] = verdictOf(ledger, { isRunning });
  const numbers = (names) => names.map((name) => `${translate(`ledger.${name}`)} ${format.count(ledger[name])}`).join(" · ");
  const { incidents } = crashes;
  const head = ["#", ...COLUMNS.map((column) => translate(`crashes.${column}`))];
  return {
    title: translate("page.title"),
    notes: [
      `${translate("controls.count")}: ${settings.conversations} · ${translate("controls.rate.shown", { n: settings.rate })}`,
      recordedAt.toLocaleString(language),
    ],
    badges: [
      { label: translate("badge.successes"), number: format.count(ledger.acked), colour: "good", soft: "good-soft" },
      { label: translate("badge.overloads"), number: format.count(turnedAway), colour: "bad", soft: "bad-soft" },
    ],
    facts: [translate(key, values), ...FACTS.map(numbers), causesText({ translate, format }, overloads)],
    timeline,
    crashes: incidents.length === 0 ? [] : [head, ...new CrashWords({ translate, format }).rowsOf(incidents)],
  };
}
