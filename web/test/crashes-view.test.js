import assert from "node:assert/strict";
import test from "node:test";
import { By } from "../js/crashes.js";
import { CrashesView } from "../js/crashes-view.js";
import { Format } from "../js/format.js";
import { translator } from "../js/i18n.js";
import { incidentOf } from "../js/incident.js";
import { ENGLISH } from "../js/words-en.js";

class Node {
  children = [];
  append(...children) {
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = children;
  }
  get text() {
    return this.children.map((child) => child.text ?? child).join(" ").trim();
  }
}

/** The texts of the table's rows in its body and in its foot after crashes that were seen after these times. */
function painted(times) {
  const nodes = new Map();
  const byId = (id) => nodes.get(id) ?? nodes.set(id, new Node()).get(id);
  globalThis.document = { getElementById: byId, createElement: () => new Node() };
  const incidents = times.map((time, id) => {
    const incident = incidentOf({ id, at: 10_000 * id, by: By.CHAOS, mode: "exit" });
    return { ...incident, victim: `be.${id}`, lostAt: incident.askedAt + time };
  });
  new CrashesView({ translate: translator(ENGLISH), format: new Format("en") }).paint({ incidents });
  return ["crashes-body", "crashes-foot"].map((id) => byId(id).children.map(({ text }) => text));
}

/** What `painted` returns after this many crashes; the first was seen after 5 s, and each other after 1 s. */
const paintedAfter = (crashes) => painted(Array.from({ length: crashes }, (_, id) => (id === 0 ? 5_000 : 1_000)));

test("the table shows the newest crashes and the number of the others, and its figures cover all crashes", () => {
  const [rows, figures] = paintedAfter(2_000);
  assert.ok(rows.length <= 51, `${rows.length} rows were drawn`);
  assert.match(rows[0], /^2000 be\.1999 exit chaos 1\.0 s/);
  assert.match(rows.at(-2), /^1951 be\.1950 /);
  assert.equal(rows.at(-1), "Earlier crashes, in the JSON file: 1950");
  assert.equal(figures.length, 1);
  assert.match(figures[0], /^best · median · worst 1\.0 · 1\.0 · 5\.0\u00a0s {2}– –$/);
});

test("while the table has room for all crashes, it has no other row", () => {
  for (const crashes of [1, 50]) assert.equal(paintedAfter(crashes)[0].length, crashes);
  assert.equal(paintedAfter(51)[0].at(-1), "Earlier crashes, in the JSON file: 1");
});

test("the figures of the table are in seconds only if the best time has at least one", () => {
  const figuresOf = (times) => painted(times)[1][0];
  assert.match(figuresOf([40, 1_020, 12]), / 12 · 40 · 1,020\u00a0ms /);
  assert.match(figuresOf([40, 999.4, 12]), / 12 · 40 · 999\u00a0ms /);
  assert.match(figuresOf([1_020, 999.5, 2_000]), / 1\.0 · 1\.0 · 2\.0\u00a0s /);
});
