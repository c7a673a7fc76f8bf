import assert from "node:assert/strict";
import test from "node:test";
import { drawPicture } from "../js/picture.js";
import { NO_TIMELINE } from "../js/timeline.js";

/** The texts that `drawPicture` writes, each with its start and its maximum end, and the width of the picture. */
function writtenOn(contents) {
  const written = [];
  const ignored = { get: (target, name) => (name === "fillText" ? target[name] : () => {}), set: () => true };
  const canvas = (fillText) => ({ getContext: () => new Proxy({ fillText }, ignored) });
  globalThis.document = { createElement: () => canvas(() => {}) };
  const picture = canvas((text, x, y, width) => written.push({ text, x, end: x + width }));
  drawPicture(picture, { title: "t", notes: [], badges: [], facts: [], timeline: NO_TIMELINE, crashes: [], look: { hueOf: () => "" }, ...contents });
  return { written, width: picture.width };
}

test("no text extends beyond the picture, and no cell of the table overlaps the next one", () => {
  const { written, width } = writtenOn({ facts: ["a long fact"], crashes: [["#", "replica", "mode"], ["1", "a-long-name.7", "exit"]] });
  const inside = written.filter(({ text }) => text !== "");
  assert.ok(inside.length >= 8, "some texts were not written");
  assert.ok(inside.every(({ end }) => end < width), `a text extended beyond the picture: ${JSON.stringify(inside)}`);
  const [number, name] = ["1", "a-long-name.7"].map((text) => written.find((each) => each.text === text));
  assert.ok(number.end < name.x);
});

test("no text of a badge reaches the next badge or the facts", () => {
  const number = "123,456,789";
  const badges = ["good", "bad"].map((colour) => ({ label: `a ${colour} label`, number, colour, soft: colour }));
  const { written } = writtenOn({ badges, facts: ["a fact"] });
  const [first, second] = badges.map(({ label }) => written.find(({ text }) => text === label));
  const fact = written.find(({ text }) => text === "a fact");
  const numbers = written.filter(({ text }) => text === number);
  assert.deepEqual(numbers.map(({ x }) => x), [first.x, second.x]);
  for (const { end } of [first, numbers[0]]) {
    assert.ok(end < second.x, `the first badge ended at x = ${end}, and the text of the second started at ${second.x}`);
  }
  for (const { end } of [second, numbers[1]]) {
    assert.ok(end < fact.x, `the second badge ended at x = ${end}, and the facts started at ${fact.x}`);
  }
});
