//! Where the boxes and arrows of a graph go: a layered layout, from left to right.
//!
//! The method of Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
//! Structures" (1981), in four steps: columns by the longest way to a box; an arrow passes through a narrow
//! cell in each column that it crosses, and through one that is as large as what stands on it, so that texts
//! and boxes never lie on each other; the order within columns by barycentres; and last the heights, each
//! as near to its neighbours as the order allows.
//!
//! It is our own for want of a crate that does it well: `dagre` (0.1.2) does not return from some graphs of
//! ten boxes and twenty arrows, `layout-rs` (0.1.3) draws everything itself, in colours of its own and without
//! room for what stands on arrows, `rust-sugiyama` places boxes only, and `dugong` wants a newer compiler.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Between boxes of a column.
const BOX_GAP: f64 = 22.0;
/// Between anything else in a column.
const CELL_GAP: f64 = 10.0;
/// Between columns.
const COLUMN_GAP: f64 = 26.0;
/// How often orders and heights are made better. They settle long before.
const ROUNDS: usize = 24;

/// The size of something, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    pub width: f64,
    pub height: f64,
}

/// An arrow: two boxes by their numbers, and the size of what stands on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrow {
    pub from: usize,
    pub to: usize,
    pub label: Size,
}

/// A point, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
}

/// The way of an arrow.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Way {
    /// Points in pairs: the arrow is straight and level between the two of a pair, and bends between pairs. The
    /// first and the last point have no partner.
    pub points: Vec<Point>,
    /// The middle of what stands on it.
    pub label: Point,
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    /// The size of the whole.
    pub size: Size,
    /// The upper left corners of the boxes.
    pub boxes: Vec<Point>,
    /// The ways of the arrows.
    pub ways: Vec<Way>,
}

/// Lays out boxes of these sizes with `arrows` between them. An arrow from a box to itself is not allowed; those
/// that would close a circle point backwards.
///
/// # Panics
/// If an arrow names a box that is not there.
pub(super) fn layout(boxes: &[Size], arrows: &[Arrow]) -> Layout {
    let ranks = ranks(boxes.len(), arrows);
    let mut grid = Grid::new(boxes, arrows, &ranks);
    grid.order();
    let heights = grid.heights();
    grid.place(boxes, arrows, &heights)
}

/// The column of each box.
fn ranks(count: usize, arrows: &[Arrow]) -> Vec<usize> {
    let forward: Vec<(usize, usize)> = {
        let backward = backward(count, arrows);
        let ends = arrows.iter().zip(backward);
        ends.map(|(it, back)| if back { (it.to, it.from) } else { (it.from, it.to) }).collect()
    };
    let mut ranks = vec![0; count];
    // Without circles, the longest way has fewer arrows than there are boxes.
    for _ in 0..count {
        for &(from, to) in &forward {
            ranks[to] = ranks[to].max(ranks[from] + 1);
        }
    }
    // What only begins arrows stands right before what they lead to.
    for _ in 0..count {
        for index in 0..count {
            let is_end = forward.iter().any(|&(_, to)| to == index);
            let next = forward.iter().filter(|&&(from, _)| from == index).map(|&(_, to)| ranks[to]);
            if let Some(next) = next.min().filter(|_| !is_end) {
                ranks[index] = next - 1;
            }
        }
    }
    ranks
}

/// Which arrows close a circle, when boxes are visited in their order.
fn backward(count: usize, arrows: &[Arrow]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Open,
        Done,
    }
    let mut visits = vec![Visit::Not; count];
    let mut backward = vec![false; arrows.len()];
    let outgoing = |index: usize| -> Vec<usize> {
        (0..arrows.len()).filter(|&arrow| arrows[arrow].from == index).collect()
    };
    for start in 0..count {
        if visits[start] != Visit::Not {
            continue;
        }
        visits[start] = Visit::Open;
        let mut path = vec![(start, outgoing(start).into_iter())];
        while let Some((index, rest)) = path.last_mut() {
            let Some(arrow) = rest.next() else {
                visits[*index] = Visit::Done;
                path.pop();
                continue;
            };
            let to = arrows[arrow].to;
            match visits[to] {
                Visit::Open => backward[arrow] = true,
                Visit::Done => {}
                Visit::Not => {
                    visits[to] = Visit::Open;
                    path.push((to, outgoing(to).into_iter()));
                }
            }
        }
    }
    backward
}

/// Something in a column: a box, or where an arrow passes.
#[derive(Clone, Debug)]
struct Cell {
    size: Size,
    column: usize,
    is_box: bool,
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Cells in columns. Boxes stand in even columns, what stands on arrows in odd ones.
struct Grid {
    cells: Vec<Cell>,
    /// The cells of each column, from the top down.
    columns: Vec<Vec<usize>>,
    /// The cells that each arrow passes, from left to right, and the one with its text.
    chains: Vec<(Vec<usize>, usize)>,
}

impl Grid {
    fn new(boxes: &[Size], arrows: &[Arrow], ranks: &[usize]) -> Self {
        let cell = |size, column, is_box| Cell {
            size,
            column,
            is_box,
            before: Vec::new(),
            after: Vec::new(),
        };
        let mut cells: Vec<Cell> =
            boxes.iter().zip(ranks).map(|(size, rank)| cell(*size, 2 * rank, true)).collect();
        let mut chains = Vec::new();
        for arrow in arrows {
            let (mut left, mut right) = (arrow.from, arrow.to);
            if ranks[left] > ranks[right] {
                (left, right) = (right, left);
            }
            let (first, last) = (2 * ranks[left] + 1, 2 * ranks[right]);
            // The last gap: there the arrows that begin together have parted.
            let labelled = last.saturating_sub(1).max(first);
            let mut chain = vec![left];
            for column in first..last {
                let size = if column == labelled { arrow.label } else { Size::default() };
                cells.push(cell(size, column, false));
                chain.push(cells.len() - 1);
            }
            let label = chain[chain.len() - 1];
            chain.push(right);
            for pair in chain.windows(2) {
                cells[pair[0]].after.push(pair[1]);
                cells[pair[1]].before.push(pair[0]);
            }
            chains.push((chain, label));
        }
        let count = cells.iter().map(|cell| cell.column + 1).max().unwrap_or(0);
        let mut columns = vec![Vec::new(); count];
        for (index, cell) in cells.iter().enumerate() {
            columns[cell.column].push(index);
        }
        Self { cells, columns, chains }
    }

    /// Orders the cells of each column so that few arrows cross.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.columns.clone());
        for round in 0..ROUNDS {
            let forward = round % 2 == 0;
            let count = self.columns.len();
            for step in 1..count {
                let column = if forward { step } else { count - 1 - step };
                self.sort(column, forward);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.columns.clone());
            }
        }
        self.columns = best.1;
    }

    /// Sorts a column by where the neighbours in the column before, or after, are. What has none stays.
    fn sort(&mut self, column: usize, forward: bool) {
        let places = self.places();
        let key = |(place, index): (usize, &usize)| {
            let cell = &self.cells[*index];
            let neighbours = if forward { &cell.before } else { &cell.after };
            let sum: usize = neighbours.iter().map(|it| places[*it]).sum();
            let key = match neighbours.len() {
                0 => place as f64,
                count => sum as f64 / count as f64,
            };
            (key, *index)
        };
        let mut keys: Vec<(f64, usize)> =
            self.columns[column].iter().enumerate().map(key).collect();
        keys.sort_by(|one, other| one.0.total_cmp(&other.0));
        self.columns[column] = keys.into_iter().map(|(_, index)| index).collect();
    }

    /// The place of each cell in its column.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.cells.len()];
        for column in &self.columns {
            for (place, index) in column.iter().enumerate() {
                places[*index] = place;
            }
        }
        places
    }

    /// How many pairs of arrows cross.
    fn crossings(&self) -> usize {
        let places = self.places();
        let crossings = self.columns.iter().map(|column| {
            let ends = column.iter().flat_map(|from| {
                self.cells[*from].after.iter().map(|to| (places[*from], places[*to]))
            });
            let ends: Vec<(usize, usize)> = ends.collect();
            let pairs = ends
                .iter()
                .enumerate()
                .flat_map(|(at, one)| ends[at + 1..].iter().map(move |other| (one, other)));
            pairs.filter(|(one, other)| one.0 < other.0 && one.1 > other.1).count()
        });
        crossings.sum()
    }

    /// The middle of each cell, so that arrows are as level as the order allows.
    fn heights(&self) -> Vec<f64> {
        let mut heights = vec![0.0; self.cells.len()];
        for column in &self.columns {
            self.settle(column, &mut heights, &|_, heights: &[f64], index| heights[index]);
        }
        for round in 0..2 * ROUNDS {
            let forward = round % 2 == 0;
            for step in 0..self.columns.len() {
                let at = if forward { step } else { self.columns.len() - 1 - step };
                let wish = |grid: &Self, heights: &[f64], index: usize| {
                    let cell = &grid.cells[index];
                    let all = || cell.before.iter().chain(&cell.after);
                    match all().count() {
                        0 => heights[index],
                        count => all().map(|it| heights[*it]).sum::<f64>() / count as f64,
                    }
                };
                self.settle(&self.columns[at], &mut heights, &wish);
            }
        }
        heights
    }

    /// Moves the cells of a column as near to their wishes as order and distances allow: the least squares,
    /// by pooling neighbours that want to pass each other (isotonic regression).
    fn settle(
        &self,
        column: &[usize],
        heights: &mut [f64],
        wish: &dyn Fn(&Self, &[f64], usize) -> f64,
    ) {
        /// Cells that lie as close together as they may.
        struct Block {
            sum: f64,
            weight: f64,
            count: usize,
        }
        let mut offset = 0.0;
        let mut offsets = Vec::with_capacity(column.len());
        for (place, index) in column.iter().enumerate() {
            if let Some(above) = place.checked_sub(1) {
                offset += self.distance(column[above], *index);
            }
            offsets.push(offset);
        }
        let mut blocks: Vec<Block> = Vec::new();
        for (index, offset) in column.iter().zip(&offsets) {
            // Arrows that pass several columns are to be straight.
            let weight = if self.cells[*index].is_box { 1.0 } else { 2.0 };
            let sum = weight * (wish(self, heights, *index) - offset);
            blocks.push(Block { sum, weight, count: 1 });
            while let [.., above, below] = blocks.as_slice()
                && above.sum / above.weight > below.sum / below.weight
            {
                let (sum, weight) = (above.sum + below.sum, above.weight + below.weight);
                let count = above.count + below.count;
                blocks.truncate(blocks.len() - 2);
                blocks.push(Block { sum, weight, count });
            }
        }
        let places = blocks.iter().flat_map(|it| std::iter::repeat_n(it.sum / it.weight, it.count));
        for ((index, offset), place) in column.iter().zip(&offsets).zip(places) {
            heights[*index] = place + offset;
        }
    }

    /// The least distance of the middles of two cells that are neighbours in a column.
    fn distance(&self, above: usize, below: usize) -> f64 {
        let (above, below) = (&self.cells[above], &self.cells[below]);
        let gap = if above.is_box && below.is_box { BOX_GAP } else { CELL_GAP };
        (above.size.height + below.size.height) / 2.0 + gap
    }

    fn place(&self, boxes: &[Size], arrows: &[Arrow], heights: &[f64]) -> Layout {
        let cells = || self.cells.iter().zip(heights);
        let top = cells().map(|(cell, y)| y - cell.size.height / 2.0).fold(f64::INFINITY, f64::min);
        let bottom = cells().map(|(cell, y)| y + cell.size.height / 2.0).fold(top, f64::max);
        let mut columns = Vec::new();
        let mut x = 0.0;
        for column in &self.columns {
            let width = column.iter().map(|it| self.cells[*it].size.width).fold(0.0, f64::max);
            columns.push((x, width));
            x += width + COLUMN_GAP;
        }
        let corner = |(index, size): (usize, &Size)| {
            let (left, width) = columns[self.cells[index].column];
            Point {
                x: left + (width - size.width) / 2.0,
                y: heights[index] - size.height / 2.0 - top,
            }
        };
        let corners: Vec<Point> = boxes.iter().enumerate().map(corner).collect();
        let ports = self.ports(heights);
        let way = |(number, (chain, label)): (usize, &(Vec<usize>, usize))| {
            let (first, last) = (chain[0], chain[chain.len() - 1]);
            let ends = ports[number];
            let mut points =
                vec![Point { x: corners[first].x + boxes[first].width, y: ends.0 - top }];
            for index in &chain[1..chain.len() - 1] {
                let (left, width) = columns[self.cells[*index].column];
                let y = heights[*index] - top;
                points.extend([Point { x: left, y }, Point { x: left + width, y }]);
            }
            points.push(Point { x: corners[last].x, y: ends.1 - top });
            let (left, width) = columns[self.cells[*label].column];
            let label = Point { x: left + width / 2.0, y: heights[*label] - top };
            if arrows[number].from != first {
                points.reverse();
            }
            Way { points, label }
        };
        let ways = self.chains.iter().enumerate().map(way).collect();
        let size = Size {
            width: (x - COLUMN_GAP).max(0.0),
            height: if self.cells.is_empty() { 0.0 } else { bottom - top },
        };
        Layout { size, boxes: corners, ways }
    }

    /// Where arrows leave and enter their boxes: side by side, in the order of where they come from and go to.
    fn ports(&self, heights: &[f64]) -> Vec<(f64, f64)> {
        let mut ports = vec![(0.0, 0.0); self.chains.len()];
        let mut sides: BTreeMap<(usize, bool), Vec<(f64, usize)>> = BTreeMap::new();
        for (number, (chain, _)) in self.chains.iter().enumerate() {
            let (first, last) = (chain[0], chain[chain.len() - 1]);
            sides.entry((first, true)).or_default().push((heights[chain[1]], number));
            let before = heights[chain[chain.len() - 2]];
            sides.entry((last, false)).or_default().push((before, number));
        }
        for ((index, leaves), mut arrows) in sides {
            arrows.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            let step = self.cells[index].size.height / (arrows.len() + 1) as f64;
            let top = heights[index] - self.cells[index].size.height / 2.0;
            for (place, (_, number)) in arrows.into_iter().enumerate() {
                let y = top + step * (place + 1) as f64;
                let end = if leaves { &mut ports[number].0 } else { &mut ports[number].1 };
                *end = y;
            }
        }
        ports
    }
}
