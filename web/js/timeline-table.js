// The timeline as a table, newest sample first. The rows stay in place during a run, so that they can be read and
// copied.

import { byId, element, setText } from "./dom.js";
import { readingAt, spanOf } from "./timeline.js";

const COLUMNS = 4;

export class TimelineTable {
  #body = byId("timeline-rows");
  #rows = new Map();

  /** `wordsOf(reading, now)` returns the texts of a row; those after the third share the last cell. */
  paint(timeline, wordsOf) {
    const [, now] = spanOf(timeline);
    const rows = new Map();
    for (const { at } of timeline.samples) {
      const reading = readingAt(timeline, at);
      const [when, successes, overloads, ...rest] = wordsOf(reading, now);
      const row = rows.get(reading.sample) ?? this.#rows.get(reading.sample) ?? this.#added();
      const texts = [when, successes, overloads, rest.join(" · ")];
      texts.forEach((text, column) => setText(row.children[column], text));
      rows.set(reading.sample, row);
    }
    for (const [sample, row] of this.#rows) if (!rows.has(sample)) row.remove();
    this.#rows = rows;
  }

  #added() {
    const row = element("tr", "", ...Array.from({ length: COLUMNS }, () => element("td")));
    this.#body.prepend(row);
    return row;
  }
}
