//! The plots, as SVG files: one for each question. The caption says where and
//! when it was measured, and how busy the machine was.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::{Contest, Echo, Machine, PushRow, Results, Server, ThreadFigures};

const SIZE: (u32, u32) = (860, 480);
const BYTES: usize = 64;

/// Writes what there are results for.
pub(crate) fn all(results: &Results, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let small: Vec<&Echo> = results
        .echoes
        .iter()
        .filter(|it| it.size == BYTES)
        .collect();
    if small.len() > 1 {
        let rate = |server: &Server| {
            let rate = server.requests_per_second.value.median / 1e3;
            server.busy.is_saturated().then_some(rate)
        };
        echoes(
            results,
            &small,
            folder,
            "echo_throughput",
            "thousand requests a second",
            rate,
        )?;
        let cpu = |server: &Server| Some(server.cpu_us.value.median);
        echoes(
            results,
            &small,
            folder,
            "echo_cpu",
            "µs of processor time a request",
            cpu,
        )?;
    }
    if let Some(echo) = small.iter().find(|it| it.connections == 1_000) {
        latency(results, echo, folder)?;
    }
    let of = |work: &str| -> Vec<&Contest> {
        let all = results.contests.iter().filter(|it| it.work == work);
        all.collect()
    };
    if let [parked] = of("parked")[..] {
        memory(results, parked, folder)?;
    }
    let yields = of("yield");
    if yields.len() > 1 {
        switches(results, &yields, folder)?;
    }
    Ok(())
}

/// Names and points.
type Lines = Vec<(String, Vec<(f64, f64)>)>;

fn echoes(
    results: &Results,
    echoes: &[&Echo],
    folder: &Path,
    name: &str,
    what: &str,
    figure: impl Fn(&Server) -> Option<f64>,
) -> io::Result<()> {
    let mut lines = Lines::new();
    for echo in echoes {
        for server in &echo.servers {
            if let Some(figure) = figure(server) {
                add(&mut lines, &server.name, (echo.connections as f64, figure));
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let title = format!("Echo of {BYTES} bytes: {what}");
    let axes = ("connections", what);
    draw(folder, name, |area| {
        lines_on(
            area,
            &title,
            &caption(&results.machine),
            axes,
            &lines,
            count_label,
            false,
        )
    })
}

/// Servers with a thread for each connection, plainly and under `crore run`.
pub(crate) fn threads(figures: &ThreadFigures, folder: &Path) -> io::Result<()> {
    let mut lines = Lines::new();
    let echoes = figures.rows.iter().filter(|row| row.part == "echo");
    for row in echoes.filter(|row| row.what.starts_with("Rust")) {
        if let (Some(connections), Some(rate)) = (row.connections, row.requests_per_cpu_second) {
            add(&mut lines, &row.under, (connections.into(), rate / 1e3));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let what = "thousand requests a second of processor time";
    let title = "A thread for each connection, std::net, echo of 64 bytes";
    let machine = Machine::this()?;
    draw(folder, "threads", |area| {
        let axes = ("connections", what);
        lines_on(
            area,
            title,
            &caption(&machine),
            axes,
            &lines,
            count_label,
            false,
        )
    })
}

/// The push service beside its core on tokio.
pub(crate) fn push(rows: &[PushRow], folder: &Path) -> io::Result<()> {
    let machine = Machine::this()?;
    let each = "10 subscribers a channel, each message checked";
    let plot = |name, title: &str, what, figure: &dyn Fn(&PushRow) -> Option<f64>| {
        let lines = medians(rows, figure);
        draw(folder, name, |area| {
            let (title, axes) = (format!("{title}: {each}"), ("subscribers", what));
            lines_on(
                area,
                &title,
                &caption(&machine),
                axes,
                &lines,
                count_label,
                false,
            )
        })
    };
    plot(
        "push_deliveries",
        "Push: deliveries",
        "thousand deliveries a second",
        &|row| Some(row.deliveries_per_second / 1e3),
    )?;
    plot(
        "push_latency",
        "Push: 99 % of the deliveries took less",
        "ms",
        &|row| row.p99_us.map(|micros| micros / 1e3),
    )
}

/// A line for each name, a point for each number of connections.
fn medians(rows: &[PushRow], figure: &dyn Fn(&PushRow) -> Option<f64>) -> Lines {
    let mut points = BTreeMap::<(&str, u32), Vec<f64>>::new();
    for row in rows {
        let all = points.entry((&row.name, row.connections)).or_default();
        all.extend(figure(row));
    }
    let mut lines = Lines::new();
    for ((name, connections), mut all) in points {
        all.sort_by(f64::total_cmp);
        if let Some(&median) = all.get(all.len() / 2) {
            add(&mut lines, name, (connections.into(), median));
        }
    }
    lines
}

fn latency(results: &Results, echo: &Echo, folder: &Path) -> io::Result<()> {
    let mut lines = Lines::new();
    let limits = |server: &&Server| server.busy.is_saturated();
    for server in echo.servers.iter().filter(limits) {
        for &(share, microseconds) in &server.quantiles {
            // Nines: 90 % are 1, 99 % are 2; the very last one has no place.
            if share < 1.0 {
                let point = (10f64.powf(-(1.0 - share).log10()), microseconds);
                add(&mut lines, &server.name, point);
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let title = format!(
        "Echo of {} bytes, {} connections: latency",
        echo.size, echo.connections
    );
    let axes = ("share of the requests that were faster", "µs");
    let share = |nines: &f64| format!("{} %", ((1.0 - 1.0 / nines) * 1e6).round() / 1e4);
    draw(folder, "echo_latency", |area| {
        lines_on(
            area,
            &title,
            &caption(&results.machine),
            axes,
            &lines,
            share,
            true,
        )
    })
}

fn switches(results: &Results, yields: &[&Contest], folder: &Path) -> io::Result<()> {
    let mut lines = Lines::new();
    for contest in yields {
        for row in &contest.rows {
            let point = (contest.count as f64, row.figure.value.median);
            add(&mut lines, &row.name, point);
        }
    }
    let axes = ("runnable at the same time", "ns of processor time a yield");
    draw(folder, "yield", |area| {
        let title = "Yield: to the scheduler and back";
        lines_on(
            area,
            title,
            &caption(&results.machine),
            axes,
            &lines,
            count_label,
            true,
        )
    })
}

fn memory(results: &Results, parked: &Contest, folder: &Path) -> io::Result<()> {
    let title = "Bytes of a parked coroutine, task, goroutine, thread";
    let bytes = parked.rows.iter().map(|row| row.figure.value.median);
    let most = bytes.fold(0.0, f64::max);
    draw(folder, "memory", |area| {
        let area = titled(area, title, &caption(&results.machine))?;
        let count = parked.rows.len();
        let mut chart = ChartBuilder::on(&area)
            .margin_right(24)
            .x_label_area_size(40)
            .y_label_area_size(130)
            .build_cartesian_2d((100.0..most * 1.5).log_scale(), 0f64..count as f64)?;
        let name = |y: &f64| -> String {
            let row = parked.rows.get(count.wrapping_sub(1 + *y as usize));
            row.filter(|_| y.fract() == 0.0)
                .map_or_else(String::new, |row| row.name.clone())
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .x_desc("bytes, page tables included")
            .x_label_formatter(&count_label)
            .draw()?;
        for (at, row) in parked.rows.iter().enumerate() {
            let y = (count - 1 - at) as f64;
            let bytes = row.figure.value.median;
            let colour = colour(&row.name);
            chart.draw_series([Rectangle::new(
                [(100.0, y + 0.2), (bytes, y + 0.8)],
                colour.filled(),
            )])?;
            let fewer = if row.count < parked.count {
                format!(" (of {})", count_label(&(row.count as f64)))
            } else {
                String::new()
            };
            let text = format!("{bytes:.0}{fewer}");
            let inside = bytes > 4_000.0;
            let (place, anchor) = if inside {
                (bytes * 0.97, HPos::Right)
            } else {
                (bytes * 1.03, HPos::Left)
            };
            let style = ("sans-serif", 14).into_font();
            let style = style
                .color(if inside { &WHITE } else { &BLACK })
                .pos(Pos::new(anchor, VPos::Center));
            chart.draw_series([Text::new(text, (place, y + 0.5), style)])?;
            let (x, pixel) = chart.backend_coord(&(100.0, y + 0.5));
            let (left, top) = area.get_base_pixel();
            let style = ("sans-serif", 14).into_font().color(&BLACK);
            let style = style.pos(Pos::new(HPos::Right, VPos::Center));
            area.draw_text(&name(&y), &style, (x - left - 8, pixel - top))?;
        }
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Error = Box<dyn std::error::Error>;

fn draw(
    folder: &Path,
    name: &str,
    body: impl FnOnce(&Area<'_>) -> Result<(), Error>,
) -> io::Result<()> {
    let path = folder.join(name).with_extension("svg");
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).map_err(Error::from);
    drawn
        .and_then(|()| body(&area))
        .and_then(|()| area.present().map_err(Error::from))
        .map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

/// The area below a title and a caption.
fn titled<'a>(area: &Area<'a>, title: &str, caption: &str) -> Result<Area<'a>, Error> {
    let large = ("sans-serif", 20).into_font().color(&BLACK);
    let small = ("sans-serif", 12).into_font().color(&RGBColor(90, 90, 90));
    area.draw_text(title, &large, (16, 12))?;
    area.draw_text(caption, &small, (16, 38))?;
    Ok(area.margin(60, 8, 8, 8))
}

fn lines_on(
    area: &Area<'_>,
    title: &str,
    caption: &str,
    (x_name, y_name): (&str, &str),
    lines: &Lines,
    x_label: impl Fn(&f64) -> String,
    y_log: bool,
) -> Result<(), Error> {
    let area = titled(area, title, caption)?;
    let points = || lines.iter().flat_map(|(_, points)| points);
    let xs = range(points().map(|point| point.0));
    let ys = range(points().map(|point| point.1));
    let mut builder = ChartBuilder::on(&area);
    builder
        .margin_right(130)
        .x_label_area_size(44)
        .y_label_area_size(64);
    // The two kinds of axes are two types.
    macro_rules! chart {
        ($ys:expr) => {{
            let mut chart = builder.build_cartesian_2d(xs.clone().log_scale(), $ys)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(RGBColor(225, 225, 225))
                .x_desc(x_name)
                .y_desc(y_name)
                .x_label_formatter(&x_label)
                .y_label_formatter(&count_label)
                .label_style(("sans-serif", 13))
                .axis_desc_style(("sans-serif", 14))
                .draw()?;
            for (name, points) in lines {
                let colour = colour(name);
                let width = if name.starts_with("crore") { 3 } else { 2 };
                let style = colour.stroke_width(width);
                chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                let dots = points
                    .iter()
                    .map(|&point| Circle::new(point, 3, colour.filled()));
                chart.draw_series(dots)?;
            }
            let ends = lines.iter().map(|(name, points)| {
                let last = points.last().expect("a line has points");
                (name.as_str(), chart.backend_coord(last))
            });
            ends.collect::<Vec<_>>()
        }};
    }
    let ends = if y_log {
        chart!(ys.log_scale())
    } else {
        chart!(0.0..ys.end)
    };
    names_at_ends(&area, ends)
}

/// Writes each line's name beside its end, none on another.
fn names_at_ends(area: &Area<'_>, mut ends: Vec<(&str, (i32, i32))>) -> Result<(), Error> {
    const LINE: i32 = 15;
    let (left, top) = area.get_base_pixel();
    let bottom = area.dim_in_pixel().1 as i32 - 60;
    ends.sort_by_key(|end| end.1.1);
    // From the top downwards each below the one before; what is then too low
    // is moved up again.
    let mut ys: Vec<i32> = Vec::new();
    for end in &ends {
        let above = ys.last().map_or(i32::MIN, |y| y + LINE);
        ys.push((end.1.1 - top).max(above));
    }
    let mut below = bottom + LINE;
    for y in ys.iter_mut().rev() {
        *y = (*y).min(below - LINE);
        below = *y;
    }
    let right = area.dim_in_pixel().0 as i32 - 130;
    for ((name, (x, y)), place) in ends.into_iter().zip(ys) {
        let colour = colour(name);
        let style = ("sans-serif", 13).into_font().color(&colour);
        let style = style.pos(Pos::new(HPos::Left, VPos::Center));
        let line = vec![(x - left + 4, y - top), (right + 12, place)];
        area.draw(&PathElement::new(line, colour.mix(0.4)))?;
        area.draw_text(name, &style, (right + 16, place))?;
    }
    Ok(())
}

fn add(lines: &mut Lines, name: &str, point: (f64, f64)) {
    match lines.iter_mut().find(|line| line.0 == name) {
        Some(line) => line.1.push(point),
        None => lines.push((name.into(), vec![point])),
    }
}

/// From the least to the most, with some room.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::INFINITY, 0f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    least / 1.05..most * 1.15
}

fn count_label(count: &f64) -> String {
    match *count {
        count if count >= 1e6 => format!("{} M", count / 1e6),
        count if count >= 1e4 => format!("{} k", count / 1e3),
        count if count >= 1e3 => format!("{count:.0}"),
        count => format!("{}", (count * 100.0).round() / 100.0),
    }
}

fn caption(machine: &Machine) -> String {
    format!(
        "{}, {} processors, Linux {}; medians; load average {} when it ended",
        machine.model, machine.processors, machine.kernel, machine.load
    )
}

/// The same for one contender in all plots.
fn colour(name: &str) -> RGBColor {
    match name {
        "crore" | "crore run" => RGBColor(200, 30, 30),
        "crore-shared" | "crore linked" => RGBColor(240, 130, 20),
        "crore-2" => RGBColor(220, 100, 130),
        "corosensei" | "epoll" | "plain" => RGBColor(60, 60, 60),
        "tokio" => RGBColor(30, 90, 180),
        "tokio-2" => RGBColor(100, 160, 230),
        "may" => RGBColor(20, 140, 80),
        "monoio" => RGBColor(130, 60, 160),
        "smol" => RGBColor(0, 150, 160),
        "libco" => RGBColor(120, 85, 10),
        "libco-shared" => RGBColor(200, 165, 60),
        "photon" => RGBColor(170, 30, 120),
        "go" => RGBColor(90, 180, 40),
        _ => RGBColor(150, 110, 60),
    }
}
