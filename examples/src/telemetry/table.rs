//! The live table.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table},
};

use shmbus_examples::text;

use crate::{messages::CpuShare, model::Model};

/// Columns a CPU needs at least: its name, a bar of ten and the number.
const CPU_WIDTH: u16 = 26;

const USER: Color = Color::Green;
const SYSTEM: Color = Color::Red;
const STEAL: Color = Color::Blue;

/// Draws the model over the whole frame.
pub fn draw(frame: &mut Frame, model: &Model) {
    let area = frame.area();
    let shares = model.cpus();
    let cpus = shares.len() as u16;
    let columns = cpu_columns(cpus, area);
    let rows = cpus.div_ceil(columns).min(area.height / 2);
    let [head, bars, memory, processes, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows),
        Constraint::Length(3),
        Constraint::Min(0),
        Constraint::Length(4),
    ])
    .areas(area);
    frame.render_widget(heading(model), head);
    draw_cpus(frame, bars, columns, &shares);
    draw_memory(frame, memory, model);
    draw_processes(frame, processes, model);
    draw_totals(frame, foot, model);
}

fn heading(model: &Model) -> Line<'_> {
    Line::from(vec![
        "telemetry".bold(),
        format!("  bus {}  {}  ", model.bus, text::clock(model.running)).into(),
        Span::styled("user ", USER),
        Span::styled("system ", SYSTEM),
        Span::styled("steal", STEAL),
        "  q ends".dim(),
    ])
}

/// As few columns as leave half of the height to the rest, and as many as the width allows.
fn cpu_columns(cpus: u16, area: Rect) -> u16 {
    let most = (area.width / CPU_WIDTH).max(1);
    let rows = (area.height / 3).max(1);
    cpus.div_ceil(rows).clamp(1, most)
}

fn draw_cpus(frame: &mut Frame, area: Rect, columns: u16, cpus: &[CpuShare]) {
    let columns = Layout::horizontal(vec![Constraint::Fill(1); columns.into()])
        .spacing(1)
        .split(area);
    // Downwards first, as they are numbered.
    let per_column = cpus.len().div_ceil(columns.len()).max(1);
    for (column, (cpus, area)) in cpus.chunks(per_column).zip(columns.iter()).enumerate() {
        let lines = cpus.iter().enumerate().map(|(row, cpu)| {
            let mut spans = vec![format!("cpu{:<3} ", column * per_column + row).into()];
            let parts = [(cpu.user, USER), (cpu.system, SYSTEM), (cpu.steal, STEAL)];
            spans.extend(bar(area.width.saturating_sub(15), &parts));
            spans.push(format!(" {:5.1} %", cpu.busy()).into());
            Line::from(spans)
        });
        frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), *area);
    }
}

/// A bar of `width` cells in brackets, filled by parts given in percent.
fn bar(width: u16, parts: &[(f32, Color)]) -> Vec<Span<'static>> {
    let width = usize::from(width.saturating_sub(2));
    let mut spans = vec!["[".into()];
    let (mut percent, mut filled) = (0.0, 0);
    for &(part, color) in parts {
        // Ends are rounded, not lengths, so that the parts together are as long as their sum.
        percent += part;
        let end = ((percent / 100.0 * width as f32).round() as usize).clamp(filled, width);
        spans.push(Span::styled("|".repeat(end - filled), color));
        filled = end;
    }
    spans.push(" ".repeat(width - filled).into());
    spans.push("]".into());
    spans
}

fn draw_memory(frame: &mut Frame, area: Rect, model: &Model) {
    let (memory, load) = (model.view.memory, model.view.load);
    let line = |name: &str, total: u64, free: u64| {
        let used = total.saturating_sub(free);
        let percent = if total == 0 {
            0.0
        } else {
            used as f32 * 100.0 / total as f32
        };
        let mut spans = vec![format!("{name:<7}").into()];
        spans.extend(bar(area.width.saturating_sub(33), &[(percent, USER)]));
        spans.push(format!(" {:>11} / {}", text::bytes(used), text::bytes(total)).into());
        Line::from(spans)
    };
    let load = format!(
        "load   {:.2} {:.2} {:.2}   {} processes",
        load.one, load.five, load.fifteen, model.view.processes
    );
    let mut lines = vec![line("memory", memory.total, memory.available)];
    if memory.swap_total > 0 {
        lines.push(line("swap", memory.swap_total, memory.swap_free));
    }
    lines.push(load.into());
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_processes(frame: &mut Frame, area: Rect, model: &Model) {
    let right = |text: String| Line::from(text).right_aligned();
    let rows = model.view.busiest.iter().map(|busy| {
        let cells = [
            right(busy.pid.to_string()),
            busy.name.as_str().into(),
            char::from(busy.state).to_string().into(),
            right(format!("{:.1}", busy.cpu)),
            right(text::bytes(busy.rss)),
        ];
        Row::new(cells).style(if busy.cpu >= 50.0 {
            Style::new().bold()
        } else {
            Style::new()
        })
    });
    let widths = [7, 16, 1, 7, 11].map(Constraint::Length);
    let header = [
        right("PID".into()),
        "NAME".into(),
        "S".into(),
        right("CPU %".into()),
        right("RSS".into()),
    ];
    frame.render_widget(
        Table::new(rows, widths)
            .header(Row::new(header).reversed())
            .column_spacing(2),
        area,
    );
}

fn draw_totals(frame: &mut Frame, area: Rect, model: &Model) {
    let totals = model.view.totals;
    let at = |quantile| text::nanos(model.round_trips.value_at_quantile(quantile));
    let lost = Span::raw(format!("lost {}", totals.lost));
    let (status, well) = model.status();
    let lines = vec![
        Line::default(),
        Line::from(vec![
            format!("messages    sent {}, received {}, ", totals.sent, totals.received).into(),
            if totals.lost > 0 { lost.red().bold() } else { lost },
            format!(", runs {}", totals.runs).into(),
        ]),
        Line::from(format!(
            "asks        answered {}, failed {}, p50 {}, p99 {}",
            model.answered,
            model.failed,
            at(0.5),
            at(0.99)
        )),
        if well {
            status.green().into()
        } else {
            Line::from(status.yellow().bold())
        },
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

#[cfg(test)]
mod tests;
