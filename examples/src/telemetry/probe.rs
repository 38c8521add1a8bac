//! Reads /proc.

use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo, ProcResult, process};

use shmbus_examples::text;

use crate::messages::{CpuTimes, Load, Memory, Process};

/// Time spent, per CPU.
pub fn cpus() -> ProcResult<Vec<CpuTimes>> {
    Ok(KernelStats::current()?.cpu_time.iter().map(times).collect())
}

/// Memory in use.
pub fn memory() -> ProcResult<Memory> {
    let info = Meminfo::current()?;
    Ok(Memory {
        total: info.mem_total,
        available: info.mem_available.unwrap_or(info.mem_free),
        swap_total: info.swap_total,
        swap_free: info.swap_free,
    })
}

/// Load averages.
pub fn load() -> ProcResult<Load> {
    let LoadAverage {
        one, five, fifteen, ..
    } = LoadAverage::current()?;
    Ok(Load { one, five, fifteen })
}

/// Every process that lived long enough to be read.
pub fn processes() -> ProcResult<Vec<Process>> {
    let (ticks, page) = (procfs::ticks_per_second(), procfs::page_size());
    let one = |process: ProcResult<process::Process>| {
        let stat = process.ok()?.stat().ok()?;
        Some(Process {
            pid: stat.pid,
            started: stat.starttime,
            name: text::printable(&stat.comm),
            state: u8::try_from(stat.state).unwrap_or(b'?'),
            cpu_ms: (stat.utime + stat.stime) * 1000 / ticks,
            rss: stat.rss * page,
        })
    };
    Ok(process::all_processes()?.filter_map(one).collect())
}

/// Guest time is part of user time already; waiting for a disk is idle.
fn times(cpu: &procfs::CpuTime) -> CpuTimes {
    CpuTimes {
        user: cpu.user_ms() + cpu.nice_ms(),
        system: cpu.system_ms() + cpu.irq_ms().unwrap_or(0) + cpu.softirq_ms().unwrap_or(0),
        steal: cpu.steal_ms().unwrap_or(0),
        idle: cpu.idle_ms() + cpu.iowait_ms().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
