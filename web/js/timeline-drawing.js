// Owns how a timeline is drawn on a canvas: two areas of rates above, a lane for each replica below. Reads no document:
// colours, words and size are given, so that the page and the picture of a run are drawn alike.

import { Mark, lanesOf, spanOf } from "./timeline.js";

export const LANE_HEIGHT = 17;
export const AXIS_HEIGHT = 18;
const MARK_SIZE = 12;
const LABEL_WIDTH = 84;
const LABEL_LETTERS = 8;
const GRID_STEPS = [5, 10, 20, 25, 50, 100, 200, 250, 500, 1_000, 2_000];

export const GLYPHS = Object.freeze({
  [Mark.START]: "▶",
  [Mark.STOP]: "■",
  [Mark.ASKED]: "✕",
  [Mark.LOST]: "○",
  [Mark.BACK]: "●",
  [Mark.DRAINED]: "◐",
  [Mark.HANDED_OVER]: "⇄",
});

const COLOURS = { [Mark.ASKED]: "bad", [Mark.LOST]: "bad", [Mark.BACK]: "good", [Mark.DRAINED]: "doubt", [Mark.HANDED_OVER]: "ink" };

/** Where things are: the plot's edges and the time under a pixel. */
export function layoutOf(timeline, { width, height, length }) {
  const lanes = lanesOf(timeline, spanOf(timeline, length));
  const [from, to] = spanOf(timeline, length);
  const left = 34;
  const right = width - LABEL_WIDTH;
  const bottom = height - AXIS_HEIGHT - lanes.length * LANE_HEIGHT;
  const xOf = (at) => left + ((at - from) / (to - from)) * (right - left);
  const atOf = (x) => from + ((x - left) / (right - left)) * (to - from);
  return { lanes, from, to, left, right, top: 8, bottom, width, height, xOf, atOf };
}

/** `look` has the colours by name, `hueOf(replica)` and the `font`; `cursor` is a time or null. */
export function drawTimeline(context, timeline, layout, look, cursor = null) {
  const { width, height } = layout;
  context.clearRect(0, 0, width, height);
  context.font = look.font;
  context.textBaseline = "middle";
  const samples = timeline.samples.filter(({ at }) => at >= layout.from);
  const top = Math.max(20, ...samples.map(({ successes, overloads }) => Math.max(successes, overloads)));
  const yOf = (rate) => layout.bottom - (rate / (top * 1.08)) * (layout.bottom - layout.top);
  drawGrid(context, layout, look, top, yOf);
  const rates = [[({ overloads }) => yOf(overloads), look.bad, look.badSoft], [({ successes }) => yOf(successes), look.good, look.goodSoft]];
  // First both areas, then both lines: neither hides the other.
  for (const [y, , fill] of rates) drawArea(context, layout, samples, y, fill);
  for (const [y, stroke] of rates) drawCurve(context, layout, samples, y, stroke);
  layout.lanes.forEach((replica, index) => drawLane(context, layout, samples, replica, index, look));
  for (const mark of timeline.marks) if (mark.at >= layout.from) drawMark(context, layout, mark, look);
  if (cursor !== null) drawLine(context, layout.xOf(cursor), layout.top, height - AXIS_HEIGHT, look.ink);
}

function drawGrid(context, { left, right, from, to, bottom, height, xOf }, look, top, yOf) {
  const step = GRID_STEPS.find((candidate) => top / candidate <= 3) ?? top;
  context.textAlign = "right";
  for (let rate = 0; rate <= top; rate += step) {
    context.fillStyle = look.line;
    context.fillRect(left, Math.round(yOf(rate)), right - left, 1);
    context.fillStyle = look.quiet;
    context.fillText(String(rate), left - 6, yOf(rate));
  }
  context.textAlign = "center";
  const seconds = Math.round((to - from) / 1_000);
  for (let ago = 0; ago <= seconds; ago += seconds > 60 ? 30 : 10) {
    const x = xOf(to - ago * 1_000);
    context.fillText(ago === 0 ? look.now : `−${ago} s`, x, height - AXIS_HEIGHT / 2);
  }
  context.fillStyle = look.line;
  context.fillRect(left, bottom, right - left, 1);
}

function drawArea(context, { bottom, xOf }, samples, yOf, fill) {
  if (samples.length < 2) return;
  trace(context, xOf, samples, yOf);
  context.lineTo(xOf(samples.at(-1).at), bottom);
  context.lineTo(xOf(samples[0].at), bottom);
  context.fillStyle = fill;
  context.globalAlpha = 0.7;
  context.fill();
  context.globalAlpha = 1;
}

function drawCurve(context, { xOf }, samples, yOf, stroke) {
  trace(context, xOf, samples, yOf);
  context.strokeStyle = stroke;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.stroke();
}

function trace(context, xOf, samples, yOf) {
  context.beginPath();
  for (const sample of samples) context.lineTo(xOf(sample.at), yOf(sample));
}

function laneY({ bottom }, index) {
  return bottom + index * LANE_HEIGHT + LANE_HEIGHT / 2 + 2;
}

// The bar is as thick as the replica's share of the sessions; a replica without any is a thin line.
function drawLane(context, layout, samples, replica, index, look) {
  const y = laneY(layout, index);
  const colour = look.hueOf(replica);
  let previous = layout.xOf(samples[0].at);
  let last = null;
  for (const sample of samples) {
    const x = layout.xOf(sample.at);
    const here = sample.replicas.get(replica);
    const all = [...sample.replicas.values()].reduce((sum, { sessions }) => sum + sessions, 0);
    if (here !== undefined && here.state !== "lost") {
      const thickness = all === 0 ? 1 : 1 + Math.round((here.sessions / all) * (LANE_HEIGHT - 5));
      context.fillStyle = here.state === "draining" ? look.doubt : colour;
      context.fillRect(previous, y - thickness / 2, x - previous + 0.5, thickness);
    }
    previous = x;
    last = here ?? null;
  }
  context.textAlign = "left";
  context.fillStyle = last === null || last.state === "lost" ? look.quiet : look.ink;
  const held = last === null || last.state === "lost" ? "" : ` ${last.sessions}`;
  // Ids end in what tells them apart.
  const name = replica.length > LABEL_LETTERS ? `…${replica.slice(1 - LABEL_LETTERS)}` : replica;
  context.fillText(`${name}${held}`, layout.right + 6, y, LABEL_WIDTH - 8);
}

function drawMark(context, layout, mark, look) {
  const x = layout.xOf(mark.at);
  const lane = layout.lanes.indexOf(mark.replica);
  const y = lane === -1 ? layout.top + MARK_SIZE / 2 : laneY(layout, lane);
  const colour = look[COLOURS[mark.kind] ?? "ink"];
  if (lane === -1 || mark.kind === Mark.ASKED) drawLine(context, x, layout.top, y, colour);
  context.fillStyle = look.surface;
  context.beginPath();
  context.arc(x, y, MARK_SIZE / 2 + 1, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = colour;
  context.textAlign = "center";
  context.fillText(GLYPHS[mark.kind], x, y + 0.5);
}

function drawLine(context, x, from, to, colour) {
  context.fillStyle = colour;
  context.fillRect(Math.round(x), from, 1, to - from);
}
