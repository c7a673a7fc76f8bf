// Draws a timeline on a canvas: two areas of rates above, and a lane for each replica below. Callers pass colours,
// words and size, so that the page and the picture of a run share this code.

import { Mark, lanesOf, spanOf } from "./timeline.js";

export const LANE_HEIGHT = 17;
export const AXIS_HEIGHT = 18;
const MARK_SIZE = 12;
const RATE_WIDTH = 34;
const LABEL_WIDTH = 84;
const WIDEST_LABEL = 0.28;
const TIME_WIDTH = 56;
const LABEL_LETTERS = 8;
const TIME_STEPS = [10, 30, 60];
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

/**
 * The edges of the plot, and the conversions between times and pixels. `length` is the longest visible span in
 * milliseconds, and `scale` is the size of text relative to the usual size.
 */
export function layoutOf(timeline, { width, height, length, scale = 1 }) {
  const lanes = lanesOf(timeline, spanOf(timeline, length));
  const [from, to] = spanOf(timeline, length);
  const left = RATE_WIDTH * scale;
  const right = width - Math.min(LABEL_WIDTH * scale, width * WIDEST_LABEL);
  const bottom = height - (AXIS_HEIGHT + lanes.length * LANE_HEIGHT) * scale;
  const xOf = (at) => left + ((at - from) / (to - from)) * (right - left);
  const atOf = (x) => from + ((x - left) / (right - left)) * (to - from);
  return { lanes, from, to, left, right, top: 8 * scale, bottom, width, height, scale, xOf, atOf };
}

/** `look` has the colours by name, `hueOf(replica)`, the `font` and the word `now`; `cursor` is a time or null. */
export function drawTimeline(context, timeline, layout, look, cursor = null) {
  const { width, height, scale } = layout;
  context.clearRect(0, 0, width, height);
  context.font = look.font;
  context.textBaseline = "middle";
  const samples = timeline.samples.filter(({ at }) => at >= layout.from);
  const top = Math.max(20, ...samples.map(({ successes, overloads }) => Math.max(successes, overloads)));
  const yOf = (rate) => layout.bottom - (rate / (top * 1.08)) * (layout.bottom - layout.top);
  drawGrid(context, layout, look, top, yOf);
  const rates = [[({ overloads }) => yOf(overloads), look.bad, look["bad-soft"]], [({ successes }) => yOf(successes), look.good, look["good-soft"]]];
  // Both areas come first, then both lines, so that neither rate hides the other.
  for (const [y, , fill] of rates) drawArea(context, layout, samples, y, fill);
  for (const [y, stroke] of rates) drawCurve(context, layout, samples, y, stroke);
  layout.lanes.forEach((replica, index) => drawLane(context, layout, samples, replica, index, look));
  for (const mark of timeline.marks) if (mark.at >= layout.from) drawMark(context, layout, mark, look);
  if (cursor !== null) drawLine(context, layout.xOf(cursor), layout.top, height - AXIS_HEIGHT * scale, look.ink);
}

function drawGrid(context, { left, right, from, to, bottom, height, scale, xOf }, look, top, yOf) {
  const step = GRID_STEPS.find((candidate) => top / candidate <= 3) ?? top;
  context.textAlign = "right";
  for (let rate = 0; rate <= top; rate += step) {
    context.fillStyle = look.line;
    context.fillRect(left, Math.round(yOf(rate)), right - left, 1);
    context.fillStyle = look.quiet;
    context.fillText(String(rate), left - 6 * scale, yOf(rate));
  }
  context.textAlign = "center";
  const seconds = Math.round((to - from) / 1_000);
  const fitting = Math.max(1, (right - left) / (TIME_WIDTH * scale));
  const pace = TIME_STEPS.find((candidate) => seconds / candidate <= fitting) ?? seconds;
  for (let ago = 0; ago <= seconds; ago += pace) {
    const x = xOf(to - ago * 1_000);
    context.fillText(ago === 0 ? look.now : `−${ago} s`, x, height - (AXIS_HEIGHT * scale) / 2);
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

function laneY({ bottom, scale }, index) {
  return bottom + (index + 0.5) * LANE_HEIGHT * scale + 2;
}

// The thickness of the bar shows the replica's share of this page's sessions. A replica without sessions is a thin
// line, and a lost one has no bar.
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
      const thickness = all === 0 ? 1 : 1 + Math.round((here.sessions / all) * (LANE_HEIGHT * layout.scale - 5));
      context.fillStyle = here.state === "draining" ? look.doubt : colour;
      context.fillRect(previous, y - thickness / 2, x - previous + 0.5, thickness);
    }
    previous = x;
    last = here ?? null;
  }
  context.textAlign = "left";
  context.fillStyle = last === null || last.state === "lost" ? look.quiet : look.ink;
  const held = last === null || last.state === "lost" ? "" : ` ${last.sessions}`;
  // Ids differ at the end, so a long one loses its start.
  const name = replica.length > LABEL_LETTERS ? `…${replica.slice(1 - LABEL_LETTERS)}` : replica;
  context.fillText(`${name}${held}`, layout.right + 6, y, layout.width - layout.right - 8);
}

function drawMark(context, layout, mark, look) {
  const x = layout.xOf(mark.at);
  const lane = layout.lanes.indexOf(mark.replica);
  const radius = (MARK_SIZE * layout.scale) / 2;
  const y = lane === -1 ? layout.top + radius : laneY(layout, lane);
  const colour = look[COLOURS[mark.kind] ?? "ink"];
  if (lane === -1 || mark.kind === Mark.ASKED) drawLine(context, x, layout.top, y, colour);
  context.fillStyle = look.surface;
  context.beginPath();
  context.arc(x, y, radius + 1, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = colour;
  context.textAlign = "center";
  context.fillText(GLYPHS[mark.kind], x, y + 0.5);
}

function drawLine(context, x, from, to, colour) {
  context.fillStyle = colour;
  context.fillRect(Math.round(x), from, 1, to - from);
}
