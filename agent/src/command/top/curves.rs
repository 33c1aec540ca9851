//! Curves in one line of cells.
//!
//! In: points, some of which are not known, and what the lowest and the highest block stand for. Out: text of blocks. Pure.

/// From the lowest to the highest.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Degrees that the curve of a temperature spans at least: one for each block, so that noise is not drawn as a storm.
const DEGREES_MIN: f64 = 7.0;

/// What the lowest and the highest block stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
}

impl Scale {
    /// Of a temperature: from its lowest on, for it is where it goes that matters.
    #[must_use]
    pub fn of_temperature(points: &[Option<f64>]) -> Self {
        let known = || points.iter().flatten().copied();
        let low = known().fold(f64::INFINITY, f64::min);
        let high = known().fold(f64::NEG_INFINITY, f64::max);
        Self { low, high: high.max(low + DEGREES_MIN) }
    }

    /// Of power: from none to its limit, or to the most where there is no limit.
    #[must_use]
    pub fn of_power(points: &[Option<f64>], limit: Option<f64>) -> Self {
        let most = points.iter().flatten().copied().fold(0.0, f64::max);
        Self { low: 0.0, high: limit.unwrap_or(most) }
    }

    fn block(self, value: f64) -> char {
        let share = (value - self.low) / (self.high - self.low);
        let last = BLOCKS.len() - 1;
        // No number at all is the lowest.
        BLOCKS[((share * last as f64).round().max(0.0) as usize).min(last)]
    }
}

/// The points in at most `room` cells. Where several share a cell it shows the highest of them; a cell of which nothing is
/// known is blank.
#[must_use]
pub fn curve(points: &[Option<f64>], scale: Scale, room: usize) -> String {
    let cells = points.len().min(room);
    let of_cell = |cell: usize| &points[cell * points.len() / cells..(cell + 1) * points.len() / cells];
    let highest = |cell| of_cell(cell).iter().flatten().copied().reduce(f64::max);
    (0..cells).map(|cell| highest(cell).map_or(' ', |value| scale.block(value))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_curve_goes_from_the_lowest_to_the_highest_block() {
        let scale = Scale { low: 0.0, high: 7.0 };
        for (points, room, expected) in [
            (known(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), 8, "▁▂▃▄▅▆▇█"),
            (known(&[0.0, 7.0, 1.0, 0.0]), 2, "█▂"),
            (known(&[7.0, 0.0, 1.0, 2.0]), 3, "█▁▃"),
            (known(&[-5.0, 90.0, f64::NAN]), 9, "▁█▁"),
            (vec![Some(7.0), None, Some(0.0)], 9, "█ ▁"),
            (vec![None, None, Some(3.0), None], 2, " ▄"),
            (Vec::new(), 9, ""),
            (known(&[1.0]), 0, ""),
        ] {
            assert_eq!(curve(&points, scale, room), expected, "{points:?}");
        }
    }

    #[test]
    fn temperatures_stand_on_their_lowest_and_power_below_its_limit() {
        let temperatures = known(&[70.0, 71.0, 77.0]);
        let scale = Scale::of_temperature(&temperatures);
        assert_eq!(curve(&temperatures, scale, 3), "▁▂█");
        assert_eq!(curve(&known(&[70.0; 3]), Scale::of_temperature(&known(&[70.0; 3])), 3), "▁▁▁");
        let power = known(&[0.0, 350.0, 700.0]);
        assert_eq!(curve(&power, Scale::of_power(&power, Some(1400.0)), 3), "▁▃▅");
        assert_eq!(curve(&power, Scale::of_power(&power, None), 3), "▁▅█");
        assert_eq!(curve(&known(&[0.0; 2]), Scale::of_power(&known(&[0.0; 2]), None), 2), "▁▁");
    }

    proptest! {
        #[test]
        fn no_curve_takes_more_than_its_room(
            points in prop::collection::vec(prop::option::of(any::<f64>()), 0..200),
            room in 0_usize..80,
        ) {
            for scale in [Scale::of_temperature(&points), Scale::of_power(&points, Some(0.0))] {
                prop_assert!(curve(&points, scale, room).chars().count() <= room.min(points.len()));
            }
        }
    }
}
