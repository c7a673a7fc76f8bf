// A run as an image: the numbers, the proof, the timeline and the latest crashes, in the colours of the page.

import { drawTimeline, layoutOf } from "./timeline-drawing.js";

const WIDTH = 1_600;
const HEIGHT = 900;
const MARGIN = 48;
const TIMELINE = { x: MARGIN, y: 270, width: WIDTH - 2 * MARGIN, height: 330 };
const ROW_HEIGHT = 30;
const GUTTER = 10;
const MOST_ROWS = 7;

/**
 * Draws on `canvas`. `badges` is [{label, number, colour, soft}], `facts` and `notes` are lines of text. `crashes` is
 * the rows of the table: the header row, then the crashes, newest first; at most `MOST_ROWS` crashes are drawn. `look`
 * is what `TimelineView.look` returns, with the colours by name, `hueOf(replica)`, the font family, and the word `now`.
 */
export function drawPicture(canvas, { title, notes, badges, facts, timeline, crashes, look }) {
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const context = canvas.getContext("2d");
  // Text that is wider than `width` is condensed to fit.
  const write = (text, x, y, size, colour, weight = 600, width = WIDTH - MARGIN - x) => {
    context.font = `${weight} ${size}px ${look.family}`;
    context.fillStyle = colour;
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(text, x, y, width);
  };
  context.fillStyle = look.ground;
  context.fillRect(0, 0, WIDTH, HEIGHT);
  write(title, MARGIN, 66, 34, look.ink, 700);
  notes.forEach((line, index) => write(line, 420, 44 + index * 26, 18, look.quiet));
  badges.forEach(({ label, number, colour, soft }, index) => {
    const x = MARGIN + index * 300;
    panel(context, { x, y: 96, width: 280, height: 140 }, look[soft]);
    write(label, x + 20, 130, 19, look[colour], 600, 240);
    write(number, x + 20, 205, 64, look[colour], 750, 240);
  });
  facts.forEach((line, index) => write(line, MARGIN + 630, 130 + index * 34, 20, look.ink));
  panel(context, { ...TIMELINE, x: TIMELINE.x - 12, y: TIMELINE.y - 12, width: TIMELINE.width + 24, height: TIMELINE.height + 24 }, look.surface);
  drawInset(context, timeline, look);
  crashes.slice(0, MOST_ROWS + 1).forEach((cells, row) => {
    const y = 660 + row * ROW_HEIGHT;
    const step = (WIDTH - 2 * MARGIN) / cells.length;
    const [colour, weight] = row === 0 ? [look.quiet, 600] : [look.ink, 500];
    cells.forEach((cell, column) => write(cell, MARGIN + column * step, y, 17, colour, weight, step - GUTTER));
  });
}

// Drawing the timeline clears the canvas, so the timeline gets a separate one.
function drawInset(context, timeline, look) {
  const inset = document.createElement("canvas");
  [inset.width, inset.height] = [TIMELINE.width, TIMELINE.height];
  const larger = { ...look, font: `600 14px ${look.family}` };
  drawTimeline(inset.getContext("2d"), timeline, layoutOf(timeline, TIMELINE), larger);
  context.drawImage(inset, TIMELINE.x, TIMELINE.y);
}

function panel(context, { x, y, width, height }, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(x, y, width, height, 16);
  context.fill();
}
