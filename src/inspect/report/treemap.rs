//! A picture of what takes how much room: a treemap, every part as large as its bytes.
//!
//! Rectangles are laid out as Bruls, Huizing and van Wijk do in "Squarified Treemaps" (2000): in rows along the
//! shorter side, each row as long as that makes its rectangles more like squares.

use std::fmt::Write as _;

use super::usage::{Part, Usage};
use crate::inspect::bytes;
use crate::inspect::markup::{escaped, width};

/// The height of the line with the name of a layer.
const HEADING: f64 = 20.0;
/// Between layers.
const GAP: f64 = 3.0;
/// A part that would be smaller than this, in square pixels, is drawn together with others like it.
const SMALLEST: f64 = 110.0;
/// How many colours there are for layers.
const COLOURS: usize = 6;

/// A rectangle, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    fn size(&self) -> f64 {
        self.width * self.height
    }

    /// Without so much at the top, and at every other side.
    fn within(&self, top: f64, side: f64) -> Self {
        Self {
            x: self.x + side,
            y: self.y + top,
            width: (self.width - 2.0 * side).max(0.0),
            height: (self.height - top - side).max(0.0),
        }
    }
}

/// A picture of `usage` as SVG, `width` by `height` pixels.
pub(super) fn draw(usage: &Usage, width: f64, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"treemap\" role=\"img\" \
         aria-label=\"Room by layer and package, {}; the table below says the same\" \
         viewBox=\"0 0 {width:.0} {height:.0}\">\n",
        escaped(&bytes(usage.bytes))
    );
    let whole = Area { x: 0.0, y: 0.0, width, height };
    // A layer of a few files would not be seen at all.
    let least = usage.bytes as f64 / 400.0;
    let sizes: Vec<f64> =
        usage.layers.iter().map(|layer| (layer.bytes as f64).max(least)).collect();
    for (number, (layer, area)) in usage.layers.iter().zip(squarified(&sizes, whole)).enumerate() {
        draw_layer(&mut svg, layer, usage.bytes, area.within(GAP / 2.0, GAP / 2.0), number);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_layer(svg: &mut String, layer: &Part, all: u64, area: Area, number: usize) {
    let _ = writeln!(svg, "<g class=\"tone{}\">", number % COLOURS);
    let share = 100.0 * layer.bytes as f64 / all.max(1) as f64;
    let text = format!("{}: {} ({share:.1} %)", layer.name, bytes(layer.bytes));
    rectangle(svg, "layer", &area, &text);
    let has_heading = area.height > 2.0 * HEADING && area.width > 60.0;
    if has_heading {
        let title = format!("{}  {}", layer.name, bytes(layer.bytes));
        let title = shortened(&title, area.width - 12.0, 12.5);
        let (x, y) = (area.x + 6.0, area.y + 14.5);
        let _ = writeln!(
            svg,
            "<text class=\"title\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escaped(&title)
        );
    }
    let inner = area.within(if has_heading { HEADING } else { 2.0 }, 2.0);
    let parts = merged(&layer.parts, SMALLEST * layer.bytes as f64 / inner.size().max(1.0));
    let sizes: Vec<f64> = parts.iter().map(|part| part.bytes as f64).collect();
    for (part, area) in parts.iter().zip(squarified(&sizes, inner)) {
        let area = area.within(0.5, 0.5);
        rectangle(svg, "part", &area, &format!("{}: {}", part.name, bytes(part.bytes)));
        if area.height >= 15.0 && area.width >= 34.0 {
            let (x, y) = (area.x + 4.0, area.y + 12.5);
            let name = shortened(&part.name, area.width - 8.0, 11.0);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(&name));
            if area.height >= 30.0 && area.width >= 60.0 {
                let (y, size) = (y + 13.0, escaped(&bytes(part.bytes)));
                let _ =
                    writeln!(svg, "<text class=\"size\" x=\"{x:.1}\" y=\"{y:.1}\">{size}</text>");
            }
        }
    }
    svg.push_str("</g>\n");
}

fn rectangle(svg: &mut String, class: &str, area: &Area, title: &str) {
    let Area { x, y, width, height } = area;
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
        escaped(title)
    );
}

/// `text` as far as it fits into so much room, in letters of `size` pixels.
fn shortened(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        if width(&short, size) + size > room {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// `parts`, the small ones as one.
fn merged(parts: &[Part], least: f64) -> Vec<Part> {
    let (mut large, small): (Vec<Part>, Vec<Part>) =
        parts.iter().cloned().partition(|part| part.bytes as f64 >= least);
    match small.as_slice() {
        [] => {}
        [one] => large.push(one.clone()),
        several => large.push(Part {
            name: format!("{} smaller", several.len()),
            bytes: several.iter().map(|part| part.bytes).sum(),
            parts: Vec::new(),
        }),
    }
    large.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    large
}

/// Rectangles of the sizes of `values`, largest first, that fill `area`.
fn squarified(values: &[f64], area: Area) -> Vec<Area> {
    let total: f64 = values.iter().sum();
    let scale = if total > 0.0 { area.size() / total } else { 0.0 };
    let mut areas = Vec::with_capacity(values.len());
    let (mut rest, mut values) = (area, values);
    while !values.is_empty() {
        let side = rest.width.min(rest.height);
        let mut count = 1;
        while count < values.len()
            && worst(&values[..=count], scale, side) <= worst(&values[..count], scale, side)
        {
            count += 1;
        }
        let (row, others) = values.split_at(count);
        let size: f64 = row.iter().sum::<f64>() * scale;
        let is_wide = rest.width >= rest.height;
        let depth = if side > 0.0 { size / side } else { 0.0 };
        let mut along = 0.0;
        for value in row {
            let length = if depth > 0.0 { value * scale / depth } else { 0.0 };
            areas.push(match is_wide {
                true => Area { x: rest.x, y: rest.y + along, width: depth, height: length },
                false => Area { x: rest.x + along, y: rest.y, width: length, height: depth },
            });
            along += length;
        }
        if is_wide {
            rest.x += depth;
            rest.width = (rest.width - depth).max(0.0);
        } else {
            rest.y += depth;
            rest.height = (rest.height - depth).max(0.0);
        }
        values = others;
    }
    areas
}

/// The longest of the rectangles of a row: how many times as long as it is wide.
fn worst(row: &[f64], scale: f64, side: f64) -> f64 {
    let sum = row.iter().sum::<f64>() * scale;
    let largest = row.iter().copied().fold(0.0, f64::max) * scale;
    let smallest = row.iter().copied().fold(f64::INFINITY, f64::min) * scale;
    let (side, sum) = (side * side, sum * sum);
    (side * largest / sum).max(sum / (side * smallest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn six_values_are_laid_out_as_in_the_paper() {
        // Figure 4 of "Squarified Treemaps": 6, 6, 4, 3, 2, 2, 1 in six by four.
        let area = Area { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        let areas = squarified(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], area);
        let is = |area: &Area, x: f64, y: f64, width: f64, height: f64| {
            let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
            near(area.x, x)
                && near(area.y, y)
                && near(area.width, width)
                && near(area.height, height)
        };
        assert!(is(&areas[0], 0.0, 0.0, 3.0, 2.0), "{areas:?}");
        assert!(is(&areas[1], 0.0, 2.0, 3.0, 2.0), "{areas:?}");
        assert!(is(&areas[2], 3.0, 0.0, 4.0 / (7.0 / 3.0), 7.0 / 3.0), "{areas:?}");
    }

    #[test]
    fn no_name_becomes_markup() {
        let name = "<script>alert('é')</script> قاعدة البيانات";
        let part = Part { name: name.into(), bytes: 5 << 20, parts: Vec::new() };
        let layer = Part { name: name.into(), bytes: 5 << 20, parts: vec![part] };
        let svg = draw(&Usage { bytes: 5 << 20, layers: vec![layer] }, 960.0, 400.0);
        assert!(!svg.contains("<script") && svg.contains("&lt;script"), "{svg}");
        assert!(svg.contains("قاعدة"), "{svg}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let svg = draw(&Usage { bytes: 0, layers: Vec::new() }, 960.0, 400.0);
        assert!(!svg.contains("<rect") && !svg.contains("NaN"), "{svg}");
    }

    proptest! {
        #[test]
        fn areas_are_as_large_as_their_values_and_fill_the_whole(
            mut values in prop::collection::vec(1.0..1e9_f64, 1..60),
            width in 50.0..2000.0_f64,
            height in 50.0..2000.0_f64,
        ) {
            values.sort_by(|one, other| other.total_cmp(one));
            let whole = Area { x: 7.0, y: 11.0, width, height };
            let areas = squarified(&values, whole);
            prop_assert_eq!(areas.len(), values.len());
            let total: f64 = values.iter().sum();
            for (area, value) in areas.iter().zip(&values) {
                let expected = value / total * whole.size();
                prop_assert!((area.size() - expected).abs() < 1e-6 * whole.size());
                prop_assert!(area.x > 7.0 - 1e-6 && area.y > 11.0 - 1e-6);
                prop_assert!(area.x + area.width < 7.0 + width + 1e-6);
                prop_assert!(area.y + area.height < 11.0 + height + 1e-6);
            }
            for (number, one) in areas.iter().enumerate() {
                for other in &areas[number + 1..] {
                    let overlap = |a: f64, b: f64, c: f64, d: f64| (b.min(d) - a.max(c)).max(0.0);
                    let common = overlap(one.x, one.x + one.width, other.x, other.x + other.width)
                        * overlap(one.y, one.y + one.height, other.y, other.y + other.height);
                    prop_assert!(common < 1e-6 * whole.size());
                }
            }
        }
    }
}
