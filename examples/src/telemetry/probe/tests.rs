use super::*;

#[test]
fn this_machine_has_cpus_and_memory() {
    let cpus = cpus().unwrap();
    assert!(!cpus.is_empty());
    assert!(cpus.iter().all(|cpu| cpu.user + cpu.system + cpu.idle > 0));
    let memory = memory().unwrap();
    assert!(memory.available > 0 && memory.available <= memory.total);
    assert!(load().unwrap().one >= 0.0);
}

#[test]
fn this_process_is_among_the_processes() {
    let processes = processes().unwrap();
    let own = processes
        .iter()
        .find(|process| process.pid == std::process::id() as i32)
        .expect("own pid");
    assert!(own.rss > 0 && own.started > 0);
    assert!(own.state.is_ascii_uppercase());
    assert!(own.name.starts_with("telemetry"), "{}", own.name);
}
