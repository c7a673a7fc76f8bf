import assert from "node:assert/strict";
import test from "node:test";
import { drawPicture } from "../js/picture.js";
import { NO_TIMELINE } from "../js/timeline.js";

/** The texts that `drawPicture` writes, each with its start and its end, and the width of the picture. */
function writtenOn(contents) {
  const written = [];
  const ignored = { get: (target, name) => (name === "fillText" ? target[name] : () => {}), set: () => true };
  const canvas = (fillText) => ({ getContext: () => new Proxy({ fillText }, ignored) });
  globalThis.document = { createElement: () => canvas(() => {}) };
  const picture = canvas((text, x, y, width) => written.push({ text, x, end: x + width }));
  drawPicture(picture, { title: "t", notes: [], badges: [], facts: [], timeline: NO_TIMELINE, crashes: [], look: { hueOf: () => "" }, ...contents });
  return { written, width: picture.width };
}

test("no text exceeds the picture, and no cell of the table overlaps the next one", () => {
  const { written, width } = writtenOn({ facts: ["a long fact"], crashes: [["#", "replica", "mode"], ["1", "a-long-name.7", "exit"]] });
  const inside = written.filter(({ text }) => text !== "");
  assert.ok(inside.length >= 8 && inside.every(({ end }) => end < width), JSON.stringify(inside));
  const [number, name] = ["1", "a-long-name.7"].map((text) => written.find((each) => each.text === text));
  assert.ok(number.end < name.x);
});
