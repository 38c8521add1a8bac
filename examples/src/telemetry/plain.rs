//! The final table, as plain text.

use std::fmt::{self, Display, Formatter};

use shmbus_examples::text;

use crate::model::{Link, Model};

const BAR: usize = 30;

/// Prints the model: what was seen last, then what came of it all.
pub struct Plain<'a>(pub &'a Model);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let model = self.0;
        writeln!(
            f,
            "telemetry on bus `{}`, {}",
            model.bus,
            text::clock(model.running)
        )?;
        if model.view.silent_ms.is_some() {
            machine(f, model)?;
        }
        totals(f, model)
    }
}

fn machine(f: &mut Formatter<'_>, model: &Model) -> fmt::Result {
    let view = &model.view;
    writeln!(f)?;
    for (number, cpu) in model.cpus().iter().enumerate() {
        let full = ((cpu.busy() / 100.0 * BAR as f32).round() as usize).min(BAR);
        let bar = "#".repeat(full);
        writeln!(
            f,
            "cpu{number:<3} [{bar:<BAR$}] {:5.1} %  (user {:.1}, system {:.1}, steal {:.1})",
            cpu.busy(),
            cpu.user,
            cpu.system,
            cpu.steal
        )?;
    }
    let memory = view.memory;
    let used = |total: u64, free: u64| text::bytes(total.saturating_sub(free));
    writeln!(
        f,
        "memory {} of {} used",
        used(memory.total, memory.available),
        text::bytes(memory.total)
    )?;
    if memory.swap_total > 0 {
        let total = text::bytes(memory.swap_total);
        writeln!(
            f,
            "swap   {} of {total} used",
            used(memory.swap_total, memory.swap_free)
        )?;
    }
    writeln!(
        f,
        "load   {:.2} {:.2} {:.2}",
        view.load.one, view.load.five, view.load.fifteen
    )?;
    if !view.busiest.is_empty() {
        writeln!(
            f,
            "\n{:>7}  {:<16} S {:>7} {:>11}   ({} processes)",
            "PID", "NAME", "CPU %", "RSS", view.processes
        )?;
    }
    for busy in &view.busiest {
        let (name, state) = (text::printable(&busy.name), char::from(busy.state));
        writeln!(
            f,
            "{:>7}  {name:<16} {state} {:>7.1} {:>11}",
            busy.pid,
            busy.cpu,
            text::bytes(busy.rss)
        )?;
    }
    Ok(())
}

fn totals(f: &mut Formatter<'_>, model: &Model) -> fmt::Result {
    let totals = model.view.totals;
    let note = match &model.link {
        Link::Live if totals.finished => String::new(),
        Link::Live if totals.runs > 0 => " so far".into(),
        Link::Live => " (there was no sampler)".into(),
        Link::Waiting => " (there was no analyst)".into(),
        Link::Lost(error) | Link::Trouble(error) => format!(" when last heard of ({error})"),
    };
    let runs = if totals.runs > 1 {
        format!(", in {} runs", totals.runs)
    } else {
        String::new()
    };
    writeln!(
        f,
        "\nmessages    sent {}, received {}, lost {}{runs}{note}",
        totals.sent, totals.received, totals.lost
    )?;
    let bars = &model.bars;
    if let Some(first) = bars.first {
        let first = text::nanos(first.as_nanos() as u64);
        writeln!(
            f,
            "cpu samples received {}, lost {}, the first after {first}",
            bars.received, bars.lost
        )?;
    }
    writeln!(
        f,
        "asks        answered {}, failed {}",
        model.answered, model.failed
    )?;
    if model.answered > 0 {
        let at = |quantile| text::nanos(model.round_trips.value_at_quantile(quantile));
        writeln!(
            f,
            "round trip  p50 {}, p99 {}, max {}",
            at(0.5),
            at(0.99),
            text::nanos(model.round_trips.max())
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
