//! Charts over the payload, as SVG; the viewer has the font.

use std::{collections::BTreeMap, path::Path};

use plotters::{coord::Shift, prelude::*};

use crate::{
    Result,
    case::Case,
    launch::Row,
    summary::Summary,
    systems,
    table::{size, time},
};

/// One number per system and payload.
#[derive(Debug, Default)]
pub struct Chart {
    /// In the order of the systems.
    series: BTreeMap<usize, Vec<(f64, f64)>>,
}

/// What is drawn: the round trip, and the throughput one way.
#[derive(Debug, Default)]
pub struct Charts {
    round_trip: Chart,
    throughput: Chart,
}

const SIZE: (u32, u32) = (1000, 640);

/// Told apart by more than their hue: dark and light ones alternate.
const COLORS: [RGBColor; 14] = [
    RGBColor(190, 20, 30),
    RGBColor(240, 130, 120),
    RGBColor(120, 10, 60),
    RGBColor(230, 150, 0),
    RGBColor(10, 60, 150),
    RGBColor(90, 160, 230),
    RGBColor(60, 90, 110),
    RGBColor(90, 40, 140),
    RGBColor(190, 130, 220),
    RGBColor(10, 100, 60),
    RGBColor(100, 190, 110),
    RGBColor(120, 120, 0),
    RGBColor(60, 60, 60),
    RGBColor(160, 160, 160),
];

/// Makes sure that charts can be written into this directory.
///
/// # Errors
/// Why they cannot.
pub fn prepare(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)
        .and_then(|()| tempfile::tempfile_in(dir))
        .map_err(|error| format!("`--plot {}` cannot be written: {error}", dir.display()))?;
    Ok(())
}

impl Charts {
    /// Takes what is of interest here.
    pub fn add(&mut self, row: &Row) {
        let summary = Summary::of(row);
        let (chart, value) = match row.point.case {
            Case::Ask => (
                &mut self.round_trip,
                summary.percentiles.map(|[p50, ..]| p50 / 1e3),
            ),
            Case::Tell => (&mut self.throughput, summary.bytes.map(|bytes| bytes / 1e9)),
            _ => return,
        };
        let place = systems::ALL
            .iter()
            .position(|system| std::ptr::eq(system, row.system));
        if let (Some(place), Some(value)) = (place, value) {
            chart
                .series
                .entry(place)
                .or_default()
                .push((row.point.payload as f64, value));
        }
    }

    /// Writes `round-trip.svg` and `throughput.svg`, as far as there is anything in them.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let micros = |us: &f64| time(us * 1e3);
        let gigabytes = |gb: &f64| {
            let digits = format!("{gb:.6}");
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        self.round_trip.write(
            &dir.join("round-trip.svg"),
            "Round trip, one in flight: p50 over payload",
            "time",
            &micros,
            SeriesLabelPosition::UpperLeft,
        )?;
        self.throughput.write(
            &dir.join("throughput.svg"),
            "One way: throughput over payload",
            "GB/s",
            &gigabytes,
            SeriesLabelPosition::LowerRight,
        )
    }
}

impl Chart {
    fn write(
        &self,
        path: &Path,
        title: &str,
        unit: &str,
        label: &dyn Fn(&f64) -> String,
        legend: SeriesLabelPosition,
    ) -> Result<()> {
        if self.series.is_empty() {
            return Ok(());
        }
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        self.draw(&root, title, unit, label, legend)
            .and_then(|()| root.present().map_err(|error| error.to_string()))
            .map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn draw(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        title: &str,
        unit: &str,
        label: &dyn Fn(&f64) -> String,
        legend: SeriesLabelPosition,
    ) -> Result<(), String> {
        let text = |error: DrawingAreaErrorKind<_>| error.to_string();
        let points = || self.series.values().flatten();
        let x = range(points().map(|point| point.0));
        let y = range(points().map(|point| point.1));
        root.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(root)
            .caption(title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(x.log_scale().base(2.0), y.log_scale())
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc("payload")
            .y_desc(unit)
            .x_labels(18)
            .x_label_formatter(&|bytes| size(*bytes as usize))
            .y_label_formatter(label)
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 16))
            .light_line_style(RGBColor(240, 240, 240))
            .bold_line_style(RGBColor(215, 215, 215))
            .draw()
            .map_err(text)?;
        for (place, points) in &self.series {
            let color = COLORS[place % COLORS.len()];
            let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots).map_err(text)?;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))
                .map_err(text)?
                .label(systems::ALL[*place].name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], color.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(legend)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(text)
    }
}

/// From the least to the most, with some room around, also for a single number.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for value in values {
        least = least.min(value);
        most = most.max(value);
    }
    // A rate so small that it rounds to nothing has no place on these axes.
    let least = least.max(most * 1e-9);
    least / 1.3..most * 1.3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::Point,
        launch::Sample,
        report::{Driven, Served},
    };

    fn row(case: Case, payload: usize, system: &'static systems::System) -> Row {
        let driven = Driven::parse("1000 5 3000000 10 0 1000000000 700 900 1500").unwrap();
        Row {
            system,
            point: Point {
                case,
                payload,
                receivers: 1,
            },
            samples: vec![Sample {
                driven,
                served: Served::default(),
            }],
        }
    }

    #[test]
    fn each_system_has_its_line() {
        let dir = tempfile::tempdir().unwrap();
        prepare(&dir.path().join("new")).unwrap();
        let mut charts = Charts::default();
        for system in &systems::ALL[..2] {
            for payload in [64, 4096, 1 << 20] {
                charts.add(&row(Case::Ask, payload, system));
                charts.add(&row(Case::Cpu, payload, system));
            }
        }
        charts.write(dir.path()).unwrap();
        let drawn = std::fs::read_to_string(dir.path().join("round-trip.svg")).unwrap();
        for system in &systems::ALL[..2] {
            assert!(drawn.contains(system.name), "{}", system.name);
        }
        let dots = drawn.matches("<circle").count();
        assert_eq!(dots, 6, "one per system and payload");
        assert!(!dir.path().join("throughput.svg").exists(), "nothing was told");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = prepare(&file.join("charts")).unwrap_err().to_string();
        assert!(error.contains("--plot") && error.contains("charts"), "{error}");
    }
}
