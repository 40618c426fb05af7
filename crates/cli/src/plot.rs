//! Lines in a plot with logarithmic axes, as SVG.

use std::fmt::Write;

/// Lines over the same axes.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) lines: Vec<Line>,
    /// How a place on the horizontal axis is written.
    pub(crate) x_text: fn(f64) -> String,
}

/// Points with coordinates above 0, from left to right.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Drawn faintly, for comparison.
    pub(crate) is_guide: bool,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const MARGIN: f64 = 60.0;
/// Height of an entry of the legend.
const ENTRY: f64 = 16.0;
/// Least distance of two marks on the horizontal axis.
const MARK: f64 = 44.0;

const COLOURS: [&str; 8] = ["#06c", "#d40", "#183", "#a3a", "#a80", "#0aa", "#c36", "#555"];
const DASHES: [&str; 3] = ["none", "6 3", "2 3"];
const GUIDE: &str = "#999";

impl Chart<'_> {
    pub(crate) fn as_svg(&self) -> String {
        let axes = Axes::around(self.lines.iter().flat_map(|line| &line.points));
        let height = HEIGHT + ENTRY * self.lines.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escaped(self.title)
        );
        self.draw_marks(&axes, &mut svg);
        for (i, line) in self.lines.iter().enumerate() {
            line.draw(i, &axes, &mut svg);
        }
        svg + "</svg>\n"
    }

    fn draw_marks(&self, axes: &Axes, svg: &mut String) {
        for power in axes.low.1.round() as i32..=axes.high.1.round() as i32 {
            let value = 10f64.powi(power);
            let (left, right, at) = (MARGIN, WIDTH - MARGIN, axes.y(value));
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"8\" y=\"{:.1}\">{value}</text>",
                at + 4.0
            );
        }
        let mut places: Vec<f64> = self.lines.iter().flat_map(|l| &l.points).map(|point| point.0).collect();
        places.sort_by(f64::total_cmp);
        let mut free = f64::MIN;
        for x in places {
            if axes.x(x) >= free {
                free = axes.x(x) + MARK;
                let (text, y) = (escaped(&(self.x_text)(x)), HEIGHT - MARGIN + 20.0);
                let _ = writeln!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>",
                    axes.x(x)
                );
            }
        }
    }
}

impl Line {
    fn draw(&self, number: usize, axes: &Axes, svg: &mut String) {
        let colour = if self.is_guide { GUIDE } else { COLOURS[number % COLOURS.len()] };
        let dash = DASHES[number / COLOURS.len() % DASHES.len()];
        let width = if self.is_guide { 1 } else { 2 };
        let stroke = format!("stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dash}\"");
        let places: Vec<(f64, f64)> = self.points.iter().map(|&(x, y)| (axes.x(x), axes.y(y))).collect();
        let points: String = places.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        let _ = writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" {stroke}/>");
        for (x, y) in places.iter().filter(|_| !self.is_guide) {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = HEIGHT - MARGIN / 4.0 + ENTRY * number as f64;
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" {stroke}/>\
             <text x=\"{}\" y=\"{:.1}\">{}</text>",
            MARGIN + 30.0,
            MARGIN + 38.0,
            y + 4.0,
            escaped(&self.label)
        );
    }
}

/// Decimal logarithms at the ends of the axes; the vertical ends are whole.
struct Axes {
    low: (f64, f64),
    high: (f64, f64),
}

impl Axes {
    fn around<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Self {
        let (mut low, mut high) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
        for &(x, y) in points {
            let (x, y) = (x.log10(), y.log10());
            low = (low.0.min(x), low.1.min(y));
            high = (high.0.max(x), high.1.max(y));
        }
        if low.0 > high.0 {
            (low, high) = ((0.0, 0.0), (1.0, 1.0));
        }
        Axes { low: (low.0, low.1.floor()), high: (high.0, high.1.ceil().max(low.1.floor() + 1.0)) }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value.log10() - self.low.0) / (self.high.0 - self.low.0).max(f64::MIN_POSITIVE);
        MARGIN + part * (WIDTH - 2.0 * MARGIN)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - MARGIN - (value.log10() - self.low.1) / (self.high.1 - self.low.1) * (HEIGHT - 2.0 * MARGIN)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_where_logarithms_put_them() {
        let line =
            |points: &[(f64, f64)], is_guide| Line { label: "a&b".into(), points: points.to_vec(), is_guide };
        let lines = vec![line(&[(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)], false), line(&[(1.0, 5.0)], true)];
        let svg = Chart { title: "t", lines, x_text: |x| format!("{x}!") }.as_svg();
        assert!(svg.contains("points=\"60.0,400.0 380.0,230.0 700.0,60.0 \""), "{svg}");
        assert_eq!((svg.matches("<circle").count(), svg.matches("a&amp;b").count()), (3, 2));
        assert!(svg.contains(">10!</text>") && svg.contains(">100</text>"), "{svg}");
    }

    #[test]
    fn few_points_are_drawn_without_nonsense() {
        let draw = |points: &[(f64, f64)]| {
            let lines = vec![Line { label: String::new(), points: points.to_vec(), is_guide: false }];
            Chart { title: "", lines, x_text: |x| x.to_string() }.as_svg()
        };
        for points in [&[][..], &[(8.0, 1.0)], &[(8.0, 3.0), (8.0, 3.0)]] {
            assert!(!draw(points).contains("NaN") && !draw(points).contains("inf"));
        }
    }
}
