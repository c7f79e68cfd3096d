//! Plots as SVG: a line for each series over a linear x axis and a logarithmic y axis, since servers
//! differ by more than a linear one could show.

/// The whole picture, and the part between the axes, in user units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 380.0;

/// The distance of two lines of the legend.
const LEGEND_STEP: f64 = 20.0;

/// Colours that Okabe and Ito chose to be told apart by everyone, on light and on dark.
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9",
];

/// The page's own colours, by what the reader's system prefers. The picture has a background, so that
/// it is readable wherever it is put.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-size:15px;font-weight:600}\
.back{fill:#fff}.grid{stroke:#d0d7de;stroke-width:1}.axis{stroke:#57606a;stroke-width:1}\
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.back{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#8b949e}}";

/// A line of a plot.
#[derive(Debug)]
pub(crate) struct Series {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Its colour, counted from 0; series of one server share it.
    pub(crate) colour: usize,
    /// Whether it is dashed.
    pub(crate) dashed: bool,
    /// Its points, ascending in x. Points at or below zero in y cannot be shown and are left out.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug)]
pub(crate) struct Plot {
    /// What it shows.
    pub(crate) title: &'static str,
    /// What goes to the right, with its unit.
    pub(crate) x: &'static str,
    /// What goes up, with its unit.
    pub(crate) y: &'static str,
    /// The lines.
    pub(crate) series: Vec<Series>,
}

impl Plot {
    /// The picture, or `None` where there is no line of two points in it.
    pub(crate) fn svg(&self) -> Option<String> {
        let shown = |series: &Series| -> Vec<(f64, f64)> {
            let points = series.points.iter().copied();
            points.filter(|(x, y)| *x >= 0.0 && *y > 0.0).collect()
        };
        let all: Vec<(f64, f64)> = self.series.iter().flat_map(shown).collect();
        if !self.series.iter().any(|it| shown(it).len() > 1) {
            return None;
        }
        let right = all.iter().map(|it| it.0).fold(0.0, f64::max);
        let (x_step, x_end) = linear(right);
        let least = all.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
        let most = all.iter().map(|it| it.1).fold(0.0, f64::max);
        let ticks = logarithmic(least, most);
        let (bottom, top) = (ticks.first()?.log10(), ticks.last()?.log10());
        let across = |x: f64| LEFT + x / x_end * (RIGHT - LEFT);
        let up = |y: f64| BOTTOM - (y.log10() - bottom) / (top - bottom) * (BOTTOM - TOP);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>\n",
            title = escaped(self.title),
        );
        for tick in ticks.iter().copied() {
            let y = up(tick);
            svg += &format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                y + 4.5,
                label(tick)
            );
        }
        let mut tick = 0.0;
        while tick <= x_end {
            let x = across(tick);
            svg += &format!(
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                BOTTOM + 20.0,
                label(tick)
            );
            tick += x_step;
        }
        let (middle_x, middle_y) = (f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM));
        svg += &format!(
            "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\n\
             <text x=\"{middle_x}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            BOTTOM + 44.0,
            escaped(self.x),
            escaped(self.y),
        );
        for (number, series) in self.series.iter().enumerate() {
            let stroke = COLOURS
                .get(series.colour % COLOURS.len())
                .copied()
                .unwrap_or_default();
            let dashes = if series.dashed {
                " stroke-dasharray=\"6 4\""
            } else {
                ""
            };
            let points: Vec<String> = shown(series)
                .into_iter()
                .map(|(x, y)| format!("{:.1},{:.1}", across(x), up(y)))
                .collect();
            svg += &format!(
                "<polyline class=\"line\" stroke=\"{stroke}\"{dashes} points=\"{}\"/>\n",
                points.join(" ")
            );
            for point in &points {
                let (x, y) = point.split_once(',').unwrap_or_default();
                svg += &format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{stroke}\"/>\n");
            }
            let y = TOP + 8.0 + LEGEND_STEP * number as f64;
            svg += &format!(
                "<path class=\"line\" stroke=\"{stroke}\"{dashes} d=\"M{} {y}h26\"/>\
                 <text x=\"{}\" y=\"{:.1}\">{}</text>\n",
                RIGHT + 16.0,
                RIGHT + 48.0,
                y + 4.5,
                escaped(&series.name)
            );
        }
        Some(svg + "</svg>\n")
    }
}

/// A step of 1, 2 or 5 times a power of ten of which up to eight reach `most`, and where they end.
fn linear(most: f64) -> (f64, f64) {
    let least = (most / 8.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * power)
        .find(|step| *step >= least)
        .unwrap_or(most);
    (step, (most / step).ceil() * step)
}

/// 1, 2 and 5 times powers of ten, from what is at or below `least` to what is at or above `most`.
fn logarithmic(least: f64, most: f64) -> Vec<f64> {
    let mut ticks: Vec<f64> = Vec::new();
    let mut power = 10_f64.powf(least.log10().floor());
    loop {
        for tick in [1.0, 2.0, 5.0].map(|times| times * power) {
            if tick <= least {
                ticks.clear();
            }
            ticks.push(tick);
            if tick >= most && ticks.len() > 1 {
                return ticks;
            }
        }
        power *= 10.0;
    }
}

/// A number of an axis: thousands apart, and no more decimals than it has.
fn label(value: f64) -> String {
    if value < 1.0 && value > 0.0 {
        return format!("{value:.6}").trim_end_matches('0').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_around_the_values() {
        assert_eq!(linear(18_000.0), (5_000.0, 20_000.0));
        assert_eq!(linear(16.0), (2.0, 16.0));
        assert_eq!(logarithmic(3.0, 40.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(logarithmic(10.0, 10.0), [10.0, 20.0]);
        let labels = [0.0, 0.5, 20.0, 5_000.0, 1_000_000.0].map(label);
        assert_eq!(labels, ["0", "0.5", "20", "5,000", "1,000,000"]);
    }

    #[test]
    fn a_point_is_where_its_values_are() {
        let plot = |points| Plot {
            title: "a < b",
            x: "x",
            y: "y",
            series: vec![Series {
                name: "s".into(),
                colour: 0,
                dashed: false,
                points,
            }],
        };
        assert_eq!(plot(vec![(1.0, 1.0)]).svg(), None);
        let svg = plot(vec![(0.0, 1.0), (10.0, 100.0), (5.0, 0.0)]).svg();
        let svg = svg.unwrap();
        assert!(svg.contains("a &lt; b"));
        let line = format!("points=\"{LEFT:.1},{BOTTOM:.1} {RIGHT:.1},{TOP:.1}\"");
        assert!(svg.contains(&line), "{svg}");
    }
}
