//! The plots: bars on two logarithmic scales, for the rate and for the CPU time.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

/// The figures of one server, of several replicas together or of plain inserts, at one number of unanswered smiles per
/// session. They are drawn as one bar on each scale.
pub(crate) struct Bar {
    name: &'static str,
    unanswered: usize,
    per_second: f64,
    processor_micros: f64,
}

impl Bar {
    pub(crate) fn new(name: &'static str, unanswered: usize, per_second: f64, processor_micros: f64) -> Self {
        Self { name, unanswered, per_second, processor_micros }
    }

    /// A light colour for one unanswered smile, a dark one for several.
    fn colour(&self) -> &'static str {
        if self.unanswered == 1 { "#7fb3d5" } else { "#1f618d" }
    }
}

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 16.0;
/// Width of the column of names.
const NAMES: f64 = 190.0;
/// Width of a scale and the numbers after its bars.
const PANEL: f64 = 340.0;
/// Width of the number after the longest bar.
const NUMBER: f64 = 70.0;
const BAR: f64 = 16.0;
/// Space between bars with different names.
const GAP: f64 = 14.0;
/// Top of the first bar.
const TOP: f64 = 96.0;
/// The left edge of the legend.
const LEGEND: f64 = 420.0;

const INK: &str = "#1c2833";
const LINE: &str = "#d5d8dc";
/// An opaque background, so that the plot is readable on any page.
const PAPER: &str = "#ffffff";

struct Scale {
    left: f64,
    lowest: f64,
    decades: f64,
}

impl Scale {
    /// A scale of at least one decade, from the power of ten at or below the lowest value to the one at or above the
    /// highest.
    fn of(values: impl Iterator<Item = f64> + Clone, left: f64) -> Self {
        let lowest = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let highest = values.fold(0.0, f64::max).log10().ceil();
        Self { left, lowest, decades: (highest - lowest).max(1.0) }
    }

    fn length(&self, value: f64) -> f64 {
        ((value.log10() - self.lowest) / self.decades * (PANEL - NUMBER)).max(1.0)
    }

    /// Powers of ten on the scale.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.decades as i32).map(|decade| 10_f64.powi(self.lowest as i32 + decade))
    }
}

/// `times_of` says which processes the CPU time includes.
pub(super) fn draw(title: &str, times_of: &str, bars: &[Bar]) -> Document {
    let mut names: Vec<&str> = Vec::new();
    for bar in bars {
        if !names.contains(&bar.name) {
            names.push(bar.name);
        }
    }
    let height = TOP + names.len() as f64 * GAP + bars.len() as f64 * BAR + MARGIN;
    let paper = Rectangle::new().set("width", WIDTH).set("height", height).set("rx", 8).set("fill", PAPER);
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .add(paper)
        .add(text(title, MARGIN, 28.0).set("font-size", 16).set("font-weight", "bold"));
    document = legend(document, bars);
    let rates = Scale::of(bars.iter().map(|bar| bar.per_second), MARGIN + NAMES);
    let times = Scale::of(bars.iter().map(|bar| bar.processor_micros), MARGIN + NAMES + PANEL);
    document = axis(document, &rates, "smiles per second: higher is better", height);
    document = axis(document, &times, &format!("µs of CPU time per smile, {times_of}: lower is better"), height);
    let mut y = TOP;
    for name in names {
        let group: Vec<&Bar> = bars.iter().filter(|bar| bar.name == name).collect();
        document = document.add(text(name, MARGIN, y + group.len() as f64 * BAR / 2.0 + 4.0));
        for bar in group {
            document = one(document, &rates, bar.per_second, bar, y);
            document = one(document, &times, bar.processor_micros, bar, y);
            y += BAR;
        }
        y += GAP;
    }
    document
}

fn text(content: impl Into<String>, x: f64, y: f64) -> Text {
    Text::new(content).set("x", x).set("y", y).set("fill", INK)
}

fn legend(mut document: Document, bars: &[Bar]) -> Document {
    let mut x = LEGEND;
    for unanswered in crate::load::DEPTHS {
        let Some(bar) = bars.iter().find(|bar| bar.unanswered == unanswered) else { continue };
        let square = Rectangle::new().set("x", x).set("y", 18).set("width", 12).set("height", 12);
        let plural = if unanswered == 1 { "" } else { "s" };
        let words = format!("{unanswered} unanswered smile{plural} per session");
        document = document.add(square.set("fill", bar.colour())).add(text(words, x + 18.0, 28.0));
        x += 230.0;
    }
    document
}

fn axis(mut document: Document, scale: &Scale, name: &str, height: f64) -> Document {
    document = document.add(text(name, scale.left, 58.0));
    for tick in scale.ticks() {
        let x = scale.left + (tick.log10() - scale.lowest) / scale.decades * (PANEL - NUMBER);
        let line = Line::new().set("x1", x).set("x2", x).set("y1", 82.0).set("y2", height - MARGIN).set("stroke", LINE);
        let number = text(number(tick), x, 76.0).set("text-anchor", "middle").set("font-size", 11);
        document = document.add(line).add(number);
    }
    document
}

/// Adds a bar with its value.
fn one(document: Document, scale: &Scale, value: f64, bar: &Bar, y: f64) -> Document {
    let length = scale.length(value);
    let shape = Rectangle::new().set("x", scale.left).set("y", y).set("width", length).set("height", BAR - 2.0);
    let value = text(number(value), scale.left + length + 5.0, y + BAR - 5.0).set("font-size", 12);
    document.add(shape.set("fill", bar.colour())).add(value)
}

/// Formats a fractional value below ten with one decimal place, and rounds any other value to an integer.
fn number(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 { format!("{value:.1}") } else { super::thousands(value) }
}
