import assert from "node:assert/strict";
import test from "node:test";
import { NO_TIMELINE, sampled } from "../js/timeline.js";
import { TimelineTable } from "../js/timeline-table.js";

/** An element that counts the changes of its text. */
class FakeElement {
  children = [];
  changes = 0;
  #text = "";

  get textContent() {
    return this.#text;
  }

  set textContent(text) {
    this.#text = text;
    this.changes += 1;
  }

  append(...nodes) {
    this.children.push(...nodes);
  }

  prepend(node) {
    node.parent = this;
    this.children.unshift(node);
  }

  remove() {
    this.parent.children.splice(this.parent.children.indexOf(this), 1);
  }
}

test("the rows of the table stay in place while a row is added and the oldest one is dropped", () => {
  const body = new FakeElement();
  globalThis.document = { getElementById: () => body, createElement: () => new FakeElement() };
  const table = new TimelineTable();
  const rest = ["be.1: 4", "be.2: 4"];
  const wordsOf = ({ sample: { at, successes } }, now) => [`${now - at} ms ago`, `${successes}`, "0", ...rest];
  const paint = (timeline) => {
    table.paint(timeline, wordsOf);
    return [...body.children];
  };
  let timeline = NO_TIMELINE;
  const passes = (at) => (timeline = sampled(timeline, { at, successes: at, overloads: 0, replicas: [] }));
  for (const at of [0, 1_000, 2_000]) passes(at);
  const before = paint(timeline);
  const cells = before[0].children.map(({ textContent }) => textContent);
  assert.deepEqual(cells, ["0 ms ago", "1000", "0", "be.1: 4 · be.2: 4"]);
  passes(3_000);
  const later = () => paint({ ...timeline, samples: timeline.samples.slice(1) });
  const after = later();
  assert.deepEqual(after.slice(1), before.slice(0, 2));
  assert.deepEqual(after.map(({ children: [when] }) => when.textContent), ["0 ms ago", "1000 ms ago", "2000 ms ago"]);
  assert.deepEqual(after[1].children.map(({ changes }) => changes), [2, 1, 1, 1], "an unchanged cell was written");
  for (const at of [4_000, 4_000]) passes(at);
  assert.deepEqual(later().slice(1), after, "two samples of the same time have more than one row");
  assert.deepEqual(paint(NO_TIMELINE), []);
});
