//! The frames bench as a picture: plain SVG, readable on light and dark ground.

use std::fmt::Write as _;

use crate::Figure;

const WIDTH: f64 = 970.0;
const LABELS: f64 = 220.0;
const PANEL: f64 = 240.0;
const GAP: f64 = 10.0;
const TOP: f64 = 88.0;
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
/// Each panel spans these ratios, on a logarithmic scale.
const SPAN: (f64, f64) = (0.2, 400.0);

const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 17px; font-weight: 600; fill: #1f2328 }
  .ours { fill: #0969da; font-weight: 600 }
  .peer { fill: #bf8700 }
  .bare { fill: #8c959f }
  .line { stroke: #0969da; stroke-dasharray: 3 3 }
  .number { font-size: 12px }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 }
    .title { fill: #f0f6fc }
    .ours { fill: #58a6ff }
    .peer { fill: #d29922 }
    .bare { fill: #656c76 }
    .line { stroke: #58a6ff }
  }
";

/// One panel a size; a bar is the time to seal and open one frame, in units of sealwire's, the first of all.
#[must_use]
pub fn frames(names: &[&str], sizes: &[&str; 3], figures: &[Vec<[Figure; 2]>; 3]) -> String {
    let height = TOP + ROW * names.len() as f64 + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Time to seal and open one frame, relative to sealwire\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"26\">Time to seal and open one frame, relative to sealwire</text>\n\
         <text x=\"8\" y=\"46\">Shorter is faster; the dashed line is sealwire, the scale is logarithmic. \
         Amber: protocols. Grey: bare AEADs, which keep one key.</text>\n"
    );
    for (row, name) in names.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let class = if row == 0 { "ours" } else { "" };
        put(
            &mut svg,
            &format!(
                "<text class=\"{class}\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{name}</text>",
                LABELS - 8.0,
                y + 12.0
            ),
        );
    }
    for (panel, (size, figures)) in sizes.iter().zip(figures).enumerate() {
        let left = LABELS + panel as f64 * (PANEL + GAP);
        put(
            &mut svg,
            &format!(
                "<text class=\"title\" x=\"{left:.1}\" y=\"{:.1}\">{size}</text>",
                TOP - 10.0
            ),
        );
        for (row, figures) in figures.iter().enumerate() {
            put(&mut svg, &bar(names[row], left, row, total(figures)));
        }
        put(
            &mut svg,
            &format!(
                "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                TOP - 4.0,
                TOP + ROW * names.len() as f64,
                x = left + at(1.0)
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Seal and open together, against the reference's: by absolute medians, so that the slower half weighs more.
fn total([seal, open]: &[Figure; 2]) -> f64 {
    let reference = seal.nanoseconds / seal.ratio + open.nanoseconds / open.ratio;
    (seal.nanoseconds + open.nanoseconds) / reference
}

fn bar(name: &str, left: f64, row: usize, ratio: f64) -> String {
    let class = match name {
        name if name.starts_with("sealwire") => "ours",
        name if name.starts_with("bare") => "bare",
        _ => "peer",
    };
    let (y, width) = (TOP + ROW * row as f64, at(ratio));
    format!(
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\n\
         <text class=\"number\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        left + width.max(at(1.0)) + 5.0,
        y + 12.0,
        if ratio < 10.0 {
            format!("{ratio:.2}")
        } else {
            format!("{ratio:.0}")
        }
    )
}

/// Where a ratio stands, from a panel's left edge.
fn at(ratio: f64) -> f64 {
    let (from, to) = SPAN;
    let share = (ratio / from).ln() / (to / from).ln();
    share.clamp(0.01, 1.0) * (PANEL - 45.0)
}

fn put(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string");
}
