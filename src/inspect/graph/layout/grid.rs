//! Cells in columns: their order, and how high they stand.

use std::collections::BTreeMap;

use super::{Arrow, BOX_GAP, Layout, Point, Size, Way};

/// Between anything else in a column.
const CELL_GAP: f64 = 10.0;
/// Between columns.
const COLUMN_GAP: f64 = 26.0;
/// With how many orders it begins.
const STARTS: usize = 16;
/// How often orders are made better. They settle long before.
const ROUNDS: usize = 24;
/// How often heights are: a long chain becomes level slowly.
const HEIGHT_ROUNDS: usize = 400;

/// Something in a column: a box, or where an arrow passes.
#[derive(Clone, Debug)]
struct Cell {
    size: Size,
    column: usize,
    is_box: bool,
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Another order (Fisher and Yates), by the generator of Numerical Recipes, which is random enough for that.
fn shuffle(column: &mut [usize], state: &mut u32) {
    for last in (1..column.len()).rev() {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        column.swap(last, (*state >> 16) as usize % (last + 1));
    }
}

/// Cells in columns. Boxes stand in even columns, what stands on arrows in odd ones.
pub(super) struct Grid {
    cells: Vec<Cell>,
    /// The cells of each column, from the top down.
    columns: Vec<Vec<usize>>,
    /// The cells that each arrow passes, from left to right, and the one with its text.
    chains: Vec<(Vec<usize>, usize)>,
}

impl Grid {
    pub fn new(boxes: &[Size], arrows: &[Arrow], ranks: &[usize]) -> Self {
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

    /// Orders the cells of each column so that few arrows cross. What comes of it depends on the order that it
    /// begins with, so it begins with several, always the same ones.
    pub fn order(&mut self) {
        let mut best = (self.crossings(), self.columns.clone());
        let mut random = 1;
        for _ in 0..STARTS {
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
            self.exchange();
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.columns.clone());
            }
            if best.0 == 0 {
                break;
            }
            self.columns.iter_mut().for_each(|column| shuffle(column, &mut random));
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

    /// Exchanges neighbours in columns as long as fewer arrows cross for it.
    fn exchange(&mut self) {
        for _ in 0..ROUNDS {
            let mut better = false;
            for column in 0..self.columns.len() {
                for place in 1..self.columns[column].len() {
                    let before = self.crossings_at(column);
                    self.columns[column].swap(place - 1, place);
                    match self.crossings_at(column) < before {
                        true => better = true,
                        false => self.columns[column].swap(place - 1, place),
                    }
                }
            }
            if !better {
                return;
            }
        }
    }

    /// How many pairs of arrows cross.
    fn crossings(&self) -> usize {
        (0..self.columns.len()).map(|column| self.crossings_after(column)).sum()
    }

    /// How many pairs of arrows cross on the way to a column, and on the way from it.
    fn crossings_at(&self, column: usize) -> usize {
        let before = column.checked_sub(1).map_or(0, |before| self.crossings_after(before));
        before + self.crossings_after(column)
    }

    /// How many pairs of arrows cross between a column and the next.
    fn crossings_after(&self, column: usize) -> usize {
        let Some(next) = self.columns.get(column + 1) else { return 0 };
        let place = |index: usize| next.iter().position(|it| *it == index).unwrap_or_default();
        let from = self.columns[column].iter().enumerate();
        let ends: Vec<(usize, usize)> = from
            .flat_map(|(at, from)| self.cells[*from].after.iter().map(move |to| (at, place(*to))))
            .collect();
        let pairs = ends
            .iter()
            .enumerate()
            .flat_map(|(at, one)| ends[at + 1..].iter().map(move |other| (one, other)));
        pairs.filter(|(one, other)| one.0 < other.0 && one.1 > other.1).count()
    }

    /// The middle of each cell, so that arrows are as level as the order allows.
    pub fn heights(&self) -> Vec<f64> {
        let mut heights = vec![0.0; self.cells.len()];
        for column in &self.columns {
            self.settle(column, &mut heights, &|_, heights: &[f64], index| heights[index]);
        }
        for round in 0..HEIGHT_ROUNDS {
            let forward = round % 2 == 0;
            for step in 0..self.columns.len() {
                let at = if forward { step } else { self.columns.len() - 1 - step };
                let wish = |grid: &Self, heights: &[f64], index: usize| {
                    let cell = &grid.cells[index];
                    let (mut sum, mut weights) = (0.0, 0.0);
                    for other in cell.before.iter().chain(&cell.after) {
                        // What crosses several columns is to be straight there.
                        let weight =
                            if cell.is_box || grid.cells[*other].is_box { 1.0 } else { 8.0 };
                        sum += weight * heights[*other];
                        weights += weight;
                    }
                    if weights > 0.0 { sum / weights } else { heights[index] }
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

    pub fn place(&self, boxes: Vec<Size>, arrows: &[Arrow], heights: &[f64]) -> Layout {
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
                if width == 0.0 {
                    continue;
                }
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
        Layout { size, boxes: corners, sizes: boxes, ways }
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
