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

mod grid;
#[cfg(test)]
mod tests;

use grid::Grid;

/// Between boxes of a column.
const BOX_GAP: f64 = 22.0;

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
    /// The sizes of the boxes: as high as they have to be, and as wide as the widest of their column, so that no
    /// arrow that leaves a narrow one meets a wide one.
    pub sizes: Vec<Size>,
    /// The ways of the arrows.
    pub ways: Vec<Way>,
}

/// Lays out boxes of these sizes with `arrows` between them. An arrow from a box to itself is not allowed; those
/// that would close a circle point backwards. What is not connected stands below each other.
///
/// # Panics
/// If an arrow names a box that is not there.
pub(super) fn layout(boxes: &[Size], arrows: &[Arrow]) -> Layout {
    let nowhere = Point { x: 0.0, y: 0.0 };
    let mut whole = Layout {
        size: Size::default(),
        boxes: vec![nowhere; boxes.len()],
        sizes: boxes.to_vec(),
        ways: vec![Way { points: Vec::new(), label: nowhere }; arrows.len()],
    };
    for members in components(boxes.len(), arrows) {
        let place = |index: usize| members.iter().position(|member| *member == index);
        let sizes: Vec<Size> = members.iter().map(|index| boxes[*index]).collect();
        let own: Vec<(usize, Arrow)> = arrows
            .iter()
            .enumerate()
            .filter_map(|(number, it)| {
                Some((number, Arrow { from: place(it.from)?, to: place(it.to)?, ..*it }))
            })
            .collect();
        let part = connected(&sizes, &own.iter().map(|(_, arrow)| *arrow).collect::<Vec<_>>());
        let gap = if whole.size.height > 0.0 { BOX_GAP } else { 0.0 };
        let top = whole.size.height + gap;
        let moved = |point: Point| Point { y: point.y + top, ..point };
        for ((index, corner), size) in members.iter().zip(&part.boxes).zip(&part.sizes) {
            whole.boxes[*index] = moved(*corner);
            whole.sizes[*index] = *size;
        }
        for ((number, _), way) in own.iter().zip(part.ways) {
            let points = way.points.into_iter().map(moved).collect();
            whole.ways[*number] = Way { points, label: moved(way.label) };
        }
        whole.size.width = whole.size.width.max(part.size.width);
        whole.size.height = top + part.size.height;
    }
    whole
}

/// The boxes that arrows connect, whatever their direction: in order, and ordered by their first.
fn components(count: usize, arrows: &[Arrow]) -> Vec<Vec<usize>> {
    let mut groups: Vec<usize> = (0..count).collect();
    // Each arrow makes one of two groups.
    for arrow in arrows {
        let (one, other) = (groups[arrow.from], groups[arrow.to]);
        let (first, second) = (one.min(other), one.max(other));
        groups.iter_mut().filter(|group| **group == second).for_each(|group| *group = first);
    }
    let members = |group: usize| (0..count).filter(|index| groups[*index] == group).collect();
    (0..count).map(members).filter(|members: &Vec<usize>| !members.is_empty()).collect()
}

/// Lays out boxes of which each is connected to all others.
fn connected(boxes: &[Size], arrows: &[Arrow]) -> Layout {
    let ranks = ranks(boxes.len(), arrows);
    let width = |rank: usize| {
        let column = boxes.iter().zip(&ranks).filter(|(_, other)| **other == rank);
        column.map(|(size, _)| size.width).fold(0.0, f64::max)
    };
    let size = |(size, rank): (&Size, &usize)| Size { width: width(*rank), ..*size };
    let sizes: Vec<Size> = boxes.iter().zip(&ranks).map(size).collect();
    let mut grid = Grid::new(&sizes, arrows, &ranks);
    grid.order();
    let heights = grid.heights();
    grid.place(sizes, arrows, &heights)
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
