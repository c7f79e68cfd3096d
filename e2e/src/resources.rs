//! What the kernel tells of a process.

use std::{fs, time::Duration};

/// Whether a process runs. One that has ended and was not awaited yet does not.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.starts_with('Z'))
    })
}

/// When a process began, in the kernel's ticks since the machine did. With its id that names it for ever, as ids return.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmRSS:")
}

fn memory_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)).unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes << 10
}

/// How many descriptors are open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The processes that it started and that run, and theirs in turn.
pub fn descendants(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<(u32, u32)> = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&child| is_alive(child))
        .filter_map(|child| Some((child, parent(child)?)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&ancestor) = found.get(next) {
        found.extend(
            all.iter()
                .filter(|(_, parent)| *parent == ancestor)
                .map(|(child, _)| child),
        );
        next += 1;
    }
    found.split_off(1)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// The words of a process's command line.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty());
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// From now on [`peak_resident_bytes`] means the time since now.
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// The most memory that was ever resident, in bytes.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmHWM:")
}

/// CPU time that a process has used, of all its threads.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    ticks(fields[11..=12].iter())
}

/// CPU time that all processes of this machine and its kernel have used.
pub fn cpu_time_of_all() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<&str> = stat.lines().next().unwrap().split_whitespace().collect();
    // user, nice, system; then idle and iowait; irq, softirq.
    ticks(fields[1..=3].iter().chain(&fields[6..=7]))
}

/// The kernel tells times in hundredths of a second, whatever its own clock is.
fn ticks<'a>(fields: impl Iterator<Item = &'a &'a str>) -> Duration {
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
