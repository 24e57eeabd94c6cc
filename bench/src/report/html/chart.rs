//! A line chart as SVG. Colours are classes, so that the page's style gives them for light, dark and paper.

use std::fmt::Write;

use super::escape::escape;
use super::scale::Scale;

const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 42.0;
/// Numbers of marks are left out where they would touch.
const MARK_ROOM: f64 = 18.0;
/// More marks than this are notches along the top instead of lines with numbers: the curves would not be seen.
const MARKS_AS_LINES: usize = 24;
const MARK_NOTCH: f64 = 9.0;
/// Wider charts are not squeezed onto a small screen; they scroll.
const NARROW: f64 = 600.0;

#[derive(Debug, Clone)]
pub struct Chart {
    /// Unique on the page; letters, digits, dashes.
    pub id: String,
    pub title: String,
    /// What a reader who cannot see it should know.
    pub description: String,
    pub width: f64,
    pub height: f64,
    pub x: Scale,
    pub x_title: String,
    pub y: Scale,
    pub y_title: String,
    pub series: Vec<Series>,
    pub marks: Vec<ChartMark>,
    /// What was not measured, and why: from, to.
    pub shades: Vec<(f64, f64, &'static str)>,
    /// Text that appears over a part of the chart: from, to, what.
    pub hints: Vec<(f64, f64, String)>,
}

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    /// A class of the page's style: `c1` to `c6`, `muted`, `alarm`.
    pub colour: &'static str,
    pub stroke: Stroke,
    /// None where there is nothing to show.
    pub points: Vec<(f64, Option<f64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

impl Stroke {
    fn class(self) -> &'static str {
        match self {
            Self::Solid => "solid",
            Self::Dashed => "dashed",
            Self::Dotted => "dotted",
        }
    }
}

#[derive(Debug, Clone)]
pub struct ChartMark {
    pub at: f64,
    /// As in the table of marks.
    pub number: usize,
    pub class: &'static str,
    pub text: String,
}

impl Chart {
    /// The picture with its title and legend.
    pub fn figure(&self) -> String {
        let title = escape(&self.title);
        let legend = self.legend();
        format!(
            "<figure>\n<figcaption>{title}</figcaption>\n{legend}<div class=\"scroll\">{}</div></figure>\n",
            self.svg()
        )
    }

    fn legend(&self) -> String {
        let mut text = String::from("<ul class=\"legend\">\n");
        for Series { name, colour, stroke, .. } in &self.series {
            let _ = writeln!(
                text,
                "<li><svg class=\"swatch\" viewBox=\"0 0 26 8\" aria-hidden=\"true\">\
                 <path class=\"line {colour} {}\" d=\"M1 4H25\"/></svg>{}</li>",
                stroke.class(),
                escape(name)
            );
        }
        text + "</ul>\n"
    }

    fn svg(&self) -> String {
        let Self { id, width, height, .. } = self;
        let (title, description) = (escape(&self.title), escape(&self.description));
        let class = if *width > NARROW { "chart wide" } else { "chart" };
        let mut text = format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{title}</title>\n<desc id=\"{id}-d\">{description}</desc>\n"
        );
        self.shade(&mut text);
        self.grid(&mut text);
        for series in &self.series {
            self.line(&mut text, series);
        }
        self.hints(&mut text);
        self.marks(&mut text);
        text += "</svg>\n";
        text
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (self.width - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        self.height - BOTTOM - self.y.place(value) * (self.height - TOP - BOTTOM)
    }

    fn shade(&self, text: &mut String) {
        let (height, (low, high)) = (self.height - TOP - BOTTOM, self.x.ends());
        for (from, to, why) in self.shades.iter().filter(|(from, to, _)| *to > low && *from < high && to > from) {
            let x = self.x_of(*from);
            let width = self.x_of(*to) - x;
            let _ = writeln!(
                text,
                "<rect class=\"shade\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\">\
                 <title>{why}</title></rect>"
            );
        }
    }

    fn grid(&self, text: &mut String) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        for (value, label) in &self.y.ticks {
            let y = self.y_of(*value);
            let _ = writeln!(text, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
            let _ = writeln!(
                text,
                "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(label)
            );
        }
        for (value, label) in &self.x.ticks {
            let x = self.x_of(*value);
            let _ = writeln!(text, "<path class=\"notch\" d=\"M{x:.1} {bottom}v5\"/>");
            let _ = writeln!(
                text,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 19.0,
                escape(label)
            );
        }
        let _ = writeln!(text, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>");
        let (middle, title) = ((LEFT + right) / 2.0, escape(&self.x_title));
        let _ = writeln!(
            text,
            "<text class=\"name\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{title}</text>",
            self.height - 5.0
        );
        let _ = writeln!(text, "<text class=\"name\" x=\"4\" y=\"11\">{}</text>", escape(&self.y_title));
    }

    fn marks(&self, text: &mut String) {
        let few = self.marks.len() <= MARKS_AS_LINES;
        let bottom = if few { self.height - BOTTOM } else { TOP + MARK_NOTCH };
        let many = if few { "" } else { " many" };
        let mut free_from = 0.0;
        for ChartMark { at, number, class, text: what } in &self.marks {
            let (x, what) = (self.x_of(*at), escape(what));
            let _ = write!(
                text,
                "<g class=\"mark {class}{many}\"><title>{what} at {at:.1} s</title><path d=\"M{x:.1} {TOP}V{bottom}\"/>"
            );
            if few && x >= free_from {
                let (middle, baseline) = (TOP - 9.0, TOP - 5.0);
                let _ = write!(
                    text,
                    "<circle cx=\"{x:.1}\" cy=\"{middle}\" r=\"8\"/>\
                     <text x=\"{x:.1}\" y=\"{baseline}\" text-anchor=\"middle\">{number}</text>"
                );
                free_from = x + MARK_ROOM;
            }
            text.push_str("</g>\n");
        }
    }

    fn line(&self, text: &mut String, series: &Series) {
        let mut path = String::new();
        let mut lonely = String::new();
        for part in series.points.split(|point| point.1.is_none()).filter(|part| !part.is_empty()) {
            for (at, (x, y)) in part.iter().enumerate() {
                let (x, y) = (self.x_of(*x), self.y_of(y.unwrap_or_default()));
                let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
                if part.len() == 1 {
                    let _ = write!(
                        lonely,
                        "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>",
                        series.colour
                    );
                }
            }
        }
        let _ =
            writeln!(text, "<path class=\"line {} {}\" d=\"{path}\"/>{lonely}", series.colour, series.stroke.class());
    }

    /// Invisible areas; browsers show their titles when pointed at.
    fn hints(&self, text: &mut String) {
        let height = self.height - TOP - BOTTOM;
        for (from, to, what) in &self.hints {
            let (from, to) = (self.x_of(*from), self.x_of(*to));
            let width = to - from;
            let _ = writeln!(
                text,
                "<rect class=\"hint\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\">\
                 <title>{}</title></rect>",
                escape(what)
            );
        }
    }
}
