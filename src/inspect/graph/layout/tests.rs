use proptest::prelude::*;

use super::*;

fn arrow(from: usize, to: usize) -> Arrow {
    Arrow { from, to, label: Size { width: 40.0, height: 14.0 } }
}

const BOX: Size = Size { width: 100.0, height: 40.0 };

#[test]
fn what_is_built_upon_something_stands_right_of_it() {
    let layout = layout(&[BOX; 4], &[arrow(0, 1), arrow(1, 2), arrow(0, 2), arrow(3, 2)]);
    let x = |index: usize| layout.boxes[index].x;
    assert!(x(0) < x(1) && x(1) < x(2));
    // What nothing leads to stands close to what it leads to.
    assert_eq!(x(3), x(1));
}

#[test]
fn nothing_makes_nothing() {
    assert_eq!(layout(&[], &[]).size, Size::default());
    let one = layout(&[BOX], &[]);
    assert_eq!((one.size, one.boxes[0]), (BOX, Point { x: 0.0, y: 0.0 }));
}

#[test]
fn a_chain_is_level() {
    let layout = layout(&[BOX; 3], &[arrow(0, 1), arrow(1, 2)]);
    assert!(layout.boxes.iter().all(|corner| corner.y.abs() < 1e-6), "{:?}", layout.boxes);
}

/// Some boxes, and arrows between any two of them, circles included.
fn graphs() -> impl Strategy<Value = (Vec<Size>, Vec<Arrow>)> {
    let size = (20.0..200.0_f64, 20.0..90.0_f64).prop_map(|(width, height)| Size { width, height });
    prop::collection::vec(size, 1..14).prop_flat_map(|boxes| {
        let count = boxes.len();
        let arrow = (0..count, 0..count, 0.0..120.0_f64)
            .prop_filter("no arrow to itself", |(from, to, _)| from != to)
            .prop_map(|(from, to, width)| Arrow { from, to, label: Size { width, height: 14.0 } });
        let most = if count > 1 { 2 * count } else { 0 };
        (Just(boxes), prop::collection::vec(arrow, 0..=most))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn boxes_never_lie_on_each_other((boxes, arrows) in graphs()) {
        let layout = super::layout(&boxes, &arrows);
        prop_assert_eq!(&super::layout(&boxes, &arrows), &layout);
        for (corner, size) in layout.boxes.iter().zip(&layout.sizes) {
            prop_assert!(corner.x > -1e-6 && corner.y > -1e-6);
            prop_assert!(corner.x + size.width < layout.size.width + 1e-6);
            prop_assert!(corner.y + size.height < layout.size.height + 1e-6);
        }
        for (one, left) in layout.boxes.iter().enumerate() {
            for (other, right) in layout.boxes.iter().enumerate().skip(one + 1) {
                let apart = left.x + layout.sizes[one].width <= right.x + 1e-6
                    || right.x + layout.sizes[other].width <= left.x + 1e-6
                    || left.y + boxes[one].height <= right.y + 1e-6
                    || right.y + boxes[other].height <= left.y + 1e-6;
                prop_assert!(apart, "{} and {}: {:?}", one, other, layout);
            }
        }
    }

    #[test]
    fn texts_lie_neither_on_boxes_nor_on_each_other((boxes, arrows) in graphs()) {
        let layout = super::layout(&boxes, &arrows);
        let mut areas: Vec<(Point, Size)> =
            layout.boxes.iter().copied().zip(layout.sizes.iter().copied()).collect();
        for (way, arrow) in layout.ways.iter().zip(&arrows) {
            let Size { width, height } = arrow.label;
            let corner = Point { x: way.label.x - width / 2.0, y: way.label.y - height / 2.0 };
            for (other, size) in &areas {
                let apart = corner.x + width <= other.x + 1e-6
                    || other.x + size.width <= corner.x + 1e-6
                    || corner.y + height <= other.y + 1e-6
                    || other.y + size.height <= corner.y + 1e-6;
                prop_assert!(apart);
            }
            areas.push((corner, arrow.label));
        }
    }
}
