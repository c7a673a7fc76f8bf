import assert from "node:assert/strict";
import test from "node:test";
import { AXIS_HEIGHT, GLYPHS, LANE_HEIGHT, drawTimeline, layoutOf } from "../js/timeline-drawing.js";
import {
  KEPT_MS, MOST_LANES, Mark, NO_TIMELINE, SHORTEST_MS, SHOWN_MS, changesBetween, lanesOf, marked, readingAt, sampled, shownOf,
  spanOf,
} from "../js/timeline.js";

const replica = (id, state = "ready", sessions = 0) => ({ id, state, sessions });

/** A timeline of this many seconds, each with `perSecond` successes, ten overload errors and a list of replicas. */
function running(seconds, { perSecond = 100, replicas = () => [replica("be.1", "ready", 60)] } = {}) {
  let timeline = NO_TIMELINE;
  for (let second = 0; second <= seconds; second += 1) {
    const totals = { successes: second * perSecond, overloads: second * 10 };
    timeline = sampled(timeline, { at: second * 1_000, ...totals, replicas: replicas(second) });
  }
  return timeline;
}

test("a sample has the rates since the sample before it, whatever the interval", () => {
  let timeline = running(3);
  assert.deepEqual(timeline.samples.map(({ successes }) => successes), [0, 100, 100, 100]);
  assert.deepEqual(timeline.samples.at(-1).overloads, 10);
  timeline = sampled(timeline, { at: 5_000, successes: 350, overloads: 30, replicas: [] });
  assert.deepEqual([timeline.samples.at(-1).successes, timeline.samples.at(-1).overloads], [25, 0]);
  // A second sample at the same moment, with totals that restart at 0, has rates of 0.
  timeline = sampled(timeline, { at: 5_000, successes: 0, overloads: 0, replicas: [] });
  assert.equal(timeline.samples.at(-1).successes, 0);
});

test("a sample that follows within milliseconds has no peak", () => {
  const timeline = sampled(running(3), { at: 3_002, successes: 302, overloads: 30, replicas: [] });
  assert.ok(timeline.samples.at(-1).successes <= 100, `a peak of ${timeline.samples.at(-1).successes} successes/s`);
});

test("a timeline is immutable, keeps an hour, and shows the last minutes", () => {
  const before = running(10);
  const after = marked(sampled(before, { at: 11_000, successes: 0, overloads: 0, replicas: [] }), { at: 11_000, kind: Mark.STOP });
  assert.deepEqual([before.samples.length, before.marks.length], [11, 0]);
  assert.deepEqual([after.samples.length, after.marks.length], [12, 1]);
  const long = marked(running(4_000), { at: 4_000_000 - SHOWN_MS - 1, kind: Mark.STOP });
  assert.equal(long.samples.length, KEPT_MS / 1_000 + 1);
  const shown = shownOf(long);
  assert.deepEqual([shown.samples.length, shown.samples.at(-1).at, shown.marks.length], [SHOWN_MS / 1_000 + 1, 4_000_000, 0]);
  assert.equal(shownOf(marked(long, { at: 4_000_000, kind: Mark.STOP })).marks.length, 1);
  assert.deepEqual(shownOf(NO_TIMELINE), { samples: [], marks: [] });
  const later = sampled(after, { at: 11_001 + KEPT_MS, successes: 0, overloads: 0, replicas: [] });
  assert.equal(later.marks.length, 0);
});

test("marks of one kind on one replica within a second are merged and counted", () => {
  let timeline = NO_TIMELINE;
  for (const at of [0, 200, 900]) timeline = marked(timeline, { at, kind: Mark.HANDED_OVER, replica: "be.1" });
  timeline = marked(timeline, { at: 950, kind: Mark.HANDED_OVER, replica: "be.2" });
  timeline = marked(timeline, { at: 1_900, kind: Mark.HANDED_OVER, replica: "be.1" });
  assert.deepEqual(timeline.marks.map(({ at, count }) => [at, count]), [[0, 3], [950, 1], [1_900, 1]]);
  timeline = marked(timeline, { at: 2_900, kind: Mark.HANDED_OVER, replica: "be.1" });
  assert.equal(timeline.marks.length, 4);
});

test("the changes between two lists of replicas are reported once", () => {
  const ready = [replica("be.1"), replica("be.2")];
  const changes = (before, after) => changesBetween(before, after).map(({ kind, replica: id }) => `${kind} ${id}`);
  assert.deepEqual(changes([], ready), []);
  assert.deepEqual(changes(ready, ready), []);
  assert.deepEqual(changes(ready, [replica("be.1", "lost"), replica("be.2", "draining")]), ["lost be.1", "drained be.2"]);
  assert.deepEqual(changes([replica("be.1", "lost"), replica("be.2", "draining")], [replica("be.3")]), ["back be.3"]);
  assert.deepEqual(
    changes(ready, [replica("be.2"), replica("be.3")]),
    ["back be.3", "drained be.1"],
    "be.1, which left between two lists, did not count as drained",
  );
  assert.deepEqual(
    changes([replica("be.1")], [replica("be.2")]),
    ["back be.2", "lost be.1"],
    "the only replica, which was replaced, did not count as lost",
  );
  assert.deepEqual(changes([replica("be.1", "lost")], [replica("be.1")]), ["back be.1"]);
});

test("the span grows with the run, from a minute to the given maximum", () => {
  assert.deepEqual(spanOf(NO_TIMELINE), [-SHORTEST_MS, 0]);
  assert.deepEqual(spanOf(running(10)), [10_000 - SHORTEST_MS, 10_000]);
  assert.deepEqual(spanOf(running(100)), [0, 100_000]);
  assert.deepEqual(spanOf(running(400)), [400_000 - SHOWN_MS, 400_000]);
  assert.deepEqual(spanOf(running(400), 90_000), [310_000, 400_000]);
});

test("each replica within the span has a lane, the oldest first", () => {
  const crashed = running(100, { replicas: (second) => [replica(second < 50 ? "be.1" : "be.2")] });
  assert.deepEqual(lanesOf(crashed, [0, 100_000]), ["be.1", "be.2"]);
  assert.deepEqual(lanesOf(crashed, [60_000, 100_000]), ["be.2"]);
});

test("a replica that was lost before the span has no lane", () => {
  const stateAt = (second) => (second < 50 ? "ready" : "lost");
  const old = running(100, { replicas: (second) => [replica("be.1", stateAt(second)), replica("be.0", "lost")] });
  assert.deepEqual(lanesOf(old, [0, 100_000]), ["be.1"]);
  assert.deepEqual(lanesOf(old, [60_000, 100_000]), []);
});

test("past the maximum, the lanes of replicas that left first are dropped, but not those of present replicas", () => {
  const generation = (second) => Math.floor(second / 10);
  const chaotic = running(100, { replicas: (second) => [replica("be.0"), replica(`be.${1 + generation(second)}`)] });
  assert.deepEqual(lanesOf(chaotic, [0, 100_000]), ["be.0", "be.7", "be.8", "be.9", "be.10", "be.11"]);
  const many = Array.from({ length: MOST_LANES + 3 }, (_, index) => replica(`be.${index}`));
  assert.equal(lanesOf(running(5, { replicas: () => many }), [0, 5_000]).length, many.length);
});

test("a reading is the nearest sample and the marks of its second", () => {
  assert.equal(readingAt(NO_TIMELINE, 0), null);
  let timeline = marked(running(10), { at: 4_500, kind: Mark.ASKED, replica: "be.1" });
  timeline = marked(timeline, { at: 5_200, kind: Mark.LOST, replica: "be.1" });
  const reading = readingAt(timeline, 5_200);
  assert.deepEqual([reading.index, reading.sample.at, reading.marks.map(({ kind }) => kind)], [5, 5_000, [Mark.ASKED]]);
  // A mark at the moment of a sample is in the second of that sample only.
  timeline = marked(timeline, { at: 7_000, kind: Mark.STOP });
  assert.deepEqual([6_000, 7_000, 8_000].map((at) => readingAt(timeline, at).marks.length), [1, 1, 0]);
  assert.equal(readingAt(timeline, -99).index, 0);
  assert.equal(readingAt(timeline, 99_999).index, 10);
});

test("every kind of mark has its own glyph", () => {
  assert.deepEqual(Object.keys(GLYPHS).sort(), Object.values(Mark).sort());
  assert.equal(new Set(Object.values(GLYPHS)).size, Object.values(Mark).length);
});

/** A canvas that records what is drawn on it. */
function sketch() {
  const drawn = [];
  const context = new Proxy({}, {
    get: (target, name) => target[name] ?? ((...values) => drawn.push([name, target.fillStyle, ...values])),
    set: (target, name, value) => Reflect.set(target, name, value),
  });
  return { context, drawn };
}

test("the conversions between times and pixels are inverses of each other, and the lanes fit below the plot", () => {
  const timeline = running(100, { replicas: () => [replica("be.1"), replica("be.2")] });
  const layout = layoutOf(timeline, { width: 900, height: 200 });
  assert.ok(Math.abs(layout.atOf(layout.xOf(42_000)) - 42_000) < 1e-6);
  assert.equal(layout.bottom, 200 - AXIS_HEIGHT - 2 * LANE_HEIGHT);
});

const LOOK = {
  good: "good", bad: "bad", doubt: "doubt", ink: "ink", line: "line", quiet: "quiet", surface: "surface", now: "now",
  "good-soft": "good area", "bad-soft": "bad area", hueOf: (id) => `hue of ${id}`,
};

/** Draws a timeline. Returns its layout, rectangles {colour, x, y, width, height} and texts {colour, text, x, y}. */
function drawing(timeline, cursor = null) {
  const { context, drawn } = sketch();
  const layout = layoutOf(timeline, { width: 900, height: 200 });
  drawTimeline(context, timeline, layout, LOOK, cursor);
  const calls = (name) => drawn.filter(([called]) => called === name).map(([, colour, ...values]) => [colour, ...values]);
  const rectangles = calls("fillRect").map(([colour, x, y, width, height]) => ({ colour, x, y, width, height }));
  return { layout, rectangles, texts: calls("fillText").map(([colour, text, x, y]) => ({ colour, text, x, y })) };
}

test("a lane's thickness shows the replica's share of sessions, and the lane shows draining and ends at a loss", () => {
  const states = (second) => (second < 40 ? "ready" : second < 70 ? "draining" : "lost");
  const replicas = (second) => [replica("be.1", states(second), 15), replica("be.2", "ready", 45)];
  const { layout, rectangles, texts } = drawing(running(100, { replicas }));
  const bars = (colour) => rectangles.filter((bar) => bar.colour === colour);
  const ends = (bar) => Math.round(layout.atOf(bar.x + bar.width) / 1_000);
  assert.deepEqual([bars("hue of be.1").at(-1), bars("doubt").at(-1)].map(ends), [39, 69]);
  const [first, second] = [bars("hue of be.1")[0], bars("hue of be.2")[0]];
  assert.deepEqual([first.height, second.height], [4, 10]);
  assert.equal(second.y + second.height / 2 - (first.y + first.height / 2), LANE_HEIGHT);
  assert.ok(first.y > layout.bottom && second.y + second.height < 200 - AXIS_HEIGHT);
  const labels = texts.filter(({ text }) => text.startsWith("be.")).map(({ colour, text }) => [colour, text]);
  assert.deepEqual(labels, [["quiet", "be.1"], ["ink", "be.2 45"]]);
});

test("only the end of a long id is shown", () => {
  const { texts } = drawing(running(3, { replicas: () => [replica("backend-7.12", "ready", 1)] }));
  assert.ok(texts.some(({ text }) => text === "…nd-7.12 1"), `no label showed the id's end: ${JSON.stringify(texts)}`);
});

test("a mark is at its time and on its replica's lane; request, stop and cursor lines begin at the top", () => {
  let timeline = running(100);
  timeline = marked(timeline, { at: 30_000, kind: Mark.LOST, replica: "be.1" });
  timeline = marked(timeline, { at: 60_000, kind: Mark.ASKED, replica: "be.1" });
  timeline = marked(timeline, { at: 80_000, kind: Mark.STOP });
  const { layout, rectangles, texts } = drawing(timeline, 50_000);
  const [lost, asked, stop] = [Mark.LOST, Mark.ASKED, Mark.STOP].map((kind) => texts.find(({ text }) => text === GLYPHS[kind]));
  assert.deepEqual([lost.colour, asked.colour, stop.colour], ["bad", "bad", "ink"]);
  assert.deepEqual([lost.x, asked.x, stop.x], [30_000, 60_000, 80_000].map(layout.xOf));
  assert.ok(lost.y > layout.bottom && asked.y === lost.y && stop.y < layout.bottom);
  const lines = rectangles.filter(({ width, height }) => width === 1 && height > 0).map(({ colour, x, y }) => [colour, x, y]);
  const at = (time) => Math.round(layout.xOf(time));
  assert.deepEqual(lines, [["bad", at(60_000), layout.top], ["ink", at(80_000), layout.top], ["ink", at(50_000), layout.top]]);
});

test("the axes have labels for the rates, the seconds and now", () => {
  const { layout, texts } = drawing(running(60));
  const named = (pattern) => texts.filter(({ text }) => pattern.test(text)).map(({ text }) => text);
  assert.deepEqual(named(/^\d+$/), ["0", "50", "100"]);
  assert.deepEqual(named(/^(now|−.*)$/), ["now", "−10 s", "−20 s", "−30 s", "−40 s", "−50 s", "−60 s"]);
  assert.equal(texts.find(({ text }) => text === "−20 s").x, layout.xOf(40_000));
});

test("all coordinates are finite, even without samples, and a lane starts when its replica does", () => {
  const crashed = running(100, { replicas: (second) => (second < 50 ? [] : [replica("be.2", "ready", 60)]) });
  for (const timeline of [NO_TIMELINE, running(0), marked(crashed, { at: 60_000, kind: Mark.ASKED, replica: "be.2" })]) {
    const { context, drawn } = sketch();
    const layout = layoutOf(timeline, { width: 900, height: 200 });
    drawTimeline(context, timeline, layout, LOOK, timeline.samples.at(-1)?.at ?? null);
    for (const [name, , ...values] of drawn) {
      for (const value of values.filter((each) => typeof each === "number")) {
        assert.ok(Number.isFinite(value), `a coordinate of ${name}(${values}) was not finite`);
      }
    }
  }
  const startOf = (timeline, id) => {
    const { context, drawn } = sketch();
    drawTimeline(context, timeline, layoutOf(timeline, { width: 900, height: 200 }), LOOK);
    return Math.min(...drawn.filter(([name, colour]) => name === "fillRect" && colour === `hue of ${id}`).map(([, , x]) => x));
  };
  const xOf = (timeline, at) => layoutOf(timeline, { width: 900, height: 200 }).xOf(at);
  assert.ok(startOf(crashed, "be.2") >= xOf(crashed, 49_000) - 1);
  assert.ok(startOf(running(10), "be.1") >= xOf(running(10), 0) - 1);
});
