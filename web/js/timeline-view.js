// The timeline on the page: its size, and its readings by pointer and keyboard.

import { byId, element, setText } from "./dom.js";
import { AXIS_HEIGHT, GLYPHS, LANE_HEIGHT, drawTimeline, layoutOf } from "./timeline-drawing.js";
import { SHOWN_MS, readingAt, shownOf } from "./timeline.js";

/** The size of text, in pixels, at which the drawing has a scale of 1. */
const TEXT_SIZE = 16;
/**
 * The minimum height of the area for the rates at a scale of 1, in CSS pixels. If the lanes do not fit below this area,
 * the drawing becomes taller.
 */
const LEAST_RATES = 48;
const NARROW = 520;
const NARROW_MS = 90_000;
const LONG_STEP = 10;

export class TimelineView {
  #translate;
  #format;
  #hueOf;
  #canvas = byId("timeline");
  #reading = byId("timeline-reading");
  #details = byId("timeline-text");
  #table = null;
  #run = null;
  #timeline = null;
  #drawn = null;
  #look = null;
  #cursor = null;

  constructor({ translate, format, hueOf }) {
    this.#translate = translate;
    this.#format = format;
    this.#hueOf = hueOf;
    const legend = Object.entries(GLYPHS).map(([kind, glyph]) =>
      element("li", "", element("span", `glyph ${kind}`, glyph), translate(`mark.${kind}`)),
    );
    byId("timeline-legend").append(...legend);
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerleave", () => this.#moveTo(null));
    this.#canvas.addEventListener("blur", () => this.#moveTo(null));
    this.#canvas.addEventListener("keydown", (event) => this.#press(event));
    this.#details.addEventListener("toggle", () => this.#paintRows());
    new ResizeObserver(() => this.#redraw()).observe(this.#canvas.parentElement);
    addEventListener("resize", () => this.#redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  paint(timeline) {
    if (timeline === this.#drawn) return;
    this.#run = timeline;
    this.#timeline = shownOf(timeline);
    this.#draw();
    this.#paintReading();
    this.#paintRows();
  }

  /** Adds the table, which is painted while it is open. */
  showTable(table) {
    this.#table = table;
    this.#paintRows();
  }

  look() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const names = ["ground", "surface", "line", "ink", "quiet", "good", "bad", "doubt", "good-soft", "bad-soft"];
    const textSize = Number.parseFloat(style.fontSize);
    return {
      ...Object.fromEntries(names.map((name) => [name, colour(name)])),
      scale: textSize / TEXT_SIZE,
      plotHeight: Number.parseFloat(style.getPropertyValue("--plot-height")),
      font: `600 ${0.7 * textSize}px ${getComputedStyle(document.body).fontFamily}`,
      family: getComputedStyle(document.body).fontFamily,
      now: this.#translate("timeline.now"),
      hueOf: (replica) => colour(`replica-${this.#hueOf(replica)}`),
    };
  }

  #redraw() {
    this.#look = null;
    if (this.#timeline === null) return;
    this.#draw();
    this.#paintReading();
  }

  #draw() {
    this.#look ??= this.look();
    const width = this.#canvas.parentElement.clientWidth;
    if (width === 0) return;
    const length = width < NARROW ? NARROW_MS : SHOWN_MS;
    const { scale, plotHeight } = this.#look;
    const { lanes } = layoutOf(this.#timeline, { width, height: 0, length });
    const height = Math.max(plotHeight, LEAST_RATES + AXIS_HEIGHT + lanes.length * LANE_HEIGHT) * scale;
    const density = devicePixelRatio;
    // Setting the size of a canvas replaces its bitmap, even if the size stays the same, so the size is set only if it
    // changes.
    const wanted = [Math.round(width * density), Math.round(height * density)];
    if (this.#canvas.width !== wanted[0] || this.#canvas.height !== wanted[1]) {
      [this.#canvas.width, this.#canvas.height] = wanted;
    }
    this.#canvas.style.setProperty("height", `${height}px`);
    const context = this.#canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    this.layout = layoutOf(this.#timeline, { width, height, length, scale });
    const [first] = this.#visible;
    if (this.#cursor !== null) this.#cursor = first === undefined ? null : Math.max(first.at, this.#cursor);
    drawTimeline(context, this.#timeline, this.layout, this.#look, this.#cursor);
    this.#drawn = this.#run;
  }

  // A narrow page shows fewer samples than the timeline has. A hidden page has no layout.
  get #visible() {
    return this.#timeline.samples.filter(({ at }) => at >= (this.layout?.from ?? -Infinity));
  }

  #point(event) {
    if (this.layout === undefined) return;
    this.#moveTo(this.layout.atOf(event.offsetX));
  }

  #press(event) {
    const samples = this.#timeline === null ? [] : this.#visible;
    if (samples.length === 0) return;
    const here = this.#cursor === null ? samples.length - 1 : readingAt({ samples, marks: [] }, this.#cursor).index;
    const steps = {
      ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1,
      PageDown: here - LONG_STEP, PageUp: here + LONG_STEP, Home: 0, End: samples.length - 1,
    };
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    this.#moveTo(samples[Math.min(samples.length - 1, Math.max(0, steps[event.key]))].at);
  }

  #moveTo(at) {
    if (this.#timeline === null) return;
    this.#cursor = at === null ? null : (readingAt(this.#timeline, at)?.sample.at ?? null);
    this.#draw();
    this.#paintReading();
  }

  #paintReading() {
    const samples = this.#visible;
    const last = samples.at(-1)?.at ?? 0;
    const reading = readingAt(this.#timeline, this.#cursor ?? last);
    const text = reading === null ? this.#translate("timeline.empty") : this.#words(reading, last).join(" · ");
    setText(this.#reading, text);
    this.#canvas.setAttribute("aria-valuemin", String(-Math.round((last - (samples[0]?.at ?? 0)) / 1_000)));
    this.#canvas.setAttribute("aria-valuenow", String(Math.round(((this.#cursor ?? last) - last) / 1_000)));
    this.#canvas.setAttribute("aria-valuetext", text);
  }

  #words({ sample, marks }, last) {
    const isShown = ([replica, { state }]) => state !== "lost" || this.layout?.lanes.includes(replica);
    const lanes = [...sample.replicas].filter(isShown).map(([replica, { state, sessions }]) =>
      state === "ready" ? `${replica}: ${sessions}` : `${replica}: ${this.#translate(`replica.${state}`)}`,
    );
    return [
      sample.at === last ? this.#translate("timeline.now") : this.#translate("timeline.ago", { age: this.#format.duration(last - sample.at) }),
      this.#translate("timeline.successes", { rate: this.#format.rate(sample.successes) }),
      this.#translate("timeline.overloads", { rate: this.#format.rate(sample.overloads) }),
      ...lanes,
      ...marks.map((mark) => this.#markWords(mark)),
    ];
  }

  #markWords({ kind, replica, count }) {
    const words = this.#translate(`mark.${kind}`);
    return [GLYPHS[kind], words, replica, count > 1 ? `×${count}` : null].filter((part) => part !== null).join(" ");
  }

  #paintRows() {
    if (!this.#details.open || this.#timeline === null) return;
    this.#table?.paint(this.#timeline, (reading, now) => this.#words(reading, now));
  }
}
